"""Medusa's heads: what a configuration and the shapes of tensors say about them."""

from __future__ import annotations

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.models.medusa import MedusaHeads, counted
from mlc_serve.models.table import read_architecture
from tests.medusa_checkpoints import CONFIG, random_heads

SHAPES = {name: tensor.shape for name, tensor in random_heads(5, 2, hidden=8, vocab=20).items()}


def test_the_tensors_say_how_many_heads_there_are() -> None:
    """The configuration says two of one block; there are five of two, and it does not state the sizes. The
    names may begin with "medusa_head", as in MLC's.
    """
    heads = MedusaHeads(num_heads=5, num_blocks=2, hidden_size=8, vocab_size=20)
    assert MedusaHeads.from_config(counted(CONFIG, SHAPES)) == heads
    prefixed = {f"medusa_head.{name}": shape for name, shape in SHAPES.items()}
    assert MedusaHeads.from_config(counted(CONFIG, prefixed)) == heads


@pytest.mark.parametrize("prefix", ["", "medusa_head."])
def test_each_weight_has_its_tensor(prefix: str) -> None:
    """The weights are the tensors, whether or not their names begin with "medusa_head"."""
    heads = MedusaHeads.from_config(counted(CONFIG, SHAPES))
    stored = {f"{prefix}{name}": shape for name, shape in SHAPES.items()}
    found = {heads.names.parts(name, "huggingface", stored)[0].name: shape for name, shape in heads.weights()}
    assert found == stored
    assert [part.name for part in heads.names.in_mlc("medusa_head.0.2.weight")] == ["medusa_head.0.2.weight"]


def test_heads_without_a_projection_are_refused() -> None:
    """Some share the lm_head of their model; the error names the tensor that is missing."""
    shared = {name: shape for name, shape in SHAPES.items() if "linear" in name}
    with pytest.raises(CheckpointError, match=r"no tensor 0\.2\.weight: heads that share the lm_head"):
        counted(CONFIG, shared)
    with pytest.raises(CheckpointError, match="no Medusa heads"):
        counted(CONFIG, {"model.norm.weight": (8,)})


def test_sizes_are_bounded() -> None:
    """A configuration can't ask for more heads than anybody has, and heads generate no text by themselves."""
    config = counted(CONFIG, SHAPES)
    with pytest.raises(CheckpointError, match="medusa_num_heads must be a positive integer up to 64"):
        MedusaHeads.from_config(config | {"medusa_num_heads": 65})
    with pytest.raises(CheckpointError, match="'medusa' only drafts for another model"):
        read_architecture("medusa", config)
