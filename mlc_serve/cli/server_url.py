"""The flags for using a running server: `--url`, the address of its API, and `--api-key`."""

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
        help="use an OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead of loading a model",
    )
    group.add_argument("--api-key", metavar="KEY", help=f"the server's key (default: ${KEY_VARIABLE})")


def server_url(text: str) -> str:
    """Parse the URL that the API's paths are appended to. The result has no slash at its end; the default
    path is /v1.
    """
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
    """The key of the flag, or else of the environment."""
    key: str | None = arguments.api_key
    return key or os.environ.get(KEY_VARIABLE)


def refuse_key_without_url(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for a key without a server to send it to."""
    if arguments.api_key and not arguments.url:
        raise ConfigError("--api-key is only for a running server: give its address with --url")
