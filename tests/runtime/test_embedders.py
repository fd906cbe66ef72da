"""Embeddings against transformers, in float32, for random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from mlc_serve.config import EngineConfig
from mlc_serve.engine.embedder import TokenIds, Vectors
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.loading import load_embedding_model
from tests.checkpoints import Shape, write_checkpoint
from tests.encoder_checkpoints import write_encoder

LENGTHS = (1, 7, 40, 2, 97, 16, 33)


class Case(NamedTuple):
    """A checkpoint, how it pools, and whether it normalizes."""

    write: Callable[[Path], Path]
    pooling: str
    normalizes: bool


CASES = {
    "bert-mean": Case(write_encoder, "mean", True),
    "bert-cls-head": Case(
        lambda path: write_encoder(path, pooling="cls_token", normalizes=False, prefix="bert."), "cls", False
    ),
    "roberta": Case(lambda path: write_encoder(path, "roberta", pooling="mean_tokens"), "mean", True),
    "xlm-roberta-cls": Case(
        lambda path: write_encoder(path, "xlm-roberta", pooling="cls_token"), "cls", True
    ),
    "qwen3": Case(
        lambda path: write_checkpoint(path, Shape("qwen3", tied=True, context_window_size=256)), "last", True
    ),
}


class Pair:
    """A checkpoint, loaded by our runtime and by transformers."""

    def __init__(self, directory: Path, case: Case) -> None:
        self.case, self.directory = case, case.write(directory)
        config = EngineConfig(
            model=str(directory), prefill_chunk_size=64, max_total_sequence_length=512, verbose=False
        )
        self.ours: LoadedEmbeddingModel = load_embedding_model(config, "cpu", lambda line: None)
        self.theirs = AutoModel.from_pretrained(str(directory), dtype=torch.float32).eval()

    def inputs(self) -> list[TokenIds]:
        """Random token ids of mixed lengths."""
        rng = np.random.default_rng(5)
        return [rng.integers(4, self.ours.vocab_size, length).astype(np.int32) for length in LENGTHS]

    def their_vector(self, ids: TokenIds) -> Vectors:
        """Transformers' hidden states, pooled by definition."""
        with torch.no_grad():
            states: Any = self.theirs(torch.tensor([ids.tolist()])).last_hidden_state[0].numpy()
        vector = {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}[self.case.pooling]
        found: Vectors = vector / np.linalg.norm(vector) if self.case.normalizes else vector
        return found


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A checkpoint of one of the cases, loaded by both."""
    return Pair(tmp_path_factory.mktemp("embedder") / "model", CASES[request.param])


def error(ours: Vectors, theirs: Vectors) -> float:
    """The greatest difference, in parts of the greatest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_vectors_are_those_of_transformers(pair: Pair) -> None:
    """Each vector of a batch of unequal lengths, some longer than a pass, is within 1e-4."""
    inputs = pair.inputs()
    ours = pair.ours.embedder.embed(inputs)
    assert ours.shape == (len(inputs), pair.ours.embedder.width)
    assert max(error(ours[i], pair.their_vector(ids)) for i, ids in enumerate(inputs)) < 1e-4


def test_a_vector_does_not_depend_on_the_batch(pair: Pair) -> None:
    """An input alone gives the vector that it gives among others, and the next batch is not affected."""
    inputs = pair.inputs()
    together = pair.ours.embedder.embed(inputs)
    for i, ids in enumerate(inputs):
        assert error(pair.ours.embedder.embed([ids])[0], together[i]) < 1e-5
    assert np.array_equal(pair.ours.embedder.embed(inputs), together)


@pytest.mark.parametrize("quantization", ["q0f16", "q0bf16"])
def test_narrower_weights_give_nearly_the_same_vectors(tmp_path: Path, quantization: str) -> None:
    """Weights of 16 bits keep the direction of each vector."""
    directory = str(write_encoder(tmp_path / "model"))
    configs = [EngineConfig(model=directory, quantization=name) for name in ("q0f32", quantization)]
    exact, narrow = (load_embedding_model(config, "cpu", lambda line: None) for config in configs)
    assert narrow.quantization == quantization
    inputs = [np.arange(4, 4 + length, dtype=np.int32) for length in (3, 50)]
    cosines = (exact.embedder.embed(inputs) * narrow.embedder.embed(inputs)).sum(axis=1)
    assert cosines.min() > 0.998


@pytest.mark.parametrize("text", ["hello world", "Embeddings!", "HÉLLO  unknown abc", "", "a\nb"])
def test_word_pieces_are_those_of_transformers(tmp_path: Path, text: str) -> None:
    """A text has the ids that transformers gives it, with [CLS] and [SEP]."""
    directory = write_encoder(tmp_path / "model")
    ours = load_embedding_model(EngineConfig(model=str(directory)), "cpu", lambda line: None).tokenizer
    theirs = AutoTokenizer.from_pretrained(str(directory))
    assert ours.encode(text, add_special_tokens=True) == theirs(text)["input_ids"]
