"""all-MiniLM-L6-v2 behind a real server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import openai
import pytest
import real_models
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from tests.real.serving import served_name, serving

TEXTS = [
    "A man is eating a pizza.",
    "Somebody has his lunch at an Italian restaurant.",
    "The stock market fell by three percent on Monday.",
    "Snow",
    "Large language models read text as tokens, " * 20,
]
Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """A server of the model alone, with the weights that a user gets."""
    with serving(real_models.MINILM, None) as served:
        yield served


def embedded(client: openai.OpenAI, texts: Sequence[str]) -> Vectors:
    """The server's vectors, one row for each text."""
    reply = client.embeddings.create(model=served_name(client), input=list(texts))
    return np.array([entry.embedding for entry in reply.data], np.float32)


def expected_vector(text: str) -> Vectors:
    """The mean of the hidden states that transformers computes, scaled to length 1."""
    tokenizer = AutoTokenizer.from_pretrained(real_models.MINILM.directory)
    model = AutoModel.from_pretrained(real_models.MINILM.directory, dtype=torch.float32).eval()
    with torch.no_grad():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    vector: Vectors = torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy()
    return vector


def test_vectors_are_those_of_transformers(client: openai.OpenAI) -> None:
    """Every value of every vector, made in one batch, is within 1e-3."""
    expected = np.stack([expected_vector(text) for text in TEXTS])
    assert np.abs(embedded(client, TEXTS) - expected).max() < 1e-3


def test_texts_with_the_same_meaning_are_closest(client: openai.OpenAI) -> None:
    """Of several texts the one about the same thing comes first, without a word in common."""
    query, *others = embedded(client, TEXTS[:4])
    assert np.argsort(others @ query)[::-1][0] == 0
