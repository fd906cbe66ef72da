"""What drafts for a model: what is loaded, what it takes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.engine.request import Request
from mlc_serve.errors import CheckpointError, ConfigError, StartupError
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import library as library_step
from mlc_serve.loading import load_model
from mlc_serve.loading.artifacts import HOME_VARIABLE
from mlc_serve.loading.drafting import find_drafting
from mlc_serve.loading.library import find_embedding_library
from mlc_serve.loading.sizing import infer_limits
from mlc_serve.runtime.device import find_device
from tests.checkpoints import write_checkpoint
from tests.engine.bench import spec
from tests.loading.model_info import INFO
from tests.rwkv6_checkpoints import RWKV6Shape, write_rwkv6

MODES = ("ngram", "small_draft", "eagle", "medusa")
DRAFT = replace(
    INFO,
    context_window_size=512,
    prefill_chunk_size=1024,
    max_batch_size=16,
    param_bytes=1_000_000,
    kv_bytes_per_token=100,
    workspace_bytes_per_token=300,
)


def load(target: Path, **settings: Any) -> tuple[LoadedModel, list[str]]:
    """A model, and the lines that were reported."""
    lines: list[str] = []
    config = EngineConfig(
        model=str(target),
        quantization="q0f32",
        max_num_sequence=2,
        max_total_sequence_length=128,
        **({"verbose": False} | settings),
    )
    return load_model(config, "cpu", lines.append), lines


def drafting(target: Path, draft: Path | tuple[str, str]) -> tuple[LoadedModel, list[str]]:
    """A model with another one that drafts for it."""
    entry = str(draft) if isinstance(draft, Path) else draft
    return load(target, speculative_mode="small_draft", additional_models=(entry,))


def test_the_memory_of_both_models_is_counted() -> None:
    """The KV cache that is left has as many tokens of both models as memory holds beside both, and limits are
    what both were compiled for; the context stays that of the model itself.
    """
    both = INFO.with_draft_model(DRAFT)
    for available in (30_000_000, 20_000_000):
        limits = infer_limits(EngineConfig(mode="server"), both, available).limits
        left = available * 85 // 100 - 11_000_000 - 1024 * 1300
        assert limits.max_total_sequence_length == left // 1100 // 16 * 16
    assert limits.max_num_sequence == 16
    chosen = infer_limits(EngineConfig(mode="local"), both, 10**9).limits
    assert (chosen.max_single_sequence_length, chosen.prefill_chunk_size) == (2048, 1024)
    with pytest.raises(ConfigError, match="not enough memory"):
        infer_limits(EngineConfig(), both, 14_000_000)
    assert infer_limits(EngineConfig(), INFO, 14_000_000).limits.max_total_sequence_length > 0


def test_a_draft_model_may_have_its_library_named(
    tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """With a path and a library, nothing is looked up or compiled; a library that is missing is named."""
    with pytest.raises(CheckpointError, match=r"model library \S+/no\.so: there is no such file"):
        drafting(tiny_checkpoint, (str(tiny_checkpoint), str(tmp_path / "no.so")))


def test_a_draft_model_with_other_tokens_is_refused(
    tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """Also if only one token differs. The error is one line, and comes before anything is compiled for it."""
    other = write_checkpoint(tmp_path / "other", seed=3)
    path = other / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    first, second = list(tokenizer["model"]["vocab"])[-2:]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="their vocabularies differ") as raised:
        drafting(tiny_checkpoint, other)
    assert str(other) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_draft_model_that_is_missing_is_refused(
    tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """By its own name."""
    with pytest.raises(StartupError, match="nothing"):
        drafting(tiny_checkpoint, tmp_path / "nothing")


def test_a_draft_model_is_compiled_and_quantized_as_the_model_is(
    tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """One with the same configuration shares its library, so that only its weights are made."""
    model, lines = drafting(tiny_checkpoint, write_checkpoint(tmp_path / "draft", seed=21))
    assert lines == []
    assert model.limits.max_total_sequence_length == 128


@pytest.mark.parametrize(("length", "chosen"), [(3, [3, 3]), (0, [0, 0]), (None, [0, 0])])
def test_ngram_needs_no_further_model(
    tiny_checkpoint: Path, tiny_model: LoadedModel, length: int | None, chosen: list[int]
) -> None:
    """A length is for each request; without one, the engine first measures a pass without drafts."""
    model, _ = load(tiny_checkpoint, speculative_mode="ngram", spec_draft_length=length)
    requests = [Request(spec(name, b"hello"), max_length=64) for name in "ab"]
    assert model.speculation.lengths(requests, 9) == chosen


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test fails if it compiles anything."""
    monkeypatch.setattr(library_step, "run_compiler", lambda *_: pytest.fail("something is compiled"))


@pytest.mark.parametrize("mode", MODES)
def test_recurrent_models_refuse_drafts_by_name(mode: Any, tmp_path: Path, without_compiler: None) -> None:
    """Whatever drafts, and also if they keep a history: drafts are computed one after another, so that there
    is nothing to gain. Nothing is compiled before.
    """
    write_rwkv6(tmp_path, RWKV6Shape())
    models = () if mode == "ngram" else ("draft",)
    with pytest.raises(ConfigError, match=f"speculative_mode = {mode} is not supported for rwkv6: .*recurr"):
        load(tmp_path, speculative_mode=mode, additional_models=models, max_history_size=8)


def test_recurrent_models_do_not_draft(
    tiny_checkpoint: Path, tmp_path: Path, without_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both models, and comes before anything is compiled."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "cache"))
    write_rwkv6(tmp_path / "recurrent", RWKV6Shape())
    with pytest.raises(CheckpointError, match=r"recurrent can't draft for tiny: its layers keep a recurrent"):
        drafting(tiny_checkpoint, tmp_path / "recurrent")


@pytest.mark.parametrize("mode", MODES)
def test_a_recurrent_library_refuses_drafts(mode: str) -> None:
    """It is all that tells of a model whose family only MLC knows."""
    models = () if mode == "ngram" else ("draft",)
    config = EngineConfig(
        speculative_mode=mode,  # type: ignore[arg-type]
        additional_models=models,
        max_history_size=8,
    )
    target: Any = SimpleNamespace(model_type="rwkv5")
    library: Any = SimpleNamespace(is_recurrent=True)
    with pytest.raises(ConfigError, match=f"speculative_mode = {mode} is not supported for rwkv5: .*recurr"):
        find_drafting(config, target, library, None, find_device("cpu"), print)


def test_embedding_models_refuse_drafts() -> None:
    """They generate no text."""
    nothing: Any = None
    with pytest.raises(ConfigError, match="speculative_mode is for models that generate text"):
        find_embedding_library(EngineConfig(speculative_mode="ngram"), nothing, find_device("cpu"), (), print)
