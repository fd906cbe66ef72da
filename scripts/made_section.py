"""A section of a document that a script makes: between two marks, the rest is written by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class MadeSection:
    """The section of `document` that stands between the lines `start` and `end`, as `content` makes it."""

    document: Path
    start: str
    end: str
    content: Callable[[], str]

    def rendered(self, document: str) -> str:
        """The document's text with the section made anew."""
        before, _, rest = document.partition(self.start)
        _, _, after = rest.partition(self.end)
        return f"{before}{self.start}\n\n{self.content()}\n{self.end}{after}"

    def main(self, description: str | None) -> int:
        """Write the document, or check it with --check, and return the exit code."""
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--check", action="store_true", help="write nothing")
        check = parser.parse_args().check
        present = self.document.read_text(encoding="utf-8")
        current = self.rendered(present)
        if check:
            return int(present != current)
        self.document.write_text(current, encoding="utf-8")
        return 0


def table_row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
