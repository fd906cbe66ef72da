"""Which experts tokens are sent to, against the routers of transformers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeTopKRouter

from mlc_serve.compiler.kernels.cpu.experts.routing import choose_experts
from mlc_serve.models.parts.experts import ExpertGroups, Experts, Routing
from tests.compiler.kernels.cpu.experts.reference import Array

NUM_EXPERTS, NUM_ACTIVE, HIDDEN = 24, 6, 32
CONFIG = SimpleNamespace(
    num_experts=NUM_EXPERTS,
    num_local_experts=NUM_EXPERTS,
    num_experts_per_tok=NUM_ACTIVE,
    hidden_size=HIDDEN,
    n_group=4,
    topk_group=2,
    topk_method="group_limited_greedy",
    norm_topk_prob=False,
    routed_scaling_factor=2.5,
)
MIXTRAL = Routing(renormalized=True)
DEEPSEEK_V3 = Routing("sigmoid", False, 2.5, correction=True, groups=ExpertGroups(4, 2, summed=2))


def run(kernel: Callable[..., None], logits: Array, correction: Array) -> tuple[Array, Array]:
    """The kernel's choices for logits `(s, E)`."""
    shape = (len(logits), NUM_ACTIVE)
    ids, shares = np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32)
    kernel(logits[None], correction, ids, shares)
    return ids, shares


def by_expert(ids: Array, shares: Array) -> Array:
    """The shares `(s, E)` of all experts; zeros for those that are not chosen."""
    all_shares = np.zeros((len(ids), NUM_EXPERTS))
    np.put_along_axis(all_shares, ids, shares, axis=1)
    return all_shares


@pytest.mark.parametrize(
    ("router_class", "routing"),
    [
        (Qwen2MoeTopKRouter, Routing()),
        (MixtralTopKRouter, MIXTRAL),
        (GptOssTopKRouter, Routing(renormalized=True, bias=True)),
        (DeepseekV2TopkRouter, Routing(factor=2.5, groups=ExpertGroups(4, 2))),
        (DeepseekV3TopkRouter, DEEPSEEK_V3),
    ],
)
def test_choices_are_those_of_transformers(
    build: Callable[..., Any], router_class: Callable[..., torch.nn.Module], routing: Routing
) -> None:
    """Experts and shares are those of the family's router, for any number of rows."""
    torch.manual_seed(0)
    router = router_class(CONFIG)
    for tensor in (*router.parameters(), *router.buffers()):
        torch.nn.init.normal_(tensor)
    correction = dict(router.named_buffers()).get("e_score_correction_bias", torch.zeros(NUM_EXPERTS)).numpy()
    kernel = build(choose_experts(Experts(NUM_EXPERTS, NUM_ACTIVE, 16, routing=routing)))
    for num_rows in (1, 3, 37):
        with torch.no_grad():
            logits, shares, ids = router(torch.randn(num_rows, HIDDEN))
        result = by_expert(*run(kernel, logits.float().numpy(), correction))
        np.testing.assert_allclose(result, by_expert(ids.numpy(), shares.numpy()), rtol=1e-5, atol=1e-6)


def test_logits_that_are_far_apart_keep_their_shares(build: Callable[..., Any]) -> None:
    """A softmax over all experts, renormalized, is that of the chosen logits, however great they are."""
    kernel = build(choose_experts(Experts(NUM_EXPERTS, NUM_ACTIVE, 16, routing=MIXTRAL)))
    logits = np.full((2, NUM_EXPERTS), -90, np.float32)
    logits[0, 3:9], logits[1, 5:11] = [50, -20, 49, 48, 47, 46], [-3, -2, -1, -4, -5, -80]
    ids, shares = run(kernel, logits, logits)
    expected = torch.tensor(logits).topk(NUM_ACTIVE)
    np.testing.assert_array_equal(ids, expected.indices.numpy())
    np.testing.assert_allclose(shares, expected.values.softmax(dim=-1).numpy(), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("routing", [MIXTRAL, DEEPSEEK_V3], ids=["mixtral", "deepseek_v3"])
def test_logits_that_are_no_numbers_choose_experts_that_exist(
    build: Callable[..., Any], routing: Routing
) -> None:
    """So no weight outside of the model is read, and other rows choose as they would."""
    kernel = build(choose_experts(Experts(NUM_EXPERTS, NUM_ACTIVE, 16, routing=routing)))
    correction = np.zeros(NUM_EXPERTS, np.float32)
    logits = np.random.default_rng(0).standard_normal((5, NUM_EXPERTS)).astype(np.float32)
    alone, _ = run(kernel, logits[4:], correction)
    logits[0], logits[1, 3], logits[2, 5], logits[3] = np.nan, np.nan, np.inf, -np.inf
    ids, _ = run(kernel, logits, correction)
    assert ids.min() >= 0
    assert ids.max() < NUM_EXPERTS
    np.testing.assert_array_equal(ids[4:], alone)
