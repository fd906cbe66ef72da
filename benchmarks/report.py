"""Reports: figures as a table for people, and as a line of JSON for programs and for benchmarks/results."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence

Row = Mapping[str, object]


def print_report(title: str, settings: Mapping[str, object], rows: Sequence[Row]) -> None:
    """Print a Markdown table, and on the last line everything as JSON."""
    print(f"\n{title}: {', '.join(f'{name} {value}' for name, value in settings.items())}\n")
    print(table(rows))
    print(
        json.dumps({"title": title, "machine": platform.processor(), **settings, "rows": list(rows)}),
        flush=True,
    )


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of rows that all have the same keys."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
