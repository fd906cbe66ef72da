"""ServerContext: the engines that one server serves, by model name, and whether it takes requests.

It is the only writer of both. Runs on the event loop, and knows nothing about HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from mlc_serve.errors import ConfigError, ModelNotFoundError, QueueFullError, ShuttingDownError
from mlc_serve.server.loop_watch import LoopHolds
from mlc_serve.server.served import Served

# At most this many characters of an unknown model's name are repeated in the error.
_LONGEST_QUOTE = 200


class ServerContext:
    """The engines by their names and aliases.

    `created` is when serving began, in seconds since the Unix epoch. `supervisor_url` is the address of the
    supervisor that started this process, if one did. `loop_holds` records how long callbacks have held the
    server's event loop.
    """

    def __init__(self, supervisor_url: str | None = None) -> None:
        self._served: dict[str, Served] = {}
        self._draining = False
        self.created = int(time.time())
        self.supervisor_url = supervisor_url
        self.loop_holds = LoopHolds()

    def add(self, engine: Served, aliases: Sequence[str] = ()) -> None:
        """Serve an engine under its name and under aliases. Raises ConfigError if one of these is taken."""
        for name in (engine.name, *aliases):
            if name in self._served:
                raise ConfigError(f"two models can't be served under the same name {name!r}")
            self._served[name] = engine

    @property
    def names(self) -> list[str]:
        """The models' names, each followed by its aliases, in the order in which the engines were added."""
        return list(self._served)

    @property
    def all_served(self) -> list[Served]:
        """The engines, in the order in which they were added."""
        return list(dict.fromkeys(self._served.values()))

    @property
    def is_draining(self) -> bool:
        """Whether the server finishes open requests and takes no new ones."""
        return self._draining

    def get(self, model: str | None) -> Served:
        """Return the engine that a request names. If there is only one, the request need not name it.

        Raises ModelNotFoundError.
        """
        if model is None:
            return self._only_engine()
        engine = self._served.get(model)
        if engine is None:
            named = model if len(model) <= _LONGEST_QUOTE else f"{model[:_LONGEST_QUOTE]}…"
            raise ModelNotFoundError(f"No model {named!r} is served; there is {self._listing()}.", "model")
        return engine

    def name_in_path(self, model: str) -> str:
        """Return the name that a path asks for. Slashes at its end, which paths lose, are added again."""
        return next((name for name in self._served if name.rstrip("/") == model.rstrip("/")), model)

    def require_room(self) -> None:
        """Raise QueueFullError if no engine has a place left, and ShuttingDownError while the server drains.

        It is called before the request's body is read, which names the engine.
        """
        self._require_open()
        if self._served and all(engine.is_full for engine in self.all_served):
            raise QueueFullError("This server has as many open requests as it can take; try again later.")

    def get_for(self, kind: type[Any], model: str | None) -> Served:
        """Like `get`, for a new request. If only one engine answers requests of this kind, the request need
        not name it. Raises ShuttingDownError while the server drains.
        """
        self._require_open()
        return self.find_for(kind, model)

    def find_for(self, kind: type[Any], model: str | None) -> Served:
        """Do the same, also while the server drains."""
        able = [engine for engine in self.all_served if engine.answers(kind)]
        return able[0] if model is None and len(able) == 1 else self.get(model)

    def _require_open(self) -> None:
        if self._draining:
            raise ShuttingDownError("The server is shutting down and takes no new requests.")

    def sick(self, watchdog_timeout: float) -> list[str]:
        """Return a reason for each engine that is dead or has been in one step for `watchdog_timeout` s."""
        reasons = (_sickness(engine, watchdog_timeout) for engine in self.all_served)
        return [reason for reason in reasons if reason is not None]

    async def death(self) -> str:
        """Wait until an engine's loop has died, and return the name of its model."""
        waits = {asyncio.ensure_future(engine.wait_dead()): engine.name for engine in self.all_served}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def drain(self, timeout: float) -> None:
        """Take no new requests; those still open after `timeout` seconds end with ShuttingDownError."""
        self._draining = True
        alive = [engine for engine in self.all_served if engine.is_alive]  # dead ones have no open requests
        await asyncio.gather(*(engine.drain(timeout) for engine in alive))

    def close(self) -> None:
        """Stop all engines and free their resources. May be called twice."""
        for engine in self.all_served:
            engine.terminate()

    def _only_engine(self) -> Served:
        engines = self.all_served
        if len(engines) != 1:
            raise ModelNotFoundError(f"Name one of the models that are served: {self._listing()}.", "model")
        return engines[0]

    def _listing(self) -> str:
        return ", ".join(repr(name) for name in self._served) or "none"


def _sickness(engine: Served, watchdog_timeout: float) -> str | None:
    if not engine.is_alive:
        return f"the engine of {engine.name!r} has died"
    if not engine.is_healthy(watchdog_timeout):
        return f"the engine of {engine.name!r} has been in one step for more than {watchdog_timeout:g} s"
    return None
