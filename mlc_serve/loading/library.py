"""The compiled library of a checkpoint: a file that the user names, or an artifact, compiled on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.config import DEFAULT_OPT, EngineConfig
from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.errors import CheckpointError, ConfigError
from mlc_serve.loading.architecture import check_checkpoint, config_named, served_config
from mlc_serve.loading.artifacts import Report, artifact, host_cpu, source_hash
from mlc_serve.loading.compiler_process import run_compiler
from mlc_serve.loading.sliding_window import choose_window
from mlc_serve.models.rope_config import longer_context
from mlc_serve.quantization.scheme import check_conversion, choose_float_scheme, choose_scheme
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.library import CHAT_FUNCTIONS, EAGLE_FUNCTIONS, HEADS_FUNCTIONS, Library

_FILE_NAME = "model.so"


def find_library(
    config: EngineConfig,
    checkpoint: Checkpoint,
    place: DeviceName,
    report: Report,
    taps: tuple[int, ...] = (),
) -> Library:
    """Return the library, opened on its device. Raises StartupError.

    A library that the user names is used with the quantization scheme that it was compiled for. `taps` are
    the layers whose states a model that drafts reads.
    """
    if config.model_lib is not None:
        library = _named_library(Path(config.model_lib), config.quantization, checkpoint, place)
        _check_window(library, config)
        _check_taps(library, config, taps)
        return library
    scheme = choose_scheme(config.quantization, checkpoint.quantization, place.kind)
    window = choose_window(config.sliding_window_size, config.attention_sink_size, checkpoint, place.kind)
    return _own_library(checkpoint, scheme.name, config, place, report, window=window, taps=taps)


def find_embedding_library(
    config: EngineConfig, checkpoint: Checkpoint, place: DeviceName, needed: Sequence[str], report: Report
) -> Library:
    """Do the same as find_library for an embedding model, whose functions are `needed`. Its weights are
    floating-point numbers.
    """
    for name, unset in (
        ("sliding_window_size", -1),
        ("attention_sink_size", None),
        ("speculative_mode", "disable"),
    ):
        if getattr(config, name) not in (None, unset):
            raise ConfigError(f"{name} is for models that generate text, and this one makes embeddings")
    if config.model_lib is not None:
        return _named_library(Path(config.model_lib), config.quantization, checkpoint, place, needed)
    scheme = choose_float_scheme(config.quantization)
    check_conversion(checkpoint.quantization, scheme.name)
    return _own_library(checkpoint, scheme.name, config, place, report, needed)


def find_heads_library(
    config: EngineConfig, checkpoint: Checkpoint, place: DeviceName, report: Report
) -> Library:
    """Do the same as find_library for heads, which draft from the states of another model."""
    if config.model_lib is not None:
        return _named_library(Path(config.model_lib), config.quantization, checkpoint, place, HEADS_FUNCTIONS)
    scheme = choose_scheme(config.quantization, checkpoint.quantization, place.kind)
    return _own_library(checkpoint, scheme.name, config, place, report, HEADS_FUNCTIONS)


def find_eagle_library(
    config: EngineConfig, checkpoint: Checkpoint, target: Checkpoint, place: DeviceName, report: Report
) -> Library:
    """Do the same for an EAGLE draft model, which has been read for its target."""
    if config.model_lib is not None:
        return _named_library(Path(config.model_lib), config.quantization, checkpoint, place, EAGLE_FUNCTIONS)
    scheme = choose_scheme(config.quantization, checkpoint.quantization, place.kind)
    described = {
        "model_type": "eagle",
        "config": dict(checkpoint.config),
        "tensors": sorted(checkpoint.tensors.names),
        "target": {**target.config, "model_type": target.model_type},
    }
    wanted = _Wanted(scheme.name, config.opt or DEFAULT_OPT, place, EAGLE_FUNCTIONS)
    model = _Model(checkpoint, described, {"drafts-for": str(target.directory)})
    return _compiled(model, wanted, report)


def _named_library(
    path: Path,
    wanted: str | None,
    checkpoint: Checkpoint,
    place: DeviceName,
    needed: Sequence[str] = CHAT_FUNCTIONS,
) -> Library:
    if not path.is_file():
        raise CheckpointError(f"model library {path}: there is no such file")
    library = Library(path, place.open(), needed)
    if wanted not in (None, library.quantization):
        raise ConfigError(f"model library {path} is compiled for {library.quantization}, not for {wanted}")
    check_conversion(checkpoint.quantization, library.quantization)
    return library


def _own_library(
    checkpoint: Checkpoint,
    quantization: str,
    config: EngineConfig,
    place: DeviceName,
    report: Report,
    needed: Sequence[str] = CHAT_FUNCTIONS,
    window: SlidingWindow | None = None,
    taps: tuple[int, ...] = (),
) -> Library:
    length = config.max_single_sequence_length
    served = served_config(checkpoint, length, window)
    with config_named(checkpoint):
        longest = longer_context(checkpoint.config)
    described = {
        "model_type": checkpoint.model_type,
        "config": dict(served),
        **({"taps": list(taps)} if taps else {}),
    }
    options = {} if served == checkpoint.config else _sizes(length, window)
    if taps:
        options["taps"] = _listed(taps)
    if length is None and longest is not None and window is None:
        report(
            f"{checkpoint.directory.name} is served with its rotary factors for short sequences. For longer "
            f"ones, of up to {longest} tokens, set context_window_size."
        )

    model = _Model(checkpoint, described, options, check_checkpoint)
    wanted = _Wanted(quantization, config.opt or DEFAULT_OPT, place, tuple(needed))
    return _compiled(model, wanted, report)


def _checked_already(_checkpoint: Checkpoint) -> None:
    pass


class _Model(NamedTuple):
    """What is compiled: a checkpoint, all that its library depends on, the options that tell the compiler of
    it, and what checks the checkpoint before, if that has not been done.
    """

    checkpoint: Checkpoint
    described: Mapping[str, Any]
    options: Mapping[str, str]
    check: Callable[[Checkpoint], object] = _checked_already


class _Wanted(NamedTuple):
    """What a library is compiled for, and the functions that it must have."""

    quantization: str
    opt: str
    place: DeviceName
    functions: tuple[str, ...]


def _compiled(model: _Model, wanted: _Wanted, report: Report) -> Library:
    """Return the library of a model, which is compiled on first use."""
    checkpoint = model.checkpoint
    quantization, opt, place, functions = wanted
    key = {
        **model.described,
        "quantization": quantization,
        "opt": opt,
        "device": place.kind,
        "processor": _processor(place),
        "tvm": version("apache-tvm"),
        "code": source_hash("compiler", "models", "quantization"),
    }

    def make(directory: Path) -> None:
        model.check(checkpoint)
        report(
            f"Compiling {checkpoint.directory.name} as {quantization} for {place.kind}; this is done once."
        )
        options = {"quantization": quantization, "opt": opt, "device": str(place)}
        run_compiler(checkpoint.directory, {**options, **model.options}, directory / _FILE_NAME)

    def use(directory: Path) -> Library:
        return Library(directory / _FILE_NAME, place.open(), functions)

    return artifact("libraries", key, make, use, model=str(checkpoint.directory), report=report)


def _sizes(length: int | None, window: SlidingWindow | None) -> dict[str, str]:
    """The options that tell the compiler how long sequences are, and what is seen of them."""
    context = {} if length is None else {"context-window-size": str(length)}
    if window is None:
        return context | {"sliding-window-size": "-1"}
    return context | {"sliding-window-size": str(window.size), "attention-sink-size": str(window.sinks)}


def _listed(taps: tuple[int, ...]) -> str:
    return ",".join(map(str, taps))


def _check_taps(library: Library, config: EngineConfig, taps: tuple[int, ...]) -> None:
    """Check that a library that the user names gives the states that are read for drafts."""
    if taps and library.taps != taps:
        raise ConfigError(
            f"model library {config.model_lib} does not give the states that speculative_mode = "
            f"{config.speculative_mode} reads; compile it with --taps {_listed(taps)}"
        )


def _check_window(library: Library, config: EngineConfig) -> None:
    """Check that a library that the user names has the window that is set, and that it can be served."""
    path, window = config.model_lib, library.window
    if library.is_by_mlc and library.metadata["context_window_size"] == -1:
        raise ConfigError(
            f"model library {path}: sliding_window_size is that of whole sequences, which libraries that MLC "
            "built are not served with; leave out --model-lib, and the model is compiled here"
        )
    wanted = config.sliding_window_size, config.attention_sink_size
    own = (-1, 0) if window is None else (window.size, window.sinks)
    for name, value, compiled in zip(
        ("sliding_window_size", "attention_sink_size"), wanted, own, strict=True
    ):
        if value not in (None, compiled):
            raise ConfigError(f"model library {path} is compiled with {name}={compiled}, not {value}")


def _processor(place: DeviceName) -> str:
    """Return a name that differs between processors that can't run each other's code."""
    if place.kind == "cpu":
        return host_cpu()
    handle = place.open()
    return f"{handle.device_name} {handle.compute_version}"
