"""How CPUs multiply floating-point numbers."""

from __future__ import annotations

import pytest

from mlc_serve.compiler.kernels.cpu import instructions
from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.target import target_for


@pytest.mark.parametrize(
    ("mcpu", "num_registers", "num_per_vector"), [("skylake-avx512", 32, 1), ("haswell", 16, 2)]
)
def test_the_sums_fit_into_registers(mcpu: str, num_registers: int, num_per_vector: int) -> None:
    """The sums of a product, and those of attention, leave registers for the factors.

    A register of AVX-512 holds a vector of 16 numbers, one of AVX2 half a vector.
    """
    unit = float_unit_for(target_for("cpu", mcpu))
    assert unit.tiles * unit.rows * num_per_vector < num_registers
    assert unit.sums * num_per_vector < num_registers


@pytest.mark.parametrize(
    ("mcpu", "has_pairs"), [("znver4", True), ("skylake-avx512", False), ("haswell", False)]
)
def test_newer_cpus_have_products_of_pairs(
    monkeypatch: pytest.MonkeyPatch, mcpu: str, has_pairs: bool
) -> None:
    """For another machine's CPU, which can't be measured, the feature flag decides on products of pairs."""
    monkeypatch.setattr(instructions, "llvm_get_system_cpu", lambda: "another")
    assert float_unit_for(target_for("cpu", mcpu)).has_pairs is has_pairs


@pytest.mark.parametrize("pay", [True, False])
def test_on_this_machine_a_measurement_decides_on_pairs(monkeypatch: pytest.MonkeyPatch, pay: bool) -> None:
    """A measurement decides, because a feature flag does not say how fast the instructions are."""
    monkeypatch.setattr(instructions, "llvm_get_system_cpu", lambda: "znver4")
    monkeypatch.setattr(instructions, "pairs_pay", {"znver4": pay}.__getitem__)
    assert float_unit_for(target_for("cpu", "znver4")).has_pairs is pay
