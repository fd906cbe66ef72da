"""Logprobs in the format of raw completions: parallel lists, with the offset of each token in the text."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.frontend.completion_prompt import Prompt
from mlc_serve.frontend.logprob_table import LogprobTable, finite, listed
from mlc_serve.frontend.prompt_logprobs import PromptScores
from mlc_serve.protocol.replies import CompletionLogprobs
from mlc_serve.text.tokenization.detokenizer import Detokenizer
from mlc_serve.text.tokenization.tokenizer import Tokenizer

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class CompletionLogprobsWriter:
    """Writes the logprobs of one choice, with up to `num_top` alternatives for each token.

    If a prompt is echoed, the text begins with it, otherwise with the output.
    """

    def __init__(self, tokenizer: Tokenizer, num_top: int, echoed: Prompt | None = None) -> None:
        self._tokenizer = tokenizer
        self._num_top = num_top
        self._detokenizer = Detokenizer(tokenizer, continues_text=True)
        self._prompt_starts = iter(() if echoed is None else echoed.starts[1:])
        self._offset = 0 if echoed is None else len(echoed.text)

    def first_of_prompt(self, token_id: int) -> CompletionLogprobs:
        """Return the entry for the prompt's first token, which has no logprob because nothing precedes it."""
        text = self._tokenizer.token_text(token_id)
        return CompletionLogprobs(tokens=[text], token_logprobs=[None], top_logprobs=[None], text_offset=[0])

    def write(self, entries: Sequence[TokenLogprobs]) -> CompletionLogprobs:
        """Return the entries for further tokens, in the text's order."""
        return CompletionLogprobs(
            tokens=self.texts(entries),
            token_logprobs=self.logprobs(entries),
            top_logprobs=self.alternatives(entries),
            text_offset=[self.pass_by(entry.token_id) for entry in entries],
        )

    def texts(self, entries: Iterable[TokenLogprobs]) -> list[str]:
        """Return the text of each token by itself."""
        return [self._tokenizer.token_text(entry.token_id) for entry in entries]

    def logprobs(self, entries: Iterable[TokenLogprobs]) -> list[float | None]:
        """Return the logprob of each token."""
        return [finite(entry.logprob) for entry in entries]

    def alternatives(self, entries: Iterable[TokenLogprobs]) -> list[dict[str, float] | None]:
        """Return the logprobs of the likeliest tokens and the sampled one, by text.

        If several tokens have the same text, only the likeliest is listed.
        """
        return [self._by_text(entry) for entry in entries]

    def pass_by(self, token_id: int) -> int:
        """Advance past the next token, and return its offset: the number of complete characters before it."""
        start = next(self._prompt_starts, None)
        if start is not None:
            return start
        offset = self._offset
        self._offset += len(self._detokenizer.push((token_id,)))
        return offset

    def _by_text(self, entry: TokenLogprobs) -> dict[str, float]:
        by_text: dict[str, float] = {}
        for token_id, logprob in (*entry.top[: self._num_top], (entry.token_id, entry.logprob)):
            by_text.setdefault(self._tokenizer.token_text(token_id), finite(logprob))
        return by_text


class WholeCompletionLogprobs:
    """The logprobs of one choice of a whole reply, collected and then written in pieces.

    If a prompt is echoed, they begin with its `scores`, which its choices share.
    """

    def __init__(
        self, tokenizer: Tokenizer, num_top: int, echoed: Prompt | None, scores: PromptScores
    ) -> None:
        self._writer = CompletionLogprobsWriter(tokenizer, num_top)
        self._echoed = echoed
        self._scores = scores
        self._table = LogprobTable()
        self._start = 0 if echoed is None else len(echoed.text)
        self._offsets = array("q")

    def add(self, entries: Iterable[TokenLogprobs]) -> None:
        """Add further tokens of the output, in the text's order."""
        for entry in entries:
            self._offsets.append(self._start + self._writer.pass_by(entry.token_id))
            self._table.add((entry,))

    def pieces(self) -> Iterator[str]:
        """Yield the JSON of all logprobs in pieces."""
        writer, prompt = self._writer, self._echoed
        first = writer.write(()) if prompt is None else writer.first_of_prompt(prompt.token_ids[0])
        yield '{"tokens":'
        yield from self._column(first.tokens, writer.texts)
        yield ',"token_logprobs":'
        yield from self._column(first.token_logprobs, writer.logprobs)
        yield ',"top_logprobs":'
        yield from self._column(first.top_logprobs, writer.alternatives)
        yield ',"text_offset":'
        offsets = chain(() if prompt is None else prompt.starts[1:], self._offsets)
        yield from self._column(first.text_offset, lambda run: [next(offsets) for _ in run])
        yield "}"

    def _column(
        self, first: Sequence[object], column: Callable[[list[TokenLogprobs]], Sequence[object]]
    ) -> Iterator[str]:
        prompts = () if self._echoed is None else self._scores.runs()
        return listed(map(_items, chain([first], map(column, chain(prompts, self._table.runs())))))


def _items(values: Sequence[object]) -> str:
    """Return the values as JSON, separated by commas."""
    return _JSON.encode(values)[1:-1]


def joined(parts: Sequence[CompletionLogprobs]) -> CompletionLogprobs:
    """Join consecutive parts into one."""
    return CompletionLogprobs(
        tokens=[token for part in parts for token in part.tokens],
        token_logprobs=[logprob for part in parts for logprob in part.token_logprobs],
        top_logprobs=[top for part in parts for top in part.top_logprobs],
        text_offset=[offset for part in parts for offset in part.text_offset],
    )
