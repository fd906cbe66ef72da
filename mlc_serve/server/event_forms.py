"""What the streams of each API have besides the events of a reply."""

from __future__ import annotations

from dataclasses import replace

from sse_starlette import ServerSentEvent

from mlc_serve.errors import RequestError
from mlc_serve.protocol.anthropic.errors import anthropic_error
from mlc_serve.protocol.anthropic.reply import Ping
from mlc_serve.server.middleware.errors import error_json, is_anthropics
from mlc_serve.server.middleware.request_id import request_id
from mlc_serve.server.sse import OPENAI_EVENTS, EventForm, event


def _anthropic_error_event(error: RequestError) -> str:
    return event(anthropic_error(error, request_id.get()).to_json(), "error")


MESSAGE_EVENTS = EventForm(
    ping=ServerSentEvent(Ping(type="ping").to_json(), event="ping", sep="\n"), error=_anthropic_error_event
)
RESPONSE_EVENTS = replace(OPENAI_EVENTS, error=lambda error: event(error_json(error), "error"), end=b"")


def event_form_of(path: str) -> EventForm:
    """Return the form of the streams that answer requests for a path."""
    if is_anthropics(path):
        return MESSAGE_EVENTS
    return RESPONSE_EVENTS if f"{path}/".startswith("/v1/responses/") else OPENAI_EVENTS
