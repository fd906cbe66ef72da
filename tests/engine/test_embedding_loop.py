"""The thread that makes embeddings, on an embedder without a device."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest

from mlc_serve.engine.embedder import EmbeddingLimits, TokenIds
from mlc_serve.engine.embedding_loop import EmbeddingLoop
from mlc_serve.engine.embedding_metrics import EmbeddingMetrics
from mlc_serve.errors import EngineDeadError, ShuttingDownError
from mlc_serve.testing import FakeEmbedder
from tests.patience import PATIENCE

LIMITS = EmbeddingLimits(context_length=64, max_batch_tokens=10, max_batch_inputs=3)


class Running:
    """A loop, its embedder, and whether it has said that it died."""

    def __init__(self) -> None:
        self.embedder = FakeEmbedder()
        self.died = threading.Event()
        self.metrics = EmbeddingMetrics("fake")
        self.loop = EmbeddingLoop(self.embedder, LIMITS, self.metrics, self.died.set)

    def hold(self) -> None:
        """Let the embedder wait in a batch of one input."""
        self.embedder.gate.clear()
        self.held = self.loop.submit([of_length(1)])
        assert self.embedder.started.wait(PATIENCE)


@pytest.fixture
def running() -> Iterator[Running]:
    """A running loop."""
    made = Running()
    yield made
    made.embedder.gate.set()
    made.loop.stop()


def of_length(length: int, token: int = 5) -> TokenIds:
    """An input of one token, repeated."""
    return np.full(length, token, np.int32)


def test_vectors_come_in_the_order_of_the_inputs(running: Running) -> None:
    """However batches are made, row i is the vector of input i."""
    inputs = [of_length(4, token) for token in range(9)]
    vectors = running.loop.submit(inputs).result(PATIENCE)
    assert np.array_equal(vectors, np.eye(9, 16, dtype=np.float32))
    assert all(sum(batch) <= 10 and len(batch) <= 3 for batch in running.embedder.batches)


def test_jobs_take_turns(running: Running) -> None:
    """A job of one input is computed in the next batch, though a job of many came first."""
    running.hold()
    long, short = running.loop.submit([of_length(3)] * 20), running.loop.submit([of_length(2)])
    running.embedder.gate.set()
    short.result(PATIENCE)
    long.result(PATIENCE)
    assert running.embedder.batches[1] == [3, 2, 3]


def test_an_input_that_fills_more_than_a_batch_is_computed_alone(running: Running) -> None:
    """Nothing is refused or split, and those beside it wait for the next batch."""
    running.hold()
    job = running.loop.submit([of_length(2), of_length(50), of_length(2)])
    running.embedder.gate.set()
    assert job.result(PATIENCE).shape == (3, 16)
    assert running.embedder.batches[1:] == [[2], [50], [2]]


def test_a_job_that_is_cancelled_costs_no_further_batch(running: Running) -> None:
    """Its remaining inputs are dropped, and others go on."""
    running.hold()
    cancelled, other = running.loop.submit([of_length(9)] * 5), running.loop.submit([of_length(4)])
    assert cancelled.cancel()
    running.embedder.gate.set()
    other.result(PATIENCE)
    assert running.embedder.batches[1:] == [[4]]
    with pytest.raises(CancelledError):
        cancelled.result(PATIENCE)


def test_a_failure_ends_all_jobs_and_the_loop(running: Running) -> None:
    """Jobs that are computed and those that wait fail with the cause, and later ones are refused."""
    running.hold()
    waiting = running.loop.submit([of_length(1)])
    running.embedder.failure = RuntimeError("out of order")
    running.embedder.gate.set()
    for job in (running.held, waiting):
        with pytest.raises(EngineDeadError, match="out of order"):
            job.result(PATIENCE)
    assert running.died.wait(PATIENCE)
    with pytest.raises(EngineDeadError, match="out of order"):
        running.loop.submit([of_length(1)])


def test_stopping_ends_open_jobs(running: Running) -> None:
    """A job that waits fails at once, the thread ends with its batch, and nobody is told of a death."""
    running.hold()
    waiting = running.loop.submit([of_length(1)])
    waiting.add_done_callback(lambda _: running.embedder.gate.set())
    running.loop.stop()
    for job in (running.held, waiting):
        with pytest.raises(ShuttingDownError):
            job.result(PATIENCE)
    assert not running.loop.alive
    assert not running.died.is_set()


def test_metrics_count_inputs_and_tokens(running: Running) -> None:
    """Each input is counted once, when its vector was made."""
    running.loop.submit([of_length(3), of_length(4)]).result(PATIENCE)
    running.loop.stop()
    value = running.metrics.registry.get_sample_value
    assert value("mlc_serve_embedding_inputs_total", {"model": "fake"}) == 2
    assert value("mlc_serve_embedding_tokens_total", {"model": "fake"}) == 7
    assert value("mlc_serve_embedding_request_duration_seconds_count", {"model": "fake"}) == 1
