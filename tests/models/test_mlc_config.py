"""A model_config as MLC writes it, with the keys of its own definition of each family and no others."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.models.decoder import Decoder
from mlc_serve.models.mlc_config import config_of_mlc, model_type_of_mlc
from mlc_serve.models.table import FAMILIES

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
RMS = SIZES | {"rms_norm_eps": 1e-5}
COMMON = {"context_window_size": 512, "prefill_chunk_size": 512, "head_dim": 16, "max_batch_size": 1}
OURS = {"max_position_embeddings": 512, "rope_theta": 5e4}
THETA = {"position_embedding_base": 50000}
GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "head_dim": 16, "attention_bias": False}
GEMMA3 = {"sliding_window": 128, "query_pre_attn_scalar": 16, "rope_local_base_freq": 2e4}
GPT2 = {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "layer_norm_epsilon": 1e-5}
NEOX = SIZES | {"num_key_value_heads": 4, "layer_norm_eps": 1e-5, "rotary_pct": 0.5}

# model_type of MLC, model_config of MLC, model_type of transformers, config.json
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "llama": ("llama", RMS | THETA | {"rope_scaling": None}, "llama", RMS | OURS),
    "mistral": (
        "mistral",
        RMS | THETA | {"sliding_window_size": -1, "attention_sink_size": 4},
        "mistral",
        RMS | OURS | {"sliding_window": None},
    ),
    "mistral-windowed": (
        "mistral",
        RMS | THETA | {"sliding_window_size": 128, "attention_sink_size": 4},
        "mistral",
        RMS | OURS | {"sliding_window": 128},
    ),
    "ministral3": (
        "ministral3",
        RMS | THETA | {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}, "sliding_window_size": -1},
        "ministral3",
        RMS
        | {"head_dim": 16, "max_position_embeddings": 512}
        | {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5e4}},
    ),
    "mixtral": (
        "mixtral",
        RMS | THETA | {"rope_scaling": None, "num_local_experts": 8, "num_experts_per_tok": 2},
        "mixtral",
        RMS | OURS | {"sliding_window": None},
    ),
    "qwen3_moe": (
        "qwen3_moe",
        RMS
        | {"hidden_act": "silu", "rope_theta": 50000, "attention_bias": False, "norm_topk_prob": True}
        | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1},
        "qwen3_moe",
        RMS
        | OURS
        | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16}
        | {"norm_topk_prob": True, "mlp_only_layers": []},
    ),
    "qwen3-embedding": (
        "qwen3-embedding",
        RMS
        | {"rope_theta": 50000, "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": True},
        "qwen3",
        RMS | OURS | {"head_dim": 16, "tie_word_embeddings": True},
    ),
    "gemma": ("gemma", RMS | THETA | GEMMA, "gemma", RMS | OURS | {"head_dim": 16, "hidden_act": "gelu"}),
    "gemma2": (
        "gemma2",
        RMS
        | THETA
        | GEMMA
        | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
        | {"query_pre_attn_scalar": 16, "sliding_window": 512},
        "gemma2",
        RMS | OURS | GEMMA | {"query_pre_attn_scalar": 16, "sliding_window": 512},
    ),
    "gemma3": (
        "gemma3",
        {
            "text_config": RMS
            | THETA
            | GEMMA
            | {"rope_scaling": 0, "sliding_window_size": 128, "query_pre_attn_scalar": 16}
            | {"context_window_size": 512, "kwargs": {"rope_local_base_freq": 2e4, "vocab_size": 300}},
            "vocab_size": 320,
            "sliding_window_size": 128,
            "is_text_model": False,
        },
        "gemma3_text",
        RMS | OURS | GEMMA | GEMMA3,
    ),
    "gpt2": ("gpt2", GPT2 | {"n_inner": 256}, "gpt2", GPT2 | {"n_positions": 512}),
    "gpt_neox": (
        "gpt_neox",
        NEOX | THETA | {"use_parallel_residual": False, "ffn_out_dtype": "float32"},
        "gpt_neox",
        NEOX | {"use_parallel_residual": False, "rotary_emb_base": 5e4, "max_position_embeddings": 512},
    ),
    "phi": (
        "phi",
        SIZES | THETA | {"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25},
        "phi",
        SIZES | OURS | {"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "hidden_act": "gelu_new"},
    ),
    "phi-msft": (
        "phi-msft",
        GPT2
        | THETA
        | {"n_layer": 6, "n_positions": 512, "n_inner": 96, "n_head_kv": 2, "rotary_dim": 4}
        | {"model_type": "phi-msft"},
        "phi",
        SIZES | OURS | {"partial_rotary_factor": 0.25},
    ),
    "phi3": (
        "phi3",
        RMS
        | THETA
        | {"max_position_embeddings": 512, "original_max_position_embeddings": 256}
        | {"rope_scaling": None, "partial_rotary_factor": 1.0, "tie_word_embeddings": True},
        "phi3",
        RMS | OURS | {"tie_word_embeddings": True},
    ),
    "olmo2": ("olmo2", RMS | THETA | {"hidden_act": "silu", "rope_scaling": None}, "olmo2", RMS | OURS),
    "cohere": ("cohere", SIZES | THETA | {"layer_norm_eps": 1e-5}, "cohere", SIZES | OURS),
    "nemotron": (
        "nemotron",
        SIZES
        | {"max_position_embeddings": 512, "rope_theta": 50000, "rope_scaling": None}
        | {"partial_rotary_factor": 0.5, "norm_eps": 1e-5, "tie_word_embeddings": False, "mlp_bias": False},
        "nemotron",
        SIZES | OURS | {"hidden_act": "relu2"},
    ),
    "stablelm": (
        "stablelm",
        SIZES
        | {"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "rope_theta": 50000}
        | {"use_qkv_bias": True},
        "stablelm",
        SIZES | OURS | {"use_qkv_bias": True},
    ),
    "starcoder2": (
        "starcoder2",
        SIZES
        | {"hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5, "rope_theta": 50000, "use_bias": True}
        | {"use_cache": True, "bos_token_id": 0, "eos_token_id": 0},
        "starcoder2",
        SIZES | OURS,
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_keys_of_mlc_describe_the_same_model(case: str) -> None:
    """As the keys of transformers do from which MLC took them."""
    of_mlc, model_config, model_type, config = CASES[case]
    read = FAMILIES[model_type_of_mlc(of_mlc)](config_of_mlc(COMMON | model_config))
    wanted = FAMILIES[model_type](config)
    assert isinstance(read, Decoder)
    assert isinstance(wanted, Decoder)
    assert read.blocks == wanted.blocks
    assert (read.embedding, read.norm, read.head) == (wanted.embedding, wanted.norm, wanted.head)
    assert (read.vocab_size, read.context_window_size) == (320, 512)


def test_a_window_that_is_none_is_no_size() -> None:
    """MLC writes -1 for a context without limit, and for no window."""
    config = config_of_mlc({"context_window_size": -1, "sliding_window_size": -1})
    assert "context_window_size" not in config
    assert config.get("sliding_window") is None
