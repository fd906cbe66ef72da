"""What CPUs have for products of floating-point numbers."""

from __future__ import annotations

import pytest

from mlc_serve.compiler.kernels.cpu.float_unit import FloatUnit, float_unit_for
from mlc_serve.compiler.target import target_for


@pytest.mark.parametrize(
    ("mcpu", "unit"),
    [
        ("znver4", FloatUnit(2, 8, 16, has_pairs=True)),
        ("skylake-avx512", FloatUnit(2, 8, 16, has_pairs=False)),
        ("haswell", FloatUnit(2, 2, 6, has_pairs=False)),
    ],
)
def test_rows_at_a_time_are_what_registers_hold(mcpu: str, unit: FloatUnit) -> None:
    """AVX-512 has twice as many as AVX2, twice as wide; bfloat16 pairs are of newer CPUs alone."""
    assert float_unit_for(target_for("cpu", mcpu)) == unit
