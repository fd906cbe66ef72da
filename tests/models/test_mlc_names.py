"""What MLC calls the weights of each family, and which values it keeps under these names."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from mlc_serve.models.decoder import Decoder
from mlc_serve.models.interleaved import halves_of_rows
from mlc_serve.models.table import FAMILIES, read_encoder, weight_names
from mlc_serve.models.weight_changes import PlusOne, Stacked, Unchanged
from mlc_serve.models.weight_names import Part

CONFIG: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "sliding_window": None,
}
LLAMA = ("input_layernorm", "self_attn.qkv_proj", "self_attn.o_proj", "post_attention_layernorm")
QWEN = ("input_layernorm", "self_attn.c_attn", "self_attn.o_proj", "post_attention_layernorm")
MLP = ("mlp.gate_up_proj", "mlp.down_proj")
HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
SANDWICH = ("pre_feedforward_layernorm", "post_feedforward_layernorm")


class Facts(NamedTuple):
    """The modules of a model of one layer in MLC's definition, and those of them that have a bias. All have a
    weight.
    """

    layer: tuple[str, ...]
    ends: tuple[str, ...] = ("model.embed_tokens", "model.norm")
    layers: str = "model.layers"
    biased: tuple[str, ...] = ()
    keys: dict[str, Any] = {}  # noqa: RUF012 - of a tuple, which nobody changes

    def names(self) -> set[str]:
        """The names of all parameters."""
        modules = {*self.ends, *(f"{self.layers}.0.{module}" for module in self.layer)}
        biases = {module for module in modules if module.endswith(self.biased) and self.biased}
        return {f"{module}.weight" for module in modules} | {f"{module}.bias" for module in biases}


HEAD = ("model.embed_tokens", "model.norm", "lm_head")
EXPERTS = ("mlp.gate", "mlp.moe_gate_up_proj", "mlp.moe_down_proj")
GPT2 = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
PHI = ("ln", "mixer.Wqkv", "mixer.out_proj", "mlp.fc1", "mlp.fc2")
PHI_ENDS = ("transformer.embd", "lm_head.ln", "lm_head.linear")
PHI3 = ("ln", "mixer.qkv_proj", "mixer.out_proj", "post_attention_layernorm", *MLP)
STARCODER = ("self_attn.wqkv_pack", "self_attn.o_proj", "mlp.c_fc", "mlp.c_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
NEOX = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", *NORMS)
FACTS = {
    "llama": Facts((*LLAMA, *MLP), HEAD),
    "mistral": Facts((*LLAMA, *MLP), HEAD),
    "ministral3": Facts((*LLAMA, *MLP), HEAD),
    "qwen2": Facts((*QWEN, *MLP), HEAD, biased=("c_attn",)),
    "qwen3": Facts((*QWEN, *MLP, *HEAD_NORMS), HEAD),
    "gemma": Facts((*LLAMA, *MLP)),
    "gemma2": Facts((*LLAMA, *MLP, *SANDWICH)),
    "gemma3_text": Facts(
        (
            *NORMS,
            *SANDWICH,
            *MLP,
            *HEAD_NORMS,
            *(f"self_attn.{part}_proj" for part in "qkvo"),
        ),
        ("language_model.model.embed_tokens", "language_model.model.norm"),
        "language_model.model.layers",
    ),
    "gpt2": Facts(
        GPT2,
        ("transformer.wte", "transformer.wpe", "transformer.ln_f", "lm_head"),
        "transformer.h",
        biased=(*GPT2, "ln_f"),
        keys={"n_embd": 64, "n_head": 4, "n_layer": 1, "num_key_value_heads": 4},
    ),
    "gpt_neox": Facts(
        NEOX,
        ("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
        "gpt_neox.layers",
        biased=(*NEOX, "final_layer_norm"),
        keys={"num_key_value_heads": 4},
    ),
    "phi": Facts(PHI, PHI_ENDS, "transformer.h", biased=(*PHI, ".ln", "lm_head.linear")),
    "phi-msft": Facts(
        PHI,
        PHI_ENDS,
        "transformer.h",
        biased=(*PHI, ".ln", "lm_head.linear"),
        keys={"n_embd": 64, "n_head": 4, "n_layer": 1, "rotary_dim": 8},
    ),
    "phi3": Facts(PHI3, ("transformer.embd", "transformer.norm", "lm_head"), "transformer.h"),
    "cohere": Facts(
        (
            "input_layernorm",
            "self_attn.qkv_proj",
            "self_attn.out_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        )
    ),
    "nemotron": Facts((*LLAMA, "mlp.up_proj", "mlp.down_proj"), HEAD, biased=("norm",)),
    "olmo2": Facts((*LLAMA[1:], *MLP, "post_feedforward_layernorm", *HEAD_NORMS), HEAD),
    "stablelm": Facts((*LLAMA, *MLP), HEAD, biased=("norm", "qkv_proj"), keys={"use_qkv_bias": True}),
    "mixtral": Facts((*LLAMA, "moe.gate", "moe.e1_e3", "moe.e2"), HEAD, keys={"num_local_experts": 4}),
    "qwen2_moe": Facts(
        (
            *(*QWEN, *EXPERTS, "mlp.shared_expert_gate"),
            *("mlp.shared_expert.gate_up_proj", "mlp.shared_expert.down_proj"),
        ),
        HEAD,
        biased=("c_attn",),
        keys={"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64},
    ),
    "qwen3_moe": Facts(
        (*QWEN, *EXPERTS, *HEAD_NORMS),
        HEAD,
        keys={"num_experts": 8, "moe_intermediate_size": 32, "norm_topk_prob": True},
    ),
    "starcoder2": Facts((*NORMS, *STARCODER), HEAD, biased=("norm", *STARCODER)),
}


def read(model_type: str) -> Decoder:
    """A model of one layer."""
    decoder = FAMILIES[model_type](CONFIG | FACTS[model_type].keys)
    assert isinstance(decoder, Decoder)
    return decoder


def parts_of(decoder: Decoder) -> list[tuple[str, tuple[int, ...], Part]]:
    """Each weight and its shape, with each of its tensors in an MLC directory."""
    return [(name, shape, part) for name, shape in decoder.weights() for part in decoder.names.in_mlc(name)]


@pytest.mark.parametrize("model_type", sorted(FACTS))
def test_the_names_are_those_of_mlc(model_type: str) -> None:
    """All parameters of MLC's own definition, and no others; a head may repeat the embeddings."""
    decoder = read(model_type)
    names = [part.name for _, _, part in parts_of(decoder)]
    copies = [copy for name in names if (copy := decoder.names.copy_in_mlc(name)) is not None]
    assert len(names) == len(set(names))
    assert {*names, *copies} == FACTS[model_type].names()


@pytest.mark.parametrize("model_type", sorted(FACTS))
def test_names_of_mlc_are_turned_back_if_the_tensor_is_the_weight(model_type: str) -> None:
    """A part of a weight, or a tensor with other values, is refused: it has to be made of the weight."""
    decoder = read(model_type)
    for name, _, part in parts_of(decoder):
        if part == Part(part.name):
            assert decoder.names.of_mlc(part.name) == name
            copy = decoder.names.copy_in_mlc(part.name)
            assert copy is None or decoder.names.of_mlc(copy) == name
        else:
            with pytest.raises(ValueError, match=r"is not stored as"):
                decoder.names.of_mlc(part.name)


@pytest.mark.parametrize("model_type", sorted(FACTS))
def test_parts_have_all_rows_of_their_weight(model_type: str) -> None:
    """As many as the weight has, so that each of its rows is written once."""
    decoder = read(model_type)
    for name, shape in decoder.weights():
        widths = [part.num_rows for part in decoder.names.in_mlc(name)]
        assert widths == [None] or sum(width or 0 for width in widths) == shape[0]


def test_values_are_those_of_mlc() -> None:
    """Only Cohere's rotary pairs, which are neighbours, and Nemotron's norms, which lack one, are changed,
    and the matrices of experts are stacked.
    """
    changed = {
        (model_type, part.name)
        for model_type in FACTS
        for _, _, part in parts_of(read(model_type))
        if not isinstance(part.change, Unchanged | Stacked)
    }
    norms = ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm")
    assert changed == {
        ("cohere", "model.layers.0.self_attn.qkv_proj.weight"),
        *(("nemotron", f"{norm}.weight") for norm in norms),
    }
    (norm,) = read("nemotron").names.in_mlc("model.norm.weight")
    assert norm.change == PlusOne()


def test_the_rows_of_cohere_are_sorted_as_from_three_tensors() -> None:
    """MLC has queries, keys and values in one."""
    rows = np.arange(8 * 16)
    (part,) = read("cohere").names.in_mlc("model.layers.0.self_attn.qkv_proj.weight")
    queries, keys = halves_of_rows(4, 16).values(rows[:64]), halves_of_rows(2, 16).values(rows[64:96])
    np.testing.assert_array_equal(part.change.values(rows), np.concatenate([queries, keys, rows[96:]]))


def test_an_encoder_has_queries_keys_and_values_in_one() -> None:
    """Each is a third of the rows."""
    config = CONFIG | {"model_type": "bert"}
    names = weight_names("bert", config)
    for number, part in enumerate(("query", "key", "value")):
        (stored,) = names.in_mlc(f"encoder.layer.0.attention.self.{part}.weight")
        assert stored.name == "encoder.layer.0.attention.self.qkv.weight"
        assert stored.change.values(np.arange(192)).tolist() == [*range(64 * number, 64 * number + 64)]
    assert len(list(read_encoder("bert", config).weights())) == 21
