"""MLCEngine: the same engine without asyncio."""

from __future__ import annotations

import _weakrefset
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest

from mlc_serve.api.sync_engine import MLCEngine
from mlc_serve.errors import InvalidRequestError, ShuttingDownError
from mlc_serve.testing import FakeBackend, fake_model, replay
from tests.patience import PATIENCE

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def engine() -> Iterator[MLCEngine]:
    """Return an engine that answers everything with `Grüße`."""
    with MLCEngine.from_loaded(fake_model(backend=FakeBackend(choose=replay("Grüße".encode())))) as engine:
        yield engine


@pytest.fixture
def endless() -> Iterator[MLCEngine]:
    """Return an engine whose replies go on until the context is full."""
    with MLCEngine.from_loaded(fake_model()) as engine:
        yield engine


def test_whole_replies(engine: MLCEngine) -> None:
    """Chat and completion requests get whole replies."""
    assert engine.chat.completions.create(**HELLO).choices[0].message.content == "Grüße"
    assert engine.completions.create(prompt="a").choices[0].text == "Grüße"


def test_streamed_replies(engine: MLCEngine) -> None:
    """Streams are plain iterators."""
    chat = list(engine.chat.completions.create(**HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chat) == "Grüße"
    completion = engine.completions.create(prompt="a", stream=True)
    assert "".join(part.choices[0].text for part in completion) == "Grüße"


def test_bad_request_raises(engine: MLCEngine) -> None:
    """A bad request raises as it does with asyncio."""
    with pytest.raises(InvalidRequestError, match="temperature"):
        engine.completions.create(prompt="a", temperature=-1)


def test_iterator_that_is_closed_ends_its_request(endless: MLCEngine) -> None:
    """Closing a running iterator ends its request; one that was not started may be closed as well."""
    stream = endless.completions.create(prompt="a", stream=True)
    next(stream)
    stream.close()
    endless.completions.create(prompt="a", stream=True).close()
    assert endless.num_open == 0


def test_threads_share_the_engine(endless: MLCEngine) -> None:
    """Requests of several threads each get their own reply."""
    texts: dict[int, str] = {}

    def ask(seed: int) -> None:
        texts[seed] = endless.completions.create(prompt="a", seed=seed, max_tokens=9).choices[0].text

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {
        seed: endless.completions.create(prompt="a", seed=seed, max_tokens=9).choices[0].text
        for seed in range(4)
    }


def test_reset_and_metrics(engine: MLCEngine) -> None:
    """`reset` and `metrics` work."""
    engine.completions.create(prompt="a")
    assert engine.metrics()["prompt_tokens_sum"] == 2
    engine.abort("nobody's")
    engine.reset()
    assert engine.metrics()["prompt_tokens_sum"] == 0
    assert engine.name == "fake"


def test_terminated_engine_answers_no_more() -> None:
    """An open stream ends with an error, new requests are refused, and a second `terminate` does nothing."""
    engine = MLCEngine.from_loaded(fake_model())
    stream = engine.completions.create(prompt="a", stream=True)
    next(stream)
    engine.terminate()
    engine.terminate()
    with pytest.raises(ShuttingDownError):
        engine.completions.create(prompt="a")
    with pytest.raises(ShuttingDownError):
        next(stream)


class CtrlC:
    """Raises KeyboardInterrupt in a `with` block once Python code in it has called a number of functions.

    Like a signal it is noticed when a function begins and when one written in C returns, but not in the
    callback of a weak reference, where Python itself loses it.
    """

    def __init__(self, num_calls: int) -> None:
        self._num_calls = num_calls

    def __enter__(self) -> None:
        sys.setprofile(self._count)

    def __exit__(self, *_exc_info: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _arg: object) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename != _weakrefset.__file__:
            self._num_calls -= 1
            if self._num_calls == 0:
                raise KeyboardInterrupt


def answered(engine: MLCEngine) -> str:
    """Return a reply, waiting for it on another thread, so that an engine that hangs fails the test."""
    texts: SimpleQueue[str] = SimpleQueue()
    ask = threading.Thread(
        target=lambda: texts.put(engine.completions.create(prompt="a").choices[0].text), daemon=True
    )
    ask.start()
    return texts.get(timeout=PATIENCE)


def test_ctrl_c_leaves_the_engine_working() -> None:
    """Wherever Ctrl-C interrupts a thread that waits for a reply, the next request is answered."""
    # No fixture: to end an engine that hangs would hang as well.
    engine = MLCEngine.from_loaded(fake_model(backend=FakeBackend(choose=replay("Grüße".encode()))))
    num_calls, interrupted = 1, True
    while interrupted:
        interrupted = False
        try:
            with CtrlC(num_calls), closing(engine.completions.create(prompt="a", stream=True)) as parts:
                next(parts)
        except KeyboardInterrupt:
            interrupted = True
        assert answered(engine) == "Grüße"
        num_calls += 1
    assert num_calls > 20
    engine.terminate()
