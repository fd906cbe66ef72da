"""Sections of documents that scripts write. Each stands between two marks; people write what is around it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class MadeSection:
    """The section of `document` between the lines `start` and `end`. `content` returns its text."""

    document: Path
    start: str
    end: str
    content: Callable[[], str]

    def rendered(self, document: str) -> str:
        """The text of the document with a new section."""
        before, _, rest = document.partition(self.start)
        _, _, after = rest.partition(self.end)
        return f"{before}{self.start}\n\n{self.content()}\n{self.end}{after}"

    def update(self, write: bool) -> bool:
        """Whether the document is current; brings it up to date if it isn't and `write` is set."""
        present = self.document.read_text(encoding="utf-8")
        current = self.rendered(present)
        if write and current != present:
            self.document.write_text(current, encoding="utf-8")
        return current == present


def main(description: str | None, sections: Sequence[MadeSection]) -> int:
    """Write the sections, or check them with --check, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    current = [section.update(write=not check) for section in sections]
    return int(check and not all(current))


def table_row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
