"""A chat with an engine in this process."""

from __future__ import annotations

from contextlib import closing

import pytest

from mlc_serve.api.sync_engine import MLCEngine
from mlc_serve.chat.local_source import LocalSource
from mlc_serve.errors import ContextLengthError
from mlc_serve.testing import FakeBackend, fake_model, replay
from tests.drafting import drafting_model

HELLO = [{"role": "user", "content": "hello"}]


def test_a_reply_comes_in_parts() -> None:
    """The parts are followed by the number of tokens; sampling settings reach the engine."""
    engine = MLCEngine.from_loaded(fake_model(backend=FakeBackend(choose=replay(b"Good day"))))
    with closing(LocalSource(engine)) as source:
        parts = list(source.reply(HELLO, {"max_tokens": 4}))
    assert "".join(part.text for part in parts) == "Good"
    assert parts[-1].num_tokens == 4


def test_closing_a_reply_ends_the_request() -> None:
    """The engine computes no more tokens for it."""
    engine = MLCEngine.from_loaded(fake_model())
    with closing(LocalSource(engine)) as source:
        reply = source.reply(HELLO, {})
        next(reply)
        reply.close()
        assert list(source.reply(HELLO, {"max_tokens": 2}))[-1].num_tokens == 2
        assert engine.num_open == 0


def test_what_the_engine_refuses_is_raised() -> None:
    """One example is a prompt that is too long."""
    engine = MLCEngine.from_loaded(fake_model())
    with closing(LocalSource(engine)) as source, pytest.raises(ContextLengthError):
        list(source.reply([{"role": "user", "content": "x" * 5000}], {}))


def test_the_last_part_tells_the_share_of_drafts_that_were_kept() -> None:
    """It is None for an engine that drafts nothing."""
    shares = []
    for model in (drafting_model(), fake_model()):
        with closing(LocalSource(MLCEngine.from_loaded(model))) as source:
            shares.append(list(source.reply(HELLO, {"max_tokens": 60}))[-1].share_kept)
    kept, nothing = shares
    assert kept is not None
    assert 0.5 < kept <= 1
    assert nothing is None
