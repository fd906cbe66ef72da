"""The token ids of what an embedding request contains, checked against the model. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlc_serve.engine.embedder import TokenIds
from mlc_serve.errors import ContextLengthError, InvalidRequestError
from mlc_serve.frontend.params import check_token_ids
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.protocol.embeddings import EmbeddingInput

# Of all inputs of one request, as OpenAI has it. A CPU takes minutes for so many.
MAX_TOKENS = 300_000


def input_ids(
    inputs: Sequence[EmbeddingInput], model: LoadedEmbeddingModel, truncates_to: int | None, param: str
) -> list[TokenIds]:
    """Return the token ids of all inputs, each shortened to `truncates_to` tokens; -1 means to what the model
    takes, and None shortens none.

    Raises ContextLengthError for an input that is too long, and InvalidRequestError for a token id that the
    model doesn't have and for more than MAX_TOKENS tokens in all. They name the input by its position.
    """
    longest = model.limits.context_length
    limit = None if truncates_to is None else min(longest, truncates_to) if truncates_to > 0 else longest
    made: list[TokenIds] = []
    num_tokens = 0
    for position, given in enumerate(inputs):
        place = f"{param}.{position}" if len(inputs) > 1 else param
        made.append(_ids(given, model, limit, place))
        num_tokens += len(made[-1])
        _check_number(num_tokens, param)
    return made


def check_total(ids: Sequence[TokenIds], param: str) -> None:
    """Raise InvalidRequestError if the inputs of one request have more than MAX_TOKENS tokens in all."""
    _check_number(sum(map(len, ids)), param)


def _check_number(num_tokens: int, param: str) -> None:
    if num_tokens > MAX_TOKENS:
        raise InvalidRequestError(
            f"{param}: there are more than {MAX_TOKENS} tokens in all; send several requests.", param
        )


def _ids(given: EmbeddingInput, model: LoadedEmbeddingModel, limit: int | None, place: str) -> TokenIds:
    if isinstance(given, str):
        ids = _text_ids(given, model, limit, place)
    else:
        ids = given if limit is None else given[:limit]
        check_token_ids(ids, model.vocab_size, place)
    if len(ids) > model.limits.context_length:
        raise _too_long(str(len(ids)), model, place)
    return np.array(ids, np.int32)


def _text_ids(text: str, model: LoadedEmbeddingModel, limit: int | None, place: str) -> list[int]:
    """Return the ids of a text with what the model needs around it. Where the text is cut, that is kept."""
    if limit is None:
        fewest = model.tokenizer.fewest_tokens(len(text))
        if fewest > model.limits.context_length:  # tokenizing it would take seconds and gigabytes
            raise _too_long(f"at least {fewest}", model, place)
    else:
        text = text[: model.tokenizer.longest_text(limit)]
    ids = model.tokenizer.encode(text, add_special_tokens=True)
    if model.end_id is not None:
        ids = [*ids, model.end_id]
    if limit is None or len(ids) <= limit:
        return _known(ids, model, place)
    num_around = min(_num_after(model), limit)
    return _known([*ids[: limit - num_around], *ids[len(ids) - num_around :]], model, place)


def _num_after(model: LoadedEmbeddingModel) -> int:
    """Return how many tokens the tokenizer and `end_id` put after a text."""
    alone = model.tokenizer.encode("a", add_special_tokens=False)
    around = model.tokenizer.encode("a", add_special_tokens=True)
    before = next((i for i in range(len(around)) if around[i : i + len(alone)] == alone), len(around))
    return max(len(around) - before - len(alone), 0) + (model.end_id is not None)


def _known(ids: list[int], model: LoadedEmbeddingModel, place: str) -> list[int]:
    if not ids:
        raise InvalidRequestError(f"{place}: the text has no tokens.", place)
    check_token_ids(ids, model.vocab_size, place)
    return ids


def _too_long(num_tokens: str, model: LoadedEmbeddingModel, place: str) -> ContextLengthError:
    return ContextLengthError.of_input(f"{num_tokens} tokens", model.limits.context_length, place)
