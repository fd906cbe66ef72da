"""How long a request may take. One that takes longer fails, and the engine computes nothing more for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from mlc_serve.api.stream import Stream
from mlc_serve.errors import FirstTokenTimeoutError, GenerationTimeoutError, RequestError

GiveUp = Callable[[Stream, RequestError], None]


@dataclass(frozen=True)
class Timeouts:
    """The seconds from a request's arrival to its first token and to its end; None sets no limit."""

    first_token: float | None
    whole: float | None

    @contextmanager
    def watching(self, stream: Stream, arrival: float, give_up: GiveUp) -> Iterator[None]:
        """Call `give_up` with the error if a time-out passes before the context is left.

        `arrival` is in time.monotonic() seconds. Raises the error if a time-out has passed already.
        """

        def unless_begun(error: RequestError) -> None:
            if not stream.has_begun:
                give_up(stream, error)

        with ExitStack() as timers:
            if self.first_token is not None:
                timer = _timer(arrival + self.first_token, _no_token(self.first_token), unless_begun)
                timers.callback(timer.cancel)
            if self.whole is not None:
                timer = _timer(arrival + self.whole, _no_end(self.whole), partial(give_up, stream))
                timers.callback(timer.cancel)
            yield


def _timer(end: float, error: RequestError, fail: Callable[[RequestError], None]) -> asyncio.TimerHandle:
    """Start a timer that calls `fail` with the error at `end`. Raises the error if that is over."""
    left = end - time.monotonic()
    if left <= 0:
        raise error
    return asyncio.get_running_loop().call_later(left, fail, error)


def _no_token(seconds: float) -> FirstTokenTimeoutError:
    return FirstTokenTimeoutError(
        f"No token was generated within {seconds:g} s, the longest that this server lets a request wait; try "
        "again later."
    )


def _no_end(seconds: float) -> GenerationTimeoutError:
    return GenerationTimeoutError(
        f"The reply was not finished within {seconds:g} s, the longest that a request to this server may "
        "take; ask for fewer tokens, or try again later."
    )
