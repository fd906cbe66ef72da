"""Start and end the servers that are compared. This module knows nothing about the load on them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.peers.cells import LOAD, Cell
from benchmarks.peers.llama_cpp import LlamaCppModel
from benchmarks.peers.ours import OurModel, settings_for
from mlc_serve.config.option import command_line

# Starts a server, yields its address, and ends it.
Start = Callable[[], AbstractContextManager[str]]

# Tokens for each slot of llama-server: enough for the longest prompt of a probe and its answer.
SLOT_TOKENS = 1024
# Sequences that our server runs at once. Unlike slots, unused ones cost nothing, because memory is paged.
SEQUENCES = 64
START_SECONDS = 600
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Program:
    """A server's command line without its address, and the path that answers 200 when it is ready."""

    command: Sequence[str]
    ready: str


def our_server(model: OurModel, log: Path) -> Start:
    """How to start our server."""
    served = Cell("served", SEQUENCES, LOAD.prompt, LOAD.answer)
    settings = settings_for(str(model.checkpoint), model.quantization, served)
    command = [sys.executable, "-m", "mlc_serve", "serve", str(model.checkpoint), "--device", "cpu"]
    flags = command_line(settings.engine_config())
    return lambda: running(Program([*command, *flags], "/ready"), log)


def llama_server(
    model: LlamaCppModel, slots: int, log: Path, slot_tokens: int = SLOT_TOKENS, more: Sequence[str] = ()
) -> Start:
    """How to start llama-server with `slots` slots of `slot_tokens` tokens, and with `more` options."""
    sizes = ["--parallel", str(slots), "--ctx-size", str(slots * slot_tokens)]
    options = ["--threads-batch", str(model.threads), "--cache-ram", "0", *more]
    return lambda: running(Program([*model.command("llama-server"), *sizes, *options], "/health"), log)


@contextmanager
def running(program: Program, log: Path) -> Iterator[str]:
    """Start a server whose output goes to `log`, yield its address, and end it afterwards."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        command = [*program.command, "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(url + program.ready, server, log)
            yield url
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the model is loaded. Raises RuntimeError if the server ends, or takes too long."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"the server was not ready (exit code {server.poll()}); {log} says why")
