"""Which quantization_config is supported, and how others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.packed.table import read_packings
from mlc_serve.errors import CheckpointError
from tests.checkpoints import Shape, write_checkpoint
from tests.packed_checkpoints import AWQ, FP8, GPTQ, compressed, declare

INT4: dict[str, Any] = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
INT8: dict[str, Any] = {"num_bits": 8, "type": "int", "strategy": "channel"}
FILE = Path("config.json")


@pytest.mark.parametrize(
    "config",
    [
        None,
        GPTQ
        | {
            "damp_percent": 0.01,
            "static_groups": False,
            "meta": {"quantizer": "optimum:1"},
            "lm_head": False,
        },
        GPTQ
        | {
            "checkpoint_format": "gptq_v2",
            "pack_dtype": "int32",
            "format": "gptq_v2",
            "dynamic": {"-:x": {}},
        },
        AWQ | {"modules_to_not_convert": None, "version": "GEMM", "backend": "autoawq"},
        {"quant_method": "awq", "w_bit": 4, "q_group_size": 128, "zero_point": True},
        FP8 | {"weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]},
        AWQ | {"sym": True, "zero_point": False, "provider": "auto-round", "iters": 200, "data_type": "int"},
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
        compressed("pack-quantized", **INT4, actorder="static", observer_kwargs={}, block_structure=None),
        compressed("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[128, 128]),
    ],
)
def test_what_programs_write_is_supported(config: Any) -> None:
    """With the keys that don't say what the tensors mean."""
    assert bool(read_packings(FILE, config)) == (config is not None)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ([4], r" is \[4\], but must be an object"),
        ({}, r"\.quant_method is None, .*; supported: awq, compressed-tensors, fp8, gptq, mxfp4"),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            r"\.quant_method is 'bitsandbytes', which is not",
        ),
        ({"quant_method": ["gptq"]}, r"\.quant_method is \['gptq'\]"),
        (GPTQ | {"bits": 3}, r"\.bits is 3, which is not supported; supported: 4, 8"),
        (GPTQ | {"bits": True}, r"\.bits is True"),
        (GPTQ | {"checkpoint_format": "marlin"}, r"\.checkpoint_format is 'marlin'"),
        (GPTQ | {"group_size": 0}, r"\.group_size is 0, but must be a number of weights, or -1"),
        (GPTQ | {"group_size": "128"}, r"\.group_size is '128'"),
        (
            GPTQ | {"dynamic": {"+:.*": {"bits": 8}}},
            r"\.dynamic is \{.*\}, but only rules that begin with -:",
        ),
        (GPTQ | {"rotation": "hadamard"}, r"\.rotation is 'hadamard'"),
        (GPTQ | {"other\nkey": 1}, r"\.other\\nkey is not supported"),
        (AWQ | {"version": "gemv"}, r"\.version is 'gemv'"),
        (AWQ | {"desc_act": True}, r"\.desc_act is True"),
        (AWQ | {"backend": "llm-awq"}, r"\.backend is 'llm-awq'"),
        (FP8 | {"weight_block_size": [128]}, r"\.weight_block_size is \[128\], but must be two numbers"),
        (FP8 | {"expert_dtype": "fp4"}, r"\.expert_dtype is 'fp4'"),
        ({"quant_method": "mxfp4", "block": 16}, r"\.block is not supported"),
        (compressed("nvfp4-pack-quantized", **INT4), r"\.format is 'nvfp4-pack-quantized'"),
        (
            compressed("pack-quantized", **INT4) | {"config_groups": {}},
            r"\.config_groups is \{\}, .* one group",
        ),
        (
            compressed("pack-quantized", **INT4 | {"num_bits": 3}),
            r"\.config_groups\.group_0\.weights\.num_bits is 3",
        ),
        (compressed("int-quantized", **INT8, symmetric=False), r"\..*weights\.symmetric is False"),
        (
            compressed("pack-quantized", **INT4) | {"kv_cache_scheme": {"num_bits": 8}},
            r"\.kv_cache_scheme is \{",
        ),
    ],
)
def test_anything_else_is_refused_by_name(config: Any, fault: str) -> None:
    """One line names the file and the key."""
    with pytest.raises(CheckpointError, match=r"config\.json: quantization_config" + fault) as caught:
        read_packings(FILE, config)
    assert "\n" not in str(caught.value)


def test_it_is_refused_when_the_directory_is_opened(tmp_path: Path) -> None:
    """Before a tensor is read, or anything is compiled."""
    small = Shape(hidden_size=16, num_layers=1, intermediate_size=24, vocab_size=300)
    declare(write_checkpoint(tmp_path, small), {"quant_method": "bitsandbytes"})
    with pytest.raises(
        CheckpointError, match=r"config\.json: quantization_config\.quant_method is 'bitsandbytes'"
    ):
        open_checkpoint(tmp_path)


KEYS = (
    *("bits", "group_size", "checkpoint_format", "dynamic", "pack_dtype", "version", "weight_block_size"),
    *("format", "config_groups", "group_0", "weights", "strategy", "num_bits", "type", "sparsity_config"),
)
texts = st.text(max_size=4) | st.sampled_from(["gptq", "gemm", "pack-quantized", "int", "group", "\ud83d\n"])
scalars = st.none() | st.booleans() | st.sampled_from([0, -1, 4, 8, 10**30, 0.5, float("nan")]) | texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4)
    ),
)


def refusal(config: Any) -> str | None:
    """Why a configuration is refused."""
    try:
        read_packings(FILE, config)
    except CheckpointError as error:
        return str(error)
    return None


@example("gptq", {"checkpoint_format": [{"bits": [{"group_size": ["gptq"] * 4}] * 4}] * 4})
@given(
    st.sampled_from(["gptq", "awq", "fp8", "mxfp4", "compressed-tensors"]),
    st.dictionaries(st.sampled_from(KEYS), values),
)
def test_nothing_but_refusals_is_raised(method: str, config: dict[str, Any]) -> None:
    """Whatever a configuration contains, it is read or refused in one line."""
    reason = refusal(config | {"quant_method": method})
    assert reason is None or (reason.isprintable() and len(reason) < 300)
