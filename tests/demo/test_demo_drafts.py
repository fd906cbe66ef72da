"""What drafts for the demo model ships with it, in the layouts in which such models are published."""

from __future__ import annotations

import re
from math import prod

import pytest

from mlc_serve.config import EngineConfig, SpeculativeMode
from mlc_serve.config.speculation import MODEL_MODES, draft_models
from mlc_serve.demo import demo_draft_path, demo_model_path
from mlc_serve.errors import ConfigError
from tests.demo.draft_layouts import (
    assert_kept_as_stored,
    config_of,
    eagle_shapes,
    medusa_shapes,
    stored_shapes,
)

DEMO = config_of(demo_model_path())


def test_they_are_small_enough_to_ship() -> None:
    """All of them together take at most 2 MB."""
    files = (path for mode in MODEL_MODES for path in demo_draft_path(mode).iterdir())
    assert sum(path.stat().st_size for path in files) <= 2_000_000


@pytest.mark.parametrize("mode", MODEL_MODES)
def test_they_are_stored_in_8_bits(mode: str) -> None:
    """As the engine computes with them on the CPU, so that they lose nothing when they are loaded."""
    assert_kept_as_stored(demo_draft_path(mode))


def test_the_small_draft_has_a_tenth_of_the_parameters_and_the_same_tokens() -> None:
    """Its parameters are an eighth of the demo model's at most, and its files of tokens are the same."""
    directory = demo_draft_path("small_draft")
    count, of_demo = (sum(map(prod, stored_shapes(d).values())) for d in (directory, demo_model_path()))
    assert count <= of_demo / 8
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (directory / name).read_bytes() == (demo_model_path() / name).read_bytes()


def test_the_eagle_head_is_in_the_layout_of_eagle_1() -> None:
    """A Llama's configuration of one layer, with a bias; fc and that layer; no embeddings and no head."""
    directory = demo_draft_path("eagle")
    config = config_of(directory)
    assert (config["model_type"], config["num_hidden_layers"], config["bias"]) == ("llama", 1, True)
    assert [config[key] for key in ("hidden_size", "vocab_size")] == [DEMO["hidden_size"], DEMO["vocab_size"]]
    assert stored_shapes(directory) == eagle_shapes(config)


def test_the_medusa_heads_are_in_the_layout_of_mlc() -> None:
    """Two heads or more, each of residual layers and a matrix of logits."""
    directory = demo_draft_path("medusa")
    config = config_of(directory)
    assert (config["model_type"], config["medusa_num_heads"] >= 2) == ("medusa", True)
    assert [config[key] for key in ("hidden_size", "vocab_size")] == [DEMO["hidden_size"], DEMO["vocab_size"]]
    assert stored_shapes(directory) == medusa_shapes(config)


@pytest.mark.parametrize("mode", MODEL_MODES)
def test_the_cards_state_how_many_guesses_are_kept(mode: str) -> None:
    """Of the first guesses, at least a half; of those behind them, fewer."""
    card = (demo_draft_path(mode) / "README.md").read_text(encoding="utf-8")
    shares = [float(share) for share in re.findall(r"^\| \d \| ([\d.]+)% \|$", card, re.M)]
    assert len(shares) >= 2
    assert shares[0] >= 50
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("mode", MODEL_MODES)
def test_the_demo_model_needs_no_additional_model(mode: SpeculativeMode) -> None:
    """What ships with it drafts for it, unless something else is named; any other model needs one."""
    for model in (None, str(demo_model_path())):
        config = EngineConfig(model=model, speculative_mode=mode)
        assert draft_models(config) == (str(demo_draft_path(mode)),)
        named = EngineConfig(model=model, speculative_mode=mode, additional_models=("other",))
        assert draft_models(named) == ("other",)
    with pytest.raises(ConfigError, match="exactly one of additional_models"):
        EngineConfig(model="other", speculative_mode=mode)
