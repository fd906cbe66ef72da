"""The runs of benchmarks whose figures are kept in benchmarks/results, as files of JSON.

A file is one run on one machine. Its `reports` are the lines of JSON that benchmarks print, so that a new run
can be kept as it was printed. benchmarks/results/README.md says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

RESULTS = Path(__file__).parent / "results"
MACHINES = "machines.json"
DATE = r"\d{4}-\d\d-\d\d"


class Machine(BaseModel):
    """A machine on which runs were measured. `cores` are those that the engines used."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str
    cpu: str
    cores: int = Field(gt=0)
    instruction_sets: list[str]
    notes: str


class Report(BaseModel):
    """A table of figures: what a benchmark prints, with whatever else its line of JSON holds."""

    model_config = ConfigDict(extra="allow", strict=True)

    title: str
    rows: list[dict[str, str | int | float]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_that_rows_have_the_same_columns(self) -> Report:
        if any(list(row) != list(self.rows[0]) for row in self.rows):
            raise ValueError(f"the rows of {self.title!r} differ in their columns")
        return self


class Run(BaseModel):
    """What one command measured on one machine.

    `machine` is a name in machines.json, and `date` is a day or the first and the last day. A run without a
    `command` was measured with something that isn't in the repository; `conditions` then say how.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    machine: str
    date: str = Field(pattern=f"^{DATE}( to {DATE})?$")
    command: str = ""
    conditions: str = ""
    versions: dict[str, str] = {}
    reports: list[Report] = Field(min_length=1)


def read_machines(directory: Path = RESULTS) -> Mapping[str, Machine]:
    """The machines by name, in the order of the documents. Raises ValueError for a malformed file."""
    return TypeAdapter(dict[str, Machine]).validate_json((directory / MACHINES).read_bytes())


def read_runs(directory: Path = RESULTS) -> Mapping[str, Run]:
    """All runs by the names of their files, without the ending.

    Raises ValueError for a malformed file, and for one whose name doesn't begin with that of its machine.
    """
    machines = read_machines(directory)
    files = sorted(path for path in directory.glob("*.json") if path.name != MACHINES)
    return {path.stem: _read_run(path, machines) for path in files}


def _read_run(path: Path, machines: Mapping[str, Machine]) -> Run:
    try:
        run = Run.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if run.machine not in machines or not path.name.startswith(f"{run.machine}-"):
        raise ValueError(f"{path.name}: a run is named MACHINE-WHAT.json, after a machine of {MACHINES}")
    return run
