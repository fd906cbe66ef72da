"""Products of bytes with the instructions of other CPUs: run if this machine has them, else compiled."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm.target import Target

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.instructions import dot_for
from mlc_serve.compiler.pipeline import lowering
from mlc_serve.compiler.target import target_for
from mlc_serve.quantization.scheme import GroupFormat
from tests.compiler.kernels.cpu.linear.parts import integer_matmul
from tests.compiler.kernels.cpu.linear.quantized import (
    BIAS,
    EIGHT_BITS,
    FOUR_BITS,
    PLAIN,
    THREE_BITS,
    empty_result,
    random_addends,
    random_weight,
    with_epilogue,
)
from tests.compiler.kernels.cpu.linear.test_integer_matmul import random_activations

# The feature that this machine must have to run code for a CPU.
FEATURES = {
    "cascadelake": "avx512vnni",
    "alderlake": "avxvnni",
    "skylake-avx512": "avx512bw",
    "haswell": "avx2",
    "x86-64": "sse2",
}
INSTRUCTIONS = {
    ("cascadelake", 8): "MixedDot",
    ("cascadelake", 4): "MixedDot",
    ("alderlake", 8): "MixedDot",
    ("alderlake", 4): "MixedDot",
    ("skylake-avx512", 8): "MagnitudeDot",
    ("skylake-avx512", 4): "ShortDot",
    ("haswell", 8): "MagnitudeDot",
    ("haswell", 4): "ShortDot",
    ("haswell", 3): "ShortDot",
    ("x86-64", 8): "PortableDot",
    ("x86-64", 4): "PortableDot",
}
FORMS = [
    pytest.param(
        mcpu,
        {8: EIGHT_BITS, 4: FOUR_BITS, 3: THREE_BITS}[bits],
        kind,
        id=f"{mcpu}-{bits}",
        marks=pytest.mark.skipif(not has(target_for("cpu"), FEATURES[mcpu]), reason="not on this CPU"),
    )
    for (mcpu, bits), kind in INSTRUCTIONS.items()
]


@pytest.mark.parametrize(("mcpu", "groups", "kind"), FORMS)
def test_each_kind_of_cpu_has_the_same_sums(
    build_for: Callable[..., Any], mcpu: str, groups: GroupFormat, kind: str
) -> None:
    """Sums are exact even for the greatest weights and activations, where short sums would overflow."""
    target = target_for("cpu", mcpu)
    dot = dot_for(target, groups)
    assert type(dot).__name__ == kind
    kernel = build_for(target)(integer_matmul(64, 200, groups, BIAS, "float32", dot))
    weight = random_weight(64, 200, groups, BIAS)
    for num_rows in (1, 7):
        words, scales, starts, x = random_activations(num_rows, 200, groups, dot)
        addends = random_addends(64, num_rows)
        y = empty_result(64, num_rows, BIAS, "float32")

        kernel(words, scales, starts, weight.packed, weight.scale, *addends, y)

        expected = with_epilogue(x @ weight.dense.T, addends, BIAS)
        np.testing.assert_allclose(y, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("groups", [EIGHT_BITS, FOUR_BITS])
@pytest.mark.parametrize(
    ("mcpu", "instruction", "offset_left"),
    [
        ("cortex-a76", "sdot", {8: 0, 4: 7}),
        ("neoverse-v1", "usdot", {8: 128, 4: 7}),
        ("cortex-a72", "ml", None),
    ],
)
def test_arm_has_its_own_instructions(
    groups: GroupFormat, mcpu: str, instruction: str, offset_left: dict[int, int] | None
) -> None:
    """The code of products has the CPU's instructions; for signed ones, bytes lose their offset first."""
    target = Target({"kind": "llvm", "mcpu": mcpu, "mtriple": "aarch64-linux-gnu"})
    dot = dot_for(target, groups)
    assert dot.offset == (groups.offset if offset_left is None else offset_left[groups.bits])
    kernel = integer_matmul(64, 64, groups, PLAIN, "float32", dot).with_attr("global_symbol", "kernel")
    with lowering(target):
        code = tvm.tirx.build(tvm.IRModule({"kernel": kernel}), target=target)
    assert re.search(rf"\t{instruction}", code.inspect_source("asm"))
