"""Write the tables of benchmarks in README.md, docs/performance.md and benchmarks/results/README.md.

PYTHONPATH=. python scripts/render_benchmarks.py            writes the files
PYTHONPATH=. python scripts/render_benchmarks.py --check    exits with 1 if a file is not current

The figures come from the runs in benchmarks/results, whose README.md lists all of them. Those in files named
MACHINE-peers-SHAPE.json are also in the table of their machine in docs/performance.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from made_section import DOCS, MadeSection, main, table_row

from benchmarks.kept_runs import RESULTS, Machine, Report, Run, read_machines, read_runs
from benchmarks.report import Row, table
from benchmarks.shapes import SHAPES

ENGINES = ("mlc_serve", "llama.cpp", "OpenVINO GenAI")
BATCHES = ("decode, batch 1", "decode, batch 8", "decode, batch 32")
PREFILL = "prefill of 512"
README_SHAPE = "smollm2-135m"
MADE = "made by scripts/render_benchmarks.py"


@dataclass(frozen=True)
class Line:
    """Cells of a table: medians of each engine, ratios, and the shares of limits where there are any."""

    title: str
    rates: Sequence[str]
    ratios: str
    share: str


@dataclass(frozen=True)
class Comparison:
    """The three engines side by side on one shape, in `bits` bits. `rows` are by what was measured."""

    shape: str
    bits: str
    rows: Mapping[str, Row]

    @classmethod
    def of(cls, report: Report) -> Comparison:
        """The comparison that benchmarks.peers printed. Raises ValueError for a title of something else."""
        found = re.match(r"(\S+): mlc_serve q(\d+)", report.title)
        if found is None or found[1] not in SHAPES:
            raise ValueError(f"{report.title!r} names no shape and no quantization of mlc_serve")
        return cls(found[1], found[2], {str(row["tokens/s"]): row for row in report.rows})

    def lines(self) -> Sequence[Line]:
        """The lines of a short table: one for decoding, and one for prefill."""
        return [self._line("batch 1 / 8 / 32", BATCHES), self._line(PREFILL, (PREFILL,))]

    def line(self) -> Line:
        """The line of a whole table, with decoding and prefill."""
        return self._line(f"{self.shape}, {self.bits} bits", (*BATCHES, PREFILL))

    def _line(self, title: str, measured: Sequence[str]) -> Line:
        rows = [self.rows[name] for name in measured]
        rates = [" / ".join(_median(row.get(engine, "-")) for row in rows) for engine in ENGINES]
        ratios = " / ".join(str(row["ratio"]) for row in rows)
        return Line(title, rates, ratios, " / ".join(filter(None, map(_our_share, rows))))


@dataclass(frozen=True)
class Results:
    """All machines and runs, by name."""

    machines: Mapping[str, Machine]
    runs: Mapping[str, Run]

    def runs_of(self, machine: str) -> Mapping[str, Run]:
        """The runs of a machine, by what they measured."""
        return {
            name.removeprefix(f"{machine}-"): run for name, run in self.runs.items() if run.machine == machine
        }

    def comparisons(self, machine: str) -> Sequence[Comparison]:
        """What a machine's tables show, small shapes first."""
        runs = [run for what, run in self.runs_of(machine).items() if what.startswith("peers-")]
        reports = [report for run in runs for report in run.reports if "ratio" in report.rows[0]]
        shapes = list(SHAPES)
        return sorted(map(Comparison.of, reports), key=lambda found: shapes.index(found.shape))

    def sections(self) -> Sequence[MadeSection]:
        """Every section that is made from the results."""
        compared = [machine for machine in self.machines if self.comparisons(machine)]
        short = [table for table in map(self.short_table, compared) if table]
        return [
            _section("README.md", "figures", "\n".join(short)),
            *(_section("docs/performance.md", machine, self.table(machine)) for machine in compared),
            _section("benchmarks/results/README.md", "runs", "\n".join(self.listing())),
        ]

    def short_table(self, machine: str) -> str:
        """A machine's table for README.md, which has one shape; "" if that was not measured there."""
        rows = [
            table_row(f"{found.bits} bits: {line.title}", *line.rates)
            for found in self.comparisons(machine)
            if found.shape == README_SHAPE
            for line in found.lines()
        ]
        if not rows:
            return ""
        title = self.machines[machine].title
        return "\n".join([f"{title}:", "", table_row("", *ENGINES), "|---|---|---|---|", *rows, ""])

    def table(self, machine: str) -> str:
        """A machine's table for docs/performance.md."""
        lines = [found.line() for found in self.comparisons(machine)]
        head = table_row("tokens/s", *ENGINES, "ratio", "of the limits")
        rows = [table_row(line.title, *line.rates, line.ratios, line.share) for line in lines]
        return "\n".join([head, "|---" * 6 + "|", *rows, ""])

    def listing(self) -> Iterator[str]:
        """All runs with all of their tables."""
        for name, machine in self.machines.items():
            sets = ", ".join(machine.instruction_sets)
            yield f"## {machine.title}\n\n{machine.cpu}, {machine.cores} cores ({sets}). {machine.notes}\n"
            for what, run in self.runs_of(name).items():
                yield f"### {what}\n\n{_circumstances(run)}\n"
                yield from (f"{report.title}:\n\n{table(report.rows)}\n" for report in run.reports)


def _median(rate: object) -> str:
    """The median of a rate, which may be followed by the range in brackets."""
    return str(rate).partition(" (")[0]


def _our_share(row: Row) -> str:
    """Our share of the limit, which comes first in the list of all engines' shares."""
    share = str(row["share of the limit"]).partition(",")[0]
    return "" if share == "-" else share.replace("%", " %")


def _circumstances(run: Run) -> str:
    command = f", `{run.command}`" if run.command else ""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    sentences = [f"{run.date}{command}.", run.conditions, f"Compared with {versions}." if versions else ""]
    return " ".join(filter(None, sentences))


def _section(document: str, name: str, content: str) -> MadeSection:
    return MadeSection(
        DOCS.parent / document, f"<!-- {name}: {MADE} -->", f"<!-- end of {name} -->", lambda: content
    )


def sections() -> Sequence[MadeSection]:
    """Every section that is made from the runs in benchmarks/results."""
    return Results(read_machines(), read_runs(RESULTS)).sections()


if __name__ == "__main__":
    sys.exit(main(__doc__, sections()))
