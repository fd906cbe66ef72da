"""Lists and removes what the caches hold for models."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from mlc_serve.checkpoint.downloads import Download, downloads, remove_download
from mlc_serve.demo import DEMO_MODEL_NAME, demo_model_path
from mlc_serve.errors import ConfigError, StartupError
from mlc_serve.loading.artifacts import Artifact, artifacts

_SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/")
_KINDS = {"libraries": "library", "weights": "weights"}


@dataclass(frozen=True)
class CachedModel:
    """An entry of a cache. Its `kind` is "library", "weights" or "download", its size is in bytes, and
    `last_used` is in seconds since the Unix epoch. `remove` deletes it.
    """

    id: str
    model: str
    kind: str
    quantization: str
    device: str
    size: int
    last_used: float
    remove: Callable[[], None]
    directory: Path | None = None


def cached_models() -> list[CachedModel]:
    """All cache entries, sorted by model."""
    found = [*map(_of_artifact, artifacts()), *map(_of_download, downloads())]
    return sorted(found, key=lambda entry: (entry.model, entry.kind, entry.id))


def named(names: Sequence[str], cached: Sequence[CachedModel]) -> list[CachedModel]:
    """The entries with these names: all entries of a model, or one by its id.

    Raises a ConfigError for an unknown name; it suggests the most similar one.
    """
    for name in names:
        if not any(name in (entry.model, entry.id) for entry in cached):
            known = {text for entry in cached for text in (entry.model, entry.id)}
            near = get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(f"nothing is cached under {name!r}{hint}; see mlc_serve models")
    return [entry for entry in cached if entry.model in names or entry.id in names]


def remove(chosen: Sequence[CachedModel]) -> int:
    """Remove the chosen entries, and return how many bytes that freed.

    If a process has a file of one of them in memory, raises StartupError before anything is removed.
    """
    for entry in chosen:
        if entry.directory is not None and (process := _user_of(entry.directory)) is not None:
            raise StartupError(f"the {entry.kind} of {entry.model} ({entry.id}) is used by process {process}")
    for entry in chosen:
        entry.remove()
    return sum(entry.size for entry in chosen)


def _of_artifact(artifact: Artifact) -> CachedModel:
    return CachedModel(
        id=artifact.directory.name[:8],
        model=_model_name(artifact),
        kind=_KINDS[artifact.kind],
        quantization=str(artifact.key.get("quantization", "")),
        device=str(artifact.key.get("device", "")),
        size=artifact.size,
        last_used=artifact.last_used,
        remove=partial(shutil.rmtree, artifact.directory),
        directory=artifact.directory,
    )


def _model_name(artifact: Artifact) -> str:
    """The name that a user knows the model by."""
    if artifact.model == str(demo_model_path()):
        return DEMO_MODEL_NAME
    if snapshot := _SNAPSHOT.search(Path(artifact.model).as_posix()):
        return f"{snapshot['owner']}/{snapshot['name']}"
    return artifact.model or "unknown"


def _of_download(download: Download) -> CachedModel:
    return CachedModel(
        id=download.revisions[0][:8],
        model=download.repository,
        kind="download",
        quantization="",
        device="",
        size=download.size,
        last_used=download.last_used,
        remove=partial(remove_download, download),
    )


def _user_of(directory: Path) -> int | None:
    """The id of a process that has mapped a file in the directory, if the system has /proc to find it."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if f" {directory}/" in maps.read_text(encoding="utf-8", errors="replace"):
                return int(maps.parent.name)
        except OSError:  # the process has ended, or belongs to another user
            continue
    return None
