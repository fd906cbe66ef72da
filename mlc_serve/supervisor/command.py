"""The command line and the environment that start a server, from its configuration."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace

from mlc_serve.config import EngineConfig, SupervisionConfig, api_keys
from mlc_serve.config.option import command_line
from mlc_serve.errors import CommandError, ConfigError
from mlc_serve.supervisor.config import MLCServerConfig

MLC_SERVE, MLC_LLM = ("mlc_serve",), ("mlc_llm",)
# What `mlc_llm serve` knows, as flags and as keys of --overrides.
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


def command_for(config: MLCServerConfig, port: int) -> list[str]:
    """The words that start a server on a port. API keys are among them for `mlc_llm` alone; see below.

    Raises ConfigError for a setting that the command can't be told, and CommandError if it is not there.
    """
    command = config.supervision.command
    server = replace(config.server, port=port)
    if command == MLC_LLM:
        _check_for_mlc(config)
        parts = (config.launch, server, _engine_for_mlc(config))
        settings = [word for part in parts for word in command_line(part, _KNOWN_TO_MLC)]
        return [_found("mlc_llm"), "serve", str(config.model), *settings]
    server = replace(server, api_keys=())
    prefix = [sys.executable, "-m", "mlc_serve", "serve"] if command == MLC_SERVE else list(command)
    model = [config.model] if config.model is not None else []
    settings = [word for part in (config.launch, server, config.engine) for word in command_line(part)]
    return [*prefix, *model, *settings]


def environment_for(config: MLCServerConfig) -> dict[str, str]:
    """What a server is told where other users of the machine can't read it: the API keys.

    `mlc_llm` has no way to take them from there.
    """
    keys = () if config.supervision.command == MLC_LLM else config.server.api_keys
    return {api_keys.VARIABLE: api_keys.as_text(keys)} if keys else {}


def _check_for_mlc(config: MLCServerConfig) -> None:
    if config.model is None:
        raise ConfigError("model is None: mlc_llm comes with no model of its own")
    if len(config.api_keys) > 1:
        raise ConfigError("api_keys: mlc_llm takes no more than one key")


def _engine_for_mlc(config: MLCServerConfig) -> EngineConfig:
    """MLC knows no limit on the context window but the window itself, which a default must not enlarge."""
    limit = config.engine.context_window_limit
    window = config.max_single_sequence_length
    if limit is not None and limit != SupervisionConfig.max_tokens:
        window = limit
    return replace(config.engine, max_single_sequence_length=window, context_window_limit=None)


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise CommandError(f"{program} is not on PATH; install it, or set `command` to what is to run")
    return path
