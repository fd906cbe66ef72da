"""Child: one process of a server, which is started, read, interrupted, killed and reaped.

Owns the process, and the threads and pipes for its output, until it ends. `kill_now` may be called from any
thread; everything else runs on the event loop that started the process.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Mapping, Sequence

from mlc_serve.host.processes.tree import ProcessTree, Spawn
from mlc_serve.supervisor.output import Output

logger = logging.getLogger(__name__)

QUOTED_LINES = 20
# How many seconds it may take to read and log what is left in the pipes after the process has ended.
JOIN_SECONDS = 2.0
KILL_SECONDS = 10.0
# A process that does not serve yet is interrupted again after this time, as Python may lose an interrupt: an
# exception that is raised in a callback, such as those that each import runs, is printed and forgotten.
REPEAT_SECONDS = 5.0
_POLL_SECONDS = 0.01


class Child:
    """A running server, which inherits the descriptors `inherited`. It must be created on the event loop.

    Raises OSError if the program can't be started.
    """

    def __init__(
        self,
        spawn: Spawn,
        command: Sequence[str],
        env: Mapping[str, str],
        inherited: Sequence[int],
        kept_lines: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._output = Output(kept_lines)
        self._tree: ProcessTree = spawn(command, env, inherited)
        process = self._tree.process
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
        self._output.follow(*streams)
        self._waiter = threading.Thread(target=self._reap, daemon=True)
        self._waiter.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._tree.process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs, and -N if signal N ended it."""
        return self._tree.process.returncode

    def last_words(self, lines: int = QUOTED_LINES) -> str:
        """Return the last lines that it printed."""
        return "\n".join(self._output.tail(lines)).strip()

    def describe_end(self) -> str:
        """Return how it ended, and the last lines that it printed."""
        code = self.exit_code or 0
        how = f"the server ended with code {code}" if code >= 0 else f"{_name(-code)} ended the server"
        return _quoting(how, self.last_words())

    def quoting(self, text: str) -> str:
        """Return `text`, followed by the last lines that it printed."""
        return _quoting(text, self.last_words())

    async def wait(self) -> None:
        """Wait until it and its descendants have ended and its output has been read."""
        await self._ended.wait()
        self._waiter.join()

    async def ended_within(self, seconds: float) -> bool:
        """Wait as `wait` does, but for no longer than `seconds`. Return whether it has ended."""
        try:
            await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def stop(self, grace: float, *, serves: bool) -> None:
        """Interrupt it, give it `grace` seconds, then kill it with all its descendants.

        If it `serves`, it is interrupted only once, since a second time would end open requests.
        """
        try:
            if await self._ended_by_interrupt(grace, grace if serves else REPEAT_SECONDS):
                return
        except asyncio.CancelledError:
            self._tree.kill()
            raise
        await self.kill()

    async def _ended_by_interrupt(self, grace: float, interval: float) -> bool:
        """Interrupt it every `interval` seconds for `grace` seconds. Returns whether it has ended."""
        deadline = time.monotonic() + grace
        while True:
            self._tree.interrupt()
            left = deadline - time.monotonic()
            if await self.ended_within(min(interval, left)):
                return True
            if left <= interval:
                return False

    async def kill(self) -> None:
        """Kill it with all its descendants, and wait for their end."""
        self._tree.kill()
        if not await self.ended_within(KILL_SECONDS):
            logger.error("process %d was killed but has not ended; it is left running", self.pid)

    def kill_now(self) -> None:
        """Kill it with all its descendants, and wait for its end.

        Any thread or signal handler may call this.
        """
        self._tree.kill()
        deadline = time.monotonic() + KILL_SECONDS
        # join() could hang, since a signal handler may interrupt the code that holds the thread's lock.
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _reap(self) -> None:
        self._tree.process.wait()
        self._tree.release()
        self._output.join(JOIN_SECONDS)
        try:
            self._loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:  # the event loop has been closed, so nothing waits for this any more
            return


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _quoting(text: str, words: str) -> str:
    return f"{text}:\n{words}" if words else f"{text} and printed nothing"
