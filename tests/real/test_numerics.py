"""Real weights and real text: SmolLM2 and Gemma 3 say what transformers says of them in float32.

The text is longer than the window of 512 tokens that most of Gemma's layers have.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import real_models
from transformers import AutoTokenizer

from tests.runtime.pair import Pair, assert_greedy, assert_scores, assert_scores_of

TEXT = Path(__file__).parents[2] / "LICENSE"
NUM_TOKENS = 700
NUM_DECODED = 50


@pytest.fixture(
    scope="module", params=[real_models.SMOLLM2, real_models.GEMMA3], ids=lambda model: model.package
)
def pair(request: pytest.FixtureRequest) -> Pair:
    """One of the models, beside its reference."""
    return Pair(request.param.directory)


@pytest.fixture
def ids(pair: Pair) -> list[int]:
    """The tokens of the text."""
    return pair.ours.tokenizer.encode(TEXT.read_text(), add_special_tokens=True)[:NUM_TOKENS]


def test_text_becomes_the_tokens_of_transformers(pair: Pair, ids: list[int]) -> None:
    """Those that begin a text included."""
    theirs = AutoTokenizer.from_pretrained(pair.theirs.name_or_path)
    assert ids == theirs(TEXT.read_text()).input_ids[:NUM_TOKENS]


@pytest.mark.parametrize("piece_size", [NUM_TOKENS, 150], ids=["one pass", "chunks"])
def test_prefill_agrees(pair: Pair, ids: list[int], piece_size: int) -> None:
    """All tokens have the logprobs and ranks that transformers gives them, in one pass and in chunks."""
    assert_scores(pair, ids, piece_size)


def test_decoding_agrees(pair: Pair, ids: list[int]) -> None:
    """So they have if they come one by one after a long prompt."""
    prompt, decoded = ids[:-NUM_DECODED], ids[-NUM_DECODED:]
    assert_scores_of(pair, [prompt, *([token] for token in decoded)])


def test_greedy_tokens_are_those_of_transformers(pair: Pair, ids: list[int]) -> None:
    """After a short and a long beginning of the text, which run together."""
    prompts = [ids[:10], ids[:600]]
    assert_greedy(pair, prompts, pair.our_greedy(prompts, chunk_size=256, mode="hybrid"))
