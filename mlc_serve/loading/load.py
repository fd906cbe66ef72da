"""From what a user names a model by to a model in memory.

    locate -> open -> library (compiled once, by another process) -> weights (converted once) -> limits ->
    backend

What takes long is done on first use and kept, see `artifacts`; after that no compiler and no checkpoint
tensor is touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.conversion import convert
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.config import DEFAULT_OPT, EngineConfig, Mode
from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.errors import CheckpointError, ConfigError, StartupError
from mlc_serve.host.disk import check_room
from mlc_serve.host.memory import free_host_bytes
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading.artifacts import artifact, host_cpu, source_hash
from mlc_serve.loading.compiler_process import run_compiler
from mlc_serve.loading.dimensions import read_dimensions
from mlc_serve.loading.sizing import infer_limits
from mlc_serve.quantization.scheme import SCHEMES, check_conversion, choose_scheme
from mlc_serve.runtime.device import DeviceName, find_device
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.runner import TVMBackend
from mlc_serve.runtime.threads import use_every_core
from mlc_serve.runtime.weights import load_weights
from mlc_serve.text.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

Report = Callable[[str], None]

_LIBRARY_NAME = "model.so"


def load_model(
    model: str,
    device: str = "auto",
    *,
    model_lib: str | None = None,
    mode: Mode = "local",
    config: EngineConfig,
    report: Report,
) -> LoadedModel:
    """Load a model, compiling and converting it if that has not been done. `report` is told in lines what was
    chosen.

    Raises StartupError, whatever is wrong with the checkpoint, the cache, the disk or the device.
    """
    with _told_in_one_line(model):
        use_every_core()
        checkpoint = open_checkpoint(locate(model))
        place = find_device(device)
        tokenizer = checkpoint.tokenizer
        chat_template, defaults = checkpoint.chat_template(), checkpoint.generation_defaults()
        library = _library(model_lib, checkpoint, config, place, report)
        info = library.info
        _compare_vocabularies(tokenizer, info, report)
        limits = _limits(config, mode, info, place, report)
        return LoadedModel(
            name=model,
            device=str(place),
            quantization=library.quantization,
            backend=TVMBackend(library, _weights(library, checkpoint, report), limits),
            info=info,
            limits=limits,
            tokenizer=tokenizer,
            chat_template=chat_template,
            defaults=defaults,
        )


@contextmanager
def _told_in_one_line(model: str) -> Iterator[None]:
    """Turn what nobody has foreseen into a StartupError; where it arose is logged at level debug."""
    try:
        yield
    except StartupError:
        raise
    except Exception as error:  # an edge: a checkpoint, a driver or a disk may do anything
        logger.debug("loading %s failed", model, exc_info=True)
        told = " ".join(str(error).split())
        raise StartupError(f"loading {model} failed: {type(error).__name__}: {told}") from error


def _compare_vocabularies(tokenizer: Tokenizer, info: ModelInfo, report: Report) -> None:
    """Tokens that were added after training, such as one for padding, need not be the model's."""
    if tokenizer.vocab_size > info.vocab_size:
        report(
            f"The tokenizer's ids end at {tokenizer.vocab_size - 1}, the model's at {info.vocab_size - 1}: "
            "prompts that hold a token beyond are refused."
        )


def _limits(
    config: EngineConfig, mode: Mode, info: ModelInfo, place: DeviceName, report: Report
) -> EngineLimits:
    free = free_host_bytes() if place.kind == "cpu" else int(place.open().total_global_memory)
    inferred = infer_limits(config, mode, info, free)
    if config.verbose:
        for line in inferred.explanation:
            report(line)
    return inferred.limits


# ---------------------------------------------------------------- the library


def _library(
    given: str | None, checkpoint: Checkpoint, config: EngineConfig, place: DeviceName, report: Report
) -> Library:
    """The library that is given, in whatever scheme it was compiled for, or one of our own making."""
    wanted = config.quantization
    if given is None:
        scheme = choose_scheme(wanted, checkpoint.quantization, place.kind)
        return _own_library(checkpoint, scheme.name, config.opt or DEFAULT_OPT, place, report)
    path = Path(given)
    if not path.is_file():
        raise CheckpointError(f"model library {given}: there is no such file")
    library = Library(path, place.open())
    if wanted not in (None, library.quantization):
        raise ConfigError(f"model library {given} is compiled for {library.quantization}, not for {wanted}")
    check_conversion(checkpoint.quantization, library.quantization)
    return library


def _own_library(
    checkpoint: Checkpoint, quantization: str, opt: str, place: DeviceName, report: Report
) -> Library:
    """The library of a checkpoint, from the cache or compiled into it."""
    key = {
        "model_type": checkpoint.model_type,
        "config": dict(checkpoint.config),
        "quantization": quantization,
        "opt": opt,
        "device": place.kind,
        "processor": _processor(place),
        "tvm": version("apache-tvm"),
        "code": source_hash("compiler", "models", "quantization"),
    }

    def make(directory: Path) -> None:
        read_dimensions(checkpoint)
        report(
            f"Compiling {checkpoint.directory.name} as {quantization} for {place.kind}; this is done once."
        )
        options = {"quantization": quantization, "opt": opt, "device": str(place)}
        run_compiler(checkpoint.directory, options, directory / _LIBRARY_NAME)

    def use(directory: Path) -> Library:
        return Library(directory / _LIBRARY_NAME, place.open())

    return artifact("libraries", key, make, use, model=str(checkpoint.directory), report=report)


def _processor(place: DeviceName) -> str:
    if place.kind == "cpu":
        return host_cpu()
    handle = place.open()
    return f"{handle.device_name} {handle.compute_version}"


# ---------------------------------------------------------------- the weights


def _weights(library: Library, checkpoint: Checkpoint, report: Report) -> list[Any]:
    """The library's parameters on its device, from the cache or converted into it."""
    specs, total = library.parameters, library.info.param_bytes
    scheme = SCHEMES.get(library.quantization)  # none: a library that MLC built takes weights as they are
    key = {
        "checkpoint": checkpoint.fingerprint(),
        "quantization": library.quantization,
        "parameters": [[spec.name, spec.shape, spec.dtype, spec.layout] for spec in specs],
        "code": source_hash("checkpoint", "quantization"),
    }

    def make(directory: Path) -> None:
        check_room(directory, total)
        with _bar("converting weights", total) as progress:
            convert(checkpoint, specs, scheme.groups if scheme else None, directory, progress)

    def use(directory: Path) -> list[Any]:
        with _bar("loading weights", total) as progress:
            return load_weights(directory, specs, library.device, progress)

    return artifact("weights", key, make, use, model=str(checkpoint.directory), report=report)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], object]]:
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        yield bar.update
