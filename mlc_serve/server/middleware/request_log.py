"""Logs one line for each request that has ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlc_serve.errors import RequestError
from mlc_serve.protocol.replies import ChatCompletion, ChatCompletionChunk, Completion
from mlc_serve.protocol.responses.replies import ResponseProgress
from mlc_serve.server.middleware.reply_heads import on_reply_head
from mlc_serve.server.middleware.request_id import request_id

logger = logging.getLogger(__name__)

# Machines request these paths every few seconds, so they are logged only at level DEBUG.
_PROBES = frozenset({"/health", "/ready", "/metrics", "/v1/models"})


@dataclass
class RequestRecord:
    """What is known about a request so far; routers add to it. Times are in seconds of time.monotonic()."""

    start: float = field(default_factory=time.monotonic)
    status: int | None = None
    operation: str | None = None  # of a request that generates, under OpenTelemetry's name
    model: str | None = None
    server: str | None = None  # that a router has sent the request to
    reply_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_chunk: float | None = None
    finish: str | None = None
    error: str | None = None  # the code of an error after the reply has begun

    def saw_head(self, head: Message) -> None:
        """Note the status of the reply."""
        self.status = head["status"]

    def saw(self, part: ChatCompletion | ChatCompletionChunk | Completion) -> None:
        """Note the usage and the finish reason in a whole reply or a chunk."""
        if part.usage is not None:
            self.prompt_tokens = part.usage.prompt_tokens
            self.completion_tokens = part.usage.completion_tokens
        for choice in part.choices:
            self.finish = choice.finish_reason or self.finish

    def saw_response(self, progress: ResponseProgress) -> None:
        """Note the usage of a response, and how it ended if it has."""
        if progress.usage is not None:
            self.prompt_tokens = progress.usage.input_tokens
            self.completion_tokens = progress.usage.output_tokens
        if progress.status != "in_progress":
            self.finish = progress.status

    @contextmanager
    def of_stream(self) -> Iterator[None]:
        """Note what goes wrong while a stream is read. A chunk with a finish reason replaces this."""
        self.finish = "disconnected"
        try:
            yield
        except RequestError as error:
            self.finish = self.error = error.code
            raise

    def saw_first_chunk(self) -> None:
        """Note that the first chunk of a streamed reply is ready."""
        self.first_chunk = time.monotonic()

    @property
    def time_to_first(self) -> float | None:
        """The seconds until the first chunk of a streamed reply was ready."""
        return None if self.first_chunk is None else self.first_chunk - self.start

    def fields(self) -> dict[str, str | int | float]:
        """Return what is known about the generation. Times are in seconds."""
        facts = {
            "model": self.model,
            "server": self.server,
            "reply": self.reply_id,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "ttft": self.time_to_first,
            "finish": self.finish,
        }
        return {name: value for name, value in facts.items() if value is not None}


def record_of(request: Request) -> RequestRecord:
    """Return the record that RequestLog started for this request."""
    record: RequestRecord = request.state.record
    return record


class RequestLog:
    """ASGI middleware that starts a RequestRecord, and logs it when the request has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on and log its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord()
        scope["state"]["record"] = record
        on_reply_head(scope, record.saw_head)
        try:
            await self._app(scope, receive, send)
        finally:
            _log(scope, record)


def _log(scope: Scope, record: RequestRecord) -> None:
    level = logging.DEBUG if scope["path"] in _PROBES else logging.INFO
    method, path, seconds = scope["method"], scope["path"], time.monotonic() - record.start
    head = {"method": method, "path": path, "status": record.status, "duration": round(seconds, 6)}
    logger.log(
        level,
        "%s %r %s id=%s duration=%.3fs%s",
        *(method, path, record.status, request_id.get(), seconds, _words(record.fields())),
        extra={"fields": {**head, **record.fields()}},
    )


def _words(fields: Mapping[str, str | int | float]) -> str:
    """Return fields as `name=value` words, each with a space before it. Only times are fractions."""
    shown = {name: f"{value:.3f}s" if isinstance(value, float) else value for name, value in fields.items()}
    return "".join(f" {name}={value}" for name, value in shown.items())
