"""The settings of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mlc_serve.config.not_yet import refuse_not_yet
from mlc_serve.config.option import Kind, Spelling, check_options, option, parse_assignments
from mlc_serve.config.prefix_cache import check_prefix_cache
from mlc_serve.config.speculation import check_speculation
from mlc_serve.errors import ConfigError

Mode = Literal["local", "interactive", "server"]
SpeculativeMode = Literal["disable", "ngram", "small_draft", "eagle", "medusa"]
PrefillMode = Literal["hybrid", "chunked"]
OptimizationLevel = Literal["O0", "O1", "O2", "O3"]
DEFAULT_OPT: OptimizationLevel = "O3"
DEFAULT_MODE: Mode = "local"
# The sequences that run at once in mode "local".
LOCAL_SEQUENCES = 4
PrefixCacheMode = Literal["radix", "disable"]
ToolCallParser = Literal[
    "generic",
    "hermes",
    "qwen3_coder",
    "llama3_json",
    "mistral",
    "mistral_args",
    "deepseek_v3",
    "deepseek_v31",
]
ReasoningParser = Literal["think", "deepseek_r1", "mistral", "none"]


@dataclass(frozen=True)
class EngineConfig:
    """The settings of an engine. Raises ConfigError if a value is out of range.

    Lengths are in tokens. `additional_models` holds paths or (path, library) pairs; each is served as a
    further chat model, unless the `speculative_mode` drafts with a model, which it then names.
    `prefix_cache_max_num_recycling_seqs` follows MLC: None means max_num_sequence, 0 keeps none, -1 means no
    limit.
    """

    model: str | None = option(None, "Model directory or Hugging Face repository. Default: the demo model.")
    model_lib: str | None = option(
        None,
        "Compiled model library. Without it, the model is compiled on first use.",
        flags=("--model-lib",),
    )
    mode: Mode | None = option(
        None,
        "Preset for limits that are not set: local (a few requests at a time), interactive (one) "
        "or server (as many as memory allows). Default: local.",
        flags=("--mode",),
        choices=("local", "interactive", "server"),
    )
    additional_models: Sequence[str | tuple[str, str]] = option(
        (),
        "Further chat models, each PATH or PATH,LIBRARY. A request chooses one by its `model`. If a second "
        "model drafts for the first one (see --speculative-mode), it is named here instead.",
        kind=Kind.MODELS,
        flags=("--additional-models",),
        spelling=Spelling.MANY,
    )
    quantization: str | None = option(
        None,
        "Scheme of the weights: q0f32, q0f16, and on the CPU q0bf16, q8f32_1, q4f16_1, q4f32_1 or q3f16_1. "
        "Default: the model's own, or q8f32_1 on the CPU and q0f16 elsewhere.",
        flags=("--quantization",),
    )
    tensor_parallel_shards: int | None = option(
        None,
        "Number of devices that share each layer. Not built yet.",
        kind=Kind.INTEGER,
        minimum=1,
        override="tensor_parallel_shards",
    )
    pipeline_parallel_stages: int | None = option(
        None,
        "Number of devices that the layers are divided among. Not built yet.",
        kind=Kind.INTEGER,
        minimum=1,
        override="pipeline_parallel_stages",
    )
    opt: OptimizationLevel | None = option(
        None,
        "Optimizations on the CPU that may change results: O0 none, O1 activations rounded to bytes where "
        "weights are integers, O2 also fused kernels, O3 also keys and values in float16. Default: O3.",
        flags=("--opt",),
        override="opt",
        choices=("O0", "O1", "O2", "O3"),
    )
    gpu_memory_utilization: float | None = option(
        None,
        "Share of the device's free memory (on the CPU: of what the machine and its cgroup leave free) "
        "for weights, workspace and KV cache. Default: 0.85.",
        kind=Kind.NUMBER,
        minimum=0.01,
        maximum=1,
        override="gpu_memory_utilization",
    )
    kv_cache_page_size: int = option(
        16,
        "Tokens in a page of the KV cache. Sizes other than 16 are not built yet.",
        kind=Kind.INTEGER,
        minimum=1,
        override="kv_cache_page_size",
    )
    max_num_sequence: int | None = option(
        None,
        "Sequences that run at once. By default --mode decides.",
        kind=Kind.INTEGER,
        minimum=1,
        override="max_num_sequence",
    )
    max_total_sequence_length: int | None = option(
        None,
        "Tokens that the KV cache holds. By default --mode and the memory decide.",
        kind=Kind.INTEGER,
        minimum=1,
        override="max_total_seq_length",
    )
    max_single_sequence_length: int | None = option(
        None,
        "Most tokens of one request, prompt and output together. Default: the model's context window.",
        kind=Kind.INTEGER,
        minimum=2,
        override="context_window_size",
    )
    context_window_limit: int | None = option(
        None,
        "Most tokens of one request if the model's context window is longer.",
        kind=Kind.INTEGER,
        minimum=2,
        override="context_window_limit",
    )
    prefill_chunk_size: int | None = option(
        None,
        "Most tokens of one forward pass. Default: 1024, or less if the model takes less.",
        kind=Kind.INTEGER,
        minimum=1,
        override="prefill_chunk_size",
    )
    sliding_window_size: int | None = option(
        None,
        "Tokens that each token sees, itself included, whatever the length of its sequence; -1 for all. "
        "Generation then goes on past the model's context window. Only on the CPU. By default an MLC "
        "directory decides, and else a token sees all.",
        kind=Kind.INTEGER,
        minimum=-1,
        override="sliding_window_size",
    )
    attention_sink_size: int | None = option(
        None,
        "How many of the tokens that a sliding window shows are the first ones of a sequence. By default an "
        "MLC directory decides, and else there are none.",
        kind=Kind.INTEGER,
        minimum=0,
        override="attention_sink_size",
    )
    max_history_size: int | None = option(
        None,
        "Number of tokens that can be taken off a sequence with a recurrent state. Each takes the memory of "
        "one more state. Default: 0.",
        kind=Kind.INTEGER,
        minimum=0,
        override="max_history_size",
    )
    kv_state_kind: Literal["kv_cache", "rnn_state"] | None = option(
        None,
        "Kind of a sequence's state, which the model decides: another kind than the model's is refused.",
        choices=("kv_cache", "rnn_state"),
        override="kv_state_kind",
    )
    speculative_mode: SpeculativeMode = option(
        "disable",
        "Speculative decoding, which never changes what is generated: ngram drafts what followed the last "
        "tokens when they occurred in the same text before; small_draft, eagle and medusa draft with a "
        "second model, which --additional-models names; the demo model has its own.",
        flags=("--speculative-mode",),
        choices=get_args(SpeculativeMode),
    )
    spec_draft_length: int | None = option(
        None,
        "Tokens drafted at a time for each request; 0 lets the engine choose, by how many are kept and what "
        "they cost. Default: 0.",
        kind=Kind.INTEGER,
        minimum=0,
        override="spec_draft_length",
    )
    spec_tree_width: int | None = option(
        None,
        "Branches of a draft. Only 1 is supported: drafts are chains.",
        kind=Kind.INTEGER,
        minimum=1,
        override="spec_tree_width",
    )
    prefix_cache_mode: PrefixCacheMode = option(
        "radix",
        "Whether requests reuse the cached prefixes of earlier ones (radix) or not (disable).",
        flags=("--prefix-cache-mode",),
        override="prefix_cache_mode",
        choices=("radix", "disable"),
    )
    prefix_cache_max_num_recycling_seqs: int | None = option(
        None,
        "Finished sequences that the prefix cache keeps; -1 means no limit. Default: max_num_sequence.",
        kind=Kind.INTEGER,
        minimum=-1,
        override="prefix_cache_max_num_recycling_seqs",
    )
    prefix_cache_dir: str | None = option(
        None,
        "Directory in which prefixes are stored. They are read back when a prompt begins with one that is no "
        "longer cached, also after a restart. Default: none is stored.",
        flags=("--prefix-cache-dir",),
        override="prefix_cache_dir",
    )
    prefix_cache_size: int = option(
        8 << 30,
        "Most bytes that the files in --prefix-cache-dir take.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--prefix-cache-size",),
        override="prefix_cache_size",
    )
    prefill_mode: PrefillMode = option(
        "hybrid",
        "Whether a step mixes prefill with decode (hybrid) or prefill goes first (chunked).",
        flags=("--prefill-mode",),
        override="prefill_mode",
        choices=("hybrid", "chunked"),
    )
    max_queued_requests: int = option(
        1024,
        "Most requests that may wait; further ones are refused with status 429.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--max-queued-requests",),
        override="max_queued_requests",
    )
    max_queued_tokens: int | None = option(
        None,
        "Most prompt tokens that may wait; a request that would add more is refused with status 429, unless "
        "nothing else waits. Default: no limit.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-queued-tokens",),
        override="max_queued_tokens",
    )
    max_choices: int = option(
        128,
        "Most choices of one request: `n`, or for completions `n` times the number of prompts.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-choices",),
        override="max_choices",
    )
    first_token_timeout: float | None = option(
        None,
        "Seconds in which a request must get its first token; else it ends with status 504. Default: no "
        "limit.",
        kind=Kind.NUMBER,
        minimum=0.1,
        flags=("--first-token-timeout",),
        override="first_token_timeout",
    )
    request_timeout: float | None = option(
        None,
        "Seconds in which a reply must be finished; else it ends with status 504, or with an error event if "
        "it is streamed and has begun. Default: no limit.",
        kind=Kind.NUMBER,
        minimum=0.1,
        flags=("--request-timeout",),
        override="request_timeout",
    )
    tool_call_parser: ToolCallParser | None = option(
        None,
        "Form in which the model writes tool calls. By default the chat template decides.",
        flags=("--tool-call-parser",),
        choices=get_args(ToolCallParser),
    )
    reasoning_parser: ReasoningParser | None = option(
        None,
        "Marks around the model's reasoning; none leaves it in the text. By default the chat template "
        "decides.",
        flags=("--reasoning-parser",),
        choices=get_args(ReasoningParser),
    )
    verbose: bool = option(
        True, "Print the limits that were chosen, and why.", kind=Kind.BOOLEAN, override="verbose"
    )

    def __post_init__(self) -> None:
        check_options(self)
        refuse_not_yet(self)
        check_speculation(self)
        check_prefix_cache(self)

    def agreed(self, *, model: str, model_lib: str | None, mode: Mode) -> EngineConfig:
        """Return this configuration with these values. Raises ConfigError if it already has other ones."""
        given: dict[str, Any] = {"model": model, "model_lib": model_lib, "mode": mode}
        for name, value in given.items():
            own = getattr(self, name)
            if own is not None and own != value:
                raise ConfigError(f"{name} is {value!r}, but {own!r} in the engine's configuration")
        return replace(self, **given)

    def overridden(self, overrides: str) -> EngineConfig:
        """Return this configuration with `key=value;key=value` applied. Raises ConfigError."""
        return replace(self, **parse_overrides(overrides))


def parse_overrides(overrides: str) -> dict[str, Any]:
    """Read `key=value;key=value` into fields of EngineConfig. Raises ConfigError naming key and value."""
    return parse_assignments(overrides, EngineConfig)
