"""What the end of a server's process means for its supervisor."""

from __future__ import annotations

import re
from enum import Enum

from mlc_serve.errors import EXIT_CHECKPOINT_ERROR, EXIT_CONFIG_ERROR, EXIT_PORT_IN_USE

_HOPELESS = frozenset({EXIT_CONFIG_ERROR, EXIT_CHECKPOINT_ERROR})

# What Uvicorn and asyncio print on Linux, macOS and Windows. Our own server has an exit code for this case.
_PORT_TAKEN = re.compile(r"address already in use|\[Errno (48|98|10048)\]|WinError 10048", re.IGNORECASE)


class Ending(Enum):
    """Why a server ended, as far as the supervisor's next step depends on it."""

    PORT_TAKEN = "another process has the port: try the next one"
    HOPELESS = "it would end the same way again: don't restart"
    FAILURE = "restart"


def ending_of(exit_code: int | None, words: str, was_ready: bool) -> Ending:
    """Return why a server ended, by its exit code, its last lines (`words`), and whether it ever served."""
    if exit_code == EXIT_PORT_IN_USE:
        return Ending.PORT_TAKEN
    if exit_code and exit_code > 0 and not was_ready and _PORT_TAKEN.search(words):
        return Ending.PORT_TAKEN
    return Ending.HOPELESS if exit_code in _HOPELESS else Ending.FAILURE
