"""Stores the pages of prefixes in files, which threads of its own write and read.

engine thread                    writer thread           directory
offer: copies pages  ──────────>  write  ─────────────>  a file for each page
event loop                       reader thread              │
read: pages of a prompt  <──────  read, check  <────────────┘
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice

from mlc_serve.engine.prefix_store import Export, Prefix
from mlc_serve.engine.sequence_pages import PageLayout, SequencePages
from mlc_serve.host.worker_threads import WorkerThreads
from mlc_serve.spill.page_files import PageFiles
from mlc_serve.spill.page_names import PageNames
from mlc_serve.spill.store_metrics import StoreMetrics

logger = logging.getLogger(__name__)

# How many bytes may wait to be written. Copying so many takes the engine a few hundredths of a second.
_MOST_UNWRITTEN = 128 << 20
# How many are taken at once if more may be taken later.
_MOST_AT_ONCE = 16 << 20
# How often the directory is listed again, at most.
_LIST_SECONDS = 10.0


class FileStore:
    """Implements engine.prefix_store.PrefixStore. Pages that wait to be written are found, too.

    What the directory has is known a moment after the start, once all of its files have been listed. It is
    listed again at times when prefixes are looked for, because other servers may store theirs there, too. At
    most `most_unwritten` bytes wait to be written; what is offered beyond that is not taken.
    """

    def __init__(
        self,
        files: PageFiles,
        names: PageNames,
        layout: PageLayout,
        metrics: StoreMetrics,
        most_unwritten: int = _MOST_UNWRITTEN,
    ) -> None:
        self._files = files
        self._names = names
        self.layout = layout
        self.metrics = metrics
        self._most_unwritten = max(most_unwritten, layout.page_bytes)
        self._most_at_once = max(_MOST_AT_ONCE, layout.page_bytes)
        self._lock = threading.Lock()
        self._unwritten: dict[str, memoryview] = {}
        self._has_failed = False
        self._writer = WorkerThreads("prefix writer")
        self._reader = WorkerThreads("prefix reader")
        self._listed_at = time.monotonic()
        self._is_listed = threading.Event()
        self._writer.submit(self._list)

    # Called on the engine's thread -------------------------------------------------------------------------

    def offer(self, prefix: Prefix, export: Export, start: int, *, is_last: bool) -> int:
        """See PrefixStore."""
        names, room = list(self._names.of(prefix)), self._room(is_last)
        taken: list[int] = []
        stop = start // self.layout.page_size
        while stop < len(names) and (len(taken) < room or self._has(names[stop])):
            if not self._has(names[stop]):
                taken.append(stop)
            stop += 1
        for run in _runs(taken):
            self._take(names, run, export)
        if taken:
            self._writer.submit(partial(self._write, [names[place] for place in taken], names))
        return stop * self.layout.page_size

    def _room(self, is_last: bool) -> int:
        """How many pages may be taken now."""
        with self._lock:
            num_unwritten = len(self._unwritten) * self.layout.page_bytes
        num_free = max(self._most_unwritten - num_unwritten, 0)
        return (num_free if is_last else min(num_free, self._most_at_once)) // self.layout.page_bytes

    def _take(self, names: Sequence[str], run: range, export: Export) -> None:
        """Let consecutive pages of a prefix wait to be written."""
        pages = export(run.start * self.layout.page_size, run.stop * self.layout.page_size)
        contents, size = memoryview(pages.data), self.layout.page_bytes
        with self._lock:
            for number, place in enumerate(run):
                self._unwritten[names[place]] = contents[number * size : (number + 1) * size]

    def clear(self) -> None:
        """See PrefixStore. Files of other models stay."""
        with self._lock:
            self._unwritten.clear()
        self._files.forget(self._names.beginning)
        self._writer.submit(self._remove)

    # Called on any thread ----------------------------------------------------------------------------------

    def may_have(self, prefix: Prefix) -> bool:
        """Return whether the first page of a prefix is stored, or whether that is not known yet."""
        self._list_at_times()
        first = next(self._names.of(prefix), None)
        return first is not None and (not self._is_listed.is_set() or self._has(first))

    def _list_at_times(self) -> None:
        now = time.monotonic()
        if now - self._listed_at > _LIST_SECONDS:
            self._listed_at = now
            self._writer.submit(self._list)

    def length(self, prefix: Prefix) -> Future[int]:
        """Find out how many tokens of a prefix are stored, in whole pages from the first one on."""
        return self._reader.submit(partial(self._length, prefix))

    def read(self, prefix: Prefix, start: int, stop: int) -> Future[SequencePages | None]:
        """Read the pages of the tokens at positions [start, stop), two multiples of the page size, up to the
        first page that is missing; None if that is the first one.
        """
        return self._reader.submit(partial(self._read, prefix, start, stop))

    def flushed(self) -> Future[bool]:
        """Wait for all that has been taken to be written. The result is whether the last page could be."""
        return self._writer.submit(lambda: not self._has_failed)

    def end(self) -> None:
        """Let the threads end once they have finished."""
        self._writer.end()
        self._reader.end()

    def _has(self, name: str) -> bool:
        with self._lock:
            waits = name in self._unwritten
        return waits or name in self._files

    # On the writer's thread --------------------------------------------------------------------------------

    def _list(self) -> None:
        try:
            self._files.scan_if_changed()
        except OSError as error:
            self._told_of(error)
        self._is_listed.set()

    def _write(self, wanted: Sequence[str], prefix_names: Sequence[str]) -> None:
        for name in wanted:
            with self._lock:
                data = self._unwritten.get(name)
            if data is not None:
                self._write_one(name, data)
                with self._lock:
                    self._unwritten.pop(name, None)
        self._files.use(prefix_names)

    def _write_one(self, name: str, data: memoryview) -> None:
        try:
            self._files.write(name, data)
        except OSError as error:
            self.metrics.failed.inc()
            self._told_of(error)
        else:
            self._has_failed = False

    def _remove(self) -> None:
        try:
            self._files.remove(self._names.beginning)
        except OSError as error:
            self._told_of(error)

    def _told_of(self, error: OSError) -> None:
        """Log an error unless the last write failed, too."""
        if not self._has_failed:
            logger.warning("prefixes can't be stored: %s", error)
        self._has_failed = True

    # On the reader's thread --------------------------------------------------------------------------------

    def _length(self, prefix: Prefix) -> int:
        self._is_listed.wait()
        length = 0
        for name in self._names.of(prefix):
            if not self._has(name):
                break
            length += self.layout.page_size
        return length

    def _read(self, prefix: Prefix, start: int, stop: int) -> SequencePages | None:
        size = self.layout.page_bytes
        first, last = (place // self.layout.page_size for place in (start, stop))
        names = list(islice(self._names.of(prefix), last))
        contents = memoryview(bytearray((last - first) * size))
        num_read = 0
        for name in names[first:]:
            if not self._read_one(name, contents[num_read : num_read + size]):
                break
            num_read += size
        self._files.use(names)
        return SequencePages(self.layout, start, contents[:num_read]) if num_read else None

    def _read_one(self, name: str, page: memoryview) -> bool:
        with self._lock:
            waiting = self._unwritten.get(name)
        if waiting is None:
            return name in self._files and self._files.read_into(name, page)
        page[:] = waiting
        return True


def _runs(places: Sequence[int]) -> Iterator[range]:
    """Yield the runs of consecutive numbers among increasing ones."""
    start = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != places[end - 1] + 1:
            yield range(places[start], places[end - 1] + 1)
            start = end
