"""The thread that an EngineCore runs on.

Other threads put commands in its queue, and it applies them between steps. It sleeps on a condition while
there is no work. It calls `deliver` with the deltas of each step, on its own thread. If the core fails, the
loop ends and calls `died` once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.request import EngineRequest, FinishReason, RequestDelta
from mlc_serve.errors import EngineDeadError

T = TypeVar("T")
logger = logging.getLogger(__name__)


class _Call:
    """A function to run on the engine's thread, and the future that its caller waits on."""

    def __init__(self, fn: Callable[[EngineCore], Any]) -> None:
        self._fn = fn
        self.future: Future[Any] = Future()

    def __call__(self, core: EngineCore) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._fn(core))
        except Exception as error:  # noqa: BLE001 - raised to the caller by the future
            self.future.set_exception(error)


class EngineLoop:
    """Runs a core until `stop` is called or the core fails.

    Any thread may call its methods, except that its own thread must not call `stop`.
    `deliver` gets the deltas of each step that has some; `died` gets the exception that ended the loop.
    `last_turn` is when the loop last looked for work (time.monotonic() seconds), and `busy` says whether it
    has been working since then: if it is busy and `last_turn` is long ago, the backend hangs.
    """

    def __init__(
        self,
        core: EngineCore,
        deliver: Callable[[list[RequestDelta]], None],
        died: Callable[[BaseException], None],
    ) -> None:
        self._core = core
        self._deliver = deliver
        self._died = died
        self._wake = threading.Condition()
        self._commands: deque[Callable[[EngineCore], None]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.alive = False
        self.busy = False
        self.last_turn = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self.alive = True
        self._thread.start()

    def submit(self, spec: EngineRequest) -> None:
        """Submit a request whose id no other request has.

        Raises EngineDeadError if the loop does not run, and ValueError as EngineCore.check does.
        """
        self._core.check(spec)
        with self._wake:
            self._require_alive()
            self._put(lambda core: core.submit(spec))

    def abort(self, request_id: str, reason: FinishReason = FinishReason.ABORT) -> None:
        """End a request; its last delta has this `reason`. Does nothing if it or the loop has ended."""
        with self._wake:
            if self.alive:
                self._put(lambda core: core.abort(request_id, reason))

    def call(self, fn: Callable[[EngineCore], T]) -> Future[T]:
        """Run `fn(core)` between steps. The future raises what `fn` raises; the loop goes on."""
        call = _Call(fn)
        with self._wake:
            self._require_alive()
            self._put(call)
        return call.future

    def stop(self) -> None:
        """End every open request with ABORT, deliver their last deltas, and end the thread.

        Does nothing if it was called before.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _require_alive(self) -> None:
        if not self.alive or self._stopping:
            raise EngineDeadError("The engine is not running.")

    def _put(self, command: Callable[[EngineCore], None]) -> None:
        self._commands.append(command)
        self._wake.notify()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._turn()
            self._core.abort_all()
            self._turn()
        except Exception as error:
            logger.exception("The engine loop has failed")
            self._end()
            self._died(error)
        else:
            self._end()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do and apply the commands; return False if the loop must end."""
        with self._wake:
            while not (self._commands or self._core.has_work or self._stopping):
                self.busy = False
                self._wake.wait()
            self.last_turn = time.monotonic()
            self.busy = True
            commands = list(self._commands)
            self._commands.clear()
            stopping = self._stopping
        for command in commands:
            command(self._core)
        return not stopping

    def _turn(self) -> None:
        """Make one step if there is work, and deliver its deltas."""
        if not self._core.has_work:
            return
        deltas = self._core.step()
        if deltas:
            self._deliver(deltas)

    def _end(self) -> None:
        """Accept no more commands, and fail the calls that are still in the queue."""
        with self._wake:
            self.alive = False
            self.busy = False
            commands = list(self._commands)
            self._commands.clear()
        for command in commands:
            if isinstance(command, _Call) and command.future.set_running_or_notify_cancel():
                command.future.set_exception(EngineDeadError("The engine is not running."))
