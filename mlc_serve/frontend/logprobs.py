"""Logprobs of tokens in the two forms of OpenAI's API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.protocol.replies import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from mlc_serve.text.detokenizer import Detokenizer
from mlc_serve.text.tokenizer import Tokenizer


def chat_logprobs(entries: Iterable[TokenLogprobs], tokenizer: Tokenizer) -> ChatLogprobs:
    """The form of chat replies: an object a token, with the token's own bytes."""

    def alternative(token_id: int, logprob: float) -> TopLogprob:
        text = tokenizer.token_text(token_id)
        return TopLogprob(token=text, logprob=logprob, bytes=list(tokenizer.token_bytes(token_id)))

    def drawn(entry: TokenLogprobs) -> TokenLogprob:
        own = alternative(entry.token_id, entry.logprob)
        top = [alternative(token_id, logprob) for token_id, logprob in entry.top]
        return TokenLogprob(token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=top)

    return ChatLogprobs(content=[drawn(entry) for entry in entries], refusal=None)


class CompletionLogprobsWriter:
    """The form of raw completions: parallel lists, with the place of each token in the choice's text.

    One object for one choice. With `echo` the text begins with the prompt, otherwise with the output.
    """

    def __init__(self, tokenizer: Tokenizer, *, echo: bool) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, continues_text=not echo)
        self._offset = 0

    def first_of_prompt(self, token_id: int) -> CompletionLogprobs:
        """The prompt's first token: nothing comes before it, so it has no logprob."""
        text = self._tokenizer.token_text(token_id)
        offset = self._pass_by(token_id)
        return CompletionLogprobs(
            tokens=[text], token_logprobs=[None], top_logprobs=[None], text_offset=[offset]
        )

    def write(self, entries: Sequence[TokenLogprobs]) -> CompletionLogprobs:
        """Further tokens, in the text's order."""
        return CompletionLogprobs(
            tokens=[self._tokenizer.token_text(entry.token_id) for entry in entries],
            token_logprobs=[entry.logprob for entry in entries],
            top_logprobs=[self._alternatives(entry) for entry in entries],
            text_offset=[self._pass_by(entry.token_id) for entry in entries],
        )

    def _pass_by(self, token_id: int) -> int:
        """Where the token begins, in characters that were complete before it."""
        offset = self._offset
        self._offset += len(self._detokenizer.push((token_id,)))
        return offset

    def _alternatives(self, entry: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the one drawn, by text; of tokens with one text, the likeliest."""
        by_text: dict[str, float] = {}
        for token_id, logprob in (*entry.top, (entry.token_id, entry.logprob)):
            by_text.setdefault(self._tokenizer.token_text(token_id), logprob)
        return by_text


def joined(parts: Sequence[CompletionLogprobs]) -> CompletionLogprobs:
    """Consecutive parts as one."""
    return CompletionLogprobs(
        tokens=[token for part in parts for token in part.tokens],
        token_logprobs=[logprob for part in parts for logprob in part.token_logprobs],
        top_logprobs=[top for part in parts for top in part.top_logprobs],
        text_offset=[offset for part in parts for offset in part.text_offset],
    )
