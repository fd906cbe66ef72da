"""Unfinished directories: they are filled under another name, so that what has the final name is complete.

The process that fills one holds a lock on a file in it, which the system releases when that process ends,
for any reason. The next process that fills one in the same place removes those whose makers are dead.

    NAME                              is complete
    .NAME-0123abcd.mlc-unfinished/
        lock                          locked while its maker lives
        content/                      becomes NAME
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# If the system or the disk has no locks, a directory counts as abandoned after this many seconds. Filling
# one never takes that long.
ABANDONED_AFTER = 24 * 3600
_SUFFIX = ".mlc-unfinished"
_LOCK_NAME = "lock"
_REMOVAL_ATTEMPTS = 50
_REMOVAL_PAUSE = 0.02  # seconds


@contextmanager
def unfinished(folder: Path, name: str) -> Iterator[Path]:
    """An empty directory on the disk of `folder`, which the block fills and then renames to `name`.

    Before the block, unfinished directories of dead processes are removed from `folder`. After the block,
    what is left of the new one is removed. Raises OSError if nothing can be written there.
    """
    remove_abandoned(folder)
    directory = folder / f".{name}-{secrets.token_hex(4)}{_SUFFIX}"
    lock = None
    try:
        directory.mkdir()
        lock = _hold_lock(directory)
        content = directory / "content"
        content.mkdir()
        yield content
    finally:
        _remove(directory)
        if lock is not None:
            os.close(lock)


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished directories in `folder` whose makers are dead."""
    for directory in folder.glob(f".*{_SUFFIX}"):
        if _is_abandoned(directory):
            _remove(directory)


def _hold_lock(directory: Path) -> int | None:
    """Lock a new directory until the returned descriptor is closed; None if there are no locks."""
    new = directory / f"{_LOCK_NAME}.new"
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
    if not _lock(descriptor):
        os.close(descriptor)
        return None
    new.rename(directory / _LOCK_NAME)  # renamed only when it is locked, so that nobody finds it unlocked
    return descriptor


def _is_abandoned(directory: Path) -> bool:
    try:
        descriptor = os.open(directory / _LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return _age(directory) > ABANDONED_AFTER
    except OSError:  # it belongs to somebody else
        return False
    try:
        return _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Try to lock a file, and return whether this process has the lock now."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _age(directory: Path) -> float:
    try:
        return time.time() - directory.stat().st_mtime
    except OSError:  # its maker has just finished
        return 0.0


def _remove(directory: Path) -> None:
    """Remove a directory, even if a process that has just been killed still completes a write into it."""
    for _ in range(_REMOVAL_ATTEMPTS):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(_REMOVAL_PAUSE)
