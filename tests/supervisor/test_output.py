"""How a server's output is read, kept and logged."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from mlc_serve.supervisor.output import LINE_BYTES, UNLOGGED_LINES, Output
from tests.patience import PATIENCE


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The reading and the writing end of a pipe."""
    read, write = os.pipe()
    with open(write, "wb", buffering=0) as writer:  # noqa: PTH123  a descriptor has no path
        yield open(read, "rb"), writer  # noqa: PTH123, SIM115  who follows it closes it


def followed(reader: IO[bytes], kept: int = 3) -> Output:
    """The Output that follows a pipe."""
    output = Output(kept)
    output.follow(reader)
    return output


def test_the_tail_is_kept_and_all_is_logged(
    pipe: tuple[IO[bytes], IO[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """The last lines are kept, whatever their bytes and line ends, and the log has every line."""
    caplog.set_level(logging.INFO)
    reader, writer = pipe
    output = followed(reader)
    writer.write(b"one\ntwo\r\nthr\xffee\nfour")
    writer.close()
    output.join(PATIENCE)
    assert output.tail(2) == ["thr\ufffdee", "four"]
    assert output.tail(10) == ["two", "thr\ufffdee", "four"]
    assert caplog.messages == ["one", "two", "thr\ufffdee", "four"]


def test_a_line_without_end_takes_no_memory_without_end(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """A very long line is kept in parts of bounded length."""
    reader, writer = pipe
    output = followed(reader)
    for _ in range(10):
        writer.write(b"x" * LINE_BYTES)
    writer.close()
    output.join(PATIENCE)
    assert {len(line) for line in output.tail(10)} == {LINE_BYTES}


def test_a_log_that_blocks_does_not_block_the_server(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """While the log blocks, all output is still read, and the log says how many lines it lacks."""
    reader, writer = pipe
    blocked, go_on, logged = threading.Event(), threading.Event(), list[str]()

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            blocked.set()
            go_on.wait(PATIENCE)
            logged.append(record.getMessage())

    logger, handler = logging.getLogger("mlc_serve.supervisor.output"), Blocking()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        output = followed(reader)
        writer.write(b"first\n")
        blocked.wait(PATIENCE)
        for number in range(UNLOGGED_LINES + 10):
            writer.write(b"%d\n" % number)
        writer.close()
        output._threads[0].join(PATIENCE)
        assert output.tail(1) == [str(UNLOGGED_LINES + 9)]
        go_on.set()
        output.join(PATIENCE)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert logged[:3] == ["first", "(10 lines are not shown)", "10"]
    assert logged[-1] == str(UNLOGGED_LINES + 9)
