"""Every example in the documents works, except for those that say why they are not run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_server import demo_server

from mlc_serve.demo import demo_model_path
from tests.examples import ROOT, Example, examples_of, run_example, write_programs

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EXAMPLES = [example for document in DOCUMENTS for example in examples_of(document)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a server on the demo model."""
    with demo_server() as running:
        yield running


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A reader's directory: the demo model is in my-model, and the programs of the examples are found."""
    (tmp_path / "my-model").symlink_to(demo_model_path())
    (tmp_path / "bin").mkdir()
    write_programs(tmp_path / "bin")
    return tmp_path


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.reason is None], ids=lambda e: e.place)
def test_an_example_works(example: Example, url: str, directory: Path) -> None:
    """Each example ends without an error, and prints something."""
    if "curl" in example.code and shutil.which("curl") is None:
        pytest.skip("there is no curl")
    assert run_example(example, url, directory).strip()


def test_an_example_that_fails_is_found(tmp_path: Path) -> None:
    """An example that fails is found in any language, and so is one in an unknown language."""
    for language, code in [("python", "1 / 0"), ("sh", "false | cat"), ("json", "{"), ("perl", "print 1")]:
        with pytest.raises((AssertionError, ValueError)):
            run_example(Example("here", language, code, None), "http://localhost", tmp_path)


def test_examples_are_found_with_their_reasons(tmp_path: Path) -> None:
    """A comment right before a block says why it is not run; a block without a language is a drawing."""
    document = tmp_path / "a.md"
    document.write_text(
        "```sh\na\n```\n\n```\na -> b\n```\n\n<!-- not run: too long -->\n```python\nb\n```\n"
    )
    assert list(examples_of(document)) == [
        Example("a.md:1", "sh", "a\n", None),
        Example("a.md:10", "python", "b\n", "too long"),
    ]
