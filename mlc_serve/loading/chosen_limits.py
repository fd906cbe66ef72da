"""Chooses an engine's limits for a device, and reports why."""

from __future__ import annotations

from mlc_serve.config import EngineConfig
from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.host.memory import free_host_bytes
from mlc_serve.loading.artifacts import Report
from mlc_serve.loading.sizing import infer_limits
from mlc_serve.runtime.device import DeviceName


def choose_limits(config: EngineConfig, info: ModelInfo, place: DeviceName, report: Report) -> EngineLimits:
    """Return the limits that the configuration leaves open, by the memory that is free. Raises ConfigError
    as infer_limits does.
    """
    free = free_host_bytes() if place.kind == "cpu" else int(place.open().total_global_memory)
    inferred = infer_limits(config, info, free)
    if info.window is not None and config.prefix_cache_mode != "disable":
        report(
            f"Sequences are seen through a window of {info.window.size} tokens and drop the others, so that "
            "there is no prefix cache."
        )
    if config.verbose:
        for line in inferred.explanation:
            report(line)
    return inferred.limits
