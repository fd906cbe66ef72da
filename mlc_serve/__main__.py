"""`python -m mlc_serve`, and the program `mlc_serve`."""

from __future__ import annotations

import sys

from mlc_serve.cli import main
from mlc_serve.host.interruption import end_within

# How long threads may go on after their command has ended. An interrupted download may wait for the network.
LINGER_SECONDS = 2.0


def run() -> int:
    """Run the command that this process was started with, and return the exit code."""
    code = main()
    end_within(LINGER_SECONDS, code)
    return code


if __name__ == "__main__":
    sys.exit(run())
