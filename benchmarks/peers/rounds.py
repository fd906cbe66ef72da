"""Rounds of a comparison: in each, every side measures the cell once, alone on the machine, in turn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.peers.cells import Cell
from benchmarks.peers.neighbours import Moment


class Machine(Protocol):
    """What tells its memory bandwidth."""

    @property
    def threads(self) -> int: ...

    def bandwidth(self) -> float:
        """GB/s at this moment."""


class Side(Protocol):
    """An engine with a model."""

    @property
    def name(self) -> str: ...

    def measure(self, cell: Cell) -> float:
        """Tokens a second of a cell, in a process of its own."""

    def weight_bytes(self) -> int:
        """What a token at batch 1 reads."""


@dataclass(frozen=True)
class Sample:
    """Tokens a second that a side reached, GB/s of memory just before, and the others' share of the cores."""

    rate: float
    bandwidth: float
    others: float


@dataclass(frozen=True)
class Comparison:
    """The samples of one cell, for each side one of each round. `ours` is the name of our side."""

    cell: Cell
    ours: str
    samples: dict[str, list[Sample]]


def compare(cell: Cell, sides: Sequence[Side], runs: int, machine: Machine) -> Comparison:
    """Measure a cell in so many rounds. The first of the sides is ours."""
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
    """One measurement and its circumstances."""
    bandwidth, start = machine.bandwidth(), Moment.now()
    rate = side.measure(cell)
    return Sample(rate, bandwidth, start.others_until(Moment.now(), machine.threads))


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)
