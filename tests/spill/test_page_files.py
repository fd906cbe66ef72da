"""PageFiles: what was written is read, damage is noticed, and the size is bounded."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.spill.page_files import PageFiles
from mlc_serve.spill.page_names import PageNames
from tests.spill.bytes_of import Metrics

PAGE = 1000
SIZE = PAGE + 48  # of a file
NAMES = list(PageNames("model", 1).of(Prefix("", range(100))))
OTHERS = list(PageNames("another model", 1).of(Prefix("", range(100))))


class Opened:
    """A directory that is opened with room for `room` files."""

    def __init__(self, directory: Path, room: float = 100) -> None:
        self.metrics = Metrics()
        self.directory = directory
        self.files = PageFiles(directory, int(room * SIZE), self.metrics.store)
        self.files.scan()

    def write(self, *names: str) -> None:
        """Write pages, each of which contains its name."""
        for name in names:
            self.files.write(name, memoryview(name.encode().ljust(PAGE)))

    def read(self, name: str) -> bool:
        """Return whether a page is found with what was written."""
        page = bytearray(PAGE)
        found = self.files.read_into(name, memoryview(page))
        assert not found or page == name.encode().ljust(PAGE)
        return found

    def path(self, name: str) -> Path:
        """Return the path of a page's file."""
        return self.directory / f"{name}.mlc-kv"

    @property
    def size(self) -> int:
        """The bytes that all files take."""
        return sum(path.stat().st_size for path in self.directory.iterdir())


def test_what_was_written_is_read_after_a_restart(tmp_path: Path) -> None:
    """By the process that wrote it, and by the next one, which knows what is there."""
    first = Opened(tmp_path)
    first.write(*NAMES[:3])
    assert all(first.read(name) for name in NAMES[:3])
    second = Opened(tmp_path)
    assert [name in second.files for name in NAMES[:4]] == [True, True, True, False]
    assert all(second.read(name) for name in NAMES[:3])
    assert not second.read(NAMES[3])
    assert second.metrics["bytes"] == second.size == 3 * SIZE
    assert second.metrics["read_bytes_total"] == 3 * PAGE


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_files_are_private(tmp_path: Path) -> None:
    """Whatever the process's mask allows, only the user may read them."""
    before = os.umask(0)
    try:
        opened = Opened(tmp_path)
        opened.write(NAMES[0])
    finally:
        os.umask(before)
    assert stat.S_IMODE(opened.path(NAMES[0]).stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty", "another's", "a part", "a header"])
def test_a_damaged_file_is_not_there(tmp_path: Path, damage: str) -> None:
    """It is removed, and can be written again; also one that has another page's content."""
    opened = Opened(tmp_path)
    opened.write(*NAMES[:2])
    path = opened.path(NAMES[0])
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-1] ^= 1
    path.write_bytes(
        {
            "flipped": bytes(flipped),
            "cut": content[:-1],
            "longer": content + b"x",
            "empty": b"",
            "another's": opened.path(NAMES[1]).read_bytes(),
            "a part": content[:20],
            "a header": content[:48],
        }[damage]
    )
    assert not opened.read(NAMES[0])
    assert not path.exists()
    assert NAMES[0] not in opened.files
    assert opened.metrics["damaged_pages_total"] == 1
    opened.write(NAMES[0])
    assert opened.read(NAMES[0])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A file that only looks like one of ours is no page."""
    (tmp_path / "in").mkdir()
    opened = Opened(tmp_path / "in")
    opened.write(NAMES[0])
    opened.path(NAMES[0]).rename(tmp_path / "elsewhere")
    opened.path(NAMES[0]).symlink_to(tmp_path / "elsewhere")
    assert not opened.read(NAMES[0])


def test_the_size_is_bounded_under_many_writes(tmp_path: Path) -> None:
    """There are never more bytes than allowed, and what was used last stays."""
    opened = Opened(tmp_path, room=32)
    for place, name in enumerate(NAMES):
        opened.write(name)
        opened.files.use([name])
        assert opened.size <= 32 * SIZE
        assert opened.metrics["bytes"] == opened.size
        assert opened.read(NAMES[max(0, place - 20)])
    assert not opened.read(NAMES[0])
    assert opened.metrics["removed_pages_total"] == 100 - opened.size / SIZE


def test_the_ends_of_prefixes_go_first(tmp_path: Path) -> None:
    """Without its first pages, a prefix is of no use."""
    opened = Opened(tmp_path, room=10)
    opened.write(*NAMES[:10])
    opened.files.use(NAMES[:10])
    opened.write(OTHERS[0])
    assert [opened.read(name) for name in NAMES[:10]] == [True] * 9 + [False]
    opened.files.use(NAMES[5:9])
    opened.files.use([OTHERS[0]])
    opened.write(OTHERS[1])
    assert [opened.read(name) for name in NAMES[:9]] == [True] * 4 + [False] + [True] * 4


def test_a_page_that_is_larger_than_all_is_not_written(tmp_path: Path) -> None:
    """And removes nothing."""
    opened = Opened(tmp_path, room=0.5)
    opened.write(NAMES[0])
    assert opened.size == 0


def test_two_writers_share_a_directory(tmp_path: Path) -> None:
    """Each reads what the other writes and survives what the other removes, and both keep the bound, but for
    a sixteenth each.
    """
    one, other = Opened(tmp_path, room=32), Opened(tmp_path, room=32)
    for mine, theirs in zip(NAMES, OTHERS, strict=True):
        one.write(mine)
        other.write(theirs, mine)
        assert one.read(theirs)
        assert one.size <= (32 + 2 * 2) * SIZE
    for name in (*NAMES, *OTHERS):
        assert one.read(name) == one.path(name).exists()
    assert one.metrics["damaged_pages_total"] == other.metrics["damaged_pages_total"] == 0


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    """Files with other names are neither counted nor removed, and neither are unfinished ones of others that
    may be alive; those that were abandoned are removed.
    """
    (tmp_path / "photo.jpg").write_bytes(bytes(10**6))
    (tmp_path / "notes.mlc-kv").write_text("mine")
    (tmp_path / "directory").mkdir()
    fresh, old = (tmp_path / f".{name}.01234567.mlc-kv-part" for name in NAMES[:2])
    for path in (fresh, old):
        path.write_bytes(b"half a page")
    os.utime(old, (time.time() - 7200,) * 2)
    opened = Opened(tmp_path, room=2)
    opened.write(*NAMES[:5])
    opened.files.remove(NAMES[0][:17])
    assert {path.name for path in tmp_path.iterdir()} == {
        "photo.jpg",
        "notes.mlc-kv",
        "directory",
        fresh.name,
    }


def test_only_the_files_of_one_model_are_removed(tmp_path: Path) -> None:
    """Those of another model in the same directory stay."""
    opened = Opened(tmp_path)
    opened.write(NAMES[0], OTHERS[0])
    opened.files.forget(NAMES[0][:17])
    assert NAMES[0] not in opened.files
    assert opened.path(NAMES[0]).exists()
    opened.files.remove(NAMES[0][:17])
    assert not opened.path(NAMES[0]).exists()
    assert opened.read(OTHERS[0])
