"""A first start that is ended while it compiles or converts leaves neither processes nor files behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlc_serve.errors import EXIT_INTERRUPTED, EXIT_TERMINATED
from mlc_serve.host.unfinished import remove_abandoned
from mlc_serve.loading.artifacts import HOME_VARIABLE, artifacts
from tests.checkpoints import Shape, write_checkpoint

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are found by what Linux tells of them"
)

ROOT = Path(__file__).parent.parent.parent
# A model of this shape compiles in half the time of the default one.
SMALL = Shape(hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=24, vocab_size=300)
PATIENCE = 120
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
# A tool that begins a file, starts a process, reports that it runs, and then waits without end.
TOOL = """#!/bin/sh
for word; do
    case "$word" in --output=*) TMPDIR=$(dirname "${{word#*=}}") ;; esac
done
echo half > "${{TMPDIR}}/half"
sleep 600 &
echo running > {fifo}
wait
"""
# mlc_serve's command line, with such a tool in place of the compiler.
WITH_COMPILER = """
import sys
from mlc_serve.cli import main

sys.executable = sys.argv[1]
sys.exit(main(sys.argv[2:]))
"""
# mlc_serve's command line, with a conversion that does the same.
WITH_CONVERSION = """
import sys, threading
from mlc_serve.cli import main
from mlc_serve.loading import weights

def convert(sources, specs, groups, directory, progress, others):
    (directory / "half").write_text("half")
    with open(sys.argv[1], "w") as fifo:
        fifo.write("running\\n")
    threading.Event().wait()

weights.convert = convert
sys.exit(main(sys.argv[2:]))
"""


class Start:
    """A first start of a small model, which has its cache, working and temporary directories to itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fifo = folder / "fifo"
        os.mkfifo(self._fifo)
        self._cache, self._temporary, self._work = folder / "cache", folder / "tmp", folder / "work"
        for directory in (self._cache, self._temporary, self._work):
            directory.mkdir()
        self._model = write_checkpoint(folder / "model")
        self.process: subprocess.Popen[bytes]

    def compiling(self) -> int:
        """Start, wait until the compiler runs, and return the server's process id."""
        return self._run([sys.executable, "-c", WITH_COMPILER, self._tool(), *self._serve()])

    def linking(self, *prefix: str) -> int:
        """Start with a prefix, and wait until the linker runs, which the compiler calls at its end."""
        write_checkpoint(self._model, SMALL)
        command = [*prefix, sys.executable, "-m", "mlc_serve", *self._serve()]
        return self._run(command, CXX=self._tool())

    def converting(self) -> int:
        """Start with a library from the cache, and wait until the weights are being converted."""
        program = [sys.executable, "-c", WITH_CONVERSION, str(self._fifo), *self._serve()]
        return self._run([*program, f"--model-lib={self._library()}"])

    def _library(self) -> Path:
        """A library that another test has compiled for a model of this shape."""
        made_for = {"config": json.loads((self._model / "config.json").read_text()), "quantization": "q0f32"}
        found = (
            one for one in artifacts() if one.kind == "libraries" and made_for.items() <= one.key.items()
        )
        return next(found).directory / "model.so"

    def _tool(self) -> str:
        tool = self._folder / "tool"
        tool.write_text(TOOL.format(fifo=self._fifo))
        tool.chmod(0o755)
        return str(tool)

    def _serve(self) -> list[str]:
        return ["serve", str(self._model), "--device=cpu", "--quantization=q0f32", "--port=0"]

    def _run(self, command: list[str], **env: str) -> int:
        own = {"PYTHONPATH": str(ROOT), HOME_VARIABLE: str(self._cache), "TMPDIR": str(self._temporary)}
        self.process = subprocess.Popen(
            command,
            cwd=self._work,
            env={**os.environ, **own, **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with (
            os.fdopen(os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)) as running,
            os.fdopen(os.pidfd_open(self.process.pid), "rb") as ended,
        ):
            ready, _, _ = select.select([running, ended], [], [], PATIENCE)
            assert running in ready, self.process.communicate()[1] if ended in ready else "it takes too long"
        (server,) = [one for one in self.processes() if is_server(one.cmdline())]
        return int(server.pid)

    def processes(self) -> list[psutil.Process]:
        """All processes that were started and still run; they are known by their working directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self._work) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def files(self) -> list[Path]:
        """Unfinished entries of the cache, and all temporary files."""
        return [*self._cache.glob("*/.*"), *self._temporary.iterdir()]

    def end(self) -> str:
        """Wait for the end of all processes, and return what the server wrote to stderr."""
        running = [process for process in self.processes() if process.pid != self.process.pid]
        _, said = self.process.communicate(timeout=PATIENCE)
        _, alive = psutil.wait_procs(running, PATIENCE)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        return said.decode()

    def close(self) -> None:
        """Kill the processes that a failed test has left."""
        for process in self.processes():
            process.kill()
        self.process.communicate()


def is_server(command: list[str]) -> bool:
    """Whether a command line is that of the server itself."""
    return "serve" in command and "unshare" not in command


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A start that has not begun yet."""
    one = Start(tmp_path)
    yield one
    one.close()


def test_a_signal_while_the_compiler_runs(start: Start) -> None:
    """The compiler and its child end, their files are removed, and nothing is printed."""
    os.kill(start.compiling(), signal.SIGTERM)
    assert (start.end(), start.process.returncode) == ("", EXIT_TERMINATED)
    assert start.files() == []


@pytest.mark.usefixtures("tiny_model")
def test_a_signal_while_weights_are_converted(start: Start) -> None:
    """Weights that were half written are removed, and nothing is printed."""
    os.kill(start.converting(), signal.SIGINT)
    assert (start.end(), start.process.returncode) == ("", EXIT_INTERRUPTED)
    assert start.files() == []


def test_sigkill_ends_the_compiler_too(start: Start) -> None:
    """The compiler ends too, and the next start removes at once what it had written."""
    os.kill(start.compiling(), signal.SIGKILL)
    start.end()
    (left,) = start.files()
    remove_abandoned(left.parent)
    assert start.files() == []


@pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="this user may not make a process namespace",
)
def test_sigterm_ends_process_1_of_a_container(start: Start) -> None:
    """SIGTERM ends the server, here during linking, though process 1 has no default action for it."""
    os.kill(start.linking(*NAMESPACE), signal.SIGTERM)
    assert (start.end(), start.process.returncode) == ("", EXIT_TERMINATED)
    assert start.files() == []
