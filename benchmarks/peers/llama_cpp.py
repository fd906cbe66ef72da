"""llama.cpp, built from source for this machine. It is measured on GGUF files with its own programs."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.cells import Cell
from benchmarks.peers.pins import LLAMA_CPP_PYTHON
from benchmarks.peers.process import last_json, run, run_module

PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-server", "llama-quantize")
FORMATS = {8: "Q8_0", 4: "Q4_0"}
# Native code, no network library, and no programs that aren't needed.
ON = ("GGML_NATIVE", "LLAMA_BUILD_COMMON", "LLAMA_BUILD_TOOLS", "LLAMA_BUILD_SERVER")
OFF = (
    "BUILD_SHARED_LIBS",
    "GGML_CCACHE",
    "LLAMA_BUILD_APP",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_UI",
    "LLAMA_CURL",
    "LLAMA_OPENSSL",
    "LLAMA_USE_PREBUILT_UI",
)
# Without it, the build of some compilers for processors with AMX ends with an illegal instruction.
INCLUDED = Path(__file__).with_name("tile_config.h")
# The context of a sequence is a multiple of this.
CONTEXT_STEP = 256


@dataclass(frozen=True)
class LlamaCpp:
    """A build of llama.cpp in its own directory."""

    directory: Path

    @classmethod
    def install(cls, home: Path) -> LlamaCpp:
        """The build in `home`. Makes it if it isn't there, in about fifteen minutes on two cores."""
        built = cls(home / f"llama.cpp-{LLAMA_CPP_PYTHON}")
        if not all(built.program(name).exists() for name in PROGRAMS):
            _extract(_download(home / "downloads"), built.directory / "source")
            _build(built.directory / "source", built.directory / "build")
        return built

    def program(self, name: str) -> Path:
        """The path of a program."""
        return self.directory / "build" / "bin" / name

    def convert(self, checkpoint: Path, bits: int, out: Path, python: Path) -> Path:
        """The GGUF file of a checkpoint. Writes it if it isn't there; `python` must have the package gguf."""
        file = out / f"{FORMATS[bits].lower()}.gguf"
        if not file.exists():
            part = file.with_suffix(".part")
            run([self.program("llama-quantize"), _unquantized(checkpoint, out, python), part, FORMATS[bits]])
            part.rename(file)
        return file


@dataclass(frozen=True)
class LlamaCppModel:
    """A GGUF file that a build of llama.cpp runs. Each token reads a share of its weights."""

    build: LlamaCpp
    file: Path
    threads: int
    share_of_a_token: float
    name: str = "llama.cpp"

    def weight_bytes(self) -> int:
        """Bytes of weights that are read for each token at batch 1."""
        return int(self.file.stat().st_size * self.share_of_a_token)

    def measure(self, cell: Cell) -> float:
        """Tokens per second in a cell, measured in a separate process, which warms up by itself."""
        return self._prefill(cell) if cell.is_prefill else self._decode(cell)

    def _prefill(self, cell: Cell) -> float:
        options = ["-p", str(cell.prompt), "-n", "0", "-r", "1", "-o", "jsonl"]
        return prefill_rate(run([*self.command("llama-bench"), *options]))

    def _decode(self, cell: Cell) -> float:
        context = cell.batch * -(-(cell.prompt + cell.answer) // CONTEXT_STEP) * CONTEXT_STEP
        sizes = [
            "-c",
            str(context),
            "-npp",
            str(cell.prompt),
            "-ntg",
            str(cell.answer),
            "-npl",
            str(cell.batch),
        ]
        command = [*self.command("llama-batched-bench"), "-tb", str(self.threads)]
        return decode_rate(run([*command, *sizes, "--output-format", "jsonl"]))

    def command(self, program: str) -> list[str]:
        """The start of a command line: program, model and threads."""
        return [str(self.build.program(program)), "-m", str(self.file), "-t", str(self.threads)]


def prefill_rate(output: str) -> float:
    """Tokens of the prompt per second, from the output of llama-bench."""
    return float(last_json(output)["avg_ts"])


def decode_rate(output: str) -> float:
    """Generated tokens per second of the whole batch, from the output of llama-batched-bench."""
    return float(last_json(output)["speed_tg"])


def _download(directory: Path) -> Path:
    archive = directory / f"llama_cpp_python-{LLAMA_CPP_PYTHON}.tar.gz"
    if not archive.exists():
        source = ["--no-deps", "--no-binary", "llama-cpp-python", f"llama-cpp-python=={LLAMA_CPP_PYTHON}"]
        run([sys.executable, "-m", "pip", "download", "--dest", directory, *source])
    return archive


def _extract(archive: Path, source: Path) -> None:
    if not (source / "CMakeLists.txt").exists():
        with tarfile.open(archive) as files:
            prefix = f"{archive.name.removesuffix('.tar.gz')}/vendor/llama.cpp/"
            files.extractall(source, _below(files, prefix), filter="data")


def _below(files: tarfile.TarFile, prefix: str) -> Iterator[tarfile.TarInfo]:
    """The members below a directory of an archive, with paths relative to it."""
    for member in files:
        if member.name.startswith(prefix):
            yield member.replace(name=member.name.removeprefix(prefix), deep=False)


def _build(source: Path, build: Path) -> None:
    options = [f"-D{name}=ON" for name in ON] + [f"-D{name}=OFF" for name in OFF]
    options.append(f"-DCMAKE_CXX_FLAGS=-include {INCLUDED}")
    run(["cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *options])
    run(["cmake", "--build", build, "--parallel", str(os.cpu_count() or 1), "--target", *PROGRAMS])


def _unquantized(checkpoint: Path, out: Path, python: Path) -> Path:
    file = out / "bf16.gguf"
    if not file.exists():
        part = file.with_suffix(".part")
        run_module(python, "benchmarks.peers.gguf_file", checkpoint, part)
        part.rename(file)
    return file
