"""Small models of each family: two of each, which differ in as much as its configuration allows."""

from __future__ import annotations

from typing import Any, NamedTuple


class Variant(NamedTuple):
    """A model of a family, which has these keys in its configuration."""

    model_type: str
    keys: dict[str, Any]


YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 4.0,
    "beta_slow": 0.5,
}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 40,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 20,
    "n_routed_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
}

RMS_NORM = {
    "mistral": Variant("mistral", {"sliding_window": 30, "head_dim": 32}),
    "mistral-whole": Variant(
        "mistral", {"sliding_window": None, "num_key_value_heads": 4, "hidden_size": 80}
    ),
    "ministral3": Variant(
        "ministral3",
        {
            "head_dim": 16,
            "rope_parameters": {
                **YARN,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.3,
            },
        },
    ),
    "ministral3-windowed": Variant(
        "ministral3", {"head_dim": 32, "sliding_window": 33, "tie_word_embeddings": True}
    ),
    "granite": Variant(
        "granite",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.1,
            "logits_scaling": 2.0,
        },
    ),
    "granite-biased": Variant(
        "granite", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
    ),
    "gemma": Variant("gemma", {"head_dim": 32}),
    "gemma-biased": Variant("gemma", {"head_dim": 16, "attention_bias": True, "num_key_value_heads": 1}),
    "gemma2": Variant("gemma2", {"head_dim": 32, "sliding_window": 20, "query_pre_attn_scalar": 24}),
    "gemma2-whole": Variant(
        "gemma2",
        {
            "head_dim": 16,
            "layer_types": ["full_attention", "full_attention"],
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "num_key_value_heads": 4,
        },
    ),
    "gemma3_text": Variant(
        "gemma3_text",
        {
            "head_dim": 32,
            "sliding_window": 20,
            "num_hidden_layers": 3,
            "sliding_window_pattern": 3,
            "final_logit_softcapping": 5.0,
        },
    ),
    "gemma3-scaled": Variant(
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": 40,
            "num_key_value_heads": 1,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "phi3": Variant("phi3", {}),
    "phi3-longrope": Variant(
        "phi3",
        {
            "sliding_window": 50,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 256,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.75,
                "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
                "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0],
            },
        },
    ),
    "olmo2": Variant("olmo2", {}),
    "olmo2-biased": Variant(
        "olmo2", {"attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 4}
    ),
    "smollm3": Variant("smollm3", {"no_rope_layer_interval": 2}),
    "smollm3-windowed": Variant(
        "smollm3",
        {
            "no_rope_layers": [1, 0],
            "use_sliding_window": True,
            "sliding_window": 24,
            "tie_word_embeddings": False,
            "mlp_bias": True,
        },
    ),
}
LAYER_NORM = {
    "phi": Variant("phi", {}),
    "phi-norms": Variant("phi", {"qk_layernorm": True, "num_key_value_heads": 4}),
    "stablelm": Variant("stablelm", {"use_qkv_bias": True}),
    "stablelm-parallel": Variant("stablelm", {"use_parallel_residual": True, "qk_layernorm": True}),
    "starcoder2": Variant("starcoder2", {"sliding_window": 40}),
    "starcoder2-plain": Variant("starcoder2", {"use_bias": False, "tie_word_embeddings": False}),
    "cohere": Variant("cohere", {}),
    "cohere-norms": Variant("cohere", {"use_qk_norm": True, "logit_scale": 0.5}),
    "gpt2": Variant("gpt2", {"num_key_value_heads": None, "intermediate_size": None}),
    "gpt2-wide": Variant(
        "gpt2",
        {
            "num_key_value_heads": None,
            "intermediate_size": None,
            "n_inner": 112,
            "activation_function": "gelu",
            "tie_word_embeddings": False,
        },
    ),
    "gpt_neox": Variant("gpt_neox", {"num_key_value_heads": None}),
    "gpt_neox-sequential": Variant(
        "gpt_neox", {"num_key_value_heads": None, "use_parallel_residual": False, "rotary_pct": 0.5}
    ),
    "nemotron": Variant("nemotron", {}),
    "nemotron-biased": Variant(
        "nemotron", {"attention_bias": True, "mlp_bias": True, "head_dim": 32, "partial_rotary_factor": 0.75}
    ),
}
EXPERTS = {
    "mixtral": Variant("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 60}),
    "mixtral-whole": Variant(
        "mixtral",
        {"num_local_experts": 3, "num_experts_per_tok": 1, "tie_word_embeddings": True, "head_dim": 32},
    ),
    "qwen2_moe": Variant(
        "qwen2_moe",
        {
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 40,
            "shared_expert_intermediate_size": 48,
            "decoder_sparse_step": 2,
        },
    ),
    "qwen2_moe-renormalized": Variant(
        "qwen2_moe",
        {
            "num_experts": 3,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 16,
            "norm_topk_prob": True,
            "qkv_bias": False,
            "use_sliding_window": True,
            "sliding_window": 30,
            "max_window_layers": 1,
        },
    ),
    "qwen3_moe": Variant(
        "qwen3_moe",
        {
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "head_dim": 32,
            "norm_topk_prob": True,
        },
    ),
    "qwen3_moe-dense-layer": Variant(
        "qwen3_moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 48,
            "head_dim": 16,
            "mlp_only_layers": [0],
            "attention_bias": True,
        },
    ),
    "gpt_oss": Variant(
        "gpt_oss",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 32,
            "sliding_window": 25,
            "max_position_embeddings": 8192,
        },
    ),
    "gpt_oss-whole": Variant(
        "gpt_oss",
        {
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "head_dim": 16,
            "layer_types": ["full_attention", "full_attention"],
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "deepseek_v2": Variant("deepseek_v2", LATENT | {"q_lora_rank": None, "n_routed_experts": 4}),
    "deepseek_v2-groups": Variant(
        "deepseek_v2",
        LATENT
        | {
            "topk_method": "group_limited_greedy",
            "n_group": 3,
            "topk_group": 2,
            "routed_scaling_factor": 3.0,
            "attention_bias": True,
            "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.9},
        },
    ),
    "deepseek_v3": Variant(
        "deepseek_v3",
        LATENT
        | {
            "n_group": 3,
            "topk_group": 2,
            "first_k_dense_replace": 1,
            "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "deepseek_v3-dense": Variant(
        "deepseek_v3",
        LATENT
        | {
            "q_lora_rank": None,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 2,
            "num_hidden_layers": 3,
            "norm_topk_prob": False,
            "tie_word_embeddings": True,
        },
    ),
}
HYBRIDS = {
    "lfm2": Variant(
        "lfm2",
        {
            "layer_types": ["conv", "full_attention", "conv"],
            "num_hidden_layers": 3,
            "block_multiple_of": 32,
        },
    ),
    "lfm2-biased": Variant(
        "lfm2",
        {
            "layer_types": ["full_attention", "conv"],
            "conv_bias": True,
            "conv_L_cache": 5,
            "block_auto_adjust_ff_dim": False,
            "tie_word_embeddings": False,
        },
    ),
    "qwen3_5_text": Variant(
        "qwen3_5_text",
        {
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "num_hidden_layers": 3,
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 32,
        },
    ),
    "qwen3_5_text-tied": Variant(
        "qwen3_5_text",
        {
            "layer_types": ["full_attention", "linear_attention"],
            "head_dim": 16,
            "linear_num_key_heads": 3,
            "linear_num_value_heads": 3,
            "linear_key_head_dim": 24,
            "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 3,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
    ),
}
ALL = {**RMS_NORM, **LAYER_NORM, **EXPERTS, **HYBRIDS}
