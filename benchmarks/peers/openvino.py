"""OpenVINO GenAI: its own virtual environment, exported models, and a program that measures it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.cells import Cell
from benchmarks.peers.pins import OPENVINO_GENAI, PACKAGES, UNWANTED_PACKAGE
from benchmarks.peers.process import last_json, run, run_module

# The format's name and options. Groups of 64 divide the rows of every shape; ratio 1 means every layer.
FORMATS: Mapping[int, tuple[str, Sequence[str]]] = {
    8: ("int8", ()),
    4: ("int4", ("--group-size", "64", "--ratio", "1.0", "--sym")),
}


@dataclass(frozen=True)
class OpenVino:
    """A virtual environment with OpenVINO GenAI and with programs that convert models, also for llama.cpp."""

    directory: Path

    @classmethod
    def install(cls, home: Path) -> OpenVino:
        """The environment in `home`. Makes it if it isn't there."""
        made = cls(home / f"openvino-{OPENVINO_GENAI}")
        marker = made.directory / "complete"
        if not marker.exists():
            run([sys.executable, "-m", "venv", made.directory])
            run([made.python, "-m", "pip", "install", *PACKAGES])
            run([made.python, "-m", "pip", "uninstall", "--yes", UNWANTED_PACKAGE])
            marker.touch()
        return made

    @property
    def python(self) -> Path:
        """The Python interpreter of the environment."""
        return self.directory / "bin" / "python"

    def convert(self, checkpoint: Path, bits: int, out: Path) -> Path:
        """The directory of an exported model. Exports it if it isn't there."""
        kind, options = FORMATS[bits]
        directory = out / f"openvino-{kind}"
        if not directory.exists():
            part = directory.with_suffix(".part")
            task: list[str | Path] = [
                "--task",
                "text-generation-with-past",
                "--weight-format",
                kind,
                *options,
            ]
            export: list[str | Path] = [
                self.directory / "bin" / "optimum-cli",
                "export",
                "openvino",
                "--model",
                checkpoint,
            ]
            run([*export, *task, part])
            part.rename(directory)
        return directory


@dataclass(frozen=True)
class OpenVinoModel:
    """An exported model that the environment runs. Each token reads a share of its weights."""

    install: OpenVino
    directory: Path
    threads: int
    share_of_a_token: float
    name: str = "OpenVINO GenAI"

    def weight_bytes(self) -> int:
        """Bytes of weights that are read for each token at batch 1."""
        return int((self.directory / "openvino_model.bin").stat().st_size * self.share_of_a_token)

    def measure(self, cell: Cell) -> float:
        """Tokens per second in a cell, measured in a separate process."""
        return self._run("cell", cell.name)

    def measure_load(self, concurrency: int) -> float:
        """Tokens per second of the library under the load of a server, prefill included."""
        return self._run("load", str(concurrency))

    def _run(self, kind: str, what: str) -> float:
        options = ["--model", str(self.directory), "--threads", str(self.threads), f"--{kind}", what]
        output = run_module(self.install.python, "benchmarks.peers.openvino_run", *options)
        return float(last_json(output)["tokens_per_s"])
