"""The places where MLC keeps model directories, and the names by which its users call them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mlc_serve.checkpoint.mlc import CONFIG_NAME

ORGANIZATION = "mlc-ai"  # on the hub, where it publishes the models that it has quantized
_SUFFIX = "-MLC"  # of the names there
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_QUANTIZED = re.compile(rf"[A-Za-z0-9][\w.-]*-q\d+b?f\d+(_\w+)?({_SUFFIX})?", re.ASCII)


def downloaded_by_mlc(repository: str) -> Path | None:
    """The directory in which MLC keeps its copy of a repository of the hub, such as "mlc-ai/NAME"; None if
    it has none.
    """
    return _first_model(place / "hf" / repository for place in _download_caches())


def find_by_name(name: str) -> Path | None:
    """The directory that MLC finds by the bare name of a model: below `dist`, where its tools write, or
    downloaded from its organization. The ending -MLC may be missing.
    """
    for spelling in _spellings(name):
        found = _first_model(_written_by_mlc(spelling)) or downloaded_by_mlc(f"{ORGANIZATION}/{spelling}")
        if found is not None:
            return found
    return None


def published_by_mlc(name: str) -> str | None:
    """The repository of the hub that MLC's users mean by the bare name of a model; None if the name does not
    say how the model is quantized.
    """
    return f"{ORGANIZATION}/{_spellings(name)[-1]}" if _QUANTIZED.fullmatch(name) else None


def _spellings(name: str) -> list[str]:
    """The name and, if it lacks only the ending, the name with it; nothing for what is not a bare name."""
    if not _NAME.fullmatch(name):
        return []
    is_short = _QUANTIZED.fullmatch(name) and not name.endswith(_SUFFIX)
    return [name, f"{name}{_SUFFIX}"] if is_short else [name]


def _written_by_mlc(name: str) -> Iterator[Path]:
    """Where MLC's tools, and those of its older versions, write a model with this name."""
    dist = Path("dist")
    yield dist / name
    yield dist / name / "params"
    yield dist / "prebuilt" / name
    yield dist / "prebuilt" / f"mlc-chat-{name}"


def _download_caches() -> Iterator[Path]:
    """The directories that MLC downloads to, by the same environment variables."""
    for place in os.environ.get("MLC_LLM_READONLY_WEIGHT_CACHE", "").split(os.pathsep):
        if place:
            yield Path(place)
    yield _home() / "model_weights"


def _home() -> Path:
    given = os.environ.get("MLC_LLM_HOME")
    if given:
        return Path(given)
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mlc_llm"


def _first_model(places: Iterator[Path]) -> Path | None:
    # Unlike Path.is_file, this is false for a name that is too long or may not be read.
    return next((place for place in places if os.path.isfile(place / CONFIG_NAME)), None)  # noqa: PTH113
