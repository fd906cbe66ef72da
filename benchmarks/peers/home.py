"""Where builds and models of the peers are kept."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HOME_VARIABLE = "MLC_SERVE_PEERS"
DEFAULT_HOME = Path("~/.cache/mlc_serve/peers")


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add the option that sets the directory."""
    home = Path(os.environ.get(HOME_VARIABLE, DEFAULT_HOME))
    parser.add_argument(
        "--home", type=Path, default=home, help=f"for builds and models (also {HOME_VARIABLE}): {home}"
    )
