"""The scripted checkpoint gives a test's replies through the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_serve import EngineConfig, MLCEngine
from tests.scripted_checkpoint import END, Endless, Reply, write_scripted_checkpoint

REPLIES: dict[str, Reply] = {
    "weather": "It rains, and rains, and rains. It rains.",
    "empty": "",
    "letter": "é",
    "again": "aaaaaaaaaaaaaaaaaaaaaaa",
    "halves": [b"\xf0\x9f", b"\x98\x80", "<|tool|>", "end"],
    "story": Endless("Once upon a time."),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLCEngine]:
    """An engine on a model with these replies."""
    path = write_scripted_checkpoint(tmp_path_factory.mktemp("scripted"), REPLIES)
    engine = MLCEngine(str(path), "cpu", engine_config=EngineConfig(verbose=False))
    yield engine
    engine.terminate()


@pytest.mark.parametrize("key", ["weather", "empty", "letter", "again"])
def test_a_chat_is_answered_with_the_reply_of_its_key(engine: MLCEngine, key: str) -> None:
    """The reply is whole, whether tokens are drawn greedily or not."""
    for temperature in (0.0, 1.0):
        reply = engine.chat.completions.create(
            messages=[{"role": "user", "content": f"What about {key}"}], temperature=temperature
        )
        assert reply.choices[0].message.content == REPLIES[key]
        assert reply.choices[0].finish_reason == "stop"


def test_a_reply_has_the_tokens_that_it_was_written_with(engine: MLCEngine) -> None:
    """Pieces may be parts of characters, and special tokens, which are not shown."""
    reply = engine.completions.create(prompt="halves", max_tokens=9)
    assert reply.choices[0].text == "\U0001f600end"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5


def test_an_endless_reply_goes_on_until_it_is_cut_off(engine: MLCEngine) -> None:
    """An endless reply ends at max_tokens."""
    reply = engine.completions.create(prompt="story", max_tokens=50)
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].text.startswith("Once upon a time.")


def test_a_prompt_without_a_key_is_answered_with_nothing(engine: MLCEngine) -> None:
    """After a prompt without a key, the reply is empty."""
    assert engine.completions.create(prompt="nothing").choices[0].text == ""


def test_contradictory_replies_are_refused(tmp_path: Path) -> None:
    """Replies in which a token would have two successors are refused."""
    with pytest.raises(ValueError, match="two successors"):
        write_scripted_checkpoint(tmp_path, {"first": ["one", "two"], "second": ["one", END]})
