"""How CPUs multiply floating-point numbers."""

from __future__ import annotations

import pytest

from mlc_serve.compiler.kernels.cpu import instructions
from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.target import target_for


@pytest.mark.parametrize(
    ("mcpu", "unit"),
    [
        ("znver4", FloatUnit(2, 8, 16, has_pairs=True)),
        ("skylake-avx512", FloatUnit(2, 8, 16, has_pairs=False)),
        ("haswell", FloatUnit(2, 2, 6, has_pairs=False)),
    ],
)
def test_rows_at_a_time_are_what_registers_hold(
    monkeypatch: pytest.MonkeyPatch, mcpu: str, unit: FloatUnit
) -> None:
    """AVX-512 has twice as many registers as AVX2, twice as wide. Only newer CPUs have pairs of bfloat16."""
    monkeypatch.setattr(instructions, "llvm_get_system_cpu", lambda: "another")
    assert float_unit_for(target_for("cpu", mcpu)) == unit


@pytest.mark.parametrize("pay", [True, False])
def test_on_this_machine_a_measurement_decides_on_pairs(monkeypatch: pytest.MonkeyPatch, pay: bool) -> None:
    """A feature flag does not say how fast its instructions are."""
    monkeypatch.setattr(instructions, "llvm_get_system_cpu", lambda: "znver4")
    monkeypatch.setattr(instructions, "pairs_pay", {"znver4": pay}.__getitem__)
    assert float_unit_for(target_for("cpu", "znver4")).has_pairs is pay
