"""What checkpoints call the weights of a model.

A weight's own name is that of a parameter of the module. A form of checkpoints may have another name for it,
store it in several tensors, or store other values, from which it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.weight_changes import Both, Change, Unchanged

Form = Literal["huggingface", "mlc"]


class Part(NamedTuple):
    """A stored tensor, or the part of its name that stands for a module, and what is done to its values.

    `num_rows` says how many rows of the weight it gives. None means all, or, where weights are only read, as
    many as it has.
    """

    name: str
    change: Change = Unchanged()
    num_rows: int | None = None


class Renaming(NamedTuple):
    """Where a weight's name has `own`, which is one or more whole words of it between dots, stored tensors
    have the names of `parts` instead. The rows of the parts follow one another.
    """

    own: str
    parts: tuple[Part, ...]


def renamed(own: str, *stored: str, change: Change | None = None) -> Renaming:
    """A renaming whose parts all have the same change, or none."""
    return Renaming(own, tuple(Part(name, change or Unchanged()) for name in stored))


class WeightNames(NamedTuple):
    """The renamings of each form, which are applied one after another.

    All names of Hugging Face's checkpoints may begin with one of `prefixes`: a model with a head puts it
    before the names of the model itself. MLC's directories have a second copy of the tensors of
    `mlc_copies`, under another name. Tensors that one of the regular expressions `unused` finds are no part
    of the model.
    """

    huggingface: tuple[Renaming, ...] = ()
    mlc: tuple[Renaming, ...] = ()
    prefixes: tuple[str, ...] = ()
    mlc_copies: tuple[Renaming, ...] = ()
    unused: tuple[str, ...] = ()

    def parts(self, name: str, form: Form, present: Collection[str]) -> list[Part]:
        """The tensors that the weight `name` consists of, from the first rows to the last, in a checkpoint
        of that form with the tensors `present`, which may lack them.
        """
        parts = [Part(name)]
        for renaming in self._of(form):
            parts = [new for part in parts for new in _renamed(part, renaming)]
        for prefix in self.prefixes if form == "huggingface" else ():
            if parts[0].name not in present:
                parts = [part._replace(name=prefix + part.name) for part in parts]
        return parts

    def in_mlc(self, name: str) -> list[Part]:
        """The tensors that an MLC directory has for the weight `name`."""
        return self.parts(name, "mlc", ())

    def copy_in_mlc(self, stored: str) -> str | None:
        """The name of the copy that an MLC directory has of its tensor `stored`, if it has one."""
        for own, (copy,) in self.mlc_copies:
            if _has(stored, own):
                return _replaced(stored, own, copy.name)
        return None

    def of_mlc(self, stored: str) -> str:
        """The weight that has the name `stored` in an MLC directory. Raises ValueError if the tensor is only
        a part of the weight, or has other values.
        """
        for own, parts in reversed((*self.mlc, *self.mlc_copies)):
            found = [part for part in parts if _has(stored, part.name)]
            if found and (len(parts) > 1 or not isinstance(parts[0].change, Unchanged)):
                raise ValueError(f"{stored} is not stored as {own}")
            stored = _replaced(stored, parts[0].name, own)
        return stored

    def _of(self, form: Form) -> Sequence[Renaming]:
        return self.huggingface if form == "huggingface" else self.mlc


def _renamed(part: Part, renaming: Renaming) -> list[Part]:
    if not _has(part.name, renaming.own):
        return [part]
    return [
        Part(
            _replaced(part.name, renaming.own, new.name),
            _combined(part.change, new.change),
            new.num_rows or part.num_rows,
        )
        for new in renaming.parts
    ]


def _combined(first: Change, second: Change) -> Change:
    if isinstance(first, Unchanged):
        return second
    return first if isinstance(second, Unchanged) else Both(second, first)


def _has(name: str, words: str) -> bool:
    return f".{words}." in f".{name}."


def _replaced(name: str, words: str, others: str) -> str:
    """Replaces whole words between dots."""
    return f".{name}.".replace(f".{words}.", f".{others}.", 1).strip(".")


# ---------------------------------------------------------------- what many families share

QKV = Renaming("self_attn.qkv_proj", tuple(Part(f"self_attn.{part}_proj") for part in "qkv"))
GATE_UP = renamed("mlp.gate_up_proj", "mlp.gate_proj", "mlp.up_proj")


def mlc_qkv_apart(shape: AttentionShape) -> Renaming:
    """MLC keeps the three products of some families apart, too."""
    q, kv = shape.q_width, shape.num_kv_heads * shape.head_dim
    widths = {"q": q, "k": kv, "v": kv}
    parts = tuple(Part(f"self_attn.{part}_proj", num_rows=width) for part, width in widths.items())
    return Renaming("self_attn.qkv_proj", parts)


def mlc_gate_up_apart(inner: int) -> Renaming:
    """The same for an MLP with `inner` values between its products."""
    parts = tuple(Part(f"mlp.{part}_proj", num_rows=inner) for part in ("gate", "up"))
    return Renaming("mlp.gate_up_proj", parts)


def decoder_names(mlc_qkv: str) -> WeightNames:
    """The names of Llama and of similar families. MLC calls their fused QKV product `mlc_qkv`."""
    return WeightNames((QKV, GATE_UP), (renamed("self_attn.qkv_proj", f"self_attn.{mlc_qkv}"),))
