"""The command line and the environment that start a server, from its settings."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace

from mlc_serve.config import EngineConfig, SupervisionConfig, api_keys
from mlc_serve.config.option import command_line
from mlc_serve.errors import CommandError, ConfigError
from mlc_serve.supervisor.settings import Settings

MLC_SERVE, MLC_LLM = ("mlc_serve",), ("mlc_llm",)
# The flags and the keys of --overrides that `mlc_llm serve` has.
_KNOWN_TO_MLC = frozenset(
    re.findall(
        r"\S+",
        "--device --model-lib --mode --enable-debug --additional-models --embedding-model "
        "--embedding-model-lib --speculative-mode --prefix-cache-mode --prefill-mode --enable-tracing --host "
        "--port --allow-credentials --allow-origins --allow-methods --allow-headers --api-key "
        "max_num_sequence max_total_seq_length prefill_chunk_size max_history_size gpu_memory_utilization "
        "spec_draft_length spec_tree_width prefix_cache_max_num_recycling_seqs context_window_size "
        "sliding_window_size attention_sink_size tensor_parallel_shards pipeline_parallel_stages opt",
    )
)


def command_for(settings: Settings, port: int) -> list[str]:
    """Return the command line that starts a server on a port.

    It contains API keys only for `mlc_llm`; others get them from environment_for. Raises ConfigError for a
    setting that the command has no option for, and CommandError if the command does not exist.
    """
    command, engine = settings.supervision.command, settings.engine
    server = replace(settings.server, port=port)
    if command == MLC_LLM:
        _check_for_mlc(settings)
        parts = (settings.launch, server, _engine_for_mlc(engine))
        flags = [word for part in parts for word in command_line(part, _KNOWN_TO_MLC)]
        return [_found("mlc_llm"), "serve", str(engine.model), *flags]
    server = replace(server, api_keys=(), admin_api_key=None)
    prefix = [sys.executable, "-m", "mlc_serve", "serve"] if command == MLC_SERVE else list(command)
    model = [engine.model] if engine.model is not None else []
    flags = [word for part in (settings.launch, server, engine) for word in command_line(part)]
    return [*prefix, *model, *flags]


def environment_for(settings: Settings) -> dict[str, str]:
    """Return the environment variables that give a server its API keys. Unlike a command line, they can't be
    read by other users of the machine.

    `mlc_llm` does not look for keys there.
    """
    if settings.supervision.command == MLC_LLM:
        return {}
    server = settings.server
    keys = {
        api_keys.VARIABLE: api_keys.as_text(server.api_keys),
        api_keys.ADMIN_VARIABLE: server.admin_api_key,
    }
    return {variable: text for variable, text in keys.items() if text}


def _check_for_mlc(settings: Settings) -> None:
    if settings.engine.model is None:
        raise ConfigError("model is None, but mlc_llm has no model of its own to fall back on")
    if len(settings.server.api_keys) > 1:
        raise ConfigError("api_keys: mlc_llm takes no more than one key")


def _engine_for_mlc(engine: EngineConfig) -> EngineConfig:
    """Return the settings with the context window set rather than limited, because MLC can't limit it.

    Our default limit is left out, since setting it could enlarge a window.
    """
    limit = engine.context_window_limit
    window = engine.max_single_sequence_length
    if limit is not None and limit != SupervisionConfig.max_tokens:
        window = limit
    return replace(engine, max_single_sequence_length=window, context_window_limit=None)


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise CommandError(f"{program} is not on PATH; install it, or set `command` to another program")
    return path
