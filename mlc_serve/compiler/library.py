"""Compiles an architecture into a shared library. It needs a target, but neither weights nor a device."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.support import cc
from tvm.target import Target

from mlc_serve.compiler.kernels.cpu.sampling.kernels import KERNELS as SAMPLING_KERNELS
from mlc_serve.compiler.layers.cpu import CPULayers
from mlc_serve.compiler.layers.encoder import CPUEncoderLayers
from mlc_serve.compiler.layers.gpu import GPULayers
from mlc_serve.compiler.metadata import describe, describe_encoder, describe_heads
from mlc_serve.compiler.optimization import find_level
from mlc_serve.compiler.pipeline import lowering, pipeline_for
from mlc_serve.config import DEFAULT_OPT
from mlc_serve.errors import CompileError, ConfigError
from mlc_serve.models.architecture import Architecture
from mlc_serve.models.eagle import Eagle
from mlc_serve.models.layers import Layers
from mlc_serve.models.table import is_encoder, is_heads, read_architecture, read_encoder, read_heads
from mlc_serve.models.taps import with_taps
from mlc_serve.quantization.scheme import Scheme, choose_float_scheme, find_scheme

# The largest forward pass that memory for activations is planned for. A server may choose a smaller one.
MAX_PREFILL_CHUNK = 2048
MAX_BATCH_SIZE = 128

STAGES = ("describing the model", "building kernels", "linking")

Report = Callable[[str], object]


def _tell_nobody(_stage: str) -> None:
    pass


def compile_library(
    model_type: str,
    config: Mapping[str, Any],
    quantization: str,
    target: Target,
    output: Path,
    level: str = DEFAULT_OPT,
    report: Report = _tell_nobody,
    taps: Sequence[int] = (),
) -> dict[str, Any]:
    """Compile a model for a target, write the library to `output`, and return its metadata. `report` is
    called with each of the STAGES when it begins. `taps` are explained in `models.taps`.

    Raises CheckpointError for a configuration that can't be compiled, ConfigError for an unknown
    quantization, optimization level or tap, CompileError if TVM can't generate code for the target or a tool
    that it calls fails.
    """
    return _compile(
        lambda: export_model(model_type, config, quantization, target, level, taps), target, output, report
    )


def compile_eagle(
    eagle: Eagle,
    quantization: str,
    target: Target,
    output: Path,
    level: str = DEFAULT_OPT,
    report: Report = _tell_nobody,
) -> dict[str, Any]:
    """Do the same for a model that drafts, which is not described by its own configuration alone."""
    return _compile(
        lambda: export_architecture("eagle", eagle, quantization, target, level), target, output, report
    )


def _compile(
    export: Callable[[], tuple[tvm.IRModule, dict[str, Any]]], target: Target, output: Path, report: Report
) -> dict[str, Any]:
    _check_linker()
    if not output.parent.is_dir():
        raise CompileError(f"{output} can't be written: {output.parent} is not a directory")
    report(STAGES[0])
    module, metadata = export()
    try:
        with target, lowering(target):
            report(STAGES[1])
            executable = tvm.compile(module, target=target, relax_pipeline=pipeline_for(target))
        report(STAGES[2])
        executable.export_library(str(output))
    except (RuntimeError, ValueError, OSError) as error:
        raise CompileError(f"compiling for {target.kind.name} failed: {_last_line(error)}") from error
    return metadata


def _check_linker() -> None:
    if sys.platform != "win32" and cc.get_cc() is None:
        raise CompileError("linking a library needs a C compiler, such as gcc or clang, and none is on PATH")


def _last_line(error: BaseException) -> str:
    """The last line of an error's text: the lines before it are the output of tools."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def export_model(
    model_type: str,
    config: Mapping[str, Any],
    quantization: str,
    target: Target,
    level: str = DEFAULT_OPT,
    taps: Sequence[int] = (),
) -> tuple[tvm.IRModule, dict[str, Any]]:
    """The model as an IRModule, ready for TVM's pipeline of that target, and its metadata."""
    if taps and (is_encoder(model_type) or is_heads(model_type)):
        raise ConfigError(f"taps are for models that generate text, not for model_type {model_type!r}")
    if is_encoder(model_type):
        return _export_encoder(model_type, config, quantization, target)
    if is_heads(model_type):
        return _export_heads(model_type, config, quantization, target, level)
    architecture = with_taps(read_architecture(model_type, config), taps)
    return export_architecture(model_type, architecture, quantization, target, level, taps)


def export_architecture(
    model_type: str,
    architecture: Architecture,
    quantization: str,
    target: Target,
    level: str = DEFAULT_OPT,
    taps: Sequence[int] = (),
) -> tuple[tvm.IRModule, dict[str, Any]]:
    """Do the same for an architecture, which has these taps."""
    scheme = find_scheme(quantization)
    layers = _layers_for(scheme, level, target)
    model = architecture.build(layers)
    prefill_chunk_size = min(MAX_PREFILL_CHUNK, architecture.context_window_size)
    with target:
        module, params, _ = model.export_tvm(spec=model.spec(), allow_extern=True)
    if target.kind.name == "llvm":
        for name, kernel in SAMPLING_KERNELS.items():
            module[name] = kernel().with_attr("global_symbol", name)
    metadata = describe(
        model_type,
        architecture,
        scheme,
        params,
        (_bytes_of(layers.dtype), _bytes_of(layers.attention_dtype)),
        prefill_chunk_size,
        MAX_BATCH_SIZE,
    )
    metadata["bfloat16_products"] = layers.bfloat16_products
    if taps:
        metadata["taps"] = list(taps)
    if layers.cache_maker is None and "kv_cache" in metadata:
        metadata["kv_cache"]["dtype"] = layers.attention_dtype  # tells the server to make the pages
    bounds = {"seq_len": prefill_chunk_size, "batch_size": MAX_BATCH_SIZE}
    return _with_metadata(_with_bounds(module, bounds), metadata), metadata


def _layers_for(scheme: Scheme, level: str, target: Target) -> Layers:
    optimization = find_level(level)
    if target.kind.name == "llvm":
        return CPULayers(scheme, optimization, target)
    return GPULayers(scheme, target)


def _export_heads(
    model_type: str, config: Mapping[str, Any], quantization: str, target: Target, level: str
) -> tuple[tvm.IRModule, dict[str, Any]]:
    heads, scheme = read_heads(model_type, config), find_scheme(quantization)
    layers = _layers_for(scheme, level, target)
    model = heads.build(layers)
    with target:
        module, params, _ = model.export_tvm(spec=model.spec(), allow_extern=True)
    metadata = describe_heads(model_type, heads, scheme, params, MAX_BATCH_SIZE)
    metadata["bfloat16_products"] = layers.bfloat16_products
    return _with_metadata(_with_bounds(module, {"batch_size": MAX_BATCH_SIZE}), metadata), metadata


def _export_encoder(
    model_type: str, config: Mapping[str, Any], quantization: str, target: Target
) -> tuple[tvm.IRModule, dict[str, Any]]:
    encoder, scheme = read_encoder(model_type, config), choose_float_scheme(quantization)
    if target.kind.name != "llvm":
        raise CompileError(f"model_type {model_type!r} is available on the CPU, not on {target.kind.name}")
    layers = CPUEncoderLayers(scheme, target)
    model = encoder.build(layers)
    chunk = max(MAX_PREFILL_CHUNK, encoder.context_window_size)
    with target:
        module, params, _ = model.export_tvm(spec=model.spec(), allow_extern=True)
    metadata = describe_encoder(model_type, encoder, scheme, params, chunk, MAX_BATCH_SIZE)
    metadata["bfloat16_products"] = layers.bfloat16_products
    bounds = {"seq_len": chunk, "num_bounds": MAX_BATCH_SIZE + 1}
    return _with_metadata(_with_bounds(module, bounds), metadata), metadata


def _bytes_of(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def _with_bounds(module: tvm.IRModule, bounds: dict[str, int]) -> tvm.IRModule:
    """State the largest batch, so that TVM plans memory once and every pass reuses it."""
    for name, function in module.functions.items():
        if isinstance(function, relax.Function):
            module[name] = function.with_attr("tir_var_upper_bound", bounds)
    return module


def _with_metadata(module: tvm.IRModule, metadata: dict[str, Any]) -> tvm.IRModule:
    builder = relax.BlockBuilder(module)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(json.dumps(metadata)))
    return builder.finalize()
