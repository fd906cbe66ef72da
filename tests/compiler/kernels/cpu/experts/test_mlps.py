"""The MLPs of experts, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.experts import mlps
from mlc_serve.compiler.kernels.cpu.experts.arithmetic import (
    Arithmetic,
    FloatArithmetic,
    IntegerArithmetic,
    PairArithmetic,
    WidenedArithmetic,
)
from mlc_serve.compiler.kernels.cpu.experts.mlps import expert_mlps
from mlc_serve.compiler.kernels.cpu.instructions import dot_for, float_unit_for
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.target import target_for
from mlc_serve.models.parts.experts import ClampedSwiGLU, Experts
from mlc_serve.quantization.groups import quantize
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import GroupFormat
from tests.compiler.kernels.cpu.experts.reference import Array, Weights, mixed
from tests.compiler.kernels.cpu.linear.quantized import EIGHT_BITS, FOUR_BITS, GROUPS

TARGET = target_for("cpu")
PAIRS = PairArithmetic(FloatUnit(2, 8, 16, has_pairs=True))
PLAIN = Experts(7, 3, 37)
BIASED = Experts(7, 3, 37, ClampedSwiGLU(limit=0.8), bias=True)
EXACT = 1e-5  # of the greatest result, for float32 sums
ROUNDED = 0.03  # if activations are rounded


def on_cpus_with(feature: str) -> pytest.MarkDecorator:
    """Leaves a test out on this CPU if it lacks the feature."""
    return pytest.mark.skipif(not has(TARGET, feature), reason="no such instructions here")


def integers(groups: GroupFormat, mcpu: str | None = None) -> IntegerArithmetic:
    """Products of bytes on this CPU, or on another."""
    return IntegerArithmetic(groups, dot_for(target_for("cpu", mcpu), groups))


def packed(arithmetic: Arithmetic, weight: Array, layout: str) -> tuple[list[Array], Array]:
    """A `(N, K)` weight as the kernel takes it, and the numbers that it stands for."""
    names = [part.layout + layout for part in arithmetic.weight_of(16, 16)]
    dtypes = [part.dtype for part in arithmetic.weight_of(16, 16)]
    if len(names) == 1:
        dtype = ml_dtypes.bfloat16 if dtypes == ["bfloat16"] else dtypes[0]
        stored = weight.astype(dtype)
        return [pack(stored, names[0])] * 2, stored.astype(np.float64)
    assert isinstance(arithmetic, IntegerArithmetic | WidenedArithmetic)
    groups = arithmetic.groups
    quantized = quantize(weight, groups)
    parts = [pack(quantized.stored, names[0], groups.offset), pack(quantized.scale, names[1])]
    scales = quantized.scale.astype(np.float64).repeat(groups.group_size, axis=1)
    dense = (quantized.stored.astype(np.float64) - groups.offset) * scales
    return parts, dense[:, : weight.shape[1]]


class Case:
    """Experts with random weights, and their kernel."""

    def __init__(self, experts: Experts, hidden: int, arithmetic: Arithmetic) -> None:
        self.experts, self.hidden, self.arithmetic = experts, hidden, arithmetic
        weights = Weights.random(experts, hidden)
        number = experts.num_experts
        gate_up, dense_gate_up = packed(arithmetic, weights.gate_up, f"-paired-experts{number}")
        down, dense_down = packed(arithmetic, weights.down, f"-experts{number}")
        self.operands = [*gate_up, weights.gate_up_bias, *down, weights.down_bias]
        self.weights = Weights(dense_gate_up, weights.gate_up_bias, dense_down, weights.down_bias)
        self.kernel = expert_mlps(experts, hidden, arithmetic)

    def inputs(self, num_rows: int) -> tuple[Array, Array, Array, Array]:
        """Rows, their experts, shares and residuals. Expert 0 is every row's, expert 1 none's."""
        rng = np.random.default_rng(num_rows)
        number, num_active = self.experts.num_experts, self.experts.num_active
        others = [rng.permutation(np.arange(2, number))[: num_active - 1] for _ in range(num_rows)]
        ids = np.array([[*other, 0] for other in others], np.int32)
        x, residual = rng.standard_normal((2, 1, num_rows, self.hidden)).astype(np.float32)
        return x, ids, rng.random(ids.shape).astype(np.float32), residual

    def run(self, kernel: Callable[..., None], x: Array, ids: Array, shares: Array, r: Array) -> Array:
        """What the kernel makes of inputs."""
        y = np.full_like(x, np.nan)
        kernel(x, ids, shares, *self.operands, r, y)
        return y

    def check(self, kernel: Callable[..., None], tolerance: float) -> None:
        """Compare the kernel with NumPy for several numbers of rows."""
        for num_rows in (1, 3, 37):
            x, ids, shares, residual = self.inputs(num_rows)
            y = self.run(kernel, x, ids, shares, residual)
            expected = mixed(self.experts, self.weights, x[0].astype(np.float64), ids, shares)
            result = (y - residual)[0]
            np.testing.assert_allclose(result, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(
    ("arithmetic", "experts", "tolerance"),
    [
        pytest.param(FloatArithmetic("float32", float_unit_for(TARGET)), PLAIN, EXACT, id="float32"),
        pytest.param(FloatArithmetic("float16", float_unit_for(TARGET)), BIASED, EXACT, id="float16"),
        pytest.param(PairArithmetic(FloatUnit(2, 2, 6, has_pairs=False)), PLAIN, EXACT, id="bfloat16"),
        pytest.param(PAIRS, PLAIN, ROUNDED, id="pairs", marks=on_cpus_with("avx512bf16")),
        pytest.param(WidenedArithmetic(EIGHT_BITS, float_unit_for(TARGET)), PLAIN, EXACT, id="widened"),
        pytest.param(integers(EIGHT_BITS), PLAIN, ROUNDED, id="q8f32_1"),
        pytest.param(integers(FOUR_BITS), BIASED, ROUNDED, id="q4f16_1"),
        pytest.param(integers(GROUPS["q4f32_1"]), PLAIN, ROUNDED, id="q4f32_1"),
    ],
)
def test_results_are_those_of_numpy(
    build: Callable[..., Any], arithmetic: Arithmetic, experts: Experts, tolerance: float
) -> None:
    """For every type of weights, few and many rows, experts with all rows and with none, biases, limits that
    values reach, and widths of no whole tiles or groups, the residual and the experts' shares add up.
    """
    case = Case(experts, 52, arithmetic)
    case.check(build(case.kernel), tolerance)


@pytest.mark.parametrize("groups", [EIGHT_BITS, FOUR_BITS], ids=["8", "4"])
@pytest.mark.parametrize("mcpu", [pytest.param("haswell", marks=on_cpus_with("avx2"))])
def test_older_cpus_have_the_same_results(
    build_for: Callable[..., Any], mcpu: str, groups: GroupFormat
) -> None:
    """Without VNNI and AVX-512 the results are NumPy's, too."""
    case = Case(Experts(4, 2, 48), 64, integers(groups, mcpu))
    case.check(build_for(target_for("cpu", mcpu))(case.kernel), ROUNDED)


@pytest.fixture(scope="module")
def eight_bits(build: Callable[..., Any]) -> tuple[Case, Callable[..., None]]:
    """Experts whose kernel takes five tokens in a pass over the weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlps, "_PASS_BYTES", 5 * 4 * 2 * 64)
        case = Case(Experts(5, 2, 32), 64, integers(EIGHT_BITS))
    return case, build(case.kernel)


def test_a_token_has_the_same_result_in_every_batch(
    eight_bits: tuple[Case, Callable[..., None]],
) -> None:
    """The bits of its result do not depend on the rows beside it, or on how many passes there are."""
    case, kernel = eight_bits
    x, ids, shares, residual = case.inputs(37)
    together = case.run(kernel, x, ids, shares, residual)
    for row in (0, 4, 5, 36):
        one = slice(row, row + 1)
        alone = case.run(kernel, x[:, one], ids[one], shares[one], residual[:, one])
        np.testing.assert_array_equal(alone, together[:, one])


def test_a_row_that_is_no_number_spoils_no_other(eight_bits: tuple[Case, Callable[..., None]]) -> None:
    """Rows with NaN or infinity have results that are no numbers. Other rows are finite."""
    case, kernel = eight_bits
    x, ids, shares, residual = case.inputs(7)
    x[0, 3, 50], x[0, 5, 10] = np.nan, np.inf
    finite = np.isfinite(case.run(kernel, x, ids, shares, residual)[0])
    assert not finite[[3, 5]].any()
    assert finite[[0, 1, 2, 4, 6]].all()


def test_weights_of_experts_that_are_not_chosen_are_not_read(
    eight_bits: tuple[Case, Callable[..., None]],
) -> None:
    """If their scales were no numbers, nothing would change."""
    case, kernel = eight_bits
    x, ids, shares, residual = case.inputs(1)
    expected = case.run(kernel, x, ids, shares, residual)
    for place in (1, 4):
        scales = np.copy(case.operands[place]).reshape(5, -1)
        scales[[e for e in range(5) if e not in ids[0]]] = np.nan
        case.operands[place] = scales.reshape(case.operands[place].shape)
    np.testing.assert_array_equal(case.run(kernel, x, ids, shares, residual), expected)
