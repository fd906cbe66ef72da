"""`--url`: the address of a running server's API, as a flag's value."""

from __future__ import annotations

import argparse
import os
from urllib.parse import urlsplit

from mlc_serve.errors import ConfigError

KEY_VARIABLE = "OPENAI_API_KEY"


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Add --url and --api-key."""
    group = parser.add_argument_group("a running server")
    group.add_argument(
        "--url",
        metavar="URL",
        type=server_url,
        help="ask an OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead of loading a model",
    )
    group.add_argument("--api-key", metavar="KEY", help=f"the server's key (default: ${KEY_VARIABLE})")


def server_url(text: str) -> str:
    """The URL that the API's paths follow, without a slash at its end. One without a path gets /v1."""
    try:
        address = urlsplit(text)
        whole = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a URL such as http://127.0.0.1:8000/v1")
    path = address.path.rstrip("/") or "/v1"
    return f"{address.scheme}://{address.netloc}{path}"


def server_key(arguments: argparse.Namespace) -> str | None:
    """The key that was given, or the environment's."""
    key: str | None = arguments.api_key
    return key or os.environ.get(KEY_VARIABLE)


def refuse_key_without_url(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for a key that nobody is sent."""
    if arguments.api_key and not arguments.url:
        raise ConfigError("--api-key is for a server: give its address with --url")
