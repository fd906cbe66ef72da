"""A chat as a person at a terminal sees it, and as a pipe does."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent
PROGRAM = [sys.executable, "-m", "tests.chat.fake_chat"]
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A process at a pseudo-terminal: types keys and reads the screen."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._unread = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def expect(self, text: str) -> str:
        """Wait until a text appears, and return what appeared before it."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._unread:
            ready, _, _ = select.select([self._descriptor], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} never showed, but {self._unread!r}"
            self._unread += os.read(self._descriptor, 4096).decode()
        before, _, self._unread = self._unread.partition(text)
        return before

    def interrupt(self) -> int:
        """Press Ctrl-C until the process ends, and return its exit code. Once is enough for people: readline
        shows its prompt a moment before it handles signals.
        """
        for _ in range(int(PATIENCE)):
            self.type(CTRL_C)
            try:
                return self.process.wait(1)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError("Ctrl-C does not end the process")


@contextmanager
def chatting(*arguments: str) -> Iterator[Terminal]:
    """A chat that shows its first prompt."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "dumb", "INPUTRC": "/dev/null"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    try:
        terminal.expect(">>> ")
        yield terminal
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_questions_are_answered_until_ctrl_d() -> None:
    """Lines that end in a backslash form one question; the chat goes on after commands and mistakes."""
    with chatting() as terminal:
        terminal.type("hello\n")
        terminal.expect("Good day\r\n>>> ")
        terminal.type("one\\\n")
        terminal.expect("... ")
        terminal.type("two\n")
        terminal.expect("Good day\r\n>>> ")
        terminal.type("/rest\n")
        terminal.expect("did you mean /reset?")
        terminal.expect(">>> ")
        terminal.type("/save /dev/stdout\n")
        assert "one\\ntwo" in terminal.expect("Saved 4 messages")
        terminal.expect(">>> ")
        terminal.type(CTRL_D)
        assert terminal.process.wait(PATIENCE) == 0


def test_ctrl_c_stops_a_reply_and_then_the_chat() -> None:
    """During a reply it ends only that; at the prompt it ends the chat. Neither shows a traceback."""
    with chatting("held") as terminal:
        terminal.type("hello\n")
        terminal.expect("Goo")
        terminal.type(CTRL_C)
        terminal.expect("(stopped)")
        terminal.expect(">>> ")
        terminal.process.send_signal(signal.SIGUSR1)
        terminal.type("/stats\n")
        terminal.expect("3 tokens, the first after ")
        terminal.expect(">>> ")
        terminal.type("again\n")
        terminal.expect("Good day\r\n>>> ")
        assert terminal.interrupt() == 0


def test_exit_leaves() -> None:
    """It does the same as Ctrl-D."""
    with chatting() as terminal:
        terminal.type("/exit\n")
        assert terminal.process.wait(PATIENCE) == 0


def piped(text: str) -> subprocess.CompletedProcess[str]:
    """Run a chat whose stdin is not a terminal."""
    return subprocess.run(PROGRAM, cwd=ROOT, input=text, capture_output=True, text=True, check=False)


def test_from_a_pipe_only_answers_come() -> None:
    """Each line that isn't empty gets an answer, whatever it begins with."""
    result = piped("hello\n\n/help")
    assert (result.returncode, result.stdout, result.stderr) == (0, "Good day\nGood day\n", "")


def test_a_question_that_fails_ends_a_pipe() -> None:
    """The exit code is 1, and the reason is on stderr."""
    result = piped("x" * 5000)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("mlc_serve: error: This model's maximum context length is ")
