"""FileStore: what is offered is found by the next process, and nothing waits for the disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.spill import file_store
from mlc_serve.spill.file_store import FileStore
from mlc_serve.spill.page_files import PageFiles
from mlc_serve.spill.page_names import PageNames
from tests.patience import PATIENCE
from tests.spill.bytes_of import LAYOUT, Metrics, pages_of

PROMPT = Prefix("", [*range(21)])
BRANCH = Prefix("", [*range(8), *range(100, 108)])


class Files(PageFiles):
    """Files that are written only while `gate` is open, and if `failure` is None."""

    def __init__(self, directory: Path, metrics: Metrics) -> None:
        super().__init__(directory, 10**6, metrics.store)
        self.gate = threading.Event()
        self.gate.set()
        self.failure: OSError | None = None

    def write(self, name: str, data: memoryview) -> None:
        """See PageFiles."""
        self.gate.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure
        super().write(name, data)


class Opened:
    """A store for one model, and what it exported."""

    def __init__(self, directory: Path, key: str = "model", most_unwritten: int = 10**6) -> None:
        self.metrics = Metrics()
        self.files = Files(directory, self.metrics)
        names = PageNames(key, LAYOUT.page_size)
        self.store = FileStore(self.files, names, LAYOUT, self.metrics.store, most_unwritten)
        self.exported: list[tuple[int, int]] = []
        self.flush()

    def offer(self, prefix: Prefix, start: int = 0, *, is_last: bool = True) -> int:
        """Offer a prefix, and return the position up to which it is stored."""

        def export(start: int, stop: int) -> SequencePages:
            self.exported.append((start, stop))
            return pages_of(prefix, start, stop)

        return self.store.offer(prefix, export, start, is_last=is_last)

    def flush(self) -> None:
        """Wait until everything is written."""
        self.store.flushed().result(PATIENCE)

    def length(self, prefix: Prefix) -> int:
        """Return how many tokens are stored; the bytes that are read must be theirs."""
        length = self.store.length(prefix).result(PATIENCE)
        assert not length or self.store.may_have(prefix)
        pages = self.store.read(prefix, 0, length + LAYOUT.page_size).result(PATIENCE)
        assert (pages.stop if pages else 0) == length
        assert pages is None or bytes(pages.data) == pages_of(prefix, 0, length).data
        return length


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """A store in an empty directory."""
    store = Opened(tmp_path)
    yield store
    store.files.gate.set()
    store.store.end()


def test_a_restart_finds_what_was_offered(opened: Opened, tmp_path: Path) -> None:
    """Whole pages of all prefixes; nothing is found for another model, namespace or beginning."""
    assert not opened.store.may_have(PROMPT)
    assert opened.offer(PROMPT) == 20
    opened.flush()
    again = Opened(tmp_path)
    assert again.length(PROMPT) == 20
    assert again.length(BRANCH) == 8
    assert again.length(Prefix("tenant", PROMPT.token_ids)) == 0
    assert again.length(Prefix("", PROMPT.token_ids[1:])) == 0
    assert Opened(tmp_path, key="another model").length(PROMPT) == 0


def test_only_what_is_missing_is_exported(opened: Opened) -> None:
    """A common beginning is stored once."""
    opened.offer(PROMPT)
    opened.offer(BRANCH)
    opened.offer(PROMPT)
    assert opened.exported == [(0, 20), (8, 16)]
    assert opened.length(BRANCH) == 16
    opened.flush()
    assert opened.metrics["written_bytes_total"] == 14 * (100 + 48)


def test_pages_are_found_while_they_wait(opened: Opened) -> None:
    """Also if the disk takes its time."""
    opened.files.gate.clear()
    opened.offer(PROMPT)
    assert opened.length(PROMPT) == 20
    assert opened.metrics["written_bytes_total"] == 0


def test_no_more_waits_than_is_allowed(tmp_path: Path) -> None:
    """A prefix is then taken from its beginning on, and the rest once there is room again."""
    opened = Opened(tmp_path, most_unwritten=350)
    opened.files.gate.clear()
    assert opened.offer(PROMPT) == 6
    assert opened.offer(PROMPT) == 6
    assert opened.offer(BRANCH, 4) == 6
    assert opened.offer(BRANCH, 8) == 8
    assert opened.exported == [(0, 6)]
    opened.files.gate.set()
    stop = 6
    while stop < 20:
        opened.flush()
        stop = opened.offer(PROMPT, stop)
    assert opened.exported == [(0, 6), (6, 12), (12, 18), (18, 20)]
    opened.flush()
    assert opened.length(PROMPT) == 20


def test_little_is_taken_at_once_unless_it_would_be_lost(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a step of the engine does not wait long for what can follow later."""
    monkeypatch.setattr(opened.store, "_most_at_once", 250)
    assert opened.offer(PROMPT, is_last=False) == 4
    assert opened.offer(PROMPT, 4, is_last=False) == 8
    assert opened.offer(PROMPT) == 20
    assert opened.exported == [(0, 4), (4, 8), (8, 20)]


def test_what_is_missing_in_between_is_written_again(opened: Opened) -> None:
    """A page that was removed is noticed when it is read, and exported when it is offered."""
    opened.offer(PROMPT)
    opened.flush()
    names = list(PageNames("model", LAYOUT.page_size).of(PROMPT))
    for place in (1, 2, 5):
        (opened.files._directory / f"{names[place]}.mlc-kv").unlink()
        assert opened.store.read(PROMPT, 2 * place, 2 * place + 2).result(PATIENCE) is None
    assert opened.length(PROMPT) == 2
    opened.exported.clear()
    assert opened.offer(PROMPT) == 20
    assert opened.exported == [(2, 6), (10, 12)]
    assert opened.length(PROMPT) == 20


def test_a_full_disk_is_told_once_and_costs_nothing_else(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be written is not found, and is written when it is offered again."""
    opened.files.failure = OSError(28, "No space left on device")
    with caplog.at_level(logging.WARNING):
        opened.offer(PROMPT)
        opened.flush()
    assert opened.length(PROMPT) == 0
    assert caplog.text.count("No space left") == 1
    assert opened.metrics["failed_writes_total"] == 10
    opened.files.failure = None
    opened.offer(PROMPT)
    opened.flush()
    assert opened.length(PROMPT) == 20


def test_clear_forgets_at_once(opened: Opened, tmp_path: Path) -> None:
    """What is written, what waits to be written, and the files; those of another model stay."""
    other = Opened(tmp_path, key="another model")
    other.offer(PROMPT)
    other.flush()
    opened.offer(PROMPT)
    opened.flush()
    opened.files.gate.clear()
    opened.offer(BRANCH)
    opened.store.clear()
    assert not opened.store.may_have(PROMPT)
    assert opened.length(BRANCH) == 0
    opened.files.gate.set()
    opened.flush()
    assert Opened(tmp_path).length(PROMPT) == Opened(tmp_path).length(BRANCH) == 0
    assert Opened(tmp_path, key="another model").length(PROMPT) == 20


def test_two_stores_write_the_same(opened: Opened, tmp_path: Path) -> None:
    """Two servers with the same prompts, at the same time: nothing is damaged."""
    other = Opened(tmp_path)
    threads = [threading.Thread(target=partial(_offer_all, store)) for store in (opened, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in (opened, other, Opened(tmp_path)):
        assert store.length(PROMPT) == 20
        assert store.length(BRANCH) == 16
        assert store.metrics["damaged_pages_total"] == 0


def _offer_all(opened: Opened) -> None:
    for _ in range(10):
        opened.offer(PROMPT)
        opened.offer(BRANCH)
        opened.flush()


def test_what_another_server_stores_is_found(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that drains so hands its prefixes to those that share its directory, which look for new files
    from time to time.
    """
    other = Opened(tmp_path)
    other.offer(PROMPT)
    other.flush()
    assert not opened.store.may_have(PROMPT)
    opened.flush()
    assert not opened.store.may_have(PROMPT)
    monkeypatch.setattr(file_store, "_LIST_SECONDS", 0)
    opened.store.may_have(PROMPT)
    opened.flush()
    assert opened.length(PROMPT) == 20


def test_a_directory_that_has_gone_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is stored then, and one line says so."""
    opened = Opened(tmp_path / "gone")
    opened.offer(PROMPT)
    opened.flush()
    assert opened.length(PROMPT) == 0
    assert caplog.text.count("prefixes can't be stored") == 1
