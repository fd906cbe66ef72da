"""A directory to whose contents nobody but this user can add."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mlc_serve.errors import ConfigError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_directory(path: Path, setting: str) -> Path:
    """Return a directory, which is made if there is none. Raises ConfigError, which names the setting that it
    comes from, if it can't be used or if others can write to it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{setting}: {path} can't be used as a directory: {error.strerror}") from error
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & _OTHERS_WRITE):
        raise ConfigError(f"{setting}: {path} must belong to this user, and nobody else may write to it")
    return path
