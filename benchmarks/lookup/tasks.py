"""The tasks: what a user asks for, as text files. A file's name begins with the kind of its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).parent / "texts"
# Answers to the first three repeat much of what was asked.
KINDS = ("summarize", "edit", "repeat", "chat")


@dataclass(frozen=True)
class Task:
    """One message of a user."""

    name: str
    text: str

    @property
    def kind(self) -> str:
        """What is asked for: one of KINDS."""
        return self.name.partition("-")[0]


def read_tasks(kinds: Sequence[str] = KINDS) -> list[Task]:
    """The tasks of these kinds, kind by kind."""
    files = [path for kind in kinds for path in sorted(TEXTS.glob(f"{kind}-*.txt"))]
    return [Task(path.stem, path.read_text(encoding="utf-8").strip()) for path in files]
