"""Streams of each API have their own pings, errors and ends."""

from __future__ import annotations

import pytest

from mlc_serve.server.event_forms import MESSAGE_EVENTS, RESPONSE_EVENTS, event_form_of
from mlc_serve.server.sse import OPENAI_EVENTS, EventForm


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/chat/completions", OPENAI_EVENTS),
        ("/v1/completions", OPENAI_EVENTS),
        ("/v1/responses", RESPONSE_EVENTS),
        ("/v1/responses/resp_1", RESPONSE_EVENTS),
        ("/v1/messages", MESSAGE_EVENTS),
    ],
)
def test_the_path_decides(path: str, form: EventForm) -> None:
    """A path belongs to one API."""
    assert event_form_of(path) is form
