"""A supervisor's status on a terminal, and where there is none."""

from __future__ import annotations

import io
import logging
from datetime import timedelta

from mlc_serve.interface.status_line import StatusLine, describe
from mlc_serve.supervisor.status import MLCServerStatus

SERVING = MLCServerStatus(process_running=True, http_available=True, port=8001, pid=7, restarts=2)
FAILED = MLCServerStatus(error="the server ended with code 3:\nits last words")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def record(text: str) -> logging.LogRecord:
    """A line of the log."""
    return logging.LogRecord("test", logging.INFO, "", 0, text, None, None)


def test_a_status_is_one_line() -> None:
    """It has the state, address, process, duration, restarts, and the first line of an error."""
    now = SERVING.since + timedelta(seconds=3661.5)
    text = describe(SERVING, "0.0.0.0", now)
    assert text == "serving | http://127.0.0.1:8001 | pid 7 | for 1:01:01 | restarts 2"
    assert describe(FAILED, "127.0.0.1") == "failed | the server ended with code 3"


def test_on_a_terminal_the_line_stays_below_the_log() -> None:
    """It is cleared before each line of the log and redrawn after it; at the end it stays."""
    terminal = Terminal()
    line = StatusLine(terminal, "127.0.0.1")
    line.show(MLCServerStatus(error=FAILED.error))
    line.handle(record("news"))
    line.end()
    line.handle(record("more"))
    parts = terminal.getvalue().split("\r\x1b[2K")
    assert parts[1].startswith("failed | for 0:00:0")
    assert parts[2].startswith("news\nfailed | for 0:00:0")
    assert parts[2].endswith("code 3\nmore\n")


def test_elsewhere_each_change_is_a_line() -> None:
    """There are no control characters, and no line is repeated."""
    stream = io.StringIO()
    line = StatusLine(stream, "127.0.0.1")
    line.show(FAILED)
    line.show(FAILED)
    line.handle(record("news"))
    line.end()
    assert stream.getvalue() == "failed | the server ended with code 3\nnews\n"


def test_a_terminal_that_has_gone_is_no_failure() -> None:
    """A signal ends the supervisor instead."""

    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    StatusLine(Gone(), "127.0.0.1").show(SERVING)
