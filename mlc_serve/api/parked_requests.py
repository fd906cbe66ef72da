"""Requests that microserving calls have prepared, and that have not begun: their states, and how long they
last.

    prep_recv ── RESERVED ── sender begins ── RECEIVING ── all is here ── READY ── start_generate ── STARTED
                    │                             │                         │
                    ├─────────────────────────────┴─ the lease ends ────────┴── EXPIRED
                    └─────────────────────────────── abort; transfer fails ──── ABORTED

Where nothing needs to be sent, a request is READY at once. Calls and portions renew the lease. What was
received stays in the prefix cache if it is whole, like any other prefix; otherwise it is dropped. Runs on the
event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from enum import StrEnum

from mlc_serve.api.engine_prefixes import EnginePrefixes
from mlc_serve.engine.prefix_transfer import ReceivedPrefix
from mlc_serve.errors import (
    InvalidRequestError,
    ParkedRequestConflictError,
    ParkedRequestGoneError,
    ParkedRequestNotFoundError,
    RequestError,
)
from mlc_serve.kv_transfer.terms import Terms

# So many requests that have ended are remembered, so that late calls get the right error.
_MOST_ENDED = 1024

# The owner of a request, and the `user` that ties its calls together.
Key = tuple[str, str]


class ParkedState(StrEnum):
    """Where a parked request is. The last three are ends."""

    RESERVED = "reserved"
    RECEIVING = "receiving"
    READY = "ready"
    STARTED = "started"
    EXPIRED = "expired"
    ABORTED = "aborted"


_WAITING = frozenset({ParkedState.RESERVED, ParkedState.RECEIVING, ParkedState.READY})


class ParkedRequest:
    """One request. Implements kv_transfer.kv_port.Expected.

    Another server computes `prompt[:end]`; `num_matched` tokens of it were here before, and the first
    `num_expected` fill whole pages. `lease` is in seconds. `metadata`, set by `open`, is what the sender
    needs. `request_id` is that of the generation while it runs.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        end: int,
        prefix: ReceivedPrefix,
        terms: Terms,
        page_bytes: int,
        prefixes: EnginePrefixes,
        lease: float,
    ) -> None:
        self.end = end
        self.num_matched = prefix.num_matched
        self.num_expected = len(prefix.token_ids)
        self.terms = terms
        self.page_bytes = page_bytes
        self.state = ParkedState.READY if prefix.is_whole else ParkedState.RESERVED
        self.metadata = ""
        self.request_id: str | None = None
        self._prompt = prompt
        self._prefix: ReceivedPrefix | None = prefix
        self._prefixes = prefixes
        self._lease = lease
        self._timer: asyncio.TimerHandle | None = None
        self._claims = ExitStack()
        self._why_ended = ""

    def open(self, metadata: str, claims: ExitStack) -> None:
        """Begin the lease. `claims` are closed when the request no longer waits for anything."""
        self.metadata = metadata
        self._claims = claims
        self.renew()

    @property
    def is_waiting(self) -> bool:
        """Whether the request has neither started nor ended."""
        return self.state in _WAITING

    def renew(self) -> None:
        """Begin the lease anew."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._lease, self._expire)

    def require_same(self, prompt: Sequence[int], end: int) -> None:
        """Raise ParkedRequestConflictError if these are not the request's own."""
        if (prompt, end) != (self._prompt, self.end):
            raise ParkedRequestConflictError(
                "user: prep_recv was called before with this user, but with another prompt or end.", "user"
            )

    # The transfer, see Expected ----------------------------------------------------------------------------

    @property
    def is_whole(self) -> bool:
        """Whether everything is here."""
        return self.state is ParkedState.READY

    def begin(self) -> None:
        """See Expected.begin."""
        if self.state is not ParkedState.RESERVED:
            raise ParkedRequestConflictError(f"the request is {self.state}, and takes nothing from a sender.")
        self.state = ParkedState.RECEIVING
        self.renew()

    async def take(self, data: memoryview) -> None:
        """See Expected.take."""
        prefix = self._prefix
        if self.state is not ParkedState.RECEIVING or prefix is None:
            raise ParkedRequestGoneError(f"the request is {self.state}.")
        self.renew()
        await self._prefixes.append(prefix, data)
        self.renew()
        if prefix.is_whole:
            self.state = ParkedState.READY

    def fail(self, error: RequestError) -> None:
        """See Expected.fail."""
        self._end(ParkedState.ABORTED, f"its prefix has not arrived: {error.message}")

    # The end -----------------------------------------------------------------------------------------------

    def start(self, prompt: Sequence[int], begin: int, request_id: str) -> None:
        """Let the generation begin. Raises InvalidRequestError for another `begin`, and
        ParkedRequestConflictError or ParkedRequestGoneError in any other state than READY.
        """
        self._require_not_gone()
        if self.state is ParkedState.STARTED:
            raise ParkedRequestConflictError(
                "user: the request of this user has already been started.", "user"
            )
        if begin != self.end:
            raise InvalidRequestError(
                f"begin: must be the end of prep_recv, which is position {self.end}, not {begin}.", "begin"
            )
        if prompt != self._prompt:
            raise ParkedRequestConflictError("prompt: is not the prompt of prep_recv.", "prompt")
        if self.state is not ParkedState.READY or self._prefix is None:
            raise ParkedRequestConflictError(
                "user: the request of this user has not received its prefix; call remote_send first.", "user"
            )
        self.state, self.request_id = ParkedState.STARTED, request_id
        self._prefixes.redeem(self._prefix)
        self._claims.close()
        self.renew()

    def finish(self) -> None:
        """Hold the prefix no longer than others, because the reply of a started request is over."""
        self.request_id = None
        self._let_go()

    def abort(self) -> bool:
        """End the request unless it has started or ended; return whether it was waiting."""
        return self._end(ParkedState.ABORTED, "it was aborted")

    def _expire(self) -> None:
        if not self._end(ParkedState.EXPIRED, f"no call has come for {self._lease:g} s"):
            self._let_go()

    def _end(self, state: ParkedState, why: str) -> bool:
        if not self.is_waiting:
            return False
        self.state, self._why_ended = state, why
        self._claims.close()
        self._let_go()
        return True

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._prefix is not None:
            self._prefixes.let_go(self._prefix)
        self._prefix, self._prompt = None, ()

    def _require_not_gone(self) -> None:
        if self.state in (ParkedState.EXPIRED, ParkedState.ABORTED):
            raise ParkedRequestGoneError(
                f"user: the request of this user is {self.state}: {self._why_ended}.", "user"
            )


class ParkedRequests:
    """The parked requests of one engine, and the last of those that have started or ended."""

    def __init__(self) -> None:
        self._requests: dict[Key, ParkedRequest] = {}

    def waiting(self, key: Key) -> ParkedRequest | None:
        """Return the request with this key if it has neither started nor ended."""
        request = self._requests.get(key)
        return request if request is not None and request.is_waiting else None

    def get(self, key: Key) -> ParkedRequest:
        """Return the request with this key, whatever its state. Raises ParkedRequestNotFoundError."""
        request = self._requests.get(key)
        if request is None:
            raise ParkedRequestNotFoundError(
                "user: no request of this user was prepared; call prep_recv first.", "user"
            )
        return request

    def __contains__(self, key: Key) -> bool:
        return key in self._requests

    def add(self, key: Key, request: ParkedRequest) -> None:
        """Add a request. One with the same key that has started or ended is forgotten."""
        self._requests.pop(key, None)
        self._requests[key] = request
        ended = [other for other, known in self._requests.items() if not known.is_waiting]
        for other in ended[:-_MOST_ENDED]:
            del self._requests[other]

    def abort_all(self) -> None:
        """End all requests that have neither started nor ended."""
        for request in self._each():
            request.abort()

    def _each(self) -> Iterator[ParkedRequest]:
        return iter(list(self._requests.values()))
