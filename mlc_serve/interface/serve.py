"""Serves models: checks the configuration, binds the socket, loads the models, runs the server. Everything
runs on the caller's thread, which should be the main one.

The socket is bound before a model is loaded, so that an address in use is reported at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from mlc_serve.api.served_models import Load, chat_models, embedding_models, open_engine
from mlc_serve.config import (
    EngineConfig,
    LaunchConfig,
    Mode,
    OptimizationLevel,
    PrefillMode,
    PrefixCacheMode,
    ReasoningParser,
    ServerConfig,
    SpeculativeMode,
    ToolCallParser,
)
from mlc_serve.config.api_keys import with_all_keys
from mlc_serve.host.interruption import ended_by_sigterm
from mlc_serve.host.server_socket import bind_socket, inherited_socket
from mlc_serve.interface.log_lines import formatter_for
from mlc_serve.interface.supervisor_url import supervisor_url
from mlc_serve.loading import load_embedding_model, load_served
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import run
from mlc_serve.server.tls import server_context
from mlc_serve.server.tracing import tracer_for

Config = TypeVar("Config", bound="EngineConfig | ServerConfig | LaunchConfig")


def serve(
    model: str,
    device: str,
    model_lib: str | None,
    mode: Mode,
    enable_debug: bool,
    additional_models: Sequence[str | tuple[str, str]],
    tensor_parallel_shards: int | None,
    pipeline_parallel_stages: int | None,
    opt: OptimizationLevel | None,
    max_num_sequence: int | None,
    max_total_sequence_length: int | None,
    max_single_sequence_length: int | None,
    prefill_chunk_size: int | None,
    sliding_window_size: int | None,
    attention_sink_size: int | None,
    max_history_size: int | None,
    gpu_memory_utilization: float | None,
    speculative_mode: SpeculativeMode,
    spec_draft_length: int | None,
    spec_tree_width: int | None,
    prefix_cache_mode: PrefixCacheMode,
    prefix_cache_max_num_recycling_seqs: int | None,
    prefill_mode: PrefillMode,
    enable_tracing: bool,
    host: str,
    port: int,
    allow_credentials: bool,
    allow_origins: Any,
    allow_methods: Any,
    allow_headers: Any,
    *,
    allowed_hosts: Sequence[str] = (),
    quantization: str | None = None,
    prefix_cache_dir: str | None = None,
    prefix_cache_size: int = EngineConfig.prefix_cache_size,
    kv_cache_page_size: int = EngineConfig.kv_cache_page_size,
    context_window_limit: int | None = None,
    max_queued_requests: int = EngineConfig.max_queued_requests,
    max_queued_tokens: int | None = None,
    max_choices: int = EngineConfig.max_choices,
    first_token_timeout: float | None = None,
    request_timeout: float | None = None,
    tool_call_parser: ToolCallParser | None = None,
    reasoning_parser: ReasoningParser | None = None,
    verbose: bool = EngineConfig.verbose,
    api_keys: Sequence[str] = (),
    api_key_file: str | None = None,
    admin_api_key: str | None = None,
    admin_api_key_file: str | None = None,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
    ssl_keyfile_password_file: str | None = None,
    ssl_ca_certs: str | None = None,
    served_model_name: Sequence[str] = (),
    root_path: str | None = None,
    enable_ui: bool = ServerConfig.enable_ui,
    public_metrics: bool = ServerConfig.public_metrics,
    vllm_metrics: bool = ServerConfig.vllm_metrics,
    max_header_bytes: int = ServerConfig.max_header_bytes,
    header_timeout: float = ServerConfig.header_timeout,
    body_timeout: float = ServerConfig.body_timeout,
    idle_timeout: int = ServerConfig.idle_timeout,
    max_connections: int | None = None,
    max_body_bytes: int = ServerConfig.max_body_bytes,
    max_body_elements: int = ServerConfig.max_body_elements,
    max_body_depth: int = ServerConfig.max_body_depth,
    strict_requests: bool = ServerConfig.strict_requests,
    max_stored_responses: int = ServerConfig.max_stored_responses,
    max_stored_response_bytes: int = ServerConfig.max_stored_response_bytes,
    kv_transfer_host: str = ServerConfig.kv_transfer_host,
    kv_transfer_port: int = ServerConfig.kv_transfer_port,
    shutdown_timeout: float = ServerConfig.shutdown_timeout,
    send_timeout: float = ServerConfig.send_timeout,
    watchdog_timeout: float = ServerConfig.watchdog_timeout,
    loop_warning: float = ServerConfig.loop_warning,
    log_level: str = ServerConfig.log_level,
    otlp_traces_endpoint: str | None = None,
    log_format: str = ServerConfig.log_format,
    embedding_model: str | None = None,
    embedding_model_lib: str | None = None,
) -> None:
    """Serve a model until SIGINT or SIGTERM, and return when the running requests are finished.

    The positional parameters are those of MLC's function of this name; None leaves a limit to `mode`. Each
    parameter is the field of that name in EngineConfig, ServerConfig or LaunchConfig. Raises StartupError if
    the server can't start, and SystemExit with the exit code if an engine dies.
    """
    given = locals()
    engine = _from_fields(EngineConfig, given)
    server = _from_fields(ServerConfig, given)
    code = run_server(engine, server, _from_fields(LaunchConfig, given))
    if code:
        sys.exit(code)


def run_server(
    engine: EngineConfig,
    server: ServerConfig,
    launch: LaunchConfig,
    load: Load = load_served,
    load_embedding: Load = load_embedding_model,
) -> int:
    """Load the models, serve them until a signal arrives, and return the exit code. Raises StartupError.

    API keys are also taken from the environment, and so is the socket if a supervisor has bound it. `load` is
    called as `load_served` is, once for each model, and `load_embedding` for the embedding model, if there is
    one beside them.
    """
    _log_to_stderr(server.log_level, server.log_format)
    server = with_all_keys(server, os.environ)
    tls = server_context(server, os.environ)
    tracer = tracer_for(server.otlp_traces_endpoint, os.environ)
    models = chat_models(engine, server.served_model_name)
    embedding = embedding_models(engine, launch, models)
    context = ServerContext(supervisor_url(os.environ))
    sock = inherited_socket(os.environ) or bind_socket(server.host, server.port)
    try:
        with ended_by_sigterm():
            for model in models:
                context.add(open_engine(model, launch, load, _report), model.aliases)
            for model in embedding:
                context.add(open_engine(model, launch, load_embedding, _report), model.aliases)
    except BaseException:
        context.close()
        sock.close()
        raise
    try:
        return run(context, server, sock, tls, tracer)
    finally:
        if tracer is not None:
            tracer.close()


def _from_fields(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Build a configuration from the values that are named like its fields."""
    return kind(**{entry.name: values[entry.name] for entry in fields(kind) if entry.name in values})


def _report(line: str) -> None:
    print(line, flush=True)


def _log_to_stderr(level: str, log_format: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter_for(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
