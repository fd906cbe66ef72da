"""What the quality table says of two distributions, and of a model beside itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.quality import compare, differences, log_softmax
from mlc_serve.demo import demo_model_path


def test_logits_become_logprobs() -> None:
    """Row by row, however large they are."""
    logprobs = log_softmax(np.array([[0.0, 0.0], [1000.0, 1000.0 + math.log(3)]], np.float32))
    np.testing.assert_allclose(np.exp(logprobs), [[0.5, 0.5], [0.25, 0.75]], rtol=1e-4)


def test_figures_of_two_distributions() -> None:
    """Against numbers worked out by hand."""
    expected = np.log(np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))
    found = np.log(np.array([[0.5, 0.5], [0.75, 0.25]], np.float32))
    figures = differences(expected, found, np.array([0, 1]))
    assert figures["perplexity"] == pytest.approx((0.5 * 0.25) ** -0.5)
    assert figures["rise_pct"] == pytest.approx(100 * (3**0.5 - 1), rel=1e-5)
    assert figures["mean_error"] == pytest.approx(math.log(3) / 2)
    assert figures["max_error"] == pytest.approx(math.log(3))
    assert figures["same_greedy_pct"] == 50
    assert figures["kl"] == pytest.approx(math.log(3) / 4)


def test_float32_is_its_own_reference() -> None:
    """It differs from itself in nothing, and gives the demo model's answers a high probability."""
    (row,) = compare(str(demo_model_path()), ["q0f32"], [None], 3)
    assert (row["max_error"], row["kl"], row["same_greedy_pct"]) == (0, 0, 100)
    assert 1 <= float(str(row["perplexity"])) < 1.2
