"""A directory of bounded size, with one file for each page.

    NAME.mlc-kv                     a header, and the page's bytes
    .NAME.0123abcd.mlc-kv-part      not finished, or left by a process that died

A file gets its final name when it is complete, and each has a digest of its name and content. So several
processes may use a directory: one reads what another has written, and a file that is missing or damaged for
whatever reason is a page that is not stored. Only files with such names are ever touched.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mlc_serve.spill.store_metrics import StoreMetrics

_SUFFIX, _PART_SUFFIX = ".mlc-kv", ".mlc-kv-part"
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{40}")
_HEADER = struct.Struct("<8sQ32s")  # a mark, the number of bytes, and their digest
_MARK = b"mlc-kv\0\1"
# Writing a page takes seconds at most. What is unfinished for longer was left behind.
_PART_SECONDS = 3600
# A sixteenth of the room is made at a time, because this takes a look at all files.
_SHARE_FREED = 16
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class _Found(NamedTuple):
    """A file, with its time of last use in nanoseconds since the Unix epoch."""

    last_used: int
    size: int
    name: str


class PageFiles:
    """The files of one directory, which take at most `max_bytes`, those of other models included. If there is
    no room, the files go whose last use is longest ago. Several processes that write at the same time may
    exceed the limit by a sixteenth each, until the next of them makes room.

    One thread may read and use files while another does everything else; any thread may ask what is there.
    """

    def __init__(self, directory: Path, max_bytes: int, metrics: StoreMetrics) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._num_bytes = 0
        self._scanned = -1

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._names

    def scan(self, num_needed: int = 0) -> None:
        """Learn which files there are, and remove those that have been unused for longest, until a sixteenth
        of the room and at least `num_needed` bytes are free. Raises OSError if the directory can't be read.
        """
        self._scanned = self._directory.stat().st_mtime_ns
        num_free = max(self._max_bytes // _SHARE_FREED, num_needed)
        kept, num_bytes = set[str](), 0
        for found in sorted(self._files(), reverse=True):
            if num_bytes + found.size > self._max_bytes - num_free:
                self._path(found.name).unlink(missing_ok=True)
                self._metrics.removed.inc()
            else:
                kept.add(found.name)
                num_bytes += found.size
        with self._lock:
            self._names = kept
        self._count(num_bytes)

    def scan_if_changed(self) -> None:
        """Scan unless the directory is as the last scan has found it. Raises OSError."""
        if self._directory.stat().st_mtime_ns != self._scanned:
            self.scan()

    def write(self, name: str, data: memoryview) -> None:
        """Store a page. Does nothing if it is larger than the directory may be. Raises OSError."""
        size = _HEADER.size + len(data)
        if size > self._max_bytes:
            return
        if self._num_bytes + size > self._max_bytes:
            self.scan(size)
        self._write_file(name, data)
        self._metrics.written.inc(size)
        with self._lock:
            is_new = name not in self._names
            self._names.add(name)
        self._count(self._num_bytes + size * is_new)

    def read_into(self, name: str, page: memoryview) -> bool:
        """Fill `page` with a page's bytes, and return True; or return False if it is not stored. A file that
        does not have just these bytes is removed.
        """
        try:
            with open(self._path(name), "rb", opener=_open) as file:
                header = file.read(_HEADER.size)
                num_read, rest = file.readinto(page), file.read(1)
        except OSError:
            self._forget(name)
            return False
        if num_read < len(page) or rest or header != _header(name, page):
            self._forget(name)
            with suppress(OSError):
                self._path(name).unlink(missing_ok=True)
            self._metrics.damaged.inc()
            return False
        self._metrics.read.inc(len(page))
        return True

    def use(self, names: Sequence[str]) -> None:
        """Note that the pages of a prefix were used just now. Each counts as used a little earlier than the
        one before it, so that the last pages go first: without the first ones they are of no use.
        """
        now = time.time_ns()
        for place, name in enumerate(names):
            moment = now - 1000 * place
            with suppress(OSError):  # it was removed, or the disk can't be written to
                os.utime(self._path(name), ns=(moment, moment))

    def forget(self, beginning: str) -> None:
        """Act as if there were no files whose names begin so, until the next scan."""
        with self._lock:
            self._names = {name for name in self._names if not name.startswith(beginning)}

    def remove(self, beginning: str) -> None:
        """Remove all files whose names begin so. Raises OSError."""
        for found in list(self._files()):
            if found.name.startswith(beginning):
                self._path(found.name).unlink(missing_ok=True)
        self.scan()

    def _write_file(self, name: str, data: memoryview) -> None:
        part = self._directory / f".{name}.{secrets.token_hex(4)}{_PART_SUFFIX}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_header(name, data))
                file.write(data)
            part.replace(self._path(name))
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _files(self) -> Iterator[_Found]:
        """Yield what is stored. Remove what was left unfinished."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                name, dot, suffix = entry.name.rpartition(".")
                if not dot or f".{suffix}" not in (_SUFFIX, _PART_SUFFIX):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if f".{suffix}" == _PART_SUFFIX:
                    self._remove_abandoned(Path(entry.path), found.st_mtime)
                elif _NAME.fullmatch(name):
                    yield _Found(found.st_mtime_ns, found.st_size, name)

    @staticmethod
    def _remove_abandoned(path: Path, last_written: float) -> None:
        if time.time() - last_written > _PART_SECONDS:
            path.unlink(missing_ok=True)

    def _count(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes
        self._metrics.size.set(num_bytes)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._names.discard(name)

    def _path(self, name: str) -> Path:
        return self._directory / (name + _SUFFIX)


def _header(name: str, data: memoryview) -> bytes:
    digest = hashlib.blake2b(name.encode(), digest_size=32)
    digest.update(data)
    return _HEADER.pack(_MARK, len(data), digest.digest())


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS)
