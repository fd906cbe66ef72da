"""The thread that an EngineCore runs on.

Other threads hand it commands; it applies them between steps, steps while there is work, and sleeps on a
condition while there is none. What a step brings goes to `deliver`, on this thread. If the core fails, the
loop ends and says so once.
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
        except Exception as error:  # noqa: BLE001 - it is the caller's
            self.future.set_exception(error)


class EngineLoop:
    """Runs a core until `stop` or until it fails. Any thread may call it; `stop` any but its own.

    `deliver` gets the deltas of each step that has some; `died` gets the exception that ended the loop.
    `last_turn` is when the loop last came round (time.monotonic() seconds), and `busy`
    says whether it has been at work since then: a loop that is busy and has not come round for long hangs in
    the backend.
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
        """Hand over a request under an id of its own.

        Raises EngineDeadError if nothing runs, and ValueError for a prompt that was to be refused before.
        """
        self._core.check(spec)
        with self._wake:
            self._require_alive()
            self._put(lambda core: core.submit(spec))

    def abort(self, request_id: str, reason: FinishReason = FinishReason.ABORT) -> None:
        """End a request unless it has ended, or the loop has. `reason` comes with its last delta."""
        with self._wake:
            if self.alive:
                self._put(lambda core: core.abort(request_id, reason))

    def call(self, fn: Callable[[EngineCore], T]) -> Future[T]:
        """Run `fn(core)` between steps. What it raises is the future's and ends no loop."""
        call = _Call(fn)
        with self._wake:
            self._require_alive()
            self._put(call)
        return call.future

    def stop(self) -> None:
        """End every open request with ABORT, deliver that, end the thread. The second time does nothing."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _require_alive(self) -> None:
        if not self.alive or self._stopping:
            raise EngineDeadError("The engine does not run.")

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
        """Sleep until there is something to do, apply what others want; False when the loop is to end."""
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
        """One step, if there is work, and its delivery."""
        if not self._core.has_work:
            return
        deltas = self._core.step()
        if deltas:
            self._deliver(deltas)

    def _end(self) -> None:
        """Take nothing more; those who wait for a call hear that it won't be made."""
        with self._wake:
            self.alive = False
            self.busy = False
            commands = list(self._commands)
            self._commands.clear()
        for command in commands:
            if isinstance(command, _Call) and command.future.set_running_or_notify_cancel():
                command.future.set_exception(EngineDeadError("The engine does not run."))
