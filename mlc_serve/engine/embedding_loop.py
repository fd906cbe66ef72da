"""The thread that an Embedder runs on.

Other threads submit jobs, each with the inputs of one request. While there are any, the thread makes batches
of inputs, which it takes from the jobs in turn, so that a short job never waits for all of a long one. If the
embedder fails, all jobs fail, the loop ends, and `died` is called once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from mlc_serve.engine.embedder import Embedder, EmbeddingLimits, TokenIds, Vectors
from mlc_serve.engine.embedding_metrics import EmbeddingMetrics
from mlc_serve.errors import EngineDeadError, RequestError, ShuttingDownError

logger = logging.getLogger(__name__)


class _Job:
    """The inputs of one request, and the vectors made so far. Its vectors are the result of `future`, whose
    cancellation ends the job.
    """

    def __init__(self, inputs: Sequence[TokenIds], width: int) -> None:
        self.inputs = inputs
        self.future: Future[Vectors] = Future()
        self.arrival = time.monotonic()
        self.num_taken = 0
        self.num_done = 0
        self._vectors = np.empty((len(inputs), width), np.float32)

    def take(self) -> tuple[_Job, int]:
        """Return the job and the number of its next input."""
        self.num_taken += 1
        return self, self.num_taken - 1

    def put(self, number: int, vector: Vectors) -> None:
        """Keep the vector of an input."""
        self._vectors[number] = vector
        self.num_done += 1

    @property
    def is_complete(self) -> bool:
        """Whether every input has its vector."""
        return self.num_done == len(self.inputs)

    def succeed(self) -> None:
        """End the job with its vectors."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self._vectors)

    def fail(self, error: RequestError) -> None:
        """End the job with an error."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class EmbeddingLoop:
    """Runs an embedder until `stop` is called or the embedder fails.

    Any thread may call its methods, except that its own thread must not call `stop`. `died` is called
    on the loop's thread. `last_turn` is when the loop last looked for work
    (time.monotonic() seconds), and `busy` says whether it has been working since then.
    """

    def __init__(
        self,
        embedder: Embedder,
        limits: EmbeddingLimits,
        metrics: EmbeddingMetrics,
        died: Callable[[], None],
    ) -> None:
        self._embedder = embedder
        self._limits = limits
        self._metrics = metrics
        self._died = died
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()  # those that have inputs to be taken
        self._open: set[_Job] = set()
        self._refusal: RequestError | None = None
        self._thread = threading.Thread(target=self._run, name="embeddings", daemon=True)
        self.alive = True
        self.busy = False
        self.last_turn = time.monotonic()
        self._thread.start()

    def submit(self, inputs: Sequence[TokenIds]) -> Future[Vectors]:
        """Return the vectors of inputs, `(len(inputs), width)`, as a future; cancelling it ends the work.

        The inputs must be valid (see Embedder.embed). The future fails with EngineDeadError or
        ShuttingDownError if the loop ends first. Raises them if it has ended.
        """
        job = _Job(inputs, self._embedder.width)
        with self._wake:
            self.require_open()
            self._jobs.append(job)
            self._open.add(job)
            self._wake.notify()
        return job.future

    def require_open(self) -> None:
        """Raise EngineDeadError or ShuttingDownError if no jobs are taken any more."""
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.message)

    def close(self) -> None:
        """Take no further jobs."""
        with self._wake:
            self._refusal = self._refusal or ShuttingDownError("The server is shutting down.")

    def fail_open(self, error: RequestError) -> None:
        """End all open jobs with an error."""
        with self._wake:
            jobs = list(self._open)
            self._open.clear()
            self._jobs.clear()
        for job in jobs:
            job.fail(error)

    def stop(self) -> None:
        """End all jobs with ShuttingDownError, and the thread. A second call does nothing."""
        self.close()
        self.fail_open(ShuttingDownError("The server is shutting down."))
        with self._wake:
            self.alive = False
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._embed(batch)
        except Exception as error:
            logger.exception("The embedding loop has failed")
            dead = EngineDeadError(f"The engine has stopped working: {error}")
            with self._wake:
                self._refusal = dead
            self.fail_open(dead)
            self._died()
        self.alive = self.busy = False

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Wait for jobs, and return inputs of theirs; none if the loop must end."""
        with self._wake:
            while self.alive:
                self.last_turn = time.monotonic()
                if batch := self._take_batch():
                    self.busy = True
                    return batch
                self.busy = False
                self._wake.wait()
        return []

    def _take_batch(self) -> list[tuple[_Job, int]]:
        """Take inputs from the jobs in turn, as many as a batch holds. A single input may have any length."""
        batch: list[tuple[_Job, int]] = []
        room = self._limits.max_batch_tokens
        while self._jobs and len(batch) < self._limits.max_batch_inputs:
            job = self._jobs[0]
            if job.future.cancelled():
                self._open.discard(self._jobs.popleft())
                continue
            size = len(job.inputs[job.num_taken])
            if batch and size > room:
                break
            room -= size
            batch.append(job.take())
            self._jobs.popleft()
            if job.num_taken < len(job.inputs):
                self._jobs.append(job)
        return batch

    def _embed(self, batch: list[tuple[_Job, int]]) -> None:
        inputs = [job.inputs[number] for job, number in batch]
        start = time.monotonic()
        vectors = self._embedder.embed(inputs)
        stop = time.monotonic()
        self._metrics.embedded(len(inputs), sum(map(len, inputs)), stop - start)
        for (job, number), vector in zip(batch, vectors, strict=True):
            job.put(number, vector)
            if job.is_complete and self._close_job(job):
                self._metrics.finished(stop - job.arrival)
                job.succeed()

    def _close_job(self, job: _Job) -> bool:
        """Return whether a job was still open. Who closes it says how it ends."""
        with self._wake:
            was_open = job in self._open
            self._open.discard(job)
        return was_open
