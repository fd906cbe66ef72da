"""Rounds of a comparison. In each round the sides take turns, and every side measures the cell once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.peers.cells import Cell
from benchmarks.peers.neighbours import Moment


class Machine(Protocol):
    """A machine whose memory bandwidth can be probed."""

    @property
    def threads(self) -> int: ...

    def bandwidth(self) -> float:
        """Probe the bandwidth of memory at this moment, in GB/s."""


class Side(Protocol):
    """An engine with a model."""

    @property
    def name(self) -> str: ...

    def measure(self, cell: Cell) -> float:
        """Tokens per second in a cell, measured in a separate process."""

    def weight_bytes(self) -> int:
        """Bytes of weights that are read for each token at batch 1."""


@dataclass(frozen=True)
class Sample:
    """Tokens per second of a side, GB/s of memory just before, and what share of the cores others used."""

    rate: float
    bandwidth: float
    others: float


@dataclass(frozen=True)
class Comparison:
    """The samples of one cell: for each side, one from each round. `ours` is the name of our side."""

    cell: Cell
    ours: str
    samples: dict[str, list[Sample]]


def compare(cell: Cell, sides: Sequence[Side], runs: int, machine: Machine) -> Comparison:
    """Measure a cell in `runs` rounds. The first of the sides must be ours."""
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for number in range(1, runs + 1):
        for side in sides:
            sample = measure(cell, side, machine)
            samples[side.name].append(sample)
            say(
                f"{cell.name}, round {number}: {side.name} {sample.rate:.1f} tokens/s, "
                f"memory {sample.bandwidth:.0f} GB/s, others {sample.others:.0%} of the cores"
            )
    return Comparison(cell, sides[0].name, samples)


def measure(cell: Cell, side: Side, machine: Machine) -> Sample:
    """Measure a cell once, and note the bandwidth of memory and what others used."""
    bandwidth, start = machine.bandwidth(), Moment.now()
    rate = side.measure(cell)
    return Sample(rate, bandwidth, start.others_until(Moment.now(), machine.threads))


def say(line: str) -> None:
    """Print a line about the progress on stderr."""
    print(line, file=sys.stderr, flush=True)
