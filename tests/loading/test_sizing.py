"""The limits that each mode infers from a model and from memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlc_serve.config import EngineConfig, Mode
from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.errors import ConfigError
from mlc_serve.loading.sizing import InferredLimits, infer_limits
from tests.loading.model_info import INFO

PLENTY = 1_000_000_000


def inferred(
    mode: Mode = "local", available: int = PLENTY, info: ModelInfo = INFO, overrides: str = ""
) -> InferredLimits:
    """Limits and explanation for a configuration that sets only `overrides`."""
    return infer_limits(EngineConfig(mode=mode).overridden(overrides), info, available)


def limits(
    mode: Mode = "local", available: int = PLENTY, info: ModelInfo = INFO, overrides: str = ""
) -> EngineLimits:
    """The limits alone."""
    return inferred(mode, available, info, overrides).limits


def memory_for(tokens: int, *, chunk: int = 1024) -> int:
    """The least free memory of which half suffices for the weights, a step and a KV cache of `tokens`."""
    return 2 * (INFO.param_bytes + chunk * INFO.workspace_bytes_per_token + tokens * INFO.kv_bytes_per_token)


HALF = "gpu_memory_utilization=0.5;"


@pytest.mark.parametrize(
    ("mode", "sequences", "total"), [("local", 4, 2048), ("interactive", 1, 2048), ("server", 32, 32 * 2048)]
)
def test_with_plenty_of_memory_the_mode_decides(mode: Mode, sequences: int, total: int) -> None:
    """In local mode four sequences share one context window, in interactive one has it, in server each."""
    chosen = limits(mode)
    assert (chosen.max_num_sequence, chosen.max_total_sequence_length) == (sequences, total)
    assert (chosen.max_single_sequence_length, chosen.prefill_chunk_size) == (2048, 1024)


@pytest.mark.parametrize("mode", ["local", "interactive", "server"])
def test_memory_bounds_every_mode(mode: Mode) -> None:
    """If memory holds 512 tokens, they are the total, the longest request and the longest chunk."""
    chosen = limits(mode, memory_for(512), overrides=HALF)
    assert chosen.max_total_sequence_length == 512
    assert chosen.max_single_sequence_length == 512
    assert chosen.prefill_chunk_size == 512


def test_capacity_is_exact() -> None:
    """If memory is one byte short of a page, the KV cache has a page less."""
    assert limits("server", memory_for(512), overrides=HALF).max_total_sequence_length == 512
    assert limits("server", memory_for(512) - 2, overrides=HALF).max_total_sequence_length == 496


def test_a_long_context_is_not_capped_silently() -> None:
    """Mode local offers a model's whole context window if memory holds it."""
    info = replace(INFO, context_window_size=131072)
    assert limits("local", info=info).max_single_sequence_length == 131072


def test_the_utilization_defaults_to_most_of_the_memory() -> None:
    """Without a setting, 85 % of the free memory is used."""
    available = 40_000_000
    kv_bytes = available * 85 // 100 - INFO.param_bytes - 1024 * INFO.workspace_bytes_per_token
    assert limits("server", available).max_total_sequence_length == kv_bytes // 1000 // 16 * 16


def test_a_small_batch_of_the_model_bounds_local() -> None:
    """No mode runs more sequences than the model was compiled for."""
    assert limits("local", info=replace(INFO, max_batch_size=2)).max_num_sequence == 2


def test_a_small_compiled_chunk_bounds_the_default() -> None:
    """A model that was compiled for short chunks gets no longer ones."""
    assert limits(info=replace(INFO, prefill_chunk_size=256)).prefill_chunk_size == 256


def test_overrides_win() -> None:
    """Every limit can be set, whatever the mode."""
    text = "max_num_sequence=7;max_total_seq_length=4096;context_window_size=1024;prefill_chunk_size=128"
    queue = (
        "max_queued_requests=5;max_queued_tokens=900;max_choices=6;first_token_timeout=8;request_timeout=99"
    )
    chosen = limits("interactive", overrides=f"{text};{queue};prefill_mode=chunked")
    assert chosen == EngineLimits(
        max_num_sequence=7,
        max_total_sequence_length=4096,
        max_single_sequence_length=1024,
        prefill_chunk_size=128,
        max_scored_tokens=INFO.max_batch_size,
        max_draws=INFO.max_batch_size,
        prefill_mode="chunked",
        prefix_cache_mode="radix",
        max_recycling_sequences=7,
        max_queued_requests=5,
        max_queued_tokens=900,
        max_choices=6,
        first_token_timeout=8,
        request_timeout=99,
    )


def test_the_total_is_whole_pages() -> None:
    """A total that is no multiple of the page size is rounded up, and so is a context window."""
    assert limits(overrides="max_total_seq_length=1000").max_total_sequence_length == 1008
    chosen = limits(info=replace(INFO, context_window_size=1000))
    assert (chosen.max_total_sequence_length, chosen.max_single_sequence_length) == (1008, 1000)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ("max_total_seq_length=100000000", ["max_total_seq_length=100000000", "93.13 GiB", "enough for"]),
        ("max_num_sequence=33", ["max_num_sequence=33", "32"]),
        ("prefill_chunk_size=4096", ["prefill_chunk_size=4096", "2048"]),
        ("context_window_size=4096", ["context_window_size=4096", "2048"]),
        ("context_window_size=2048;max_total_seq_length=1024", ["context_window_size=2048", "1024 tokens"]),
    ],
)
def test_an_impossible_override_is_refused_with_numbers(overrides: str, parts: list[str]) -> None:
    """The error for an impossible value names the key, the value and what is possible."""
    with pytest.raises(ConfigError) as error:
        inferred(overrides=overrides)
    assert [part for part in parts if part not in str(error.value)] == []


def test_too_little_memory_is_refused_with_advice() -> None:
    """Without room for a single page, the error has the account of the memory, and says what would help."""
    with pytest.raises(ConfigError) as error:
        inferred(available=INFO.param_bytes)
    assert str(error.value) == (
        "not enough memory for a KV cache: 0.85 of the free memory is 8.106 MiB; weights take 9.537 MiB, "
        "a step of 1024 tokens 1000 KiB, each cached token 1000 B. Free some memory, raise "
        "gpu_memory_utilization, lower prefill_chunk_size, or serve a smaller model or quantization"
    )


@pytest.mark.parametrize(("setting", "kept"), [("", 4), ("-1", None), ("0", 0), ("9", 9)])
def test_recycled_sequences(setting: str, kept: int | None) -> None:
    """As many recycled sequences are kept as may run, unless a number is set; -1 means no limit."""
    text = f"prefix_cache_max_num_recycling_seqs={setting}" if setting else ""
    assert limits(overrides=text).max_recycling_sequences == kept


def test_every_choice_is_explained() -> None:
    """Each limit has its line, with the value and the reason."""
    lines = inferred("local", overrides="max_num_sequence=2").explanation
    assert lines[0].startswith("mode local: 0.85 of the free memory is 810.6 MiB")
    assert "max_num_sequence = 2: as set" in lines
    assert (
        "max_total_sequence_length = 2048: one request of the longest length, or several shorter ones"
        in lines
    )
    assert "max_single_sequence_length = 2048: the model's context window" in lines
    assert any(line.startswith("prefill_chunk_size = 1024: ") for line in lines)
    assert lines[-1] == "the KV cache takes 1.953 MiB"


@pytest.mark.parametrize(
    ("overrides", "longest", "reason"),
    [
        ("context_window_limit=512", 512, "as context_window_limit says"),
        ("context_window_limit=32000", 2048, "the model's context window"),
        ("context_window_limit=512;context_window_size=1024", 1024, "as set"),
    ],
)
def test_a_limit_only_lowers_the_window(overrides: str, longest: int, reason: str) -> None:
    """A limit beyond the model's window has no effect, and neither has one beside a window that is set."""
    chosen = inferred(overrides=overrides)
    assert chosen.limits.max_single_sequence_length == longest
    assert f"max_single_sequence_length = {longest}: {reason}" in chosen.explanation


# ---------------------------------------------------------------- recurrent states

RECURRENT = replace(INFO, kv_bytes_per_token=0, state_bytes_per_sequence=50_000_000)
HYBRID = replace(INFO, state_bytes_per_sequence=50_000_000)


def test_a_recurrent_model_is_limited_by_its_sequences() -> None:
    """Memory limits the sequences, and only the context window their tokens."""
    chosen = inferred("server", PLENTY, RECURRENT)
    assert chosen.limits.max_num_sequence == (850_000_000 - 10_000_000 - 1024 * 1000) // 50_000_000
    assert chosen.limits.max_single_sequence_length == 2048
    assert chosen.limits.max_total_sequence_length == chosen.limits.max_num_sequence * 2048
    assert "the recurrent states of all sequences take 762.9 MiB" in chosen.explanation
    assert not any("KV cache" in line for line in chosen.explanation)


def test_states_to_go_back_to_take_memory() -> None:
    """With states for three more tokens, a fourth of the sequences fit."""
    chosen = limits("server", PLENTY, RECURRENT, "max_history_size=3")
    assert (chosen.max_num_sequence, chosen.max_history_size) == (4, 3)


def test_the_states_of_a_hybrid_leave_half_of_the_memory_to_its_kv_cache() -> None:
    """Where both take memory, neither takes all of it."""
    chosen = limits("server", PLENTY, HYBRID, "context_window_size=1024")
    assert chosen.max_num_sequence == 8
    assert chosen.max_total_sequence_length == 8 * 1024


@pytest.mark.parametrize(
    ("info", "available", "overrides", "message"),
    [
        (RECURRENT, 50_000_000, "", "not enough memory for the state of a sequence"),
        (RECURRENT, PLENTY, "max_num_sequence=32", "there is memory for 16 sequences"),
        (RECURRENT, PLENTY, "kv_state_kind=kv_cache", "kv_state_kind=kv_cache contradicts the model"),
        (INFO, PLENTY, "kv_state_kind=rnn_state", "whose sequences have kv_cache"),
        (INFO, PLENTY, "max_history_size=1", "max_history_size=1 is for models with a recurrent state"),
    ],
)
def test_settings_that_do_not_fit_the_state_are_refused(
    info: ModelInfo, available: int, overrides: str, message: str
) -> None:
    """By name, with the numbers."""
    with pytest.raises(ConfigError, match=message):
        inferred("server", available, info, overrides)


def test_with_a_window_each_sequence_gets_what_it_holds() -> None:
    """A window of 100 and a chunk of 64 tokens touch at most 12 pages, and another one has the sinks. That is
    room for sequences of any length; with less, the KV cache bounds them.
    """
    info = replace(INFO, context_window_size=100_000, window=SlidingWindow(104, 4))
    chosen = limits("local", info=info, overrides="prefill_chunk_size=64")
    assert chosen.max_total_sequence_length == 4 * 13 * 16
    assert chosen.max_single_sequence_length == 100_000
    exact = "prefill_chunk_size=64;max_total_seq_length=208"
    assert limits("local", info=info, overrides=exact).max_single_sequence_length == 100_000
    scarce = "prefill_chunk_size=64;max_total_seq_length=192"
    assert limits("local", info=info, overrides=scarce).max_single_sequence_length == 192
