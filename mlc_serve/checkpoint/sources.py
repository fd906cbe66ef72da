"""Which of a checkpoint's tensors a library's parameter is made of."""

from __future__ import annotations

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
