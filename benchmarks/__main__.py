"""The three main benchmarks, one after the other: the engine, the server, and what HTTP costs.

python -m benchmarks [options that all three have]
"""

from __future__ import annotations

from benchmarks import http_overhead, offline, online


def main() -> None:
    """Run each benchmark with this program's command line."""
    offline.main()
    online.main()
    http_overhead.main()


if __name__ == "__main__":
    main()
