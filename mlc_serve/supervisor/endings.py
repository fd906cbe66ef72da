"""What the end of a server's process means for its supervisor."""

from __future__ import annotations

import re
from enum import Enum

from mlc_serve.errors import EXIT_CHECKPOINT_ERROR, EXIT_CONFIG_ERROR, EXIT_PORT_IN_USE

_HOPELESS = frozenset({EXIT_CONFIG_ERROR, EXIT_CHECKPOINT_ERROR})

# What Uvicorn and asyncio print on Linux, macOS and Windows. A server of ours has a code for it.
_PORT_TAKEN = re.compile(r"address already in use|\[Errno (48|98|10048)\]|WinError 10048", re.IGNORECASE)


class Ending(Enum):
    """Why a server ended, as far as it decides what is done next."""

    PORT_TAKEN = "another process has the port: try the next one"
    HOPELESS = "it would end the same way again: don't restart"
    FAILURE = "restart"


def ending_of(exit_code: int | None, words: str, was_ready: bool) -> Ending:
    """What an exit code and the last words of a server say. `was_ready`: it has served before."""
    if exit_code == EXIT_PORT_IN_USE:
        return Ending.PORT_TAKEN
    if exit_code and exit_code > 0 and not was_ready and _PORT_TAKEN.search(words):
        return Ending.PORT_TAKEN
    return Ending.HOPELESS if exit_code in _HOPELESS else Ending.FAILURE
