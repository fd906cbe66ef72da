"""The README's tables of kernels, against what the compiler chooses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import tvm
from tvm import tirx
from tvm.relax.frontend import nn
from tvm.target import Target

import mlc_serve.compiler.kernels
from mlc_serve.compiler.kernels.cpu import instructions
from mlc_serve.compiler.kernels.cpu.primitives.multiplier import Bfloat16Multiplier, multiplier_for
from mlc_serve.compiler.layers.cpu import CPULayers
from mlc_serve.compiler.optimization import LEVELS, find_level
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.scheme import SCHEMES, find_scheme

README = Path(mlc_serve.compiler.kernels.__path__[0]) / "README.md"
ANY = ("znver4", "haswell", "x86-64", "cortex-a76")
# Parts of the names of all instructions that the tables name.
INSTRUCTION = re.compile(
    r"multiply_add_bfloat16|vpdpbusd\.\d+|neon\.[us]+dot|avx2\.psign\.b|pmaddubs\.w\.512|pmadd\.ub\.sw"
)


class Case(NamedTuple):
    """A combination that a row of a table speaks of, and the row's last two cells."""

    scheme: str
    level: str
    mcpu: str
    first: str
    second: str

    def target(self) -> Target:
        """The combination's target."""
        triple = {"mtriple": "aarch64-linux-gnu"} if self.mcpu.startswith(("cortex", "neoverse")) else {}
        return Target({"kind": "llvm", "mcpu": self.mcpu, **triple})

    def layers(self) -> CPULayers:
        """The layers that are chosen for the combination."""
        return CPULayers(find_scheme(self.scheme), find_level(self.level), self.target())


def cases() -> Iterator[Case]:
    """The combinations of both tables."""
    for line in README.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].split(", ")[0] in SCHEMES:
            schemes, levels, cpus, first, second = cells
            mcpus = ANY if cpus == "any" else cpus.split(", ")
            for combination in product(schemes.split(", "), levels.split(", "), mcpus):
                yield Case(*combination, first, second)


TYPES = [case for case in cases() if case.first.startswith("float")]
KERNELS = [case for case in cases() if not case.first.startswith("float")]


@pytest.fixture(autouse=True)
def another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured: none of the CPUs is that of this machine."""
    monkeypatch.setattr(instructions, "llvm_get_system_cpu", lambda: "another")


class GatedLayer(nn.Module):  # type: ignore[misc]  # TVM is untyped
    """A norm, and the product of gate and up."""

    def __init__(self, layers: CPULayers) -> None:
        self.norm, self.linear = (
            layers.norm(Norm("rms", 64, 1e-5)),
            layers.linear(64, 64, activation="silu", gated=True),
        )

    def run(self, x: nn.Tensor) -> nn.Tensor:
        return self.linear.activated(self.norm.forward(x))


def kernels_of(layers: CPULayers) -> dict[str, tirx.PrimFunc]:
    """The kernels of a gated layer."""
    model = GatedLayer(layers)
    modes = {"param_mode": "packed", "effect_mode": "none"}
    spec = {"run": {"x": nn.spec.Tensor([1, "rows", 64], "float32"), "$": modes}}
    module: tvm.IRModule = model.export_tvm(spec=nn.spec.ModuleSpec.from_raw(spec, model))[0]
    functions = {var.name_hint: function for var, function in module.functions.items()}
    return {name: function for name, function in functions.items() if isinstance(function, tirx.PrimFunc)}


@pytest.mark.parametrize("table", [KERNELS, TYPES], ids=["kernels", "types"])
def test_a_table_speaks_of_every_scheme_and_level(table: list[Case]) -> None:
    """Each table has a row for every scheme at every level, and none has two for one combination."""
    assert {case[:2] for case in table} == set(product(SCHEMES, LEVELS))
    assert len({case[:3] for case in table}) == len(table)


@pytest.mark.parametrize("case", KERNELS, ids=lambda case: "-".join(case[:3]))
def test_the_kernels_and_instructions_are_those_of_the_table(case: Case) -> None:
    """A gated layer behind a norm has the kernels of its row, and instructions only if the row names one."""
    kernels = kernels_of(case.layers())
    assert set(kernels) == set(re.findall(r"`(\w+)`", case.first))
    found = {name for kernel in kernels.values() for name in INSTRUCTION.findall(kernel.script())}
    assert case.second in found or not case.second
    assert bool(found) == bool(case.second)


@pytest.mark.parametrize("case", TYPES, ids=lambda case: "-".join(case[:3]))
def test_the_types_of_attention_are_those_of_the_table(case: Case) -> None:
    """Keys and values have the type of the row, and prefill multiplies in the type of the row."""
    assert case.layers().attention_dtype == case.first
    multiplier = multiplier_for(case.first, instructions.float_unit_for(case.target()))
    assert ("bfloat16" if isinstance(multiplier, Bfloat16Multiplier) else "float32") == case.second
