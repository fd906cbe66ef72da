"""Traces of requests, as OpenTelemetry's collectors get them."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import mlc_serve
from mlc_serve.config import ServerConfig
from mlc_serve.errors import ConfigError
from mlc_serve.server import spans
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.server.spans import Spans, batched
from mlc_serve.server.tracing import Ended, tracer_for
from mlc_serve.testing import FakeBackend
from tests.patience import PATIENCE

COMPLETION = {"prompt": "Hello", "max_tokens": 5, "ignore_eos": True}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where the spans go."""
    return InMemorySpanExporter()


@asynccontextmanager
async def traced(context: ServerContext, exporter: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose spans the exporter collects."""
    tracer = Spans(SimpleSpanProcessor(exporter), {})
    transport = httpx.ASGITransport(create_app(context, ServerConfig(), tracer=tracer))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    tracer.close()


def only(found: Sequence[ReadableSpan]) -> ReadableSpan:
    """The one span that there is."""
    (span,) = found
    return span


@pytest.mark.parametrize("stream", [True, False])
async def test_a_generation_is_a_span(
    context: ServerContext, exporter: InMemorySpanExporter, stream: bool
) -> None:
    """It belongs to the client's trace, and has the names that OpenTelemetry gives to such facts."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "me"}
    async with traced(context, exporter) as client:
        await client.get("/v1/models", headers=headers)
        await client.post("/v1/completions", json={**COMPLETION, "stream": stream}, headers=headers)
    span = only(exporter.get_finished_spans())
    facts: dict[str, Any] = dict(span.attributes or {})
    assert span.name == "text_completion fake"
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert (facts["gen_ai.operation.name"], facts["gen_ai.request.model"]) == ("text_completion", "fake")
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == (6, 5)
    assert facts["gen_ai.response.finish_reasons"] == ("length",)
    assert facts["gen_ai.response.id"].startswith("cmpl-me-")
    assert ("gen_ai.response.time_to_first_chunk" in facts) == stream
    assert facts["mlc_serve.request_id"] == "me"
    assert span.status.status_code is StatusCode.UNSET
    assert span.resource.attributes["service.name"] == "mlc_serve"
    assert 0 < (span.end_time or 0) - (span.start_time or 0) < 60e9


async def test_a_failure_is_an_error(
    context: ServerContext, exporter: InMemorySpanExporter, backend: FakeBackend
) -> None:
    """If the server ends a stream, its span has the error's code; a refused request is no error."""
    async with traced(context, exporter) as client:
        await client.post("/v1/completions", json={})
        refused = only(exporter.get_finished_spans())
        assert (refused.attributes or {})["http.response.status_code"] == 400
        assert refused.status.status_code is StatusCode.UNSET
        exporter.clear()
        await context.drain(0)
        await client.post("/v1/completions", json=COMPLETION)
    span = only(exporter.get_finished_spans())
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "503"


def test_a_dead_collector_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """More spans than its queue has room for are taken at once, and closing waits for a short time only."""
    monkeypatch.setattr(spans, "FLUSH_SECONDS", 0.1)
    # The threads that send must end with this test: they would disturb tests of random examples.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.1")
    others = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracer = Spans(batched(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"), {})
        for _ in range(5000):
            tracer.saw(Ended("chat", "fake", 1.0, {}, None, {}))
        tracer.close()
        for thread in set(threading.enumerate()) - others:
            thread.join(PATIENCE)


def test_without_the_package_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server doesn't start, and the error names the extra."""
    assert tracer_for(None, {}) is None
    monkeypatch.delitem(sys.modules, "mlc_serve.server.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'mlc_serve\[otel\]'"):
        tracer_for("http://127.0.0.1:4318/v1/traces", {})
    with pytest.raises(ConfigError, match="otlp_traces_endpoint is 'collector'"):
        ServerConfig(otlp_traces_endpoint="collector")


def test_only_one_module_imports_opentelemetry() -> None:
    """The package is optional, so nothing else may need it."""
    package = Path(mlc_serve.__file__).parent
    importing = [path for path in package.rglob("*.py") if "from opentelemetry" in path.read_text("utf-8")]
    assert [path.name for path in importing] == ["spans.py"]
