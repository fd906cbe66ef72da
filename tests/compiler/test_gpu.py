"""Libraries for GPUs, which are compiled even on a machine without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tvm_ffi

from mlc_serve.compiler.library import compile_eagle, compile_library
from mlc_serve.compiler.target import target_for
from mlc_serve.errors import CompileError
from mlc_serve.models.eagle_config import read_eagle
from mlc_serve.models.families.qwen2 import read_qwen2
from tests.models.test_decoder import CONFIG

SMALL = CONFIG | {"num_hidden_layers": 1, "num_key_value_heads": 2}


def compile_for(kind: str, arch: str | None, directory: Path, model_type: str = "qwen2") -> Path:
    """The library of a small model in float16. Qwen2 has biases, and Qwen3 norms of single heads."""
    output = directory / f"{kind}.so"
    metadata = compile_library(model_type, SMALL, "q0f16", target_for(kind, arch), output)
    assert {entry["layout"] for entry in metadata["params"]} == {"plain"}
    assert {entry["dtype"] for entry in metadata["params"]} == {"float16"}
    assert metadata["kv_cache"]["dtype_bytes"] == 2
    return output


@pytest.mark.skipif(
    shutil.which("nvcc") is None, reason="nvcc, which generates code for CUDA, is not on PATH"
)
def test_a_library_for_cuda(tmp_path: Path) -> None:
    """A library for a named architecture of CUDA is compiled without a device."""
    assert compile_for("cuda", "sm_90a", tmp_path).read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
@pytest.mark.parametrize("kind", ["metal", "opencl"])
def test_a_library_for_other_gpus(tmp_path: Path, kind: str, model_type: str) -> None:
    """Code for other GPUs is generated and linked; this machine can't check more."""
    if tvm_ffi.get_global_func(f"target.build.{kind}", allow_missing=True) is None:
        pytest.skip(f"this TVM generates no code for {kind}")
    assert compile_for(kind, None, tmp_path, model_type).stat().st_size > 0


def test_what_drafts_need_is_there_for_other_gpus(tmp_path: Path) -> None:
    """Code for the states of layers, for heads and for an EAGLE draft model is generated as well."""
    if tvm_ffi.get_global_func("target.build.opencl", allow_missing=True) is None:
        pytest.skip("this TVM generates no code for opencl")
    target, heads = target_for("opencl", None), {"medusa_num_heads": 1, "hidden_size": 64, "vocab_size": 300}
    compile_library("qwen2", SMALL, "q0f16", target, tmp_path / "model.so", taps=(0, 1))
    compile_library("medusa", heads, "q0f16", target, tmp_path / "heads.so")
    drafting = {"draft_vocab_size": 96, "norm_before_fc": True}
    stored = ("fc.weight", "layers.0.hidden_norm.weight", "lm_head.weight", "d2t")
    eagle = read_eagle(SMALL | drafting, read_qwen2(SMALL | {"num_hidden_layers": 6}), stored)
    compile_eagle(eagle, "q0f16", target, tmp_path / "eagle.so")
    assert {path.name for path in tmp_path.iterdir()} == {"model.so", "heads.so", "eagle.so"}


def test_a_target_without_code_generator_is_refused(tmp_path: Path) -> None:
    """The error names the target, and nothing is written."""
    if tvm_ffi.get_global_func("target.build.vulkan", allow_missing=True) is not None:
        pytest.skip("this TVM generates code for vulkan")
    with pytest.raises(CompileError, match="compiling for vulkan failed"):
        compile_for("vulkan", None, tmp_path)
    assert not (tmp_path / "vulkan.so").exists()
