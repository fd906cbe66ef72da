"""One choice of a raw completion: the echoed prompt, the output, the suffix, and all logprobs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import StringIO

from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.completion_logprobs import (
    CompletionLogprobsWriter,
    WholeCompletionLogprobs,
    joined,
)
from mlc_serve.frontend.reply_fields import stop_fields, wire_reason
from mlc_serve.protocol.replies import ChoiceEnd, CompletionChoice, CompletionLogprobs
from mlc_serve.text.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt's ids, and the text that `echo` repeats: the client's text, or the decoded ids.

    If the client sent ids and nothing is echoed, the text is empty.
    """

    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class CompletionOptions:
    """How the client wants the choices of its completion to be written."""

    echo: bool
    suffix: str
    logprobs: bool


class CompletionWriter:
    """Writes one choice in parts, whose concatenation is the whole choice."""

    def __init__(self, index: int, prompt: Prompt, tokenizer: Tokenizer, options: CompletionOptions) -> None:
        self._index = index
        self._prompt = prompt
        self._options = options
        self._is_plain = not (options.echo or options.logprobs)
        self._logprobs = CompletionLogprobsWriter(tokenizer, echo=options.echo)
        self._has_begun = False

    def writes_text_alone(self, delta: TextDelta) -> bool:
        """Return whether the part for a delta is only its text, so that `write` need not be called."""
        return self._is_plain and bool(delta.text) and delta.finish_reason is None

    def write(self, delta: TextDelta) -> CompletionChoice | None:
        """Return the part for one delta, or None if there is nothing to show."""
        begins = self._options.echo and not self._has_begun
        self._has_begun = True
        text = (self._prompt.text if begins else "") + delta.text
        if delta.finish_reason is not None:
            text += self._options.suffix
        logprobs = self._logprobs_of(delta, begins) if self._options.logprobs else None
        if not text and delta.finish_reason is None and (logprobs is None or not logprobs.tokens):
            return None
        end, stop = wire_reason(delta.finish_reason), stop_fields(delta.stop_string)
        return CompletionChoice(index=self._index, text=text, logprobs=logprobs, finish_reason=end, **stop)

    def _logprobs_of(self, delta: TextDelta, begins: bool) -> CompletionLogprobs:
        first = [self._logprobs.first_of_prompt(self._prompt.token_ids[0])] if begins else []
        return joined([*first, self._logprobs.write((*delta.prompt_logprobs, *delta.logprobs))])


class WholeCompletionWriter:
    """Collects one choice, and its logprobs, if the client asked for them, in `logprobs`."""

    def __init__(self, index: int, prompt: Prompt, tokenizer: Tokenizer, options: CompletionOptions) -> None:
        self._index = index
        self._parts = CompletionWriter(index, prompt, tokenizer, replace(options, logprobs=False))
        self._text = StringIO()
        self._end: ChoiceEnd | None = None
        self._stop: dict[str, str] = {}
        self._has_logprobs = options.logprobs
        self.logprobs = WholeCompletionLogprobs(tokenizer, echo=options.echo)
        if options.echo:
            self.logprobs.add_first_of_prompt(prompt.token_ids[0])

    def add(self, delta: TextDelta) -> None:
        """Add one more delta."""
        part = self._parts.write(delta)
        if part is not None:
            self._text.write(part.text)
            self._end = part.finish_reason
            self._stop = stop_fields(part.stop_reason)
        if self._has_logprobs:
            self.logprobs.add((*delta.prompt_logprobs, *delta.logprobs))

    def choice(self) -> CompletionChoice:
        """Return the whole choice. Call this after its last delta."""
        text = self._text.getvalue()
        return CompletionChoice(
            index=self._index, text=text, logprobs=None, finish_reason=self._end, **self._stop
        )
