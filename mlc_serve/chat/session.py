"""Runs a chat from its first line to its last, with a person at a terminal or with a pipe.

On a terminal, Ctrl-C stops the current reply, or ends the chat at the prompt. From a pipe, every line is a
question, and only the answers are written.
"""

from __future__ import annotations

import sys
from contextlib import closing

from mlc_serve.chat.commands import Leave, Output, run_command
from mlc_serve.chat.dialogue import Dialogue
from mlc_serve.errors import ConfigError, MLCServeError

PROMPT, CONTINUED = ">>> ", "... "


def talk(dialogue: Dialogue) -> int:
    """Chat with a person until they leave, and return the exit code."""
    _edit_lines()
    print(f"Chatting with {dialogue.source.name}. /help lists the commands, Ctrl-D leaves.")
    while True:
        try:
            line = _read_message()
            if line.strip():
                _answer(line, dialogue)
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        except Leave:
            return 0


def answer_lines(dialogue: Dialogue) -> int:
    """Answer each line of stdin, and return the exit code: 1 after a question that can't be answered."""
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            _write(dialogue.ask(line.strip()))
        except MLCServeError as error:
            print(f"mlc_serve: error: {error}", file=sys.stderr)
            return 1
        print(flush=True)
    return 0


def _edit_lines() -> None:
    """Give `input` a history and the usual keys by importing readline, if it is available."""
    try:
        import readline  # noqa: F401, PLC0415  only terminals need it
    except ImportError:
        pass


def _read_message() -> str:
    """Read one message; a line that ends in a backslash is continued. Raises EOFError, KeyboardInterrupt."""
    lines = [input(PROMPT)]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input(CONTINUED))
    return "\n".join(lines)


def _answer(line: str, dialogue: Dialogue) -> None:
    """Write the answer to a line. Raises Leave."""
    try:
        if line.lstrip().startswith("/"):
            _write(run_command(line, dialogue))
        else:
            _write(dialogue.ask(line))
            print(flush=True)
    except KeyboardInterrupt:
        print("\n(stopped)")
    except (ConfigError, MLCServeError) as error:
        print(f"error: {error}")


def _write(output: Output) -> None:
    with closing(output):
        for text in output:
            print(text, end="", flush=True)
