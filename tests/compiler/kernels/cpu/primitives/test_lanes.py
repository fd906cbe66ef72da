"""How wide vectors may be."""

from __future__ import annotations

import pytest

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes


@pytest.mark.parametrize(("extent", "width"), [(64, 16), (48, 16), (24, 8), (6, 2), (7, 1)])
def test_vectors_divide_the_extent(extent: int, width: int) -> None:
    """A vector has the greatest power of two of lanes, up to sixteen, that leaves nothing over."""
    assert lanes(extent) == width
