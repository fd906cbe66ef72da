"""Refuses, by name, the options of features that are not built yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class NotYet:
    """Why an option can't be set to anything but `allowed`."""

    reason: str
    allowed: tuple[object, ...] = (None,)


NOT_YET = {
    "tensor_parallel_shards": NotYet("tensor parallelism is not built yet", (None, 1)),
    "pipeline_parallel_stages": NotYet("pipeline parallelism is not built yet", (None, 1)),
    "kv_cache_page_size": NotYet("page sizes other than 16 tokens are not built yet", (16,)),
}


def refuse_not_yet(config: Any) -> None:
    """Raise ConfigError for an option that asks for a feature that is not built."""
    for name, not_yet in NOT_YET.items():
        value = getattr(config, name, not_yet.allowed[0])
        if value not in not_yet.allowed:
            raise ConfigError(f"{name} = {value!r} is not supported: {not_yet.reason}")
