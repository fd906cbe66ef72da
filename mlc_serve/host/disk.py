"""Whether a disk has room, and whether an error means that it has none."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlc_serve.errors import DiskFullError, StartupError

_FULL = {errno.ENOSPC, errno.EDQUOT} if os.name == "posix" else {errno.ENOSPC}
# The system's messages for these errors, which compilers and linkers print, too.
_WORDS = tuple(os.strerror(number) for number in _FULL)


def check_room(directory: Path, needed: int) -> None:
    """Raise DiskFullError if `needed` bytes do not fit onto the disk of an existing directory."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise DiskFullError(f"{directory}: {size_text(needed)} are needed, and {size_text(free)} are free")


def says_full(error: BaseException | str) -> bool:
    """Whether an error, its cause, or the output of a program says that a disk or a quota is full."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    if any(words in str(error) for words in _WORDS):
        return True
    return isinstance(error, BaseException) and error.__cause__ is not None and says_full(error.__cause__)


def disk_full(directory: Path) -> DiskFullError:
    """The error for a directory whose disk has turned out to be full.

    Make it before the written files are removed, because it says how much is free.
    """
    free = shutil.disk_usage(directory).free
    return DiskFullError(f"{directory}: the disk is full; {size_text(free)} are free")


@contextmanager
def told_if_full(directory: Path) -> Iterator[None]:
    """Turn an error of the block that means a full disk into a DiskFullError that names `directory`."""
    try:
        yield
    except (OSError, RuntimeError, StartupError) as error:
        if isinstance(error, DiskFullError) or not says_full(error):
            raise
        raise disk_full(directory) from error


def size_text(size: float) -> str:
    """A number of bytes as people write it: 999 B, 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
