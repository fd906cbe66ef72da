"""Which models may draft for which others, and what is refused before anything is compiled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.errors import CheckpointError, ConfigError
from mlc_serve.loading.draft_model import DraftModel, find_draft_model
from tests.checkpoints import Shape, write_checkpoint
from tests.medusa_checkpoints import random_heads, write_heads

SMALL = Shape(hidden_size=16, num_layers=3, num_heads=2, num_kv_heads=1, intermediate_size=24, vocab_size=300)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three layers."""
    return write_checkpoint(tmp_path_factory.mktemp("target"), SMALL)


def found(target: Path, draft: Path, mode: Any) -> DraftModel | None:
    """What drafts for a model."""
    config = EngineConfig(model=str(target), speculative_mode=mode, additional_models=(str(draft),))
    return find_draft_model(config, open_checkpoint(target))


def test_heads_read_what_the_last_layer_leaves(target: Path, tmp_path: Path) -> None:
    """Their sizes are those of the model, and the tap is the number of its layers."""
    draft = found(target, write_heads(tmp_path, random_heads(4, hidden=16, vocab=300)), "medusa")
    assert draft is not None
    assert draft.taps == (3,)
    assert draft.checkpoint.config["medusa_num_heads"] == 4


def test_a_model_of_its_own_reads_nothing(target: Path, tmp_path: Path) -> None:
    """It has no taps; if its vocabulary is another one, it is refused."""
    draft = found(target, target, "small_draft")
    assert draft is not None
    assert draft.taps == ()
    other = write_checkpoint(tmp_path, replace(SMALL, vocab_size=310))
    with pytest.raises(CheckpointError, match=r"can't draft for .*: their vocabularies differ"):
        found(target, other, "small_draft")


@pytest.mark.parametrize(
    ("sizes", "fault"),
    [
        ({"hidden": 24, "vocab": 300}, "its hidden size is 24, not 16"),
        ({"hidden": 16, "vocab": 304}, "its vocabulary is 304, not 300"),
    ],
)
def test_heads_for_another_model_are_refused(
    target: Path, tmp_path: Path, sizes: dict[str, int], fault: str
) -> None:
    """The error is one line with both numbers."""
    heads = write_heads(tmp_path, random_heads(**sizes))
    with pytest.raises(CheckpointError, match=rf"^{heads} can't draft for {target.name}: {fault}$"):
        found(target, heads, "medusa")


def test_a_mode_takes_models_of_its_kind(target: Path, tmp_path: Path) -> None:
    """Heads are no model of their own, and a model is no heads."""
    heads = write_heads(tmp_path, random_heads(hidden=16, vocab=300))
    with pytest.raises(CheckpointError, match="it is a medusa, and speculative_mode is small_draft"):
        found(target, heads, "small_draft")
    with pytest.raises(CheckpointError, match="it is a llama, and speculative_mode is medusa"):
        found(target, target, "medusa")


def test_a_recurrent_model_gives_no_states(target: Path, tmp_path: Path) -> None:
    """Heads can't draft for it, and the error names its kind."""
    recurrent = {"model_type": "rwkv6", "hidden_size": 64, "num_hidden_layers": 2, "head_size": 16}
    (tmp_path / "config.json").write_text(json.dumps({**recurrent, "vocab_size": 300}))
    (tmp_path / "model.safetensors").write_bytes((target / "model.safetensors").read_bytes())
    heads = write_heads(tmp_path / "heads", random_heads(hidden=64, vocab=300))
    with pytest.raises(ConfigError, match=r"medusa is not supported for rwkv6: .* recurrent state"):
        found(tmp_path, heads, "medusa")
