"""Small JSON files of a model directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.text.json_object import read_json_object, read_json_object_if_present


def test_an_absent_file_is_an_error_unless_it_is_optional(tmp_path: Path) -> None:
    """The error names the directory and the file."""
    path = tmp_path / "config.json"

    assert read_json_object_if_present(path) == {}
    with pytest.raises(CheckpointError, match=f"^{tmp_path}: there is no config.json$"):
        read_json_object(path)


def test_reads_an_object(tmp_path: Path) -> None:
    """An object is read with characters outside ASCII, and with the byte order mark of some editors."""
    path = tmp_path / "config.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text('{"name": "ä"}', encoding=encoding)

        assert read_json_object(path) == read_json_object_if_present(path) == {"name": "ä"}


def test_a_directory_in_its_place_is_named(tmp_path: Path) -> None:
    """The error has the system's own words for a file that can't be read."""
    with pytest.raises(CheckpointError, match=f"^{tmp_path}: Is a directory$"):
        read_json_object(tmp_path)
