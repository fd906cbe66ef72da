"""The source of a chat with a model in this process."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from mlc_serve.api.sync_engine import MLCEngine
from mlc_serve.chat.source import Message, ReplyPart


class LocalSource:
    """Implements ChatSource; owns the engine."""

    def __init__(self, engine: MLCEngine) -> None:
        self._engine = engine

    @property
    def name(self) -> str:
        return self._engine.name

    def reply(
        self, messages: Sequence[Message], sampling: Mapping[str, Any]
    ) -> Generator[ReplyPart, None, None]:
        chunks = self._engine.chat.completions.create(
            stream=True, messages=messages, stream_options={"include_usage": True}, **sampling
        )
        for chunk in chunks:
            for choice in chunk.choices:
                delta = choice.delta
                if delta.content or delta.reasoning:
                    yield ReplyPart(delta.content or "", delta.reasoning or "")
            if chunk.usage is not None:
                extra = chunk.usage.extra
                share_kept = None if extra is None else extra.draft_acceptance_rate
                yield ReplyPart(num_tokens=chunk.usage.completion_tokens, share_kept=share_kept)

    def close(self) -> None:
        self._engine.terminate()
