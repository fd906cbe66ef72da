"""A running `mlc_serve` command; what it prints is collected."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent


class RunningCommand:
    """The process of a command with these words, on a terminal or not."""

    def __init__(self, *words: str, terminal: bool = False) -> None:
        self._text = ""
        self._news = threading.Condition()
        ours, theirs = pty.openpty() if terminal else (None, subprocess.PIPE)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlc_serve", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs if terminal else subprocess.STDOUT,
        )
        if ours is not None:
            os.close(theirs)
        source = self.process.stdout if ours is None else os.fdopen(ours, "rb", buffering=0)
        assert source is not None
        self._reader = threading.Thread(target=self._read, args=(source,))
        self._reader.start()

    def _read(self, source: IO[bytes]) -> None:
        with source:
            try:
                while part := os.read(source.fileno(), 65536):
                    with self._news:
                        self._text += part.decode()
                        self._news.notify_all()
            except OSError:  # how a terminal ends
                return

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something was printed."""
        with self._news:
            assert self._news.wait_for(lambda: re.search(pattern, self._text), PATIENCE), self._text
            found = re.search(pattern, self._text)
        assert found
        return found

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit code and all that was printed."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code, self._text
