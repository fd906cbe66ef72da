"""Infers the limits that a configuration leaves open, from the model and the free memory.

It asks no device: the caller says how many bytes are free. All arithmetic is in whole tokens and bytes.

    memory to use  = free memory x gpu_memory_utilization
    left           = memory to use - weights - workspace of one step - recurrent states of all sequences
    capacity       = left / KV bytes of a token, in whole pages; no limit for a model without keys and values
    total          = one context window (local, interactive) or one for each sequence (server), up to capacity
                     with a sliding window, in all modes what each sequence holds of it and of a chunk

Recurrent states take at most the memory that is left, or half of it if there are keys and values, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from mlc_serve.config import DEFAULT_MODE, LOCAL_SEQUENCES, EngineConfig, Mode
from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.errors import ConfigError

DEFAULT_MEMORY_UTILIZATION = 0.85
# A step this long keeps matrix products efficient, and requests that arrive meanwhile do not wait long.
DEFAULT_PREFILL_CHUNK = 1024
# The value of `prefix_cache_max_num_recycling_seqs` that means "no limit", as in MLC.
UNLIMITED_RECYCLING = -1
_UNLIMITED_TOKENS = 2**62  # where no sequence takes memory for its tokens


@dataclass(frozen=True)
class InferredLimits:
    """Limits, and for each of them a line that says what was chosen and why."""

    limits: EngineLimits
    explanation: tuple[str, ...]


@dataclass(frozen=True)
class _Choice:
    value: int
    reason: str


def infer_limits(config: EngineConfig, info: ModelInfo, available_bytes: int) -> InferredLimits:
    """Complete the limits of `config` for a model.

    `available_bytes` is the memory that is free before the weights and the KV cache are put into it.
    Raises ConfigError, with the numbers, if a limit that was set exceeds what the model was compiled for or
    what memory holds.
    """
    _check_state(config, info)
    mode = config.mode or DEFAULT_MODE
    chunk = _prefill_chunk(config, info)
    memory = _Memory(config, info, available_bytes, chunk.value, _sequences(config, mode, info))
    sequences = memory.sequences
    single = _single(config, info)
    held = _held(info, single.value, chunk.value)
    total = _total(config, mode == "server" or info.window is not None, memory, sequences.value, held)
    if total.value < held:
        _check_single(config, total.value)
        single = _within(single, total.value, "the KV cache holds no more")
    chunk = _within(chunk, total.value, "the KV cache holds no more")
    limits = EngineLimits(
        max_num_sequence=sequences.value,
        max_total_sequence_length=total.value,
        max_single_sequence_length=single.value,
        prefill_chunk_size=chunk.value,
        max_scored_tokens=info.max_batch_size,
        max_draws=info.max_batch_size,
        prefill_mode=config.prefill_mode,
        prefix_cache_mode=config.prefix_cache_mode,
        max_recycling_sequences=_recycling(config, sequences.value),
        max_queued_requests=config.max_queued_requests,
        max_queued_tokens=config.max_queued_tokens,
        max_choices=config.max_choices,
        first_token_timeout=config.first_token_timeout,
        request_timeout=config.request_timeout,
        max_history_size=config.max_history_size or 0,
    )
    return InferredLimits(limits, _explain(mode, memory, sequences, total, single, chunk))


class _Memory:
    """The memory that sequences can use beside the weights and one step's workspace, and how many sequences
    there are at most.
    """

    def __init__(
        self, config: EngineConfig, info: ModelInfo, available_bytes: int, chunk: int, sequences: _Choice
    ) -> None:
        utilization = config.gpu_memory_utilization or DEFAULT_MEMORY_UTILIZATION
        self.page_size = info.page_size
        self.kv_bytes_per_token = info.kv_bytes_per_token
        self.state_bytes = info.state_bytes_per_sequence * (1 + (config.max_history_size or 0))
        self.usable = int(available_bytes * Fraction(str(utilization)))
        left = self.usable - info.param_bytes - chunk * info.workspace_bytes_per_token
        self.account = (
            f"{utilization:g} of the free memory is {_size(self.usable)}; "
            f"weights take {_size(info.param_bytes)}, "
            f"a step of {chunk} tokens {_size(chunk * info.workspace_bytes_per_token)}, "
            + ", ".join(self._prices())
        )
        self.sequences = self._affordable(config, sequences, left)
        self.kv_bytes = left - self.sequences.value * self.state_bytes
        self.capacity = self._capacity()
        if self.capacity == 0:
            raise self._too_little("a KV cache")

    def _prices(self) -> Iterator[str]:
        if self.state_bytes:
            yield f"the state of each sequence {_size(self.state_bytes)}"
        if self.kv_bytes_per_token:
            yield f"each cached token {_size(self.kv_bytes_per_token)}"

    def _affordable(self, config: EngineConfig, sequences: _Choice, left: int) -> _Choice:
        """Return as many of the sequences as there is memory for their recurrent states. A number that was
        set must be affordable.
        """
        if not self.state_bytes:
            return sequences
        most = max(left, 0) // self.state_bytes // (2 if self.kv_bytes_per_token else 1)
        if most == 0:
            raise self._too_little("the state of a sequence")
        if config.max_num_sequence is not None and most < sequences.value:
            raise ConfigError(
                f"max_num_sequence={sequences.value} needs {_size(sequences.value * self.state_bytes)} for "
                f"recurrent states, and there is memory for {most} sequences: {self.account}"
            )
        return _within(sequences, most, "memory holds the states of no more")

    def _capacity(self) -> int:
        """Return how many tokens the KV cache can hold, in whole pages."""
        if not self.kv_bytes_per_token:
            return _UNLIMITED_TOKENS // self.page_size * self.page_size
        return max(self.kv_bytes // self.kv_bytes_per_token, 0) // self.page_size * self.page_size

    def _too_little(self, use: str) -> ConfigError:
        return ConfigError(
            f"not enough memory for {use}: {self.account}. Free some memory, raise "
            "gpu_memory_utilization, lower prefill_chunk_size, or serve a smaller model or quantization"
        )

    @property
    def taken(self) -> str:
        """What the states of all sequences take, in words."""
        return f"the recurrent states of all sequences take {_size(self.sequences.value * self.state_bytes)}"

    def whole_pages(self, tokens: int) -> int:
        """Return `tokens` rounded up to whole pages."""
        return -(-tokens // self.page_size) * self.page_size


def _check_state(config: EngineConfig, info: ModelInfo) -> None:
    """Refuse settings that contradict what the model keeps for a sequence."""
    kind = info.state_kind
    if config.kv_state_kind not in (None, kind):
        raise ConfigError(
            f"kv_state_kind={config.kv_state_kind} contradicts the model, whose sequences have {kind}"
        )
    if config.max_history_size and not info.state_bytes_per_sequence:
        raise ConfigError(
            f"max_history_size={config.max_history_size} is for models with a recurrent state; this model, "
            "which has none, can take back any number of tokens"
        )


def _sequences(config: EngineConfig, mode: Mode, info: ModelInfo) -> _Choice:
    wanted = config.max_num_sequence
    if wanted is not None:
        _check_compiled("max_num_sequence", wanted, info.max_batch_size)
        return _Choice(wanted, "as set")
    if mode == "interactive":
        return _Choice(1, "mode interactive serves one request at a time")
    if mode == "local":
        return _Choice(
            min(LOCAL_SEQUENCES, info.max_batch_size), "mode local serves a few requests at a time"
        )
    return _Choice(info.max_batch_size, "mode server fills the largest batch the model was compiled for")


def _prefill_chunk(config: EngineConfig, info: ModelInfo) -> _Choice:
    wanted = config.prefill_chunk_size
    if wanted is not None:
        _check_compiled("prefill_chunk_size", wanted, info.prefill_chunk_size)
        return _Choice(wanted, "as set")
    if info.prefill_chunk_size < DEFAULT_PREFILL_CHUNK:
        return _Choice(info.prefill_chunk_size, "the most that the model was compiled for")
    return _Choice(DEFAULT_PREFILL_CHUNK, "longer prompts are split, so that others are not held up")


def _single(config: EngineConfig, info: ModelInfo) -> _Choice:
    wanted = config.max_single_sequence_length
    if wanted is not None:
        _check_compiled("context_window_size", wanted, info.context_window_size)
        return _Choice(wanted, "as set")
    reason = "the model's context window" if info.window is None else "the most with a sliding window"
    window = _Choice(info.context_window_size, reason)
    limit = config.context_window_limit
    return window if limit is None else _within(window, limit, "as context_window_limit says")


def _held(info: ModelInfo, single: int, chunk: int) -> int:
    """Return how many tokens the longest sequence holds at once."""
    if info.window is None:
        return single
    return min(single, info.window.most_pages(chunk, info.page_size) * info.page_size)


def _total(config: EngineConfig, is_for_all: bool, memory: _Memory, sequences: int, held: int) -> _Choice:
    """Return the size of the KV cache: room for the longest sequence, or `is_for_all` for each."""
    wanted = config.max_total_sequence_length
    if wanted is not None:
        return _wanted_total(memory, wanted)
    windows = sequences if is_for_all else 1
    total = windows * memory.whole_pages(held)
    if total > memory.capacity:
        return _Choice(memory.capacity, "all that memory holds")
    if is_for_all:
        return _Choice(total, "a request of the longest length in every sequence")
    return _Choice(total, "one request of the longest length, or several shorter ones")


def _wanted_total(memory: _Memory, wanted: int) -> _Choice:
    total = memory.whole_pages(wanted)
    if total > memory.capacity:
        raise ConfigError(
            f"max_total_seq_length={wanted} needs {_size(total * memory.kv_bytes_per_token)} of KV cache, "
            f"but {_size(memory.kv_bytes)} is left, enough for {memory.capacity} tokens: {memory.account}"
        )
    reason = "as set" if total == wanted else f"{wanted} as set, in whole pages of {memory.page_size}"
    return _Choice(total, reason)


def _check_single(config: EngineConfig, total: int) -> None:
    wanted = config.max_single_sequence_length
    if wanted is not None and wanted > total:
        raise ConfigError(f"context_window_size={wanted} exceeds the {total} tokens that the KV cache holds")


def _within(choice: _Choice, limit: int, reason: str) -> _Choice:
    return choice if choice.value <= limit else _Choice(limit, reason)


def _check_compiled(key: str, wanted: int, compiled: int) -> None:
    if wanted > compiled:
        raise ConfigError(f"{key}={wanted} exceeds the {compiled} that the model was compiled for")


def _recycling(config: EngineConfig, sequences: int) -> int | None:
    wanted = config.prefix_cache_max_num_recycling_seqs
    if wanted == UNLIMITED_RECYCLING:
        return None
    return sequences if wanted is None else wanted


def _explain(
    mode: Mode, memory: _Memory, sequences: _Choice, total: _Choice, single: _Choice, chunk: _Choice
) -> tuple[str, ...]:
    choices = {
        "max_num_sequence": sequences,
        "max_total_sequence_length": total,
        "max_single_sequence_length": single,
        "prefill_chunk_size": chunk,
    }
    lines = [f"{name} = {choice.value}: {choice.reason}" for name, choice in choices.items()]
    states = [memory.taken] if memory.state_bytes else []
    kv_cache = _size(total.value * memory.kv_bytes_per_token)
    caches = [f"the KV cache takes {kv_cache}"] if memory.kv_bytes_per_token else []
    return (f"mode {mode}: {memory.account}", *lines, *states, *caches)


def _size(num_bytes: int) -> str:
    """Return a number of bytes in the largest binary unit that leaves a number of at least one."""
    size, unit = Fraction(num_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, larger
    return f"{float(size):.4g} {unit}"
