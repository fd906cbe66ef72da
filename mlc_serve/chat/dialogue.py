"""A conversation with a model: the messages so far, and the settings for the next reply."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from mlc_serve.chat.source import ChatSource, Message, ReplyPart
from mlc_serve.chat.stats import ReplyStats
from mlc_serve.config import ChatConfig
from mlc_serve.errors import MLCServeError

Text = Generator[str, None, None]


class Dialogue:
    """The conversation with one source. `stats` are those of the last reply."""

    def __init__(self, source: ChatSource, config: ChatConfig) -> None:
        self.source = source
        self.config = config
        self.stats: ReplyStats | None = None
        self._turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """The conversation as it is sent to the model."""
        system = self.config.system
        first: list[Message] = [{"role": "system", "content": system}] if system else []
        return first + self._turns

    def ask(self, question: str) -> Text:
        """Yield the reply to a question as it arrives. Raises RequestError or RemoteServerError.

        If the generator is closed early, the conversation keeps the reply so far. If the reply fails before
        its first word, the question is dropped, too.
        """
        self._turns.append({"role": "user", "content": question})
        return self._reply()

    def retry(self) -> Text:
        """Yield another reply to the last question; nothing if there is no question."""
        while self._turns and self._turns[-1]["role"] == "assistant":
            self._turns.pop()
        return self._reply() if self._turns else _nothing()

    def reset(self, system: str | None = None) -> None:
        """Start a new conversation, with another system message if one is given."""
        self._turns.clear()
        if system is not None:
            self.config = replace(self.config, system=system or None)

    def change(self, assignments: str) -> None:
        """Apply `key=value;key=value` to the settings. Raises ConfigError."""
        self.config = self.config.changed(assignments)

    def _reply(self) -> Text:
        self.stats = ReplyStats()
        said: list[str] = []
        transcript = _Transcript()
        try:
            with closing(self.source.reply(self.messages, self.config.sampling())) as parts:
                for part in parts:
                    self.stats.add(part)
                    if part.text:
                        said.append(part.text)
                    if written := transcript.written(part):
                        yield written
        except MLCServeError:
            if not said:
                self._turns.pop()
            raise
        finally:
            if said:
                self._turns.append({"role": "assistant", "content": "".join(said)})


class _Transcript:
    """Marks the reasoning in what a person reads. It is not part of the conversation."""

    def __init__(self) -> None:
        self._is_reasoning = False

    def written(self, part: ReplyPart) -> str:
        """Return a part with a mark before it where reasoning begins or ends."""
        mark = ""
        if part.reasoning and not self._is_reasoning:
            mark = "<think>\n"
        elif part.text and self._is_reasoning:
            mark = "\n</think>\n\n"
        self._is_reasoning = bool(part.reasoning) or (self._is_reasoning and not part.text)
        return mark + part.reasoning + part.text


def _nothing() -> Text:
    yield from ()
