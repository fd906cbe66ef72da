"""What lies in the hub's cache, and how it is removed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from mlc_serve.checkpoint import downloads as module
from mlc_serve.checkpoint.downloads import downloads, remove_download

REVISION = "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which is this test's."""
    monkeypatch.setattr(module, "scan_cache_dir", partial(scan_cache_dir, tmp_path))
    return tmp_path


def add(cache: Path, repository: str, *files: str) -> Path:
    """Put files of ten bytes into the cache, as the hub's library does; where the repository lies."""
    directory = cache / repository.replace("/", "--")
    snapshot = directory / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (directory / "refs").mkdir()
    (directory / "refs" / "main").write_text(REVISION)
    for file in files:
        (snapshot / file).write_bytes(bytes(10))
    return directory


def test_models_are_listed_and_other_repositories_are_not(cache: Path) -> None:
    """A model has a configuration in either form. Data sets and models that aren't for us are left alone."""
    add(cache, "models/them/b", "config.json", "model.safetensors")
    add(cache, "models/them/a", "mlc-chat-config.json")
    add(cache, "models/them/pictures", "model_index.json")
    add(cache, "datasets/them/texts", "config.json")
    found = [(entry.repository, entry.size, entry.revisions) for entry in downloads()]
    assert found == [("them/a", 10, (REVISION,)), ("them/b", 20, (REVISION,))]


def test_a_removed_model_is_gone_and_others_stay(cache: Path) -> None:
    """Even if the other one is a copy, which has the same revisions."""
    gone, stays = (add(cache, f"models/them/{name}", "config.json") for name in "ab")
    remove_download(next(downloads()))
    assert not gone.exists()
    assert [entry.repository for entry in downloads()] == ["them/b"]
    assert stays.exists()


def test_no_cache_is_no_downloads(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has never downloaded anything has no cache directory."""
    monkeypatch.setattr(module, "scan_cache_dir", partial(scan_cache_dir, cache / "missing"))
    assert list(downloads()) == []
