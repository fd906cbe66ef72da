"""What a compiled library contains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tvm
from tvm import tirx

from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.library import MAX_BATCH_SIZE, compile_library, export_model
from mlc_serve.compiler.target import target_for
from mlc_serve.errors import CheckpointError, CompileError, ConfigError
from tests.models.test_decoder import CONFIG

FUNCTIONS = {
    "embed",
    "batch_prefill",
    "batch_decode",
    "batch_verify",
    "_metadata",
}


def exported(model_type: str = "llama", **changes: Any) -> tuple[tvm.IRModule, dict[str, Any]]:
    """A model with some of its config changed, for the CPU."""
    return export_model(model_type, CONFIG | changes, "q0f32", target_for("cpu"))


def kernels(module: tvm.IRModule) -> set[str]:
    """The names of a module's kernels."""
    return {
        var.name_hint for var, function in module.functions.items() if isinstance(function, tirx.PrimFunc)
    }


def test_parameters_are_listed_in_order() -> None:
    """Each parameter has its name, fused ones MLC's, its layout, and its shapes in checkpoint and kernel."""
    _, metadata = exported("qwen2", num_hidden_layers=1, num_key_value_heads=2, vocab_size=500)
    listed = [
        (entry["name"], entry["layout"], entry["logical_shape"], entry["shape"])
        for entry in metadata["params"]
    ]
    layer = "model.layers.0"
    assert listed == [
        ("model.embed_tokens.weight", "tiles16", [500, 64], [32, 64, 16]),
        (f"{layer}.input_layernorm.weight", "plain", [64], [64]),
        (f"{layer}.self_attn.qkv_proj.weight", "tiles16", [128, 64], [8, 64, 16]),
        (f"{layer}.self_attn.qkv_proj.bias", "plain", [128], [128]),
        (f"{layer}.self_attn.o_proj.weight", "tiles16", [64, 64], [4, 64, 16]),
        (f"{layer}.post_attention_layernorm.weight", "plain", [64], [64]),
        (f"{layer}.mlp.gate_up_proj.weight", "tiles16-paired", [256, 64], [16, 64, 16]),
        (f"{layer}.mlp.down_proj.weight", "tiles16", [64, 128], [4, 128, 16]),
        ("model.norm.weight", "plain", [64], [64]),
        ("lm_head.weight", "tiles16", [500, 64], [32, 64, 16]),
    ]


def test_biases_are_parameters_where_the_config_has_them() -> None:
    """A Llama with attention_bias has one on the output as well; tied embeddings leave the LM head out. Gate
    and up alternate with biases, too.
    """
    _, metadata = exported(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, num_hidden_layers=1)
    names = [entry["name"] for entry in metadata["params"]]
    assert [name.removeprefix("model.layers.0.") for name in names if name.endswith("bias")] == [
        "self_attn.qkv_proj.bias",
        "self_attn.o_proj.bias",
        "mlp.gate_up_proj.bias",
        "mlp.down_proj.bias",
    ]
    assert {entry["layout"] for entry in metadata["params"]} == {"plain", "tiles16", "tiles16-paired"}
    assert "lm_head.weight" not in names


def test_the_library_tells_its_limits() -> None:
    """The metadata has the sizes that limits are inferred from; a short context bounds the prefill chunk."""
    _, metadata = exported(max_position_embeddings=300)
    assert metadata["context_window_size"] == metadata["prefill_chunk_size"] == 300
    assert (metadata["max_batch_size"], metadata["vocab_size"]) == (MAX_BATCH_SIZE, 512)
    assert metadata["kv_cache"] == {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "dtype_bytes": 4,
        "page_size": 16,
        "dtype": "float32",
    }
    assert metadata["bfloat16_products"] is float_unit_for(target_for("cpu")).has_pairs
    assert json.loads(json.dumps(metadata)) == metadata


def test_the_library_tells_its_taps() -> None:
    """In the order that was asked for, and nothing without any. Their states take memory."""
    plain, tapped = (
        export_model("llama", CONFIG, "q0f32", target_for("cpu"), taps=taps)[1] for taps in ((), (2, 0))
    )
    assert "taps" not in plain
    assert tapped["taps"] == [2, 0]
    added = tapped["memory_usage"]["batch_prefill"] - plain["memory_usage"]["batch_prefill"]
    assert added == tapped["prefill_chunk_size"] * 2 * 64 * 4


def test_heads_have_a_function_each() -> None:
    """Their library has one for each head, and says how many there are; it has no taps."""
    config = {"medusa_num_heads": 3, "hidden_size": 64, "vocab_size": 300}
    module, metadata = export_model("medusa", config, "q8f32_1", target_for("cpu"))
    names = {var.name_hint for var in module.functions}
    assert {name for name in names if name.startswith("head")} == {"head_0", "head_1", "head_2"}
    assert (metadata["num_heads"], metadata["vocab_size"], metadata["hidden_size"]) == (3, 300, 64)
    with pytest.raises(ConfigError, match="taps are for models that generate text"):
        export_model("medusa", config, "q8f32_1", target_for("cpu"), taps=(0,))


def test_layers_share_their_kernels() -> None:
    """A deeper model has no more kernels. It has the functions of MLC's libraries, but for that which creates
    a cache.
    """
    shallow, deep = (exported(num_hidden_layers=count)[0] for count in (1, 5))
    assert kernels(shallow) == kernels(deep)
    assert {var.name_hint for var in deep.functions} > FUNCTIONS


def test_what_can_not_be_compiled_is_refused() -> None:
    """An unknown architecture is a CheckpointError, and an unknown scheme a ConfigError."""
    with pytest.raises(CheckpointError, match="'mamba'"):
        exported("mamba")
    with pytest.raises(ConfigError, match="'q9'"):
        export_model("llama", CONFIG, "q9", target_for("cpu"))


def test_a_missing_linker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing a library needs the system's C compiler, and without one the error says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CompileError, match=r"needs a C compiler, such as gcc"):
        compile_library("llama", CONFIG, "q0f32", target_for("cpu"), tmp_path / "model.so")
