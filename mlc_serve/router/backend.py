"""Backend: one server behind the router, and what the router knows about it. Fleet alone changes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mlc_serve.errors import ServerLostError
from mlc_serve.router.message import ReplyHead, RoutedRequest
from mlc_serve.router.upstream import Upstream


@dataclass(eq=False)
class Backend:
    """A server under its `name`. Times are in seconds of time.monotonic().

    `upstream` is None until the server has an address. An `api_key` is sent to it in place of the client's,
    and `own_key` is that of the router's own questions. One that `prefills` computes prompts for others. It
    `is_up` if it answers probes; `num_failures` counts the probes and connections that have failed since the
    last success, the first of them at `failing_since`. Until `resting_until` it wants no further requests.
    `num_running` counts the requests from this router, and `num_others` those that it had from elsewhere when
    it was last asked, as far as it tells.
    `models` are the entries of its /v1/models by their ids, or None as long as these are not known.
    """

    name: str
    upstream: Upstream | None
    api_key: str | None = None
    own_key: str | None = None
    prefills: bool = False
    is_up: bool = False
    num_failures: int = 0
    failing_since: float = 0.0
    resting_until: float = 0.0
    num_running: int = 0
    num_others: int = 0
    last_used: float = 0.0
    models: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def load(self) -> int:
        """How many requests it has, as far as is known."""
        return self.num_running + self.num_others

    def may_serve(self, model: str | None) -> bool:
        """Return whether it serves a model, as far as is known."""
        return model is None or self.models is None or model in self.models

    async def answer(self, request: RoutedRequest, api_key: str | None, most_bytes: int) -> tuple[int, bytes]:
        """Return the status and the body of the server's reply to a request of the router's own.

        Raises ServerLostError, also for a body of more than `most_bytes`.
        """
        if self.upstream is None:
            raise ServerLostError(f"{self.name} is not running.", was_sent=False)
        request_id = f"router{request.path.replace('/', '-')}"
        status, parts, num_bytes = 0, [], 0
        async with aclosing(self.upstream.reply(request, request_id, api_key)) as reply:
            async for part in reply:
                if isinstance(part, ReplyHead):
                    status = part.status
                    continue
                parts.append(part)
                num_bytes += len(part)
                if num_bytes > most_bytes:
                    raise ServerLostError(f"its answer to {request.path} is longer than {most_bytes} bytes")
        return status, b"".join(parts)
