"""The weights that a library takes: an artifact, which is converted from the checkpoint on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.conversion import Part, convert
from mlc_serve.host.disk import check_room
from mlc_serve.loading.architecture import sources_of
from mlc_serve.loading.artifacts import Report, artifact, source_hash
from mlc_serve.loading.eagle_model import eagle_sources
from mlc_serve.models.eagle import Eagle
from mlc_serve.quantization.scheme import SCHEMES
from mlc_serve.runtime.library import Library, ParameterSpec
from mlc_serve.runtime.weights import load_weights


def find_weights(checkpoint: Checkpoint, library: Library, report: Report) -> list[Any]:
    """Return the library's parameters, in its order, on its device. Raises StartupError."""

    def parts() -> list[Part]:
        sources = replace(sources_of(checkpoint), by_mlc_names=library.is_by_mlc)
        return [(sources, library.parameters)]

    prints = {"checkpoint": checkpoint.fingerprint()}
    return _find(checkpoint, prints, library, library.parameters, parts, report)


def find_eagle_weights(
    checkpoint: Checkpoint,
    eagle: Eagle,
    target: Checkpoint,
    library: Library,
    shared: Mapping[ParameterSpec, Any],
    report: Report,
) -> list[Any]:
    """Do the same for a model that drafts, some of whose weights are those of its target. Those of them that
    are `shared` are in memory already.
    """
    missing = [spec for spec in library.parameters if spec not in shared]
    prints = {"checkpoint": checkpoint.fingerprint(), "target": target.fingerprint()}

    def parts() -> list[Part]:
        return eagle_sources(checkpoint, eagle, target, missing)

    found = dict(zip(missing, _find(checkpoint, prints, library, missing, parts, report), strict=True))
    return [shared[spec] if spec in shared else found[spec] for spec in library.parameters]


def _find(
    checkpoint: Checkpoint,
    prints: Mapping[str, str],
    library: Library,
    specs: list[ParameterSpec],
    parts: Callable[[], list[Part]],
    report: Report,
) -> list[Any]:
    """Return these parameters, which are made of `parts` of checkpoints with these fingerprints."""
    total = sum(spec.num_bytes for spec in specs)
    scheme = SCHEMES.get(library.quantization)  # None: a library that MLC built takes weights as they are
    key = {
        **prints,
        "quantization": library.quantization,
        "parameters": [[spec.name, spec.shape, spec.dtype, spec.layout] for spec in specs],
        "code": source_hash("checkpoint", "models", "quantization"),
    }

    def make(directory: Path) -> None:
        check_room(directory, total)
        with _bar("converting weights", total) as progress:
            (own, wanted), *others = parts()
            convert(own, wanted, scheme.groups if scheme else None, directory, progress, others)

    def use(directory: Path) -> list[Any]:
        with _bar("loading weights", total) as progress:
            return load_weights(directory, specs, library.device, progress)

    return artifact("weights", key, make, use, model=str(checkpoint.directory), report=report)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar. Yields a function that is called with the bytes done since the last call."""
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        yield bar.update
