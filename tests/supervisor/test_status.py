"""A status, as a value and as JSON."""

from __future__ import annotations

import json

import pytest

from mlc_serve.supervisor import MLCServerStatus


def test_json_and_back() -> None:
    """A status survives JSON with all its fields, and its time has a time zone."""
    status = MLCServerStatus(process_running=True, port=8000, pid=7, error="slow")
    text = status.model_dump_json()
    assert MLCServerStatus.model_validate_json(text) == status
    assert json.loads(text)["since"].endswith("Z")
    assert set(json.loads(text)) == {
        "process_running",
        "http_available",
        "port",
        "pid",
        "error",
        "since",
        "restarts",
    }


@pytest.mark.parametrize(
    ("running", "available", "error", "word"),
    [
        (True, True, None, "serving"),
        (True, False, None, "starting"),
        (True, False, "no answer", "unavailable"),
        (False, False, None, "stopped"),
        (False, False, "ended", "failed"),
    ],
)
def test_one_word(running: bool, available: bool, error: str | None, word: str) -> None:
    """Each state is described by one word."""
    assert MLCServerStatus(process_running=running, http_available=available, error=error).word == word
