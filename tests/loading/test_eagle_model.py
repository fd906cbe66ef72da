"""EAGLE draft models in every layout have the same weights, and what does not suit a target is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlc_serve.checkpoint.conversion import plain_tensor
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.loading.architecture import checked_architecture
from mlc_serve.loading.draft_model import decoder_of
from mlc_serve.loading.eagle_model import eagle_sources, read_eagle_model, read_token_ids
from mlc_serve.models.eagle import Eagle
from tests.checkpoints import Shape, write_checkpoint
from tests.eagle_checkpoints import Draft, Layout, Tensors, write_draft
from tests.mlc_checkpoints import write_packed_model

TARGET = Shape(num_layers=4, vocab_size=320)
FIRST = Draft(TARGET, 1, bias=True)
THIRD = Draft(TARGET, 3, num_taps=3, draft_vocab_size=96, has_head=True)


class Wanted(NamedTuple):
    """A tensor that a library takes as it is."""

    name: str
    logical_shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "plain"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that is drafted for."""
    return write_checkpoint(tmp_path_factory.mktemp("target"), TARGET)


def read(path: Path, target: Path) -> Eagle:
    """The draft model in a directory."""
    return read_eagle_model(open_checkpoint(path), decoder_of(open_checkpoint(target), "eagle"))


def weights(path: Path, target: Path) -> dict[str, NDArray[Any]]:
    """All weights of a draft model."""
    eagle, checkpoint = read(path, target), open_checkpoint(path)
    wanted = [Wanted(name, shape) for name, shape in eagle.weights()]
    return {
        spec.name: plain_tensor(sources, spec)
        for sources, specs in eagle_sources(checkpoint, eagle, open_checkpoint(target), wanted)
        for spec in specs
    }


def expected(tensors: Tensors, target: Path, shared: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """What the weights are made of: a draft model's tensors, and those that it shares with its target."""
    layer = "layers.0."
    fused = {
        f"{layer}self_attn.qkv_proj.weight": [f"{layer}self_attn.{part}_proj.weight" for part in "qkv"],
        f"{layer}mlp.gate_up_proj.weight": [f"{layer}mlp.{part}_proj.weight" for part in ("gate", "up")],
    }
    parts = {part for names in fused.values() for part in names}
    own = {name: tensor for name, tensor in tensors.items() if name not in {*parts, "d2t", "t2d"}}
    if "lm_head.weight" in own:
        own["draft_head.weight"] = own.pop("lm_head.weight")
    stored = load_file(target / "model.safetensors")
    joined = {name: np.concatenate([tensors[part] for part in names]) for name, names in fused.items()}
    return own | joined | {name: stored[name] for name in shared}


def assert_same(ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]], error: float = 0) -> None:
    """Check that weights are the same, but for an error relative to the largest."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.shape == theirs[name].shape, name
        assert np.abs(tensor - theirs[name]).max() <= error * np.abs(theirs[name]).max(), name


def rewritten(path: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """The directory with other tensors."""
    file = path / "model.safetensors"
    save_file(change(load_file(file)), file)
    return path


def with_speculators_names(tensors: Tensors) -> Tensors:
    """EAGLE-1 as the format `speculators` names it."""
    return {
        name.replace("layers.0.", "transformer.").replace("fc.", "fusion_fc."): tensor
        for name, tensor in tensors.items()
    }


def test_the_first_generation_takes_norm_and_head_from_the_target(target: Path, tmp_path: Path) -> None:
    """In both layouts, with and without embeddings of its own, and with names that begin with "model"."""
    shared = ("model.norm.weight", "lm_head.weight")
    wanted = expected(FIRST.tensors(), target, ("model.embed_tokens.weight", *shared))
    assert_same(weights(write_draft(tmp_path / "plain", FIRST), target), wanted)
    speculators = write_draft(
        tmp_path / "speculators", replace(FIRST, keys={"fusion_bias": True}), "speculators"
    )
    assert_same(weights(rewritten(speculators, with_speculators_names), target), wanted)
    own = replace(FIRST, has_embedding=True)
    wanted = expected(own.tensors(), target, shared)
    assert_same(weights(write_draft(tmp_path / "own", own), target), wanted)
    prefixed = rewritten(
        write_draft(tmp_path / "prefixed", own), lambda tensors: {f"model.{k}": v for k, v in tensors.items()}
    )
    assert_same(weights(prefixed, target), wanted)


@pytest.mark.parametrize(("quantization", "error"), [("q0f32", 0.0), ("q4f16_1", 0.1)])
def test_mlc_directories_have_the_same_weights(
    target: Path, tmp_path: Path, quantization: str, error: float
) -> None:
    """A directory as MLC converts it, with fused products, and as it quantizes them."""
    draft = replace(FIRST, has_embedding=True, keys={"model_type": "eagle"})
    source = write_draft(tmp_path / "source", draft)
    shutil.copy(target / "tokenizer.json", source)
    packed = write_packed_model(tmp_path / "packed", source, quantization)
    wanted = expected(draft.tensors(), target, ("model.norm.weight", "lm_head.weight"))
    assert_same(weights(packed, target), wanted, error)


@pytest.mark.parametrize("layout", ["eagle", "speculators"])
def test_the_third_generation_has_its_own_head(target: Path, tmp_path: Path, layout: Layout) -> None:
    """In both layouts; and its tokens are those of the target that it knows."""
    path = write_draft(tmp_path, THIRD, layout)
    tensors = THIRD.tensors()
    assert_same(weights(path, target), expected(tensors, target, ("model.embed_tokens.weight",)))
    token_ids = read_token_ids(open_checkpoint(path), read(path, target))
    assert token_ids is not None
    assert token_ids.tolist() == np.flatnonzero(tensors["t2d"]).tolist()


def test_a_target_that_ties_its_head_gives_its_embeddings(tmp_path: Path) -> None:
    """They are the draft model's head, also if it has embeddings of its own."""
    shape = replace(TARGET, tied=True)
    target = write_checkpoint(tmp_path / "target", shape)
    draft = replace(FIRST, target=shape, has_embedding=True)
    shared = ("model.embed_tokens.weight", "model.norm.weight")
    assert_same(
        weights(write_draft(tmp_path / "draft", draft), target), expected(draft.tensors(), target, shared)
    )


def test_taps_are_read_as_each_layout_means_them(target: Path, tmp_path: Path) -> None:
    """`speculators` names what enters layers, and `eagle_config` what leaves them. By convention, EAGLE-1
    reads what the last layer leaves, and EAGLE-3 what enters three layers.
    """
    key = "eagle_aux_hidden_state_layer_ids"
    entering = replace(THIRD, keys={key: [0, 2, 4]})
    leaving = replace(THIRD, keys={"eagle_config": {key: [0, 1, 3], "use_aux_hidden_state": True}})
    assert read(write_draft(tmp_path / "a", entering, "speculators"), target).taps == (0, 2, 4)
    assert read(write_draft(tmp_path / "b", leaving), target).taps == (1, 2, 4)
    assert read(write_draft(tmp_path / "c", FIRST), target).taps == (4,)
    assert read(write_draft(tmp_path / "d", THIRD), target).taps == (2, 2, 1)


def without(name: str) -> Callable[[Tensors], Tensors]:
    """A change that leaves a tensor out."""
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def with_tensor(name: str, tensor: NDArray[Any]) -> Callable[[Tensors], Tensors]:
    """A change that adds or replaces a tensor."""
    return lambda tensors: {**tensors, name: tensor}


REFUSED: dict[str, tuple[Draft, Layout, str, Callable[[Tensors], Tensors] | None]] = {
    "hidden size": (
        replace(FIRST, target=replace(TARGET, hidden_size=32)),
        "eagle",
        "config.json: hidden_size 32 is not that of the model that is drafted for, whose states have 64",
        None,
    ),
    "hidden size of the target": (
        replace(THIRD, keys={"target_hidden_size": 128}),
        "eagle",
        "config.json: target_hidden_size 128 is not that of the model",
        None,
    ),
    "vocabulary": (
        replace(FIRST, target=replace(TARGET, vocab_size=300)),
        "eagle",
        "config.json: vocab_size 300 is not that of the model that is drafted for, which has 320 tokens",
        None,
    ),
    "unknown speculator": (
        replace(THIRD, keys={"speculators_model_type": "dflash"}),
        "speculators",
        "config.json: speculators_model_type 'dflash' is not supported; supported are eagle, eagle3",
        None,
    ),
    "two norms": (
        replace(THIRD, keys={"norm_before_fc": True, "fc_norm": True}),
        "eagle",
        "config.json: norm_before_fc and fc_norm exclude each other",
        None,
    ),
    "norms of another model": (
        replace(FIRST, keys={"layernorms": True}),
        "speculators",
        "config.json: layernorms True is not supported in a draft model",
        None,
    ),
    "last states alone": (
        replace(THIRD, keys={"eagle_config": {"use_aux_hidden_state": False}}),
        "eagle",
        "config.json: use_aux_hidden_state False is not supported in a draft model",
        None,
    ),
    "unknown flag": (
        replace(THIRD, keys={"eagle_config": {"use_magic": True}}),
        "eagle",
        "config.json: eagle_config: use_magic is not supported",
        None,
    ),
    "layers": (
        replace(THIRD, keys={"num_hidden_layers": 2}),
        "eagle",
        "config.json: num_hidden_layers 2 is not supported, only 1",
        None,
    ),
    "taps": (
        replace(THIRD, keys={"eagle_aux_hidden_state_layer_ids": [1, 2, 5]}),
        "eagle",
        "config.json: eagle_aux_hidden_state_layer_ids must list layers up to 4, not [1, 2, 5]",
        None,
    ),
    "no map": (THIRD, "eagle", "draft_vocab_size 96 is not supported without d2t", without("d2t")),
    "map beyond": (
        THIRD,
        "eagle",
        "tensor d2t leads to tokens outside of the vocabulary, which has 320",
        with_tensor("d2t", np.full(96, 300)),
    ),
    "map of another size": (
        THIRD,
        "eagle",
        "tensor d2t is int64 [90], and must have an integer for each of the 96 tokens",
        with_tensor("d2t", np.zeros(90, np.int64)),
    ),
    "another model": (
        replace(FIRST, bias=False),
        "eagle",
        "config.json: this is no EAGLE draft model: its checkpoint has no tensor fc.weight",
        without("fc.weight"),
    ),
    "missing tensor": (FIRST, "eagle", "there is no tensor", without("layers.0.mlp.up_proj.weight")),
    "unknown tensor": (
        FIRST,
        "eagle",
        "tensor layers.0.self_attn.q_proj.bias is no part of",
        with_tensor("layers.0.self_attn.q_proj.bias", np.ones(64, np.float32)),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_suit_is_refused_in_one_line(case: str, target: Path, tmp_path: Path) -> None:
    """The error names the file and the key, or the tensor."""
    draft, layout, message, change = REFUSED[case]
    path = write_draft(tmp_path, draft, layout)
    if change is not None:
        rewritten(path, change)
    with pytest.raises(CheckpointError) as caught:
        read(path, target)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_draft_model_alone_can_not_be_served(tmp_path: Path) -> None:
    """The error of a directory in the format `speculators` is one line, too."""
    path = write_draft(tmp_path, THIRD, "speculators")
    with pytest.raises(CheckpointError, match="model_type 'speculator_model' is not supported"):
        checked_architecture(open_checkpoint(path))
