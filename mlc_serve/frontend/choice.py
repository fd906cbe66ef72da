"""The text of one choice while its tokens arrive: detokenized, and ended where a stop string appears."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.request import FinishReason, RequestDelta
from mlc_serve.engine.speculation.draft_totals import DraftTotals
from mlc_serve.errors import RequestFailedError
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.text.stop_strings import StopSearch, StopStrings
from mlc_serve.text.tokenization.detokenizer import Detokenizer
from mlc_serve.text.tokenization.tokenizer import Tokenizer


@dataclass(slots=True)  # not frozen, which would take twice the time, and there is one for each token
class TextDelta:
    """What is new in one choice. Only the last delta of each `index` has a `finish_reason`.

    `token_ids` are all generated tokens up to and including a stop token or the one that completed a stop
    string. `logprobs`, if asked for, has an entry for each of them; for a stop token, whose text isn't shown,
    only if that was asked for. The `prompt_logprobs` of all deltas, if asked for, are those of the prompt's
    tokens from the second on. `drafts` are those of the choice so far, or None if there were none.
    `stop_string` is the one that ended the text, in the last delta.
    """

    index: int
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    num_cached_tokens: int = 0
    drafts: DraftTotals | None = None
    finish_reason: FinishReason | None = None
    stop_string: str | None = None


def choices(count: int, params: GenerationParams, tokenizer: Tokenizer) -> list[Choice]:
    """Return the choices of one request, which share the search tables of its stop strings."""
    stops = StopStrings(params.stop, are_shown=params.shows_stop)
    return [Choice(i, params, tokenizer, stops) for i in range(count)]


class Choice:
    """One of a request's choices.

    Stop strings are searched for in the text after the first min_tokens tokens. The search includes the names
    of special tokens, which are not shown: `<|im_end|>` as a stop string ends the text at that token.
    """

    def __init__(
        self, index: int, params: GenerationParams, tokenizer: Tokenizer, stops: StopStrings
    ) -> None:
        self.index = index
        self._min_tokens = params.sampling.min_tokens
        self._lists_stop_token = params.lists_stop_token
        self._num_tokens = 0
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(
            tokenizer, continues_text=params.continues_text, shown_special=params.shown_special
        )
        self._stop_search = StopSearch(stops) if stops.patterns else None

    def push(self, delta: RequestDelta) -> TextDelta:
        """Return the text for a delta of the engine. Raises RequestFailedError if the request failed there.

        If a stop string appears, the finish reason is STOP, whatever the engine's finish reason was.
        """
        if delta.finish_reason is FinishReason.ERROR:
            raise RequestFailedError(delta.error or "The request failed while it ran.")
        if delta.finish_reason is None and self._stop_search is None:
            return self._going_on(delta, self._detokenizer.push(delta.token_ids))
        shown = delta.token_ids[:-1] if delta.stop_token else delta.token_ids
        text, stopped_after = self._push_tokens(shown)
        stopped = stopped_after is not None
        if delta.finish_reason is not None and not stopped:
            tail, stopped = self._finish()
            text += tail
        return TextDelta(
            index=self.index,
            text=text,
            token_ids=delta.token_ids[:stopped_after],
            logprobs=self._listed(delta.logprobs, len(shown))[:stopped_after],
            prompt_logprobs=delta.prompt_logprobs,
            num_cached_tokens=delta.num_cached_tokens,
            drafts=delta.drafts,
            finish_reason=FinishReason.STOP if stopped else delta.finish_reason,
            stop_string=None if self._stop_search is None else self._stop_search.found,
        )

    def _listed(self, logprobs: tuple[TokenLogprobs, ...], num_shown: int) -> tuple[TokenLogprobs, ...]:
        return logprobs if self._lists_stop_token else logprobs[:num_shown]

    def _going_on(self, delta: RequestDelta, text: str) -> TextDelta:
        """Return the text delta in the common case, where nothing is searched for and nothing is cut off."""
        prompt, cached = delta.prompt_logprobs, delta.num_cached_tokens
        return TextDelta(self.index, text, delta.token_ids, delta.logprobs, prompt, cached, delta.drafts)

    def _push_tokens(self, token_ids: tuple[int, ...]) -> tuple[str, int | None]:
        """Return the text, and the number of tokens after which a stop string ended it, or None."""
        if self._stop_search is None:
            return self._detokenizer.push(token_ids), None
        text = ""
        for position, token_id in enumerate(token_ids):
            piece, stopped = self._push_token(token_id, self._stop_search)
            text += piece
            if stopped:
                return text, position + 1
        return text, None

    def _push_token(self, token_id: int, search: StopSearch) -> tuple[str, bool]:
        self._num_tokens += 1
        text = self._detokenizer.push((token_id,))
        if self._num_tokens <= self._min_tokens:
            return text, False
        if not self._detokenizer.shows(token_id):
            return search.push_hidden(self._tokenizer.token_text(token_id))
        return search.push(text)

    def _finish(self) -> tuple[str, bool]:
        text = self._detokenizer.finish()
        if self._stop_search is None:
            return text, False
        text, stopped = self._stop_search.push(text)
        return (text, True) if stopped else (text + self._stop_search.finish(), False)
