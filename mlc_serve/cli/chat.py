"""`mlc_serve chat [MODEL]`: parses the flags and calls interface.chat or interface.chat_in_process."""

from __future__ import annotations

import argparse
from typing import Any

from mlc_serve.cli.engine_options import (
    MODEL_HELP,
    add_engine_options,
    keep_torch_out,
    read_engine,
    refuse_engine_options,
)
from mlc_serve.cli.parser import CommandParser, add_options, read_options
from mlc_serve.cli.server_url import (
    add_server_flags,
    refuse_server_flags_without_url,
    server_key,
    server_trust,
)
from mlc_serve.config import ChatConfig

_EXAMPLES = """\
examples:
  mlc_serve chat                                            chat with the demo model
  mlc_serve chat ./my-model --temperature 0 --system "Answer briefly."
  mlc_serve chat --url http://127.0.0.1:8000/v1             chat with a model on a running server
  echo "What is 2 plus 3?" | mlc_serve chat                 ask one question, and print only the answer"""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "chat",
        help="chat with a model in the terminal",
        description="Chat with a model in the terminal, loaded into this process or on a running server."
        "\nFrom a pipe, every line is a question. In the chat, /help lists the commands.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=None,
        help=f"{MODEL_HELP}; without it, the demo model. With --url, the name of a served model; "
        "without it, the first",
    )
    add_server_flags(parser)
    add_options(parser, "replies", ChatConfig)
    add_engine_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Chat, and return the exit code."""
    chat = read_options(ChatConfig, arguments)
    if arguments.url:
        refuse_engine_options(arguments)
        from mlc_serve.interface.chat import chat_with_server

        key, trust = server_key(arguments), server_trust(arguments)
        return chat_with_server(arguments.url, arguments.model, key, chat, trust)
    refuse_server_flags_without_url(arguments)
    engine, launch = read_engine(arguments)
    keep_torch_out()
    from mlc_serve.interface.chat_in_process import chat_in_process  # loads TVM

    return chat_in_process(engine, launch, chat)
