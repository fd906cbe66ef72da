"""A log in JSON."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from mlc_serve.interface.log_lines import formatter_for
from mlc_serve.interface.status_line import StatusLine
from mlc_serve.interface.supervise import ServerLines
from mlc_serve.server.middleware.request_id import request_id
from mlc_serve.supervisor.status import MLCServerStatus
from tests.server.conftest import MakeClient, backend, context, engine, make_client

__all__ = ["backend", "context", "engine", "make_client"]
REQUEST_LOG = "mlc_serve.server.middleware.request_log"


def record(text: str, name: str = "test") -> logging.LogRecord:
    """A record of the log."""
    return logging.LogRecord(name, logging.WARNING, "", 0, text, None, None)


def read(line: str) -> dict[str, Any]:
    """The object in a line."""
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_record_is_an_object_in_one_line() -> None:
    """It has the time in UTC, level, logger and message, whatever the message contains, and no more."""
    before = datetime.now(UTC)
    facts = read(formatter_for("json").format(record('two\nlines and "quotes" 语')))
    assert abs((datetime.fromisoformat(facts.pop("time")) - before).total_seconds()) < 60
    assert facts == {"level": "WARNING", "logger": "test", "message": 'two\nlines and "quotes" 语'}


def test_an_exception_is_a_field() -> None:
    """The traceback is in the same object, with the id of the request that failed."""
    failed = record("it failed")
    token = request_id.set("me")
    try:
        raise ValueError("because")
    except ValueError:
        failed.exc_info = sys.exc_info()
    facts = read(formatter_for("json").format(failed))
    request_id.reset(token)
    assert facts["request_id"] == "me"
    assert facts["exception"].startswith("Traceback")
    assert facts["exception"].endswith("ValueError: because")


async def test_a_request_has_its_fields(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    """The object of a generation has method, path, status, tokens, times and the request's id."""
    caplog.set_level(logging.INFO)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter_for("json"))
    logging.getLogger(REQUEST_LOG).addHandler(handler)
    body = {"prompt": "Hello", "max_tokens": 5, "ignore_eos": True, "stream": True}
    async with make_client() as client:
        await client.post("/v1/completions", json=body, headers={"X-Request-Id": "me"})
    logging.getLogger(REQUEST_LOG).removeHandler(handler)
    facts = read(stream.getvalue().rstrip("\n"))
    assert (facts["request_id"], facts["method"], facts["path"]) == ("me", "POST", "/v1/completions")
    assert (facts["status"], facts["model"], facts["finish"]) == (200, "fake", "length")
    assert (facts["prompt_tokens"], facts["completion_tokens"]) == (6, 5)
    assert 0 < facts["ttft"] <= facts["duration"]


@pytest.mark.parametrize(("log_format", "is_same"), [("text", True), ("json", False)])
def test_the_supervisor_passes_on_what_has_the_form(log_format: str, is_same: bool) -> None:
    """The server's JSON stays as it is; its plain lines become objects in a log that is JSON."""
    lines = ServerLines(log_format)
    assert lines.format(record('{"a": 1}', "mlc_serve.supervisor.output")) == '{"a": 1}'
    plain = lines.format(record("Serving", "mlc_serve.supervisor.output"))
    assert (plain == "Serving") == is_same
    assert is_same or read(plain)["message"] == "Serving"


def test_changes_of_the_status_are_records_of_such_a_log() -> None:
    """Where there is no terminal, the status is logged in the form of the rest."""
    stream = io.StringIO()
    line = StatusLine(stream, "127.0.0.1", is_logged=True)
    line.setFormatter(formatter_for("json"))
    line.show(MLCServerStatus(error="it ended"))
    assert read(stream.getvalue().rstrip("\n"))["message"] == "failed | it ended"
