"""Logprobs in the format of chat replies: one object per token, with the token's own bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from json.encoder import encode_basestring as quoted

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.frontend.logprob_table import LogprobTable, finite, listed
from mlc_serve.protocol.replies import ChatLogprobs
from mlc_serve.text.tokenization.tokenizer import Tokenizer

# The JSON of this many tokens is cached, because most of a reply consists of the same few tokens.
_REMEMBERED = 4096


class ChatLogprobsWriter:
    """Writes the logprobs of one reply as JSON, without pydantic, because there may be millions of them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._around = lru_cache(_REMEMBERED)(self._written_around)

    def written(self, entries: Iterable[TokenLogprobs]) -> ChatLogprobs:
        """Return the logprobs of a few tokens as an object."""
        return ChatLogprobs.model_validate_json(f'{{"content":[{self._items(entries)}],"refusal":null}}')

    def pieces(self, table: LogprobTable) -> Iterator[str]:
        """Yield the JSON of many tokens' logprobs in pieces."""
        yield '{"content":'
        yield from listed(map(self._items, table.runs()))
        yield ',"refusal":null}'

    def _items(self, entries: Iterable[TokenLogprobs]) -> str:
        return ",".join([self._item(entry) for entry in entries])

    def _item(self, entry: TokenLogprobs) -> str:
        own = self._alternative(entry.token_id, entry.logprob)
        top = [f"{{{self._alternative(token_id, logprob)}}}" for token_id, logprob in entry.top]
        return f'{{{own},"top_logprobs":[{",".join(top)}]}}'

    def _alternative(self, token_id: int, logprob: float) -> str:
        before, behind = self._around(token_id)
        return f"{before}{finite(logprob)!r}{behind}"

    def _written_around(self, token_id: int) -> tuple[str, str]:
        """Return the JSON of a token before and after its logprob."""
        text, own_bytes = self._tokenizer.token_text(token_id), self._tokenizer.token_bytes(token_id)
        return f'"token":{quoted(text)},"logprob":', f',"bytes":[{",".join(map(str, own_bytes))}]'
