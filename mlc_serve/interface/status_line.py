"""Shows a supervisor's status in a terminal, in a line below the log that is redrawn.

If the output is not a terminal, each change is printed as its own line.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TextIO

from mlc_serve.supervisor.probe import base_url
from mlc_serve.supervisor.status import MLCServerStatus

# Returns to the first column and clears the line.
_CLEAR = "\r\x1b[2K"


def describe(status: MLCServerStatus, host: str, now: datetime | None = None, *, scheme: str = "http") -> str:
    """A status in one line; with `now`, also how long it has lasted."""
    parts = [status.word]
    if status.port is not None:
        parts.append(base_url(host, status.port, scheme))
    if status.pid is not None:
        parts.append(f"pid {status.pid}")
    if now is not None:
        parts.append(f"for {timedelta(seconds=int((now - status.since).total_seconds()))}")
    if status.restarts:
        parts.append(f"restarts {status.restarts}")
    if status.error:
        parts.append(status.error.partition("\n")[0].removesuffix(":"))
    return " | ".join(parts)


class StatusLine(logging.StreamHandler[TextIO]):
    """A log handler that keeps the status below what it logs.

    If the output is not a terminal and `is_logged`, a change is a record of the log.
    """

    def __init__(self, stream: TextIO, host: str, scheme: str = "http", *, is_logged: bool = False) -> None:
        super().__init__(stream)
        self._host = host
        self._scheme = scheme
        self._is_logged = is_logged
        self._live = stream.isatty()
        self._status: MLCServerStatus | None = None

    def show(self, status: MLCServerStatus) -> None:
        """Show a status from now on."""
        with self._alone():
            changed, self._status = status != self._status, status
            if self._live:
                self._write(_CLEAR + self._line())
            elif changed:
                self._write(self._change(describe(status, self._host, scheme=self._scheme)) + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record in place of the status line, and the status line below it."""
        if self._live:
            self._write(_CLEAR)
        super().emit(record)
        if self._live:
            self._write(self._line())

    def end(self) -> None:
        """Leave the last status where it is."""
        with self._alone():
            if self._live:
                self._write("\n")
                self._live = False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads from writing while the block runs."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _line(self) -> str:
        if self._status is None:
            return ""
        text = describe(self._status, self._host, datetime.now(UTC), scheme=self._scheme)
        return text[: shutil.get_terminal_size().columns - 1]

    def _change(self, text: str) -> str:
        if not self._is_logged:
            return text
        return self.format(logging.LogRecord(__name__, logging.INFO, __file__, 0, text, None, None))

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:  # the terminal was closed; a signal (SIGHUP) then ends the supervisor
            return
