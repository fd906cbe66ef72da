"""What checkpoints call the weights of a model.

A weight's own name is that of a parameter of the module. A form of checkpoints may have another name for it,
store it in several tensors, or store other values, from which it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from mlc_serve.models.weight_changes import Both, Change, Unchanged

Form = Literal["huggingface", "mlc"]


class Part(NamedTuple):
    """A stored tensor, or the part of its name that stands for a module, and what is done to its values."""

    name: str
    change: Change = Unchanged()


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

    All names of a checkpoint may begin with one of `prefixes`: a model with a head puts it before the names
    of the model itself.
    """

    huggingface: tuple[Renaming, ...] = ()
    mlc: tuple[Renaming, ...] = ()
    prefixes: tuple[str, ...] = ()

    def parts(self, name: str, form: Form, present: Collection[str]) -> list[Part]:
        """The tensors that the weight `name` consists of, from the first rows to the last, in a checkpoint
        of that form with the tensors `present`, which may lack them.
        """
        parts = [Part(name)]
        for renaming in self._of(form):
            parts = [new for part in parts for new in _renamed(part, renaming)]
        for prefix in self.prefixes:
            if parts[0].name not in present:
                parts = [part._replace(name=prefix + part.name) for part in parts]
        return parts

    def in_mlc(self, name: str) -> str:
        """What the weight `name` is called in an MLC directory. Raises ValueError if it is in several
        tensors there.
        """
        (part,) = self.parts(name, "mlc", ())
        return part.name

    def of_mlc(self, stored: str) -> str:
        """The weight that has the name `stored` in an MLC directory: what `in_mlc` turns into it."""
        for own, parts in reversed(self.mlc):
            if len(parts) == 1:
                stored = _replaced(stored, parts[0].name, own)
        return stored

    def _of(self, form: Form) -> Sequence[Renaming]:
        return self.huggingface if form == "huggingface" else self.mlc


def _renamed(part: Part, renaming: Renaming) -> list[Part]:
    if not _has(part.name, renaming.own):
        return [part]
    return [
        Part(_replaced(part.name, renaming.own, new.name), _combined(part.change, new.change))
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


def decoder_names(mlc_qkv: str) -> WeightNames:
    """The names of Llama and of similar families. MLC calls their fused QKV product `mlc_qkv`."""
    return WeightNames((QKV, GATE_UP), (renamed("self_attn.qkv_proj", f"self_attn.{mlc_qkv}"),))
