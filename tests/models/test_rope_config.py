"""Rotary positions of parts of heads, of single layers and of long contexts, against transformers'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3TextConfig,
    GPTNeoXConfig,
    Ministral3Config,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    StableLmConfig,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.ministral3.modeling_ministral3 import Ministral3RotaryEmbedding
from transformers.models.phi.modeling_phi import PhiRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding
from transformers.models.stablelm.modeling_stablelm import StableLmRotaryEmbedding

from mlc_serve.errors import CheckpointError
from mlc_serve.models.rope import QueryScaling, Rope
from mlc_serve.models.rope_config import RopeStyle, for_context, longer_context, read_rope, read_ropes
from mlc_serve.models.rope_scaling import LinearScaling

SIZES = {"hidden_size": 160, "num_attention_heads": 2, "max_position_embeddings": 4096}
HEAD_DIM = 80
FULL, SLIDING = "full_attention", "sliding_attention"


def longrope(num_pairs: int = HEAD_DIM // 2, **others: Any) -> dict[str, Any]:
    """The keys of a model that was trained for 256 tokens, and then for 4096."""
    short, long = np.linspace(1, 2, num_pairs).tolist(), np.linspace(1, 40, num_pairs).tolist()
    scaling = {"type": "longrope", "short_factor": short, "long_factor": long, **others}
    return {**SIZES, "original_max_position_embeddings": 256, "rope_scaling": scaling}


@pytest.mark.parametrize(
    ("make", "embedding", "style", "stated"),
    [
        (PhiConfig, PhiRotaryEmbedding, RopeStyle(part=0.5), {"partial_rotary_factor": 0.4}),
        (PhiConfig, PhiRotaryEmbedding, RopeStyle(part=0.5), {}),
        (StableLmConfig, StableLmRotaryEmbedding, RopeStyle(part=0.25), {"rope_theta": 5e5}),
        (
            GPTNeoXConfig,
            GPTNeoXRotaryEmbedding,
            RopeStyle(theta_key="rotary_emb_base", part=0.25, part_key="rotary_pct"),
            {"rotary_pct": 0.5, "rotary_emb_base": 5000},
        ),
        (
            GPTNeoXConfig,
            GPTNeoXRotaryEmbedding,
            RopeStyle(theta_key="rotary_emb_base", part=0.25, part_key="rotary_pct"),
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.3}},
        ),
    ],
    ids=["phi-2", "phi default", "stablelm", "gpt_neox", "transformers 5"],
)
def test_a_part_of_a_head_is_rotated_as_by_transformers(
    make: type[PreTrainedConfig], embedding: type[torch.nn.Module], style: RopeStyle, stated: dict[str, Any]
) -> None:
    """As many dimensions, with the same frequencies, wherever the part is stated."""
    theirs = embedding(make(**SIZES, **stated)).get_buffer("inv_freq")
    ours = read_rope({**SIZES, **stated}, style)
    np.testing.assert_allclose(ours.frequencies(HEAD_DIM), theirs.numpy(), rtol=2e-6)
    assert ours.rotary_dim == 2 * len(theirs)


@pytest.mark.parametrize("value", [0, 1.5, "half", 0.01, 0.04])
def test_a_part_that_can_not_be_is_named(value: Any) -> None:
    """Less than a pair, more than a head, and half a pair."""
    with pytest.raises(CheckpointError, match=r"^rotary_pct "):
        read_rope({**SIZES, "rotary_pct": value}, RopeStyle(part=1.0, part_key="rotary_pct"))


@pytest.mark.parametrize("part", [1.0, 0.75])
@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
def test_longrope_is_that_of_transformers(kind: str, part: float) -> None:
    """With the short factors up to the first context, and with the long ones beyond."""
    config = longrope(int(HEAD_DIM * part) // 2, type=kind) | {"partial_rotary_factor": part}
    renamed = {**config["rope_scaling"], "type": "longrope"}  # transformers fails for "su", an older name
    theirs = Phi3RotaryEmbedding(Phi3Config(**config | {"rope_scaling": renamed, "pad_token_id": 0}))
    for length in (256, 257):
        ours = read_rope(for_context(config, length), RopeStyle(part=1.0))
        inverse, factor = ROPE_INIT_FUNCTIONS["longrope"](theirs.config, device="cpu", seq_len=length)
        np.testing.assert_allclose(ours.frequencies(HEAD_DIM), inverse.numpy(), rtol=2e-6)
        assert ours.attention_factor == pytest.approx(factor, rel=1e-12)
        assert ours.context_window(4096) == (256 if length == 256 else 4096)


def test_longrope_serves_short_contexts_unless_told_otherwise() -> None:
    """All longer ones have one configuration; no other scaling depends on the length."""
    config = longrope()
    assert for_context(config, None) == for_context(config, 256) == config
    assert for_context(config, 257) == for_context(config, 4096) != config
    assert longer_context(config) == 4096
    linear = {**SIZES, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert for_context(linear, 10**6) == linear
    assert longer_context(linear) is None


@pytest.mark.parametrize("factors", [None, [1.0] * 39, [1.0] * 39 + [0], [1.0] * 39 + ["2"], "1.0"])
@pytest.mark.parametrize("key", ["short_factor", "long_factor"])
def test_a_list_of_factors_that_can_not_be_is_named(key: str, factors: Any) -> None:
    """Also the one that is not used: it would be, for other contexts."""
    with pytest.raises(CheckpointError, match=f"^{key} must"):
        read_rope(longrope(**{key: factors}))


@pytest.mark.parametrize(
    "stated",
    [
        {
            "rope_theta": 2e6,
            "rope_local_base_freq": 5000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8},
        },
        {"position_embedding_base": 1000000, "rope_theta": 1000000},
        {
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                SLIDING: {"rope_type": "default", "rope_theta": 2e4},
            }
        },
    ],
    ids=["transformers 4", "mlc", "transformers 5"],
)
def test_each_type_of_layers_has_gemma_s_positions(stated: dict[str, Any]) -> None:
    """Sliding layers have their own base and no scaling."""
    theirs = Gemma3RotaryEmbedding(Gemma3TextConfig(**SIZES, head_dim=HEAD_DIM, **stated))
    types = [SLIDING, SLIDING, FULL]
    ropes = read_ropes({**SIZES, **stated}, types, RopeStyle(theta=1e6, local_theta=1e4))
    assert len(ropes) == 3
    for rope, kind in zip(ropes, types, strict=True):
        assert rope is not None
        expected = getattr(theirs, f"{kind}_inv_freq")
        np.testing.assert_allclose(rope.frequencies(HEAD_DIM), expected.numpy(), rtol=2e-6)


@pytest.mark.parametrize(
    ("stated", "turned"),
    [
        ({}, [True] * 4),
        ({"no_rope_layer_interval": 2}, [True, False, True, False]),
        ({"no_rope_layers": [0, 1, 1, 0, 1], "no_rope_layer_interval": 2}, [False, True, True, False]),
        ({"rope_parameters": {FULL: None, SLIDING: {"rope_theta": 7}}}, [False, True, True, False]),
    ],
)
def test_layers_without_positions(stated: dict[str, Any], turned: list[bool]) -> None:
    """A list, an interval, or a null for a type of layers says which are not rotated."""
    ropes = read_ropes({**SIZES, **stated}, [FULL, SLIDING, SLIDING, FULL])
    assert [rope is not None for rope in ropes] == turned


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"no_rope_layers": [1]}, "^no_rope_layers must list a 0 or a 1 for 2 layers"),
        ({"no_rope_layers": [1, 2]}, "^no_rope_layers must"),
        ({"no_rope_layer_interval": -1}, "^no_rope_layer_interval must"),
        ({"rope_parameters": {SLIDING: {}}}, f"^rope_parameters: {FULL} is missing"),
        ({"rope_parameters": {FULL: 3}}, f"^rope_parameters.{FULL} must be an object"),
    ],
)
def test_layers_that_can_not_be_are_named(stated: dict[str, Any], message: str) -> None:
    """By the key."""
    with pytest.raises(CheckpointError, match=message):
        read_ropes({**SIZES, **stated}, [FULL, FULL])


def test_positions_of_layer_types_are_not_taken_for_those_of_all_layers() -> None:
    """A family whose layers have the same positions refuses them."""
    with pytest.raises(CheckpointError, match=f"{SLIDING} has its own positions"):
        read_rope({"rope_parameters": {SLIDING: {"rope_theta": 7}}})


def test_queries_of_ministral_are_scaled() -> None:
    """By the keys beside those of yarn, whose numbers are transformers'."""
    theirs = Ministral3Config(**SIZES, head_dim=HEAD_DIM)
    rope = read_rope({**SIZES, "rope_parameters": dict(theirs.rope_parameters)})
    assert rope.query_scaling == QueryScaling(0.1, 16384)
    embedding = Ministral3RotaryEmbedding(theirs)
    np.testing.assert_allclose(rope.frequencies(HEAD_DIM), embedding.inv_freq.numpy(), rtol=2e-6)
    assert rope.attention_factor == embedding.attention_scaling == 1.0


def test_a_whole_head_is_not_a_part() -> None:
    """A factor of 1 reads as no factor does."""
    assert read_rope({**SIZES, "partial_rotary_factor": 1.0}, RopeStyle(part=0.5)) == Rope(10000.0)
    scaled = {**SIZES, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert read_rope(scaled, RopeStyle(part=0.4)) == Rope(10000.0, LinearScaling(2.0), 32)
