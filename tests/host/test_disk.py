"""A full disk is told as a full disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mlc_serve.errors import CompileError, DiskFullError
from mlc_serve.host.disk import check_room, says_full, size_text, told_if_full

FULL = OSError(errno.ENOSPC, "No space left on device")
LINKER = "/usr/bin/ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status"


def test_what_does_not_fit_is_told_before_it_is_written(tmp_path: Path) -> None:
    """With what is needed and what is free."""
    check_room(tmp_path, 1)
    with pytest.raises(DiskFullError, match=rf"^{tmp_path}: 1000000\.0 TB are needed, and \S+ \S+ are free$"):
        check_room(tmp_path, 10**18)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError(LINKER), True),
        (LINKER, True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("no such symbol"), False),
        (OSError("No such file"), False),
    ],
)
def test_a_full_disk_is_known_by_number_or_words(error: BaseException | str, full: bool) -> None:
    """Compilers and linkers have words alone."""
    assert says_full(error) is full


@pytest.mark.parametrize("error", [FULL, RuntimeError(LINKER)])
def test_the_directory_and_what_is_free_are_told(tmp_path: Path, error: Exception) -> None:
    """Whichever error says so, even as the cause of another."""
    for raised in (error, caused_by(error)):
        with pytest.raises(DiskFullError, match=f"^{tmp_path}: the disk is full; .+ are free$"):
            fail_with(raised, tmp_path)


def fail_with(error: Exception, directory: Path) -> None:
    """Let something fail that writes to a directory."""
    with told_if_full(directory):
        raise error


def caused_by(error: Exception) -> CompileError:
    """An error with a cause."""
    caused = CompileError("g++ failed")
    caused.__cause__ = error
    return caused


def test_other_errors_pass(tmp_path: Path) -> None:
    """As does one that has named a disk already."""
    for error in (CompileError("no"), PermissionError(errno.EACCES, "no"), DiskFullError("another one")):
        with pytest.raises(type(error)) as raised:
            fail_with(error, tmp_path)
        assert raised.value is error


def test_sizes_are_written_as_people_write_them() -> None:
    """With one digit after the point, but for bytes."""
    texts = [size_text(size) for size in (0, 999, 1000, 1_234_567, 5e9, 2e15)]
    assert texts == ["0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 GB", "2000.0 TB"]
