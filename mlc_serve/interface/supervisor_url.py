"""The address of the supervisor that started this process, read from an environment variable."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlc_serve.errors import ConfigError

VARIABLE = "MLC_SERVE_SUPERVISOR"
# A scheme, a host name or address, and a port: this may be part of a Content-Security-Policy.
_ORIGIN = re.compile(r"(https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5})/?")


def supervisor_url(environ: Mapping[str, str]) -> str | None:
    """The supervisor's address, such as http://127.0.0.1:9000; None if no supervisor started this process.

    Raises ConfigError for anything but an address, because the page at `/` lets browsers call it.
    """
    text = environ.get(VARIABLE)
    if not text:
        return None
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise ConfigError(f"{VARIABLE} is {text!r}: expected an address such as http://127.0.0.1:9000")
    return found[1]
