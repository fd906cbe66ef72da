"""Settings of the prefix cache that contradict each other are refused."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"prefix_cache_mode": "disable"}, "prefix_cache_dir needs a prefix cache"),
        ({"prefix_cache_max_num_recycling_seqs": 0}, "recycling_seqs to be at least 1, or -1"),
        ({"prefix_cache_size": 0}, "prefix_cache_size is 0"),
    ],
    ids=str,
)
def test_prefixes_are_stored_only_if_they_are_kept(values: dict[str, Any], fault: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=fault):
        EngineConfig(prefix_cache_dir="somewhere", **values)
    EngineConfig(prefix_cache_dir="somewhere", prefix_cache_max_num_recycling_seqs=-1)
