"""Has each request that generates recorded when it has ended."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mlc_serve.server.middleware.request_id import request_id
from mlc_serve.server.middleware.request_log import RequestRecord
from mlc_serve.server.tracing import Attribute, Ended, Tracer

_PARENT_HEADERS = ("traceparent", "tracestate")


class Traces:
    """ASGI middleware inside of RequestLog, whose record it reads."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and have its end recorded if it was to generate something."""
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http" and scope["state"]["record"].operation is not None:
                self._tracer.saw(_ended(scope, scope["state"]["record"]))


def _ended(scope: Scope, record: RequestRecord) -> Ended:
    headers = Headers(scope=scope)
    return Ended(
        operation=record.operation or "",
        model=record.model,
        seconds=time.monotonic() - record.start,
        attributes=_attributes(scope, record),
        error=_error(record),
        parent={name: headers[name] for name in _PARENT_HEADERS if name in headers},
    )


def _attributes(scope: Scope, record: RequestRecord) -> dict[str, Attribute]:
    known: dict[str, Attribute | None] = {
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": "mlc_serve",
        "gen_ai.request.model": record.model,
        "gen_ai.response.id": record.reply_id,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
        "gen_ai.response.finish_reasons": None if record.finish is None else [record.finish],
        "gen_ai.response.time_to_first_chunk": record.time_to_first,
        "http.request.method": scope["method"],
        "http.response.status_code": record.status,
        "url.path": scope["path"],
        "mlc_serve.request_id": request_id.get(),
        "error.type": _error(record),
    }
    return {name: value for name, value in known.items() if value is not None}


def _error(record: RequestRecord) -> str | None:
    """Return the code of an error in a stream, or the status of a request that the server has failed.

    As usual for the spans of servers, a request that was refused by its client's fault is no error.
    """
    if record.error is not None:
        return record.error
    if record.status is None:
        return "no reply"
    return str(record.status) if record.status >= 500 else None
