"""The flags for using a running server: `--url`, the address of its API, `--api-key` and `--ca-file`."""

from __future__ import annotations

import argparse
import os
import ssl
from urllib.parse import urlsplit

from mlc_serve.errors import ConfigError

KEY_VARIABLE = "OPENAI_API_KEY"


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Add --url, --api-key and --ca-file."""
    group = parser.add_argument_group("a running server")
    group.add_argument(
        "--url",
        metavar="URL",
        type=server_url,
        help="use an OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead of loading a model",
    )
    group.add_argument("--api-key", metavar="KEY", help=f"the server's key (default: ${KEY_VARIABLE})")
    group.add_argument(
        "--ca-file",
        metavar="FILE",
        help="PEM file with the authorities that may sign the certificate of an https:// server "
        "(default: the system's)",
    )


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


def server_trust(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """The authorities of --ca-file; None stands for the system's. Raises ConfigError."""
    path: str | None = arguments.ca_file
    if path is None:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"--ca-file: {path} contains no certificate in PEM format") from error
    except OSError as error:
        raise ConfigError(f"--ca-file: can't read {path}: {error.strerror}") from error


def refuse_server_flags_without_url(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for a key or authorities without a server that they are for."""
    for name, flag in (("api_key", "--api-key"), ("ca_file", "--ca-file")):
        if getattr(arguments, name) and not arguments.url:
            raise ConfigError(f"{flag} is only for a running server: give its address with --url")
