"""The limits of this machine, which C programs measure: reading memory, and computing in registers."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.process import last_json, run

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-fopenmp")
# Narrower types first: a quantized model is computed with the narrowest type that the machine supports.
TYPES = ("int8", "bf16", "f32")


@dataclass(frozen=True)
class Machine:
    """The directory of the compiled programs, and the number of threads that they use."""

    programs: Path
    threads: int

    @classmethod
    def install(cls, home: Path, threads: int) -> Machine:
        """Compile the programs into `home`, which takes a second."""
        programs = home / "probes"
        programs.mkdir(parents=True, exist_ok=True)
        for name in ("bandwidth", "peaks"):
            run(["gcc", *FLAGS, SOURCES / f"{name}.c", "-o", programs / name])
        return cls(programs, threads)

    def bandwidth(self) -> float:
        """GB/s that all cores together read from memory at this moment. Measuring takes a second."""
        return float(self._run("bandwidth")["gb_s"])

    def peaks(self) -> Mapping[str, float]:
        """Gop/s of all cores together, for each type that the machine has instructions for."""
        return self._run("peaks")

    def _run(self, name: str) -> Mapping[str, float]:
        found: Mapping[str, float] = last_json(
            run([self.programs / name], {"OMP_NUM_THREADS": str(self.threads), "OMP_PROC_BIND": "true"})
        )
        return found


def best_peak(peaks: Mapping[str, float]) -> float | None:
    """The peak of the narrowest type that was measured; None if none was."""
    return next((peaks[name] for name in TYPES if name in peaks), None)


def cpu_name() -> str:
    """The name of the processor, as it reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
