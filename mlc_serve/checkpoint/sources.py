"""Which of a checkpoint's tensors a model's weight is made of, and whether they are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.errors import CheckpointError

# A product that is computed at once -> what checkpoints have in its place: MLC's Qwen2 another name, Hugging
# Face's models the tensors that it is made of, row on row.
_SPELLINGS = {
    "self_attn.qkv_proj": (
        ("self_attn.c_attn",),
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ),
    "mlp.gate_up_proj": (("mlp.gate_proj", "mlp.up_proj"),),
}


def source_names(checkpoint: Checkpoint, name: str) -> list[str]:
    """The checkpoint's names of what `name` is made of; if it has none, those of the last spelling."""
    sources = [name]
    for fused, spellings in _SPELLINGS.items():
        for parts in spellings if fused in name else ():
            if sources[0] not in checkpoint.tensor_names:
                sources = [name.replace(fused, part) for part in parts]
    return sources


def check_shape(checkpoint: Checkpoint, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise CheckpointError if a tensor has another shape than the library takes."""
    if shape != wanted:
        raise CheckpointError(
            f"{checkpoint.directory}: tensor {name} has the shape {list(shape)}; "
            f"by its configuration the model takes {list(wanted)}"
        )


def check_joined(
    checkpoint: Checkpoint,
    name: str,
    parts: Sequence[tuple[str, tuple[int, ...]]],
    wanted: tuple[int, ...],
) -> None:
    """Raise CheckpointError if tensors (name and shape), joined row on row, do not have the shape that the
    weight `name` has.
    """
    for source, shape in parts:
        check_shape(checkpoint, source, shape, (*shape[:1], *wanted[1:]))
    num_rows = sum(shape[0] for _, shape in parts if shape)
    joined = parts[0][1] if len(parts) == 1 else (num_rows, *wanted[1:])
    check_shape(checkpoint, name, joined, wanted)


def check_tensors(checkpoint: Checkpoint, wanted: Iterable[tuple[str, tuple[int, ...]]]) -> None:
    """Raise CheckpointError for the first of the wanted weights (name and shape) that the checkpoint lacks or
    has in another shape. No tensor is read for it.

    Of weights that are quantized already, the number of rows is compared.
    """
    for name, shape in wanted:
        words = source_names(checkpoint, f"{name.removesuffix('.weight')}.q_weight")
        if words[0] in checkpoint.tensor_names:
            rows = [(word, checkpoint.shape(word)[:1]) for word in words]
            check_joined(checkpoint, f"{name} (quantized)", rows, shape[:1])
        else:
            parts = [(part, checkpoint.shape(part)) for part in source_names(checkpoint, name)]
            check_joined(checkpoint, name, parts, shape)
