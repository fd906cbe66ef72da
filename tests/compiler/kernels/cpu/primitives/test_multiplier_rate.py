"""The measured loops multiply, and the faster kind of product is taken."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import tvm

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.primitives import multiplier_rate
from mlc_serve.compiler.kernels.cpu.primitives.multiplier import (
    Bfloat16Multiplier,
    FloatMultiplier,
    Multiplier,
)
from mlc_serve.compiler.target import target_for

TARGET = target_for("cpu")
bfloat16 = pytest.mark.skipif(not has(TARGET, "avx512bf16"), reason="this CPU has no AVX512-BF16")


@pytest.mark.parametrize(
    "multiplier", [FloatMultiplier(), pytest.param(Bfloat16Multiplier(), marks=bfloat16)]
)
def test_the_loop_multiplies_all_that_it_counts(
    monkeypatch: pytest.MonkeyPatch, multiplier: Multiplier
) -> None:
    """The compiler has left out no product: the sums are those of NumPy, and exact in either type."""
    steps = 32
    monkeypatch.setattr(multiplier_rate, "_STEPS", steps)
    shape = (multiplier_rate._SUMS, 16 * multiplier.per_word)
    values = np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32)
    words = values if multiplier.per_word == 1 else values.astype(ml_dtypes.bfloat16).view(np.uint32)
    totals = tvm.runtime.tensor(np.zeros((multiplier_rate._SUMS, 16), np.float32))
    multiplier_rate._compiled(multiplier, TARGET)(tvm.runtime.tensor(np.ascontiguousarray(words)), totals)
    pairs = values.reshape(multiplier_rate._SUMS, 16, multiplier.per_word)
    expected = sum(np.einsum("swp,p->sw", pairs, pairs[0, i % 16]) for i in range(steps))
    np.testing.assert_array_equal(totals.numpy(), expected)


@pytest.mark.parametrize(
    ("pairs", "singles", "pay"), [(1.0, 1.0, True), (1.0, 0.5, False), (4.0, 1.0, False), (1.5, 1.0, True)]
)
def test_pairs_pay_where_they_finish_more_products(
    monkeypatch: pytest.MonkeyPatch, pairs: float, singles: float, pay: bool
) -> None:
    """Pairs, which do two products at once, pay if their fastest run is less than twice that of singles."""

    def loop(multiplier: Multiplier, _target: object) -> Callable[[], float]:
        durations = iter([9.0, pairs if multiplier.per_word == 2 else singles] + [9.0] * 20)
        return lambda: next(durations)

    monkeypatch.setattr(multiplier_rate, "_loop", loop)
    assert multiplier_rate.pairs_pay.__wrapped__("znver4") is pay
