"""The cache of compiled libraries and converted weights: directories named by everything that their content
depends on.

A directory is filled under a temporary name and then renamed, so that every entry of the cache is complete.
If two processes make the same entry, the first to finish wins and the other's is thrown away. The sizes and
hashes of the files are stored with them: if a disk or a person damages an entry later, it is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mlc_serve.errors import DamagedArtifactError, StartupError
from mlc_serve.host.disk import told_if_full
from mlc_serve.host.unfinished import unfinished

T = TypeVar("T")
Report = Callable[[str], object]

HOME_VARIABLE = "MLC_SERVE_HOME"
KINDS = ("libraries", "weights")
_KEY_NAME, _ABOUT_NAME = "key.json", "about.json"
# Of larger files only the size is compared here: the code that reads such a file also checks its content.
_HASHED_BYTES = 64 << 20


def cache_home() -> Path:
    """Return where artifacts are kept: $MLC_SERVE_HOME, or the user's cache directory."""
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mlc_serve"


def host_cpu() -> str:
    """Return a name that differs between CPUs that can't run each other's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def source_hash(*packages: str) -> str:
    """Return a hash of the source files of packages of mlc_serve. It is part of an artifact's key, so that an
    artifact that another version of the code has made is not used.
    """
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Artifact:
    """The entry of the cache for one key. `model` is the directory of the model that it was first made for,
    or "" if that is not known. `size` is in bytes, and `last_used` in seconds since the Unix epoch.
    """

    directory: Path
    kind: str
    key: Mapping[str, Any]
    model: str
    size: int
    last_used: float


def artifacts() -> Iterator[Artifact]:
    """Yield all complete entries of the cache, of every kind."""
    for kind in KINDS:
        for directory in sorted((cache_home() / kind).glob("[!.]*")):
            try:
                yield _describe(kind, directory)
            except (OSError, ValueError):  # it is being removed, or it is not one of ours
                continue


def _describe(kind: str, directory: Path) -> Artifact:
    return Artifact(
        directory=directory,
        kind=kind,
        key=_read_object(directory / _KEY_NAME),
        model=str(_read_object(directory / _ABOUT_NAME).get("model", "")),
        size=sum(path.stat().st_size for path in directory.iterdir()),
        last_used=directory.stat().st_mtime,
    )


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if the file is missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def artifact(
    kind: str,
    key: Mapping[str, Any],
    make: Callable[[Path], None],
    use: Callable[[Path], T],
    *,
    model: str = "",
    report: Report,
) -> T:
    """Return what `use` returns for the directory of kind `kind` for `key`.

    If there is no such directory yet, `make(directory)` fills it. `model` is the directory of the model that
    it is made for; other models with the same key share it. If it is damaged, or `use` raises
    DamagedArtifactError, `report` is called with one line, and the directory is made again. Raises
    StartupError if the cache can't be written, and what `make` and `use` raise.
    """
    described = json.dumps(key, sort_keys=True, indent=1)
    directory = cache_home() / kind / hashlib.sha256(described.encode()).hexdigest()[:32]
    if directory.is_dir():
        try:
            _check(directory, described)
            found = use(directory)
        except DamagedArtifactError as damage:
            report(f"{damage}; it is made again.")
            _discard(directory, damage)
        else:
            _mark_used(directory)
            return found
    _publish(directory, described, make, model)
    return use(directory)


def _check(directory: Path, described: str) -> None:
    """Raise DamagedArtifactError if a directory does not hold what was written to it."""
    noted = _read_object(directory / _ABOUT_NAME).get("files")
    if not isinstance(noted, dict):
        raise DamagedArtifactError(f"{directory / _ABOUT_NAME} does not list the files that were written")
    files = {_KEY_NAME: _note(described.encode()), **noted}
    for name, note in files.items():
        if (found := _note_of(directory / name)) != note:
            raise DamagedArtifactError(f"{directory / name} is damaged: {_difference(found, note)}")


def _difference(found: Any, noted: Any) -> str:
    if found is None:
        return "it can't be read"
    if isinstance(noted, dict) and noted.get("bytes") != found["bytes"]:
        return f"it has {found['bytes']} bytes of the {noted.get('bytes')} that were written"
    return "its content is not what was written"


def _note_of(path: Path) -> dict[str, Any] | None:
    """Return a file's size and, if it is not too large, a hash of its content; None if it can't be read."""
    try:
        size = path.stat().st_size
        return _note(path.read_bytes()) if size <= _HASHED_BYTES else {"bytes": size}
    except OSError:
        return None


def _note(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _discard(directory: Path, damage: DamagedArtifactError) -> None:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise StartupError(f"{damage}, and can't be removed to be made again: {error.strerror}") from error


def _mark_used(directory: Path) -> None:
    """Set the directory's time of modification to now, because few file systems keep the time of access."""
    try:
        os.utime(directory)
    except OSError:  # a read-only cache can be used as well
        pass


def _publish(directory: Path, described: str, make: Callable[[Path], None], model: str) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(directory.parent, directory.name) as content, told_if_full(directory.parent):
            make(content)
            about = {"model": model, "files": {path.name: _note_of(path) for path in content.iterdir()}}
            (content / _KEY_NAME).write_text(described, encoding="utf-8")
            (content / _ABOUT_NAME).write_text(json.dumps(about), encoding="utf-8")
            _sync(content)
            content.rename(directory)
    except OSError as error:
        if not directory.is_dir():  # otherwise another process was faster
            raise StartupError(f"the cache in {cache_home()} can't be written: {error}") from error


def _sync(directory: Path) -> None:
    """Write the files through to the disk: after a crash, no renamed directory may contain empty files."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
