"""One choice of a raw completion: the echoed prompt, the output, the suffix, and all logprobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any

from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.completion_logprobs import (
    CompletionLogprobsWriter,
    WholeCompletionLogprobs,
    joined,
)
from mlc_serve.frontend.completion_prompt import Prompt
from mlc_serve.frontend.prompt_logprobs import PromptLogprobsParts, PromptLogprobsWriter, PromptScores
from mlc_serve.frontend.reply_fields import stop_fields, wire_reason
from mlc_serve.protocol.replies import ChoiceEnd, CompletionChoice, CompletionLogprobs
from mlc_serve.text.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class CompletionOptions:
    """How the client wants the choices of its completion to be written.

    `num_top` is the number of alternatives in logprobs, `num_prompt_top` that in prompt logprobs; with None
    there are no such logprobs.
    """

    echo: bool = False
    suffix: str = ""
    num_top: int | None = None
    num_prompt_top: int | None = None

    @property
    def are_plain(self) -> bool:
        """Whether a choice is only its output."""
        return not self.echo and self.num_top is None and self.num_prompt_top is None


class CompletionWriter:
    """Writes one choice in parts, whose concatenation is the whole choice."""

    def __init__(self, index: int, prompt: Prompt, tokenizer: Tokenizer, options: CompletionOptions) -> None:
        self._index = index
        self._prompt = prompt
        self._options = options
        self._is_plain = options.are_plain
        self._logprobs = CompletionLogprobsWriter(
            tokenizer, options.num_top or 0, prompt if options.echo else None
        )
        self._of_prompt = PromptLogprobsParts(tokenizer, options.num_prompt_top)
        self._has_begun = False

    def writes_text_alone(self, delta: TextDelta) -> bool:
        """Return whether the part for a delta is only its text, so that `write` need not be called."""
        return self._is_plain and bool(delta.text) and delta.finish_reason is None

    def write(self, delta: TextDelta) -> CompletionChoice | None:
        """Return the part for one delta, or None if there is nothing to show."""
        begins = not self._has_begun
        self._has_begun = True
        text = (self._prompt.text if begins and self._options.echo else "") + delta.text
        if delta.finish_reason is not None:
            text += self._options.suffix
        logprobs = None if self._options.num_top is None else self._logprobs_of(delta, begins)
        of_prompt = self._of_prompt.field(delta.prompt_logprobs)
        if not (text or delta.finish_reason or of_prompt or (logprobs is not None and logprobs.tokens)):
            return None
        end = wire_reason(delta.finish_reason)
        further: dict[str, Any] = {**of_prompt, **stop_fields(delta.stop_string)}
        return CompletionChoice(index=self._index, text=text, logprobs=logprobs, finish_reason=end, **further)

    def _logprobs_of(self, delta: TextDelta, begins: bool) -> CompletionLogprobs:
        if not self._options.echo:
            return self._logprobs.write(delta.logprobs)
        first = [self._logprobs.first_of_prompt(self._prompt.token_ids[0])] if begins else []
        return joined([*first, self._logprobs.write((*delta.prompt_logprobs, *delta.logprobs))])


class WholeCompletionWriter:
    """Collects one choice, and its logprobs, if the client asked for them, in `logprobs`.

    Those of the prompt are collected in `scores`, which the prompt's choices share.
    """

    def __init__(
        self,
        index: int,
        prompt: Prompt,
        scores: PromptScores,
        tokenizer: Tokenizer,
        options: CompletionOptions,
    ) -> None:
        self._index = index
        self._options = options
        text_only = CompletionOptions(options.echo, options.suffix)
        self._parts = CompletionWriter(index, prompt, tokenizer, text_only)
        self._text = StringIO()
        self._end: ChoiceEnd | None = None
        self._ended_by: dict[str, Any] = {}
        self._scores = scores
        self._prompt_logprobs = PromptLogprobsWriter(tokenizer, options.num_prompt_top or 0)
        echoed = prompt if options.echo else None
        self.logprobs = WholeCompletionLogprobs(tokenizer, options.num_top or 0, echoed, scores)

    def add(self, delta: TextDelta) -> None:
        """Add one more delta."""
        part = self._parts.write(delta)
        if part is not None:
            self._text.write(part.text)
            self._end = part.finish_reason
            self._ended_by = stop_fields(part.stop_reason)
        if delta.prompt_logprobs:
            self._scores.add(delta.prompt_logprobs)
        if delta.logprobs:
            self.logprobs.add(delta.logprobs)

    def prompt_logprobs(self) -> Iterator[str]:
        """Yield the JSON of the prompt's logprobs in pieces. Call this after the last delta."""
        return self._prompt_logprobs.pieces(self._scores)

    def choice(self) -> CompletionChoice:
        """Return the whole choice. Call this after its last delta."""
        of_prompt: dict[str, Any] = {} if self._options.num_prompt_top is None else {"prompt_logprobs": None}
        return CompletionChoice(
            index=self._index,
            text=self._text.getvalue(),
            logprobs=None,
            finish_reason=self._end,
            **of_prompt,
            **self._ended_by,
        )
