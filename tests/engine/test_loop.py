"""EngineLoop: a thread that works while there is work, ends on `stop`, and reports when it fails."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.loop import EngineLoop
from mlc_serve.engine.request import FinishReason, RequestDelta
from mlc_serve.errors import EngineDeadError
from tests.engine.bench import Bench, oracle, spec
from tests.patience import PATIENCE


class Running:
    """A loop on a bench's core that puts what it delivers into a queue."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.backend = self.bench.backend
        self.delivered: queue.Queue[list[RequestDelta]] = queue.Queue()
        self.deaths: queue.Queue[BaseException] = queue.Queue()
        self.loop = EngineLoop(self.bench.core, self.delivered.put, self.deaths.put)
        self.loop.start()

    def until_end(self, request_id: str) -> list[RequestDelta]:
        """Wait for all deltas of one request, and return them."""
        deltas: list[RequestDelta] = []
        while not deltas or deltas[-1].finish_reason is None:
            deltas += [
                delta for delta in self.delivered.get(timeout=PATIENCE) if delta.request_id == request_id
            ]
        return deltas

    def hold(self, request_id: str, max_tokens: int = 50) -> None:
        """Submit a request, and wait until its first forward pass is held in the backend."""
        self.backend.gate.clear()
        self.loop.submit(spec(request_id, b"hello", max_tokens=max_tokens))
        assert self.backend.entered.wait(PATIENCE)


@pytest.fixture
def running() -> Iterator[Running]:
    """Return a loop that is stopped after the test."""
    loop = Running()
    yield loop
    loop.backend.gate.set()
    loop.loop.stop()


def test_a_submitted_request_is_delivered(running: Running) -> None:
    """Tokens are delivered step by step, and equal those of the request alone."""
    request = spec("a", b"hello")
    running.loop.submit(request)
    deltas = running.until_end("a")
    assert [token_id for delta in deltas for token_id in delta.token_ids] == oracle(request, 64)[0]


def test_an_idle_loop_does_not_turn(running: Running) -> None:
    """Without work no step is made; a call does not make one either."""
    running.loop.submit(spec("a", b"hello"))
    running.until_end("a")
    for _ in range(3):
        running.loop.call(lambda core: core.has_work).result(PATIENCE)
    assert len(running.backend.batches) == 4


def test_a_busy_loop_is_known_to_be(running: Running) -> None:
    """The loop is busy during a forward pass and alive all the time, and last_turn advances after it."""
    running.hold("a", max_tokens=1)
    assert running.loop.busy
    turn = running.loop.last_turn
    running.backend.gate.set()
    running.until_end("a")
    running.loop.call(lambda core: None).result(PATIENCE)
    assert running.loop.last_turn > turn
    assert running.loop.alive


def test_abort_delivers_the_reason(running: Running) -> None:
    """The last delta of an aborted request has the given reason."""
    running.hold("a")
    running.loop.abort("a", FinishReason.STOP)
    running.backend.gate.set()
    assert running.until_end("a")[-1].finish_reason is FinishReason.STOP


def test_a_prompt_that_cannot_be_served_is_the_callers_error(running: Running) -> None:
    """`submit` raises on the caller's thread, and the loop goes on."""
    with pytest.raises(ValueError, match="100 tokens"):
        running.loop.submit(spec("a", bytes(100)))
    running.loop.submit(spec("a", b"hello"))
    assert running.until_end("a")


def test_a_call_runs_between_steps(running: Running) -> None:
    """The future of a call gives the function's value or raises its exception."""
    assert running.loop.call(lambda core: core.has_work).result(PATIENCE) is False
    failing: Future[float] = running.loop.call(lambda core: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(PATIENCE)
    assert running.loop.alive


def test_a_cancelled_call_is_not_made(running: Running) -> None:
    """A call whose future is cancelled before it begins is not made."""
    running.hold("a", max_tokens=1)
    made: list[EngineCore] = []
    future = running.loop.call(made.append)
    assert future.cancel()
    running.backend.gate.set()
    running.loop.call(lambda core: None).result(PATIENCE)
    assert not made


def test_a_reset_ends_open_requests(running: Running) -> None:
    """After a reset, the last deltas of the requests that it ended are delivered."""
    running.hold("a")
    running.loop.call(EngineCore.reset)
    running.backend.gate.set()
    assert running.until_end("a")[-1].finish_reason is FinishReason.ABORT


def test_death_is_told_once(running: Running) -> None:
    """If step raises, the loop calls `died` once, and later submits and calls raise EngineDeadError."""
    running.backend.crash_on = {ord("!")}
    running.loop.submit(spec("a", b"oh no!"))
    assert "crashes" in str(running.deaths.get(timeout=PATIENCE))
    assert not running.loop.alive
    with pytest.raises(EngineDeadError):
        running.loop.submit(spec("b", b"hello"))
    with pytest.raises(EngineDeadError):
        running.loop.call(lambda core: None)
    running.loop.abort("a")
    running.loop.stop()
    assert running.deaths.empty()


def test_death_ends_calls_that_wait(running: Running) -> None:
    """A queued call gets EngineDeadError when the loop dies."""
    running.hold("a")
    running.backend.crash_on = set(b"hello")
    future = running.loop.call(lambda core: None)
    running.backend.gate.set()
    running.deaths.get(timeout=PATIENCE)
    with pytest.raises(EngineDeadError):
        future.result(PATIENCE)


def test_stop_ends_open_requests(running: Running) -> None:
    """`stop` ends all requests with ABORT, including those still in the queue, and does not call `died`."""
    running.hold("a")
    running.loop.submit(spec("b", b"other"))
    stopping = running.loop.call(lambda core: None)
    running.backend.gate.set()
    running.loop.stop()
    ends: dict[str, FinishReason | None] = {}
    while not running.delivered.empty():
        ends |= {delta.request_id: delta.finish_reason for delta in running.delivered.get()}
    assert ends == {"a": FinishReason.ABORT, "b": FinishReason.ABORT}
    assert stopping.done()
    assert not running.loop.alive
    assert running.deaths.empty()
    with pytest.raises(EngineDeadError):
        running.loop.submit(spec("c", b"hello"))
    running.loop.stop()


def test_a_loop_that_was_not_started_takes_nothing() -> None:
    """Before `start`, `submit` raises EngineDeadError and `stop` does nothing."""
    loop = EngineLoop(Bench().core, lambda deltas: None, lambda error: None)
    with pytest.raises(EngineDeadError):
        loop.submit(spec("a", b"hello"))
    loop.stop()
