"""Compares vectors, and shortens them."""

from __future__ import annotations

from mlc_serve.engine.embedder import Vectors
from mlc_serve.engine.pooling import normalized
from mlc_serve.errors import InvalidRequestError


def cosines(first: Vectors, second: Vectors) -> list[float]:
    """Return the cosine of the angle between vectors in the same rows; a single row is compared with all.

    The sums are not left to BLAS, whose threads would compete with those of the engine.
    """
    similarities = (normalized(first) * normalized(second)).sum(axis=1)
    return [max(-1.0, min(1.0, float(value))) for value in similarities]


def with_dimensions(vectors: Vectors, dimensions: int | None) -> Vectors:
    """Return the first values of each vector, scaled to length 1. None and all of them change nothing."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    return normalized(vectors[:, :dimensions])


def check_dimensions(dimensions: int | None, width: int) -> None:
    """Raise InvalidRequestError if vectors don't have so many values."""
    if dimensions is not None and dimensions > width:
        raise InvalidRequestError(
            f"dimensions: {dimensions} is more than the {width} values that this model's vectors have.",
            "dimensions",
        )
