"""What the settings of the prefix cache must agree on."""

from __future__ import annotations

from typing import Any

from mlc_serve.errors import ConfigError


def check_prefix_cache(config: Any) -> None:
    """Raise ConfigError, which names the settings, if prefixes are to be stored that are not kept."""
    if config.prefix_cache_dir is None:
        return
    if config.prefix_cache_mode == "disable":
        raise ConfigError("prefix_cache_dir needs a prefix cache, and prefix_cache_mode is 'disable'")
    if config.prefix_cache_max_num_recycling_seqs == 0:
        raise ConfigError(
            "prefix_cache_dir needs prefix_cache_max_num_recycling_seqs to be at least 1, or -1: a prefix "
            "that is read back is kept as a finished sequence is"
        )
