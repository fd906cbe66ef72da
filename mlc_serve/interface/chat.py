"""Runs a chat in the terminal. This module loads no model; `chat_in_process` does."""

from __future__ import annotations

import ssl
import sys
from contextlib import closing

from mlc_serve.chat.dialogue import Dialogue
from mlc_serve.chat.remote_source import RemoteSource
from mlc_serve.chat.session import answer_lines, talk
from mlc_serve.chat.source import ChatSource
from mlc_serve.config import ChatConfig
from mlc_serve.errors import RemoteServerError, StartupError


def chat_with_server(
    url: str,
    model: str | None,
    api_key: str | None,
    chat: ChatConfig,
    trust: ssl.SSLContext | None = None,
) -> int:
    """Chat with a server's model, the first one if `model` is None, and return the exit code.

    `trust` has the authorities for https://; without it, they are the system's. Raises
    StartupError if the server can't be reached.
    """
    try:
        source = RemoteSource(url, model, api_key, trust)
    except RemoteServerError as error:
        raise StartupError(str(error)) from error
    return run_chat(source, chat)


def run_chat(source: ChatSource, chat: ChatConfig) -> int:
    """Chat over this process's stdin and stdout, and return the exit code. Closes the source."""
    with closing(source):
        dialogue = Dialogue(source, chat)
        return talk(dialogue) if sys.stdin.isatty() else answer_lines(dialogue)
