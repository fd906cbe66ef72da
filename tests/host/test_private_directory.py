"""A directory is used only if nobody else can write to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mlc_serve.errors import ConfigError
from mlc_serve.host.private_directory import private_directory


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    """With its parents, and for its owner alone."""
    made = private_directory(tmp_path / "a" / "b", "the_setting")
    assert made.is_dir()
    if os.name == "posix":
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert private_directory(made, "the_setting") == made


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """The error names the setting and the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the_setting: .*file can't be used as a directory: File exists"):
        private_directory(tmp_path / "file", "the_setting")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Whether a group or everybody can."""
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match=r"the_setting: .* nobody else may write to it"):
        private_directory(tmp_path, "the_setting")
    tmp_path.chmod(0o755)
    private_directory(tmp_path, "the_setting")
