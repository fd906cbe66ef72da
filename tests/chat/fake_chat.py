"""A chat on a fake model at the terminal that is this process's stdin, for tests that press keys.

The model answers `Good day`. The device stops after three letters of the first reply until SIGUSR1 comes.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios

from mlc_serve.api.sync_engine import MLCEngine
from mlc_serve.chat.local_source import LocalSource
from mlc_serve.config import ChatConfig
from mlc_serve.interface.chat import run_chat
from mlc_serve.testing import FakeBackend, fake_model, replay


def main() -> int:
    """Chat over stdin and stdout, and return the exit code."""
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal
    backend = FakeBackend(choose=replay(b"Good day"))
    if "held" in sys.argv:
        backend.hold_after(3)
    signal.signal(signal.SIGUSR1, lambda *_: backend.gate.set())
    return run_chat(LocalSource(MLCEngine.from_loaded(fake_model(backend=backend))), ChatConfig())


if __name__ == "__main__":
    sys.exit(main())
