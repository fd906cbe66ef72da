"""What a conversation keeps of what was said."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from mlc_serve.chat.dialogue import Dialogue
from mlc_serve.chat.source import Message, ReplyPart
from mlc_serve.config import ChatConfig
from mlc_serve.errors import ConfigError, RemoteServerError
from tests.chat.fake_source import FakeSource


class PartsSource(FakeSource):
    """Answers with certain parts."""

    def __init__(self, parts: Sequence[ReplyPart]) -> None:
        super().__init__()
        self._parts = parts

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Mapping[str, Any],
    ) -> Generator[ReplyPart, None, None]:
        yield from self._parts


def said(dialogue: Dialogue) -> list[tuple[str, str]]:
    """Role and text of each message."""
    return [(message["role"], message["content"]) for message in dialogue.messages]


def test_the_model_is_given_all_that_was_said() -> None:
    """The system message comes first, then questions and answers in turn; settings are passed on."""
    source = FakeSource("a b", "c")
    dialogue = Dialogue(source, ChatConfig(system="Be brief.", temperature=0.5))
    assert list(dialogue.ask("one")) == ["a", "b"]
    assert list(dialogue.ask("two")) == ["c"]
    messages, sampling = source.asked[1]
    assert [message["content"] for message in messages] == ["Be brief.", "one", "ab", "two"]
    assert sampling == {"temperature": 0.5}
    assert dialogue.stats is not None
    assert dialogue.stats.num_tokens == 10


def test_reasoning_is_shown_and_not_kept() -> None:
    """A person can tell it from the answer, and the model is not sent it again."""
    parts = [
        ReplyPart(reasoning="so"),
        ReplyPart(reasoning="?"),
        ReplyPart("3"),
        ReplyPart("."),
        ReplyPart(num_tokens=9),
    ]
    dialogue = Dialogue(PartsSource(parts), ChatConfig())
    assert "".join(dialogue.ask("one")) == "<think>\nso?\n</think>\n\n3."
    assert said(dialogue) == [("user", "one"), ("assistant", "3.")]


def test_a_reply_that_is_stopped_stays_as_far_as_it_went() -> None:
    """The source's reply is closed, too."""
    source = FakeSource("a b c")
    dialogue = Dialogue(source, ChatConfig())
    reply = dialogue.ask("one")
    assert next(reply) == "a"
    reply.close()
    assert source.ended == 1
    assert said(dialogue) == [("user", "one"), ("assistant", "a")]


def test_a_question_that_fails_is_not_kept() -> None:
    """It is kept only if part of the answer has arrived."""
    dialogue = Dialogue(FakeSource("!", "a !"), ChatConfig())
    with pytest.raises(RemoteServerError):
        list(dialogue.ask("one"))
    assert said(dialogue) == []
    with pytest.raises(RemoteServerError):
        list(dialogue.ask("two"))
    assert said(dialogue) == [("user", "two"), ("assistant", "a")]


def test_retry_replaces_the_last_answer() -> None:
    """Without a question there is no answer."""
    dialogue = Dialogue(FakeSource("a", "b"), ChatConfig())
    assert list(dialogue.retry()) == []
    list(dialogue.ask("one"))
    assert list(dialogue.retry()) == ["b"]
    assert said(dialogue) == [("user", "one"), ("assistant", "b")]


def test_reset_keeps_the_system_message_unless_another_is_given() -> None:
    """The earlier messages are forgotten either way."""
    dialogue = Dialogue(FakeSource("a", "b"), ChatConfig(system="Be brief."))
    list(dialogue.ask("one"))
    dialogue.reset()
    assert said(dialogue) == [("system", "Be brief.")]
    dialogue.reset("Be long.")
    assert said(dialogue) == [("system", "Be long.")]


def test_settings_change_by_key() -> None:
    """They change as with --overrides; a wrong assignment changes nothing."""
    dialogue = Dialogue(FakeSource(), ChatConfig(seed=1))
    dialogue.change("temperature=0;max_tokens=5")
    with pytest.raises(ConfigError, match=r"^/set: unknown key 'temprature' \(did you mean temperature\?\)"):
        dialogue.change("temprature=1")
    with pytest.raises(ConfigError, match=r"^/set: temperature=3: expected a number from 0 to 2"):
        dialogue.change("temperature=3")
    assert dialogue.config.sampling() == {"temperature": 0, "max_tokens": 5, "seed": 1}
