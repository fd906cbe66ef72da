"""The settings of an engine, of its HTTP server and of a launch; each declared once, and frozen.

Command-line flags, --overrides keys, help texts and the tables in docs/operations.md are made from these
declarations. Knows no argparse, no model and no device; what None leaves open is inferred where the facts
are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlc_serve.errors import ConfigError
from mlc_serve.not_yet import refuse_not_yet
from mlc_serve.options import Kind, Spelling, check_options, option, parse_assignments

Mode = Literal["local", "interactive", "server"]
SpeculativeMode = Literal["disable", "small_draft", "eagle", "medusa"]
PrefillMode = Literal["hybrid", "chunked"]
OptimizationLevel = Literal["O0", "O1", "O2", "O3"]
DEFAULT_OPT: OptimizationLevel = "O3"
PrefixCacheMode = Literal["radix", "disable"]


@dataclass(frozen=True)
class EngineConfig:
    """Everything about an engine that a user may choose. Raises ConfigError if a value is out of range.

    Lengths are in tokens. `additional_models` holds paths or (path, library) pairs; each is served as a
    further chat model. `prefix_cache_max_num_recycling_seqs` follows MLC: None is max_num_sequence, 0 keeps
    none, -1 has no limit.
    """

    model: str | None = option(None, "Model directory, Hugging Face repository, or none for the demo model.")
    model_lib: str | None = option(
        None,
        "Compiled model library. Without one, the model is compiled on first use.",
        flags=("--model-lib",),
    )
    mode: Mode | None = option(
        None,
        "Preset for the limits left open: local (a few requests at a time), interactive (one) "
        "or server (as many as memory allows). Without one: local.",
        flags=("--mode",),
        choices=("local", "interactive", "server"),
    )
    additional_models: Sequence[str | tuple[str, str]] = option(
        (),
        "Further chat models, each PATH or PATH,LIBRARY. A request chooses by its `model`.",
        kind=Kind.MODELS,
        flags=("--additional-models",),
        spelling=Spelling.MANY,
    )
    quantization: str | None = option(
        None,
        "Scheme in which weights are kept: q0f32, q0f16, and on the CPU q0bf16, q8f32_1, q4f16_1 or q4f32_1. "
        "Without one: the model's own, or q8f32_1 on the CPU and q0f16 elsewhere.",
        flags=("--quantization",),
    )
    tensor_parallel_shards: int | None = option(
        None,
        "Devices that share each layer. Not built yet.",
        kind=Kind.INTEGER,
        minimum=1,
        override="tensor_parallel_shards",
    )
    pipeline_parallel_stages: int | None = option(
        None,
        "Devices that share the layers. Not built yet.",
        kind=Kind.INTEGER,
        minimum=1,
        override="pipeline_parallel_stages",
    )
    opt: OptimizationLevel | None = option(
        None,
        "Freedoms that compilation takes on the CPU: O0 none, O1 activations rounded to bytes where weights "
        "are integers, O2 also fused kernels, O3 also keys and values in float16. Without one: O3.",
        flags=("--opt",),
        override="opt",
        choices=("O0", "O1", "O2", "O3"),
    )
    gpu_memory_utilization: float | None = option(
        None,
        "Share of the device's free memory (on the CPU: of what the machine and its cgroup leave free) "
        "for weights, workspace and KV cache. Without one: 0.85.",
        kind=Kind.NUMBER,
        minimum=0.01,
        maximum=1,
        override="gpu_memory_utilization",
    )
    kv_cache_page_size: int = option(
        16,
        "Tokens in a page of the KV cache. Other sizes than 16 are not built yet.",
        kind=Kind.INTEGER,
        minimum=1,
        override="kv_cache_page_size",
    )
    max_num_sequence: int | None = option(
        None,
        "Sequences that run at once. Without one, --mode decides.",
        kind=Kind.INTEGER,
        minimum=1,
        override="max_num_sequence",
    )
    max_total_sequence_length: int | None = option(
        None,
        "Tokens that the KV cache holds. Without one, --mode and the memory decide.",
        kind=Kind.INTEGER,
        minimum=1,
        override="max_total_seq_length",
    )
    max_single_sequence_length: int | None = option(
        None,
        "Tokens of one request, prompt and output together. Without one, the model's context window.",
        kind=Kind.INTEGER,
        minimum=2,
        override="context_window_size",
    )
    context_window_limit: int | None = option(
        None,
        "Most tokens of one request, where the model's context window is longer.",
        kind=Kind.INTEGER,
        minimum=2,
        override="context_window_limit",
    )
    prefill_chunk_size: int | None = option(
        None,
        "Tokens of one forward pass. Without one: 1024, or less if the model takes less.",
        kind=Kind.INTEGER,
        minimum=1,
        override="prefill_chunk_size",
    )
    sliding_window_size: int | None = option(
        None,
        "Tokens that attention looks back. Not built yet.",
        kind=Kind.INTEGER,
        minimum=1,
        override="sliding_window_size",
    )
    attention_sink_size: int | None = option(
        None,
        "First tokens that a sliding window keeps. Not built yet.",
        kind=Kind.INTEGER,
        minimum=0,
        override="attention_sink_size",
    )
    max_history_size: int | None = option(
        None,
        "States that a recurrent model can go back. Not built yet.",
        kind=Kind.INTEGER,
        minimum=0,
        override="max_history_size",
    )
    kv_state_kind: Literal["kv_cache", "rnn_state"] | None = option(
        None,
        "What a sequence's state is. Other kinds than kv_cache are not built yet.",
        choices=("kv_cache", "rnn_state"),
        override="kv_state_kind",
    )
    speculative_mode: SpeculativeMode = option(
        "disable",
        "Speculative decoding. Other modes than disable are not built yet.",
        flags=("--speculative-mode",),
        choices=("disable", "small_draft", "eagle", "medusa"),
    )
    spec_draft_length: int | None = option(
        None,
        "Tokens drafted at a time. Not built yet.",
        kind=Kind.INTEGER,
        minimum=0,
        override="spec_draft_length",
    )
    spec_tree_width: int | None = option(
        None, "Branches of a draft. Not built yet.", kind=Kind.INTEGER, minimum=1, override="spec_tree_width"
    )
    prefix_cache_mode: PrefixCacheMode = option(
        "radix",
        "Whether requests reuse the computed prefix of earlier ones (radix).",
        flags=("--prefix-cache-mode",),
        override="prefix_cache_mode",
        choices=("radix", "disable"),
    )
    prefix_cache_max_num_recycling_seqs: int | None = option(
        None,
        "Finished sequences that the prefix cache keeps; -1 has no limit. Without one: max_num_sequence.",
        kind=Kind.INTEGER,
        minimum=-1,
        override="prefix_cache_max_num_recycling_seqs",
    )
    prefill_mode: PrefillMode = option(
        "hybrid",
        "Whether a step mixes prompts with running requests (hybrid) or prompts go first (chunked).",
        flags=("--prefill-mode",),
        override="prefill_mode",
        choices=("hybrid", "chunked"),
    )
    max_queued_requests: int = option(
        1024,
        "Requests that may wait; more are refused with status 429.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--max-queued-requests",),
        override="max_queued_requests",
    )
    verbose: bool = option(
        True, "Print the limits that were chosen, and why.", kind=Kind.BOOLEAN, override="verbose"
    )

    def __post_init__(self) -> None:
        check_options(self)
        refuse_not_yet(self)

    def agreed(self, *, model: str, model_lib: str | None, mode: Mode) -> EngineConfig:
        """Return this configuration for a model given beside it. Raises ConfigError if the two differ."""
        given: dict[str, Any] = {"model": model, "model_lib": model_lib, "mode": mode}
        for name, value in given.items():
            own = getattr(self, name)
            if own is not None and own != value:
                raise ConfigError(f"{name} is {value!r}, and {own!r} in the engine's configuration")
        return replace(self, **given)

    def overridden(self, overrides: str) -> EngineConfig:
        """Return this configuration with `key=value;key=value` applied. Raises ConfigError."""
        return replace(self, **parse_overrides(overrides))


@dataclass(frozen=True)
class ServerConfig:
    """Everything about the HTTP server that a user may choose. Raises ConfigError if a value is out of range.

    Times are in seconds. Without `api_keys` nothing is asked of a client.
    """

    host: str = option("127.0.0.1", "Address to listen on.", flags=("--host",))
    port: int = option(
        8000,
        "Port to listen on; 0 is any free one.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=65535,
        flags=("--port",),
    )
    allow_credentials: bool = option(
        False,
        "CORS: let browsers send credentials.",
        kind=Kind.BOOLEAN,
        flags=("--allow-credentials", "--allowed-credentials"),
    )
    allow_origins: Sequence[str] = option(
        ("*",),
        "CORS: allowed origins, a JSON list.",
        kind=Kind.TEXTS,
        flags=("--allow-origins", "--allowed-origins"),
    )
    allow_methods: Sequence[str] = option(
        ("*",),
        "CORS: allowed methods, a JSON list.",
        kind=Kind.TEXTS,
        flags=("--allow-methods", "--allowed-methods"),
    )
    allow_headers: Sequence[str] = option(
        ("*",),
        "CORS: allowed headers, a JSON list.",
        kind=Kind.TEXTS,
        flags=("--allow-headers", "--allowed-headers"),
    )
    api_keys: Sequence[str] = option(
        (),
        "Key that clients must send as a bearer token; may be given several times.",
        kind=Kind.TEXTS,
        flags=("--api-key",),
        spelling=Spelling.REPEATED,
    )
    served_model_name: str | None = option(
        None,
        "Name of the model for clients. Without one, MODEL as it was given.",
        flags=("--served-model-name",),
    )
    enable_ui: bool = option(
        True,
        "The web page at /, with a chat and the engine's status. --no-ui leaves it out.",
        kind=Kind.BOOLEAN,
        flags=("--no-ui",),
    )
    enable_debug: bool = option(
        False,
        "Serve /debug/* and honour `debug_config` in requests.",
        kind=Kind.BOOLEAN,
        flags=("--enable-debug",),
    )
    max_body_bytes: int = option(
        32 * 1024 * 1024,
        "Longest request body in bytes; longer ones are refused with status 413.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-body-bytes",),
    )
    shutdown_timeout: float = option(
        30.0,
        "Seconds that running requests get to finish after SIGINT or SIGTERM.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--shutdown-timeout",),
    )
    watchdog_timeout: float = option(
        300.0,
        "Seconds that a step of the engine may take before /health reports it stuck.",
        kind=Kind.NUMBER,
        minimum=1,
        flags=("--watchdog-timeout",),
    )
    log_level: str = option(
        "info",
        "Least severe messages to log.",
        flags=("--log-level",),
        choices=("debug", "info", "warning", "error", "critical"),
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class LaunchConfig:
    """What a launch takes beside the engine's and the server's settings. Raises ConfigError."""

    device: str = option(
        "auto", "Device: auto, cpu, cuda, cuda:1, rocm, metal, vulkan or opencl.", flags=("--device",)
    )
    enable_tracing: bool = option(
        False,
        "Record events of requests for /debug/dump_event_trace.",
        kind=Kind.BOOLEAN,
        flags=("--enable-tracing",),
    )
    embedding_model: str | None = option(
        None, "Embedding model. Not built yet.", flags=("--embedding-model",)
    )
    embedding_model_lib: str | None = option(
        None, "Library of the embedding model. Not built yet.", flags=("--embedding-model-lib",)
    )

    def __post_init__(self) -> None:
        check_options(self)
        refuse_not_yet(self)


@dataclass(frozen=True)
class SupervisionConfig:
    """How a supervisor runs a server. Raises ConfigError if a value is out of range. Times are in seconds.

    `command` is ("mlc_serve",), ("mlc_llm",), or the first words of a command line that takes the flags of
    `mlc_serve serve`.
    """

    max_tokens: int = option(
        32_000,
        "Most tokens of one request, prompt and output together, where the model's context window is longer.",
        kind=Kind.INTEGER,
        minimum=2,
        flags=("--max-tokens",),
    )
    command: Sequence[str] = option(
        ("mlc_serve",),
        "What to run: mlc_serve, mlc_llm (found on PATH), or a JSON list with the first words of a command "
        "that takes the flags of `mlc_serve serve`.",
        kind=Kind.TEXTS,
        flags=("--command",),
    )
    port_attempts: int = option(
        100,
        "Ports that are tried, from the wanted one on.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--port-attempts",),
    )
    startup_timeout: float = option(
        600.0,
        "Seconds in which a server must answer after its start, compiling its model included.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--startup-timeout",),
    )
    ready_attempts: int = option(
        60,
        "Times that waiting for a ready server asks GET /v1/models.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--ready-attempts",),
    )
    ready_interval: float = option(
        1.0,
        "Seconds between these, and between the probes of a server that starts.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--ready-interval",),
    )
    health_interval: float = option(
        5.0,
        "Seconds between the probes of a server that serves.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--health-interval",),
    )
    health_timeout: float = option(
        10.0,
        "Seconds that the answer to a probe may take.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--health-timeout",),
    )
    health_tolerance: int = option(
        3,
        "Probes in a row that may fail; one more, and the server is restarted.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--health-tolerance",),
    )
    restart_delay: float = option(
        1.0,
        "Seconds before a restart; doubled by each restart within the window.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--restart-delay",),
    )
    restart_max_delay: float = option(
        60.0,
        "Longest such delay in seconds.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--restart-max-delay",),
    )
    restart_limit: int = option(
        5,
        "Restarts within the window after which the supervisor gives up; 0 never restarts.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--restart-limit",),
    )
    restart_window: float = option(
        300.0,
        "Seconds for which a restart counts.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--restart-window",),
    )
    stop_timeout: float = option(
        40.0,
        "Seconds that a server gets to end after SIGINT, before it and its children are killed.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--stop-timeout",),
    )
    output_lines: int = option(
        200,
        "Lines of the server's output that are kept.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--output-lines",),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not self.command:
            raise ConfigError("command is empty: expected mlc_serve, mlc_llm or the words of a command")


@dataclass(frozen=True)
class StatusServiceConfig:
    """The HTTP service that tells a supervisor's status. Raises ConfigError if a value is out of range."""

    status_port: int | None = option(
        None,
        "Tell the status on this port of 127.0.0.1, and take commands there; 0 is any free port. "
        "Without it there is no such service.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=65535,
        flags=("--status-port",),
    )
    status_token: str | None = option(
        None,
        "Bearer token for /start, /stop and /restart. Without one, that of the environment variable "
        "MLC_SERVE_STATUS_TOKEN, or one is made up and printed.",
        flags=("--status-token",),
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class ChatConfig:
    """What a chat in the terminal asks of a model; None leaves it to the model. Raises ConfigError.

    An option's override is its key in the chat's own /set.
    """

    system: str | None = option(None, "System message of every conversation.", flags=("--system",))
    temperature: float | None = option(
        None,
        "How far replies stray from the likeliest tokens; 0 takes these alone. Without one, the model's own.",
        kind=Kind.NUMBER,
        minimum=0,
        maximum=2,
        flags=("--temperature",),
        override="temperature",
    )
    top_p: float | None = option(
        None,
        "Share of the probability that tokens are drawn from. Without one, the model's own.",
        kind=Kind.NUMBER,
        minimum=0.001,
        maximum=1,
        flags=("--top-p",),
        override="top_p",
    )
    max_tokens: int | None = option(
        None,
        "Longest reply in tokens. Without one, as long as the context window allows.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-tokens",),
        override="max_tokens",
    )
    seed: int | None = option(
        None,
        "Seed of the draws: the same one gives the same reply.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=2**63 - 1,
        flags=("--seed",),
        override="seed",
    )

    def __post_init__(self) -> None:
        check_options(self)

    def changed(self, assignments: str) -> ChatConfig:
        """Return this configuration with `key=value;key=value` applied. Raises ConfigError."""
        return replace(self, **parse_assignments(assignments, ChatConfig, "/set"))

    def sampling(self) -> dict[str, Any]:
        """The fields of a request that are set."""
        given = {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Workload:
    """What a measurement asks: lengths in tokens, and how many runs a figure is the median of.

    Raises ConfigError.
    """

    prompt_tokens: int = option(
        128, "Length of prompts.", kind=Kind.INTEGER, minimum=1, flags=("--prompt-tokens",)
    )
    max_tokens: int = option(64, "Length of replies.", kind=Kind.INTEGER, minimum=1, flags=("--max-tokens",))
    runs: int = option(
        3, "Runs that a figure is the median of.", kind=Kind.INTEGER, minimum=1, flags=("--runs",)
    )

    def __post_init__(self) -> None:
        check_options(self)


def parse_overrides(overrides: str) -> dict[str, Any]:
    """Read `key=value;key=value` into fields of EngineConfig. Raises ConfigError naming key and value."""
    return parse_assignments(overrides, EngineConfig)
