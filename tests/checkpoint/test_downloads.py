"""Listing and removing the models in the hub's cache."""

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
    """An empty cache of the hub, for this test only."""
    monkeypatch.setattr(module, "scan_cache_dir", partial(scan_cache_dir, tmp_path))
    return tmp_path


def add(cache: Path, repository: str, *files: str) -> Path:
    """Put files of ten bytes into the cache, as the hub's library does; return the repository's directory."""
    directory = cache / repository.replace("/", "--")
    snapshot = directory / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (directory / "refs").mkdir()
    (directory / "refs" / "main").write_text(REVISION)
    for file in files:
        (snapshot / file).write_bytes(bytes(10))
    return directory


def test_models_are_listed_and_other_repositories_are_not(cache: Path) -> None:
    """Models with a configuration in either form are listed, but not data sets and other models."""
    add(cache, "models/them/b", "config.json", "model.safetensors")
    add(cache, "models/them/a", "mlc-chat-config.json")
    add(cache, "models/them/pictures", "model_index.json")
    add(cache, "datasets/them/texts", "config.json")
    found = [(entry.repository, entry.size, entry.revisions) for entry in downloads()]
    assert found == [("them/a", 10, (REVISION,)), ("them/b", 20, (REVISION,))]


def test_a_removed_model_is_gone_and_others_stay(cache: Path) -> None:
    """Only the removed model is gone, even if another one has the same revision."""
    gone, stays = (add(cache, f"models/them/{name}", "config.json") for name in "ab")
    remove_download(next(downloads()))
    assert not gone.exists()
    assert [entry.repository for entry in downloads()] == ["them/b"]
    assert stays.exists()


def test_no_cache_is_no_downloads(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cache directory, as before any download, there are no downloads."""
    monkeypatch.setattr(module, "scan_cache_dir", partial(scan_cache_dir, cache / "missing"))
    assert list(downloads()) == []
