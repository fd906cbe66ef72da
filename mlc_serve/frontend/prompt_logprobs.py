"""The logprobs of a prompt's tokens: collected once for all choices, and written in vLLM's format."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from json.encoder import encode_basestring as quoted

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.frontend.logprob_table import LogprobTable, finite, listed
from mlc_serve.protocol.replies import PromptLogprob, PromptLogprobs
from mlc_serve.text.tokenization.tokenizer import Tokenizer


class PromptScores:
    """The logprobs and ranks of one prompt's tokens, from the second on."""

    def __init__(self) -> None:
        self._table = LogprobTable()
        self._ranks = array("q")

    def add(self, entries: Sequence[TokenLogprobs]) -> None:
        """Add further tokens, in the prompt's order. Each has a rank."""
        self._table.add(entries)
        self._ranks.extend(entry.rank for entry in entries if entry.rank is not None)

    def runs(self) -> Iterator[list[TokenLogprobs]]:
        """Yield all tokens in order, in lists of about a thousand logprobs."""
        ranks = iter(self._ranks)
        for run in self._table.runs():
            ranked = zip(run, islice(ranks, len(run)), strict=True)
            yield [replace(entry, rank=rank) for entry, rank in ranked]


class PromptLogprobsWriter:
    """Writes prompt logprobs as JSON: for each position an object whose keys are token ids.

    It has the prompt's own token and the `num_top` likeliest. For the first token of a prompt there is null.
    """

    def __init__(self, tokenizer: Tokenizer, num_top: int) -> None:
        self._tokenizer = tokenizer
        self._num_top = num_top

    def pieces(self, scores: PromptScores) -> Iterator[str]:
        """Yield the JSON of a whole prompt's logprobs in pieces."""
        yield from listed(self._runs(scores))

    def written(self, entries: Iterable[TokenLogprobs]) -> PromptLogprobs:
        """Return the logprobs of a few tokens, from the prompt's second on, as objects."""
        return [self._object(entry) for entry in entries]

    def _runs(self, scores: PromptScores) -> Iterator[str]:
        yield "null"
        for run in scores.runs():
            yield ",".join([self._json(entry) for entry in run])

    def _json(self, entry: TokenLogprobs) -> str:
        alternatives = [
            f'"{token_id}":{{"logprob":{logprob!r},"rank":{rank},"decoded_token":{quoted(text)}}}'
            for token_id, logprob, rank, text in self._alternatives(entry)
        ]
        return f"{{{','.join(alternatives)}}}"

    def _object(self, entry: TokenLogprobs) -> dict[int, PromptLogprob]:
        return {
            token_id: PromptLogprob(logprob=logprob, rank=rank, decoded_token=text)
            for token_id, logprob, rank, text in self._alternatives(entry)
        }

    def _alternatives(self, entry: TokenLogprobs) -> Iterator[tuple[int, float, int, str]]:
        """Yield id, logprob, rank and text of the prompt's token, and of the likeliest others."""
        if entry.rank is None:
            raise RuntimeError("a token of a prompt was scored without its rank")
        yield self._alternative(entry.token_id, entry.logprob, entry.rank)
        for rank, (token_id, logprob) in enumerate(entry.top[: self._num_top], 1):
            if token_id != entry.token_id:
                yield self._alternative(token_id, logprob, rank)

    def _alternative(self, token_id: int, logprob: float, rank: int) -> tuple[int, float, int, str]:
        return token_id, finite(logprob), rank, self._tokenizer.token_text(token_id)


class PromptLogprobsParts:
    """Writes a prompt's logprobs for a stream, part by part; with `num_top` None there are none."""

    def __init__(self, tokenizer: Tokenizer, num_top: int | None) -> None:
        self._writer = None if num_top is None else PromptLogprobsWriter(tokenizer, num_top)
        self._has_begun = False

    def field(self, entries: Sequence[TokenLogprobs]) -> dict[str, PromptLogprobs]:
        """Return a chunk's field with further tokens, or no field if there are none.

        The first part also has the null for the prompt's first token.
        """
        begins, self._has_begun = not self._has_begun, True
        if self._writer is None or not (begins or entries):
            return {}
        first: PromptLogprobs = [None] if begins else []
        return {"prompt_logprobs": first + self._writer.written(entries)}
