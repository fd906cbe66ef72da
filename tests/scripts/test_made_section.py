"""Scripts write sections of documents between two marks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from made_section import MadeSection, main


def test_check_reports_a_stale_section_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --check both sections of the document are written, and what people wrote around them stays."""
    document = tmp_path / "page.md"
    document.write_text("Before.\n<a>\n<b>\nBetween.\n<c>\nold\n<d>\nAfter.\n", encoding="utf-8")
    sections = [
        MadeSection(document, "<a>", "<b>", lambda: "first\n"),
        MadeSection(document, "<c>", "<d>", lambda: "second\n"),
    ]
    stale = document.read_text(encoding="utf-8")

    monkeypatch.setattr(sys, "argv", ["script", "--check"])
    assert main(None, sections) == 1
    assert document.read_text(encoding="utf-8") == stale

    monkeypatch.setattr(sys, "argv", ["script"])
    assert main(None, sections) == 0
    assert document.read_text(encoding="utf-8") == (
        "Before.\n<a>\n\nfirst\n\n<b>\nBetween.\n<c>\n\nsecond\n\n<d>\nAfter.\n"
    )
    monkeypatch.setattr(sys, "argv", ["script", "--check"])
    assert main(None, sections) == 0
