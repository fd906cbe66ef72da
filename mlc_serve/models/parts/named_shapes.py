"""The weights of a part, by name."""

from __future__ import annotations

from collections.abc import Iterator

NamedShape = tuple[str, tuple[int, ...]]


def product_weights(name: str, num_rows: int, depth: int, *, bias: bool) -> Iterator[NamedShape]:
    """The matrix `(N, K)` of a product, and its bias."""
    yield f"{name}.weight", (num_rows, depth)
    if bias:
        yield f"{name}.bias", (num_rows,)
