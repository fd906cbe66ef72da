"""Which experts tokens are sent to, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mlc_serve.compiler.kernels.cpu.experts.routing import choose_experts
from mlc_serve.models.parts.experts import ExpertGroups, Experts, Routing

ROUTINGS = {
    "qwen2_moe": Routing(),
    "mixtral": Routing(renormalized=True),
    "deepseek_v2": Routing(factor=16.0, groups=ExpertGroups(4, 2)),
    "deepseek_v3": Routing("sigmoid", True, 2.5, correction=True, groups=ExpertGroups(4, 2, summed=2)),
}


def chosen(experts: Experts, logits: Any, correction: Any) -> tuple[Any, Any]:
    """The experts of each row and their shares, as the models of transformers choose them."""
    routing = experts.routing
    scores = logits.softmax(dim=-1) if routing.scores == "softmax" else logits.sigmoid()
    ranks = scores + correction if routing.correction else scores
    if (groups := routing.groups) is not None:
        grouped = ranks.view(len(ranks), groups.number, -1)
        best = grouped.topk(groups.summed, dim=-1).values.sum(dim=-1).topk(groups.num_active).indices
        closed = torch.ones(len(ranks), groups.number, dtype=torch.bool).scatter(1, best, False)
        ranks = grouped.masked_fill(closed[..., None], float("-inf")).view(len(ranks), -1)
    ids = ranks.topk(experts.num_active).indices
    shares = scores.gather(1, ids)
    if routing.renormalized:
        shares = shares / shares.sum(dim=-1, keepdim=True)
    return ids, shares * routing.factor


def run(kernel: Callable[..., None], experts: Experts, logits: Any, correction: Any) -> tuple[Any, Any]:
    """The kernel's choices for logits `(s, E)`."""
    shape = (len(logits), experts.num_active)
    ids, shares = np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32)
    kernel(logits[None], correction, ids, shares)
    return ids, shares


@pytest.mark.parametrize("routing", ROUTINGS.values(), ids=list(ROUTINGS))
def test_choices_are_those_of_pytorch(build: Callable[..., Any], routing: Routing) -> None:
    """Experts and shares equal PyTorch's, the best first, for any number of rows."""
    experts = Experts(24, 6, 16, routing=routing)
    kernel = build(choose_experts(experts))
    rng = np.random.default_rng(0)
    correction = rng.standard_normal(24).astype(np.float32)
    for num_rows in (1, 3, 37):
        logits = (3 * rng.standard_normal((num_rows, 24))).astype(np.float32)
        ids, shares = run(kernel, experts, logits, correction)
        expected_ids, expected = chosen(experts, torch.tensor(logits), torch.tensor(correction))
        np.testing.assert_array_equal(ids, expected_ids.numpy())
        np.testing.assert_allclose(shares, expected.numpy(), rtol=1e-5, atol=1e-7)


def test_a_renormalized_softmax_is_that_of_the_chosen_logits(build: Callable[..., Any]) -> None:
    """gpt_oss applies the softmax to the logits of the chosen experts, which may be far from zero."""
    experts = Experts(8, 3, 16, routing=Routing(renormalized=True))
    logits = np.array([[50, -70, 49, 48, 0, 0, 0, 0], [-90, -91, -92, -93, -94, -95, -96, -97]], np.float32)
    ids, shares = run(build(choose_experts(experts)), experts, logits, logits)
    expected = torch.tensor(logits).topk(3)
    np.testing.assert_array_equal(ids, expected.indices.numpy())
    np.testing.assert_allclose(shares, expected.values.softmax(dim=-1).numpy(), rtol=1e-5)


@pytest.mark.parametrize("routing", [ROUTINGS["mixtral"], ROUTINGS["deepseek_v3"]])
def test_logits_that_are_no_numbers_choose_experts_that_exist(
    build: Callable[..., Any], routing: Routing
) -> None:
    """So no weight outside of the model is read, and other rows choose as they would."""
    experts = Experts(24, 6, 16, routing=routing)
    kernel = build(choose_experts(experts))
    correction = np.zeros(24, np.float32)
    logits = np.random.default_rng(0).standard_normal((5, 24)).astype(np.float32)
    alone, _ = run(kernel, experts, logits[4:], correction)
    logits[0], logits[1, 3], logits[2, 5], logits[3] = np.nan, np.nan, np.inf, -np.inf
    ids, _ = run(kernel, experts, logits, correction)
    assert ids.min() >= 0
    assert ids.max() < 24
    np.testing.assert_array_equal(ids[4:], alone)
