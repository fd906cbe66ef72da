"""How configurations of DeepSeek's models are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.parts.experts import ExpertGroups, Experts, Routing
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.table import read_architecture
from mlc_serve.models.weight_changes import Stacked

CONFIG: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "q_lora_rank": None,
    "kv_lora_rank": 3,
    "qk_nope_head_dim": 2,
    "qk_rope_head_dim": 4,
    "v_head_dim": 1,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 8,
}


def read(model_type: str, **keys: Any) -> Decoder:
    """A small model with these keys."""
    decoder = read_architecture(model_type, CONFIG | keys)
    assert isinstance(decoder, Decoder)
    return decoder


def test_some_layers_have_experts() -> None:
    """Those from the first on whose number is a multiple of the frequency; others have an MLP."""
    blocks = read("deepseek_v3", first_k_dense_replace=1, moe_layer_freq=2, n_shared_experts=3).blocks
    experts = Experts(16, 4, 8, routing=blocks[2].mlp.routing, shared=24)  # type: ignore[union-attr]
    assert [block.mlp for block in blocks] == [MLP(96), MLP(96), experts, MLP(96)]


def test_a_null_is_no_shared_expert() -> None:
    """But if there is no such key, DeepSeek-V2 has two."""
    assert read("deepseek_v2", n_shared_experts=None).blocks[0].mlp == Experts(16, 4, 8)
    assert read("deepseek_v2").blocks[0].mlp == Experts(16, 4, 8, shared=16)


@pytest.mark.parametrize(
    ("model_type", "keys", "routing"),
    [
        ("deepseek_v2", {"routed_scaling_factor": 16.0}, Routing(factor=16.0)),
        (
            "deepseek_v2",
            {"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3},
            Routing(groups=ExpertGroups(8, 3)),
        ),
        (
            "deepseek_v3",
            {},
            Routing("sigmoid", True, 2.5, correction=True, groups=ExpertGroups(8, 4, summed=2)),
        ),
        (
            "deepseek_v3",
            {"norm_topk_prob": False, "n_group": 1, "topk_group": 1, "scoring_func": "sigmoid"},
            Routing("sigmoid", False, 2.5, correction=True, groups=ExpertGroups(1, 1, summed=2)),
        ),
    ],
)
def test_experts_are_chosen_as_the_configuration_says(
    model_type: str, keys: dict[str, Any], routing: Routing
) -> None:
    """By a softmax or by sigmoids with a correction, perhaps among the best groups."""
    mlp = read(model_type, **keys).blocks[-1].mlp
    assert isinstance(mlp, Experts)
    assert mlp.routing == routing


@pytest.mark.parametrize(
    ("model_type", "wrong", "message"),
    [
        ("deepseek_v2", {"scoring_func": "sigmoid"}, "scoring_func 'sigmoid' is not supported"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method 'noaux_tc' is not supported"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob is not supported"),
        ("deepseek_v2", {"mlp_bias": True}, "mlp_bias is not supported"),
        ("deepseek_v3", {"topk_method": "greedy"}, "topk_method 'greedy' is not supported"),
        ("deepseek_v3", {"num_key_value_heads": 1}, "num_key_value_heads must be num_attention_heads, 2"),
        ("deepseek_v3", {"qk_rope_head_dim": 5}, "qk_rope_head_dim must be even"),
        ("deepseek_v3", {"kv_lora_rank": 2**20}, "kv_lora_rank must be a positive integer up to"),
        ("deepseek_v3", {"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
    ],
)
def test_what_is_not_supported_is_refused(model_type: str, wrong: dict[str, Any], message: str) -> None:
    """By the key."""
    with pytest.raises(CheckpointError, match=message):
        read(model_type, **wrong)


def test_stretched_positions_make_attention_sharper() -> None:
    """By the square of what yarn's weight says."""
    yarn = {"type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7}
    yarn["original_max_position_embeddings"] = 4096
    attention = read("deepseek_v2", rope_scaling=yarn).blocks[0].attention
    assert isinstance(attention, LatentAttention)
    assert attention.scale == pytest.approx(6**-0.5 * (0.1 * 0.7 * np.log(40) + 1) ** 2)


def test_the_rows_of_checkpoints_are_put_in_order() -> None:
    """What turns comes first, in halves, and of the product that gives keys and values, a head's rows of keys
    are transposed.
    """
    names = read("deepseek_v3").names

    def rows(own: str, stored: np.ndarray[Any, Any]) -> list[Any]:
        (part,) = names.parts(f"model.layers.0.self_attn.{own}.weight", "huggingface", ())
        assert part.change.shape(stored.shape) == part.change.values(stored).shape
        result: list[Any] = part.change.values(stored).tolist()
        return result

    assert rows("q_proj", np.arange(12)) == [2, 4, 3, 5, 0, 1, 8, 10, 9, 11, 6, 7]
    assert rows("kv_a_proj", np.arange(7)) == [3, 5, 4, 6, 0, 1, 2]
    both = np.arange(18).reshape(6, 3)
    assert rows("latent.k_up_proj", both) == [[0, 3], [1, 4], [2, 5], [9, 12], [10, 13], [11, 14]]
    assert rows("latent.v_up_proj", both) == [[6, 7, 8], [15, 16, 17]]
    (part,) = names.parts("model.layers.0.self_attn.latent.k_up_proj.weight", "mlc", ())
    assert (part.name, part.change) == ("model.layers.0.self_attn.w_uk", Stacked(2))
