"""Token ids of inputs, and how they are shortened."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.embedding_inputs import MAX_TOKENS, check_total, input_ids
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.testing import fake_embedding_model
from mlc_serve.text.tokenization.tokenizer import Tokenizer

CLS, SEP, A, B = range(4)


@pytest.fixture
def model() -> LoadedEmbeddingModel:
    """A model that puts [CLS] before and [SEP] after each text, and takes 64 tokens."""
    words = {"[CLS]": CLS, "[SEP]": SEP, "a": A, "b": B}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(words, unk_token="b"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return replace(fake_embedding_model(), tokenizer=Tokenizer(tokenizer))


def ids(model: LoadedEmbeddingModel, given: str | list[int], truncates_to: int | None) -> list[int]:
    """The ids of one input."""
    (found,) = input_ids([given], model, truncates_to, "input")
    return found.tolist()  # type: ignore[no-any-return]  # NumPy can't know the shape


def test_a_shortened_text_keeps_what_is_around_it(model: LoadedEmbeddingModel) -> None:
    """Words are cut off at the end, and the end token stays the last one. Token ids are simply cut."""
    assert ids(model, "a b a", None) == [CLS, A, B, A, SEP]
    assert ids(model, "a b a", 4) == [CLS, A, B, SEP]
    assert ids(model, "a b a", 1) == [SEP]
    assert ids(model, "a " * 9999, -1) == [CLS, *[A] * 62, SEP]
    assert ids(model, [A, B, A], 2) == [A, B]


def test_an_end_token_is_appended_and_kept() -> None:
    """Where the tokenizer adds none, the model's own follows each text, but no token ids."""
    model = replace(fake_embedding_model(), end_id=7)
    assert ids(model, "ab", None) == [256, 97, 98, 7]
    assert ids(model, "abcdef", 3) == [256, 97, 7]
    assert ids(model, [97], None) == [97]


def test_all_inputs_together_are_bounded(model: LoadedEmbeddingModel) -> None:
    """The work of one request has a limit, also where it has two lists."""
    many = replace(model, limits=replace(model.limits, context_length=MAX_TOKENS))
    with pytest.raises(InvalidRequestError, match="more than 300000 tokens in all"):
        input_ids([[A] * MAX_TOKENS, [A]], many, None, "input")
    whole = input_ids([[A] * MAX_TOKENS], many, None, "input")
    check_total(whole, "input")
    with pytest.raises(InvalidRequestError, match="more than 300000 tokens in all"):
        check_total(whole * 2, "input")
