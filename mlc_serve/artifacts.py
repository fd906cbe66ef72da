"""The cache of compiled libraries and converted weights: directories named by all that their content depends
on.

A directory is filled under a name of its own and then renamed, so that whoever finds one finds it whole; of
two processes that make the same one, the first to finish wins and the other's is thrown away.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_serve.errors import StartupError

HOME_VARIABLE = "MLC_SERVE_HOME"
KINDS = ("libraries", "weights")
_KEY_NAME, _ABOUT_NAME = "key.json", "about.json"
ABANDONED_AFTER = 24 * 3600  # seconds: longer than anything takes to be made


def cache_home() -> Path:
    """Where artifacts are kept: $MLC_SERVE_HOME, or the user's cache directory."""
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mlc_serve"


def host_cpu() -> str:
    """A name that differs between CPUs that can't run each other's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def source_hash(*packages: str) -> str:
    """A hash of the source files of packages of mlc_serve: an artifact made by other code is another
    artifact.
    """
    root, digest = Path(__file__).parent, hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Artifact:
    """What the cache holds for one key. `model` is the directory of the model that it was first made for, ""
    if that is not known; `size` is in bytes, `last_used` in seconds of the Unix epoch.
    """

    directory: Path
    kind: str
    key: Mapping[str, Any]
    model: str
    size: int
    last_used: float


def artifacts() -> Iterator[Artifact]:
    """All that is in the cache, whole, of every kind."""
    for kind in KINDS:
        for directory in sorted((cache_home() / kind).glob("[!.]*")):
            try:
                yield _describe(kind, directory)
            except (OSError, ValueError):  # being removed, or none of ours
                continue


def _describe(kind: str, directory: Path) -> Artifact:
    about = directory / _ABOUT_NAME
    return Artifact(
        directory=directory,
        kind=kind,
        key=json.loads((directory / _KEY_NAME).read_text(encoding="utf-8")),
        model=json.loads(about.read_text(encoding="utf-8"))["model"] if about.exists() else "",
        size=sum(path.stat().st_size for path in directory.iterdir()),
        last_used=directory.stat().st_mtime,
    )


def artifact(kind: str, key: Mapping[str, Any], make: Callable[[Path], None], *, model: str = "") -> Path:
    """The directory of kind `kind` for `key`; if there is none yet, `make(directory)` fills it. `model`
    is the directory that it is made for: others of the same key share it.

    Raises StartupError if the cache can't be written, and what `make` raises.
    """
    described = json.dumps(key, sort_keys=True, indent=1)
    directory = cache_home() / kind / hashlib.sha256(described.encode()).hexdigest()[:32]
    if directory.is_dir():
        _mark_used(directory)
        return directory
    try:
        _publish(directory, described, make, model)
    except OSError as error:
        raise StartupError(f"the cache in {cache_home()} can't be written: {error}") from error
    return directory


def _mark_used(directory: Path) -> None:
    """A directory's time of change is when it was last used: times of access are seldom kept."""
    try:
        os.utime(directory)
    except OSError:  # a cache that may only be read serves as well
        pass


def _publish(directory: Path, described: str, make: Callable[[Path], None], model: str) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(directory.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        make(unfinished)
        (unfinished / _KEY_NAME).write_text(described, encoding="utf-8")
        (unfinished / _ABOUT_NAME).write_text(json.dumps({"model": model}), encoding="utf-8")
        _sync(unfinished)
        unfinished.rename(directory)
    except OSError:
        if not directory.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Throw away what processes have left behind that were killed while they made it."""
    for unfinished in folder.glob(".*-*"):
        try:
            is_abandoned = time.time() - unfinished.stat().st_mtime > ABANDONED_AFTER
        except FileNotFoundError:  # its maker has just finished
            continue
        if is_abandoned:
            shutil.rmtree(unfinished, ignore_errors=True)


def _sync(directory: Path) -> None:
    """Write the files through to the disk: after a crash a renamed directory must not have empty ones."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
