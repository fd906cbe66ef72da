"""Where prefixes are kept, for which models, and what makes them useless."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.errors import ConfigError
from mlc_serve.loaded_model import PrefixFiles
from mlc_serve.loading.prefix_files import find_prefix_files
from mlc_serve.testing import FakeKVCache, FakeRecurrentState, FakeWindowedState


def find(config: EngineConfig, state: Any = None, **facts: str) -> PrefixFiles | None:
    """Find the files of a model with these facts."""
    known = {"fingerprint": "f", "quantization": "q", "digest": "d"} | facts
    checkpoint: Any = SimpleNamespace(
        fingerprint=lambda: known["fingerprint"], directory=SimpleNamespace(name="a model")
    )
    library: Any = SimpleNamespace(quantization=known["quantization"], digest=known["digest"])
    return find_prefix_files(config, checkpoint, library, state or FakeKVCache(4, 4), lambda line: None)


def test_nothing_is_kept_unless_a_directory_is_set(tmp_path: Path) -> None:
    """And then in a directory of its own, which is made."""
    assert find(EngineConfig()) is None
    found = find(EngineConfig(prefix_cache_dir=str(tmp_path), prefix_cache_size=1000))
    assert found is not None
    assert (found.directory, found.max_bytes) == (tmp_path / "prefixes", 1000)
    assert found.directory.is_dir()


def test_the_key_is_that_of_the_model_scheme_and_library(tmp_path: Path) -> None:
    """It is the same at each start, and another one if one of these is."""
    config = EngineConfig(prefix_cache_dir=str(tmp_path))
    found = find(config)
    assert found is not None
    assert find(replace(config, prefix_cache_size=5)) == replace(found, max_bytes=5)
    others = [find(config, **{fact: "other"}) for fact in ("fingerprint", "quantization", "digest")]
    assert len({found, *others}) == 4


@pytest.mark.parametrize("state", [FakeWindowedState(4, 4, 8), FakeRecurrentState(4, 0)])
def test_a_state_that_can_not_be_copied_is_refused(tmp_path: Path, state: Any) -> None:
    """By the setting's name, before a directory is made."""
    with pytest.raises(ConfigError, match=r"prefix_cache_dir: .* a model keeps a window"):
        find(EngineConfig(prefix_cache_dir=str(tmp_path)), state)
    assert list(tmp_path.iterdir()) == []
