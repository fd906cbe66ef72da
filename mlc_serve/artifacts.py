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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlc_serve.errors import StartupError

HOME_VARIABLE = "MLC_SERVE_HOME"
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


def artifact(kind: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """The directory of kind `kind` for `key`; if there is none yet, `make(directory)` fills it.

    Raises StartupError if the cache can't be written, and what `make` raises.
    """
    described = json.dumps(key, sort_keys=True, indent=1)
    directory = cache_home() / kind / hashlib.sha256(described.encode()).hexdigest()[:32]
    if not directory.is_dir():
        try:
            _publish(directory, described, make)
        except OSError as error:
            raise StartupError(f"the cache in {cache_home()} can't be written: {error}") from error
    return directory


def _publish(directory: Path, described: str, make: Callable[[Path], None]) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(directory.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        make(unfinished)
        (unfinished / "key.json").write_text(described, encoding="utf-8")
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
