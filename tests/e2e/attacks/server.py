"""A real server that is attacked: a process with the real engine and a tiny model with scripted replies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[3]
START_SECONDS = 240
# The flags that such a server needs besides its checkpoint.
SETTINGS = [
    "--device",
    "cpu",
    "--quantization",
    "q0f32",
    "--port",
    "0",
    "--mode",
    "local",
    "--served-model-name",
    "attacked",
    "--loop-warning",
    "0.2",
]


class AttackedServer:
    """A running server: its address, its memory, its log, and in `headers` the key that it requires."""

    def __init__(self, process: subprocess.Popen[str], key: str | None) -> None:
        self._process = process
        self.headers = {b"Authorization": f"Bearer {key}".encode()} if key else {}
        self._client = httpx.Client(headers=self.headers, timeout=60, verify=False)
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self.wait_for(r"Serving .* on (http://\S+)")

    @property
    def address(self) -> tuple[str, int]:
        """The server's host and port."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that the server has printed so far."""
        return "".join(self._lines)

    def wait_for(self, pattern: str) -> str:
        """Wait until the server prints a line that matches the pattern, and return its first group."""
        with self._said:
            found = self._said.wait_for(lambda: self._search(pattern), timeout=START_SECONDS)
        assert found, f"no {pattern!r} in what the server said:\n{self.log}"
        return found[found.lastindex or 0]

    def _search(self, pattern: str) -> re.Match[str] | None:
        found = (re.search(pattern, line) for line in self._lines)
        return next(filter(None, found), None)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._said:
                    self._lines.append(line)
                    self._said.notify_all()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = self._client.get(f"{self.url}/metrics").text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in samples if all(label in line for label in wanted)
        )

    def long_holds(self) -> float:
        """How often the event loop's thread has computed for more than 100 ms at a stretch.

        The aim is 50 ms, and on an otherwise idle machine no attack was seen to reach more than 18. Beside
        other tests the same work takes longer, because time that a virtual processor loses and that the
        kernel spends on finding memory is counted too. An attack that works holds the loop for seconds.
        """
        holds = "mlc_serve_event_loop_hold_seconds"
        short = self.metric(f"{holds}_bucket", clock="cpu", le="0.1")
        return self.metric(f"{holds}_count", clock="cpu") - short

    def memory(self) -> int:
        """How many bytes the server has in memory now."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """The most bytes that the server has had in memory since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Let `peak_memory` start again from now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def _status(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.M)
        assert found
        return int(found[1]) * 1024

    def is_running(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the server."""
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._reader.join()


@contextmanager
def attacked_server(
    checkpoint: Path,
    *settings: str,
    directory: Path = ROOT,
    max_files: int | None = None,
    key: str | None = None,
    **environment: str,
) -> Iterator[AttackedServer]:
    """A server of a checkpoint, with flags of `mlc_serve serve` and environment variables.

    It runs in `directory` and may open `max_files` files; its requests are sent with `key`.
    """
    limit = [] if max_files is None else ["prlimit", f"--nofile={max_files}"]
    process = subprocess.Popen(
        [*limit, sys.executable, "-m", "mlc_serve", "serve", str(checkpoint), *SETTINGS, *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
    )
    try:
        server = AttackedServer(process, key)
    except BaseException:
        process.kill()
        process.wait()
        raise
    try:
        yield server
    finally:
        server.close()
