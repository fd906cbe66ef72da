"""The output of a server: it is read as it arrives, the last lines are kept, and all lines are logged.

Reading never waits for the log: if logging is slower than the server, or blocked, lines are left out of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import IO

logger = logging.getLogger(__name__)

# At most this many lines wait to be logged; the oldest are dropped to make room.
UNLOGGED_LINES = 1000
# A line longer than this is read in parts.
LINE_BYTES = 16 * 1024


class Output:
    """The output of one process. Threads read and log it until its streams end."""

    def __init__(self, kept_lines: int) -> None:
        self._tail: deque[str] = deque(maxlen=kept_lines)
        self._unlogged: deque[str] = deque()
        self._left_out = 0
        self._streams = 0
        self._change = threading.Condition()
        self._threads: list[threading.Thread] = []

    def follow(self, *streams: IO[bytes]) -> None:
        """Begin to read the streams. Each is closed at its end."""
        self._streams = len(streams)
        readers = [threading.Thread(target=self._read, args=(stream,), daemon=True) for stream in streams]
        self._threads = [*readers, threading.Thread(target=self._log, daemon=True)]
        for thread in self._threads:
            thread.start()

    def join(self, timeout: float) -> None:
        """Wait until everything has been read and logged, but for no longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def tail(self, lines: int) -> list[str]:
        """Return the last lines, the oldest first."""
        with self._change:
            return list(self._tail)[-lines:]

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in iter(lambda: stream.readline(LINE_BYTES), b""):
                self._add(line.decode(errors="replace").rstrip("\r\n"))
        with self._change:
            self._streams -= 1
            self._change.notify()

    def _add(self, line: str) -> None:
        with self._change:
            self._tail.append(line)
            self._unlogged.append(line)
            if len(self._unlogged) > UNLOGGED_LINES:
                self._unlogged.popleft()
                self._left_out += 1
            self._change.notify()

    def _log(self) -> None:
        while batch := self._next_lines():
            for line in batch:
                logger.info("%s", line)

    def _next_lines(self) -> list[str]:
        """Wait for lines to log, and return them. Return no lines once all streams have ended."""
        with self._change:
            self._change.wait_for(lambda: self._unlogged or not self._streams)
            lines = list(self._unlogged)
            if self._left_out:
                lines.insert(0, f"({self._left_out} lines are not shown)")
            self._unlogged.clear()
            self._left_out = 0
        return lines
