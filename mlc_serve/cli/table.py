"""Formats tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Format a table. Columns are as wide as their widest cell; those in `right` are right-aligned."""
    lines = [names, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join(_line(line, names, widths, right) for line in lines)


def _line(cells: Sequence[str], names: Sequence[str], widths: Sequence[int], right: Sequence[str]) -> str:
    placed = (
        cell.rjust(width) if name in right else cell.ljust(width)
        for cell, name, width in zip(cells, names, widths, strict=True)
    )
    return "  ".join(placed).rstrip()
