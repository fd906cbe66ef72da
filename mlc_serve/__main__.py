"""`python -m mlc_serve`."""

from __future__ import annotations

import sys

from mlc_serve.cli import main

if __name__ == "__main__":
    sys.exit(main())
