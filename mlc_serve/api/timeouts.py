"""How long a request may take. One that takes longer fails, and the engine computes nothing more for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlc_serve.api.stream import Stream
from mlc_serve.errors import FirstTokenTimeoutError, GenerationTimeoutError, RequestError


@dataclass(frozen=True)
class Timeouts:
    """The seconds from a request's submission to its first token and to its end; None sets no limit."""

    first_token: float | None
    whole: float | None

    @contextmanager
    def watching(self, stream: Stream, give_up: Callable[[Stream, RequestError], None]) -> Iterator[None]:
        """Call `give_up` with the error if a time-out passes before the context is left."""

        def without_a_token() -> None:
            if not stream.has_begun:
                give_up(stream, _no_token_within(self.first_token))

        def without_an_end() -> None:
            give_up(stream, _no_end_within(self.whole))

        timers = [*_timer(self.first_token, without_a_token), *_timer(self.whole, without_an_end)]
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()


def _timer(seconds: float | None, callback: Callable[[], None]) -> Iterator[asyncio.TimerHandle]:
    """Yield a running timer, or nothing if there is no time-out."""
    if seconds is not None:
        yield asyncio.get_running_loop().call_later(seconds, callback)


def _no_token_within(seconds: float | None) -> FirstTokenTimeoutError:
    return FirstTokenTimeoutError(
        f"No token was generated within {seconds:g} s, the longest that this server lets a request wait; try "
        "again later."
    )


def _no_end_within(seconds: float | None) -> GenerationTimeoutError:
    return GenerationTimeoutError(
        f"The reply was not finished within {seconds:g} s, the longest that a request to this server may "
        "take; ask for fewer tokens, or try again later."
    )
