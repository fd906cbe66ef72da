"""Finds tensors that no weight of a model is made of. They may mean that the configuration is wrong, such as
that of a model with biases which it does not mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mlc_serve.checkpoint.sources import Sources
from mlc_serve.checkpoint.stored_tensors import StoredTensors

# Tables of rotary positions, which follow from the configuration, and layers that predict further tokens.
_UNUSED = (r"(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$", r"^mtp\.")


def check_leftovers(sources: Sources, weights: Iterable[str]) -> None:
    """Raise CheckpointError for a tensor that none of the `weights` is made of, unless it is known that such
    tensors are no part of the model. Biases may be there if all their values are 0, as some programs that
    quantize weights add them to every product.
    """
    used = {stored for weight in weights for stored in _stored_names(sources, weight)}
    unused = re.compile("|".join((*_UNUSED, *sources.names.unused)))
    left = sorted(name for name in set(sources.checkpoint.tensors.names) - used if not unused.search(name))
    left = [name for name in left if not _is_zero_bias(sources.checkpoint.tensors, name)]
    if left:
        others = f", like {len(left) - 1} others," if len(left) > 1 else ""
        kind = sources.checkpoint.model_type
        raise sources.error(
            f"{left[0]}{others} is no part of the {kind} model that its configuration describes"
        )


def _is_zero_bias(tensors: StoredTensors, name: str) -> bool:
    return name.endswith(".bias") and len(tensors.shape(name)) == 1 and not tensors.tensor(name).any()


def _stored_names(sources: Sources, weight: str) -> Iterator[str]:
    """The tensors of a weight, in floating point or as integers and scales, and their copies."""
    name = weight.removesuffix(".weight")
    spellings = (weight,) if name == weight else (weight, f"{name}.q_weight", f"{name}.q_scale")
    for part in (part for spelling in spellings for part in sources.of(spelling)):
        yield part.name
        copy = sources.names.copy_in_mlc(part.name) if sources.checkpoint.form == "mlc" else None
        if copy is not None:
            yield copy
