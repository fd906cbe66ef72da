"""The docs say what the code does, as far as a program can check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import pytest
import render_benchmarks
import render_clients
import render_fields
import render_options

from mlc_serve.errors import RequestError
from mlc_serve.protocol.request_part import RequestPart

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), ROOT / "benchmarks/results/README.md", *(ROOT / "docs").glob("*.md")])


def text(name: str) -> str:
    """A document, by its path in the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_tables_of_settings_are_current() -> None:
    """docs/operations.md is what scripts/render_options.py writes."""
    document = text("docs/operations.md")
    assert render_options.SECTION.rendered(document) == document


def test_the_tables_of_request_fields_are_current() -> None:
    """docs/api.md is what scripts/render_fields.py writes."""
    document = text("docs/api.md")
    for section in render_fields.SECTIONS:
        assert section.rendered(document) == document, section.start


def test_the_table_of_clients_is_current() -> None:
    """docs/api.md is what scripts/render_clients.py writes, for which every test of a client has its mark."""
    document = text("docs/api.md")
    assert render_clients.SECTION.rendered(document) == document


def test_the_tables_of_benchmarks_are_current() -> None:
    """The tables are what scripts/render_benchmarks.py makes of well-formed runs in benchmarks/results."""
    for section in render_benchmarks.sections():
        document = section.document.read_text(encoding="utf-8")
        assert section.rendered(document) == document, section.start


def test_the_page_of_performance_stays_short() -> None:
    """docs/performance.md has at most 120 lines; details belong in the list of runs or of what was tried."""
    assert len(text("docs/performance.md").splitlines()) <= 120


def test_every_kind_of_object_in_a_request_has_its_table() -> None:
    """Every class that declares request fields has a table in docs/api.md."""
    kinds = {kind for kind in subclasses(RequestPart) if kind.__module__.startswith("mlc_serve.protocol.")}
    assert kinds == {*render_fields.PARTS.values(), *render_fields.ANTHROPICS_PARTS.values()}


def test_every_error_code_is_documented() -> None:
    """docs/api.md has each code that a client can get, with its status."""
    table = text("docs/api.md").partition("### Errors")[2].partition("###")[0]
    for kind in subclasses(RequestError):
        if kind.code is not None:
            assert re.search(rf"^\| {kind.status}\b.*`{kind.code}`", table, re.M), kind.__name__


def subclasses(kind: type[T]) -> list[type[T]]:
    """All classes that derive from a class."""
    return [found for child in kind.__subclasses__() for found in [child, *subclasses(child)]]


def test_the_tree_of_the_readme_is_complete() -> None:
    """The README has a line for each module and package at the top of mlc_serve, and for nothing else."""
    tree = text("README.md").partition("```\nmlc_serve/\n")[2].partition("\ntests/")[0]
    listed = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    entries = {path.name for path in (ROOT / "mlc_serve").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert listed == entries - {"__pycache__"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link of a document names a file that exists."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_changelog_has_a_regular_form() -> None:
    """Unreleased changes come first, then versions with dates, and each has only the agreed sections."""
    headings = re.findall(r"^##+ .*", text("CHANGELOG.md"), re.M)
    assert headings[0] == "## Unreleased"
    version = r"## \d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)"
    section = r"### (Added|Changed|Fixed|Removed|Security)"
    assert [line for line in headings[1:] if not re.fullmatch(f"{version}|{section}", line)] == []
