"""Configurations are complete, frozen, and refuse what is not built."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest

from mlc_serve import config
from mlc_serve.config import (
    EngineConfig,
    LaunchConfig,
    RouterConfig,
    ServerConfig,
    StatusServiceConfig,
    SupervisionConfig,
    parse_overrides,
)
from mlc_serve.config.not_yet import NOT_YET
from mlc_serve.config.option import options_of
from mlc_serve.errors import ConfigError

MLC_FIELDS = [
    "model",
    "model_lib",
    "additional_models",
    "mode",
    "tensor_parallel_shards",
    "pipeline_parallel_stages",
    "opt",
    "gpu_memory_utilization",
    "kv_cache_page_size",
    "max_num_sequence",
    "max_total_sequence_length",
    "max_single_sequence_length",
    "prefill_chunk_size",
    "sliding_window_size",
    "attention_sink_size",
    "max_history_size",
    "kv_state_kind",
    "speculative_mode",
    "spec_draft_length",
    "spec_tree_width",
    "prefix_cache_mode",
    "prefix_cache_max_num_recycling_seqs",
    "prefill_mode",
    "verbose",
]

MLC_OVERRIDES = {
    "max_num_sequence": ("8", "max_num_sequence", 8),
    "max_total_seq_length": ("4096", "max_total_sequence_length", 4096),
    "prefill_chunk_size": ("512", "prefill_chunk_size", 512),
    "max_history_size": ("0", "max_history_size", 0),
    "gpu_memory_utilization": ("0.5", "gpu_memory_utilization", 0.5),
    "spec_draft_length": ("0", "spec_draft_length", 0),
    "spec_tree_width": ("1", "spec_tree_width", 1),
    "prefix_cache_max_num_recycling_seqs": ("-1", "prefix_cache_max_num_recycling_seqs", -1),
    "context_window_size": ("2048", "max_single_sequence_length", 2048),
    "sliding_window_size": ("4096", "sliding_window_size", 4096),
    "attention_sink_size": ("4", "attention_sink_size", 4),
    "tensor_parallel_shards": ("1", "tensor_parallel_shards", 1),
    "pipeline_parallel_stages": ("1", "pipeline_parallel_stages", 1),
    "opt": ("O2", "opt", "O2"),
    "prefix_cache_mode": ("disable", "prefix_cache_mode", "disable"),
    "prefill_mode": ("chunked", "prefill_mode", "chunked"),
}

NOT_BUILT: dict[str, Any] = {
    "tensor_parallel_shards": 2,
    "pipeline_parallel_stages": 2,
    "kv_cache_page_size": 32,
}


def test_every_field_of_mlc_is_there() -> None:
    """Programs that fill in MLC's EngineConfig find each of its fields."""
    assert set(MLC_FIELDS) <= {entry.name for entry in fields(EngineConfig)}


@pytest.mark.parametrize(
    "config",
    [EngineConfig, ServerConfig, LaunchConfig, SupervisionConfig, StatusServiceConfig, RouterConfig],
)
def test_every_field_is_declared(config: type) -> None:
    """No field escapes the checks, the flags and the docs."""
    assert {entry.name for entry in fields(config)} == {name for name, _, _ in options_of(config)}


@pytest.mark.parametrize("key", MLC_OVERRIDES)
def test_every_override_of_mlc_reaches_its_field(key: str) -> None:
    """Each key that MLC takes in --overrides sets its field here."""
    text, name, value = MLC_OVERRIDES[key]
    assert parse_overrides(f"{key}={text}") == {name: value}


def test_overrides_win() -> None:
    """Values in --overrides replace the configuration's, including the modes of prefill and prefix cache."""
    config = EngineConfig(max_num_sequence=2, prefill_mode="hybrid")
    changed = config.overridden("max_num_sequence=8;prefill_mode=chunked;prefix_cache_mode=disable")
    assert (changed.max_num_sequence, changed.prefill_mode, changed.prefix_cache_mode) == (
        8,
        "chunked",
        "disable",
    )


def test_the_listed_not_built_options_are_the_tested_ones() -> None:
    """Each entry of NOT_YET has a case below."""
    assert set(NOT_BUILT) == set(NOT_YET)


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_is_not_built_is_refused_by_name(name: str) -> None:
    """An option whose feature is missing is a ConfigError that names it and says why."""
    config = LaunchConfig if name.startswith("embedding") else EngineConfig
    with pytest.raises(ConfigError, match=f"^{name} = .*not built yet"):
        config(**{name: NOT_BUILT[name]})


def test_an_override_that_is_not_built_is_refused() -> None:
    """An option that is not built is refused in --overrides too."""
    with pytest.raises(ConfigError, match="tensor_parallel_shards = 2 is not supported"):
        EngineConfig().overridden("tensor_parallel_shards=2")


def test_values_that_ask_for_nothing_special_are_accepted() -> None:
    """Options that are not built yet accept the values for what there is, such as one shard and no drafts."""
    EngineConfig(
        tensor_parallel_shards=1,
        pipeline_parallel_stages=1,
        kv_cache_page_size=16,
        spec_draft_length=0,
        spec_tree_width=1,
    )


@pytest.mark.parametrize(
    "values",
    [{"port": -1}, {"port": 65536}, {"shutdown_timeout": -1.0}, {"log_level": "loud"}, {"api_keys": [""]}],
)
def test_a_server_setting_out_of_range_is_refused(values: dict[str, Any]) -> None:
    """A bad port, time, log level or an empty key keeps the server from starting."""
    with pytest.raises(ConfigError, match=next(iter(values))):
        ServerConfig(**values)


@pytest.mark.parametrize(
    "kind", [entry for entry in vars(config).values() if isinstance(entry, type) and is_dataclass(entry)]
)
def test_configurations_are_frozen(kind: type[Any]) -> None:
    """No configuration of any kind can be changed after it was made."""
    made = kind()
    for entry in fields(kind):
        with pytest.raises(FrozenInstanceError):
            setattr(made, entry.name, getattr(made, entry.name))


def test_a_model_given_twice_must_be_the_same() -> None:
    """Arguments beside a configuration fill it in, and contradictions are named."""
    agreed = EngineConfig(mode="server").agreed(model="m", model_lib="lib.so", mode="server")
    assert (agreed.model, agreed.model_lib, agreed.mode) == ("m", "lib.so", "server")
    with pytest.raises(ConfigError, match="mode is 'local', but 'server'"):
        EngineConfig(mode="server").agreed(model="m", model_lib=None, mode="local")
