"""Sends a span for each request that generates to an OpenTelemetry collector.

The only module that imports opentelemetry, which is an optional dependency. Spans wait in a bounded queue,
from which a thread of its own sends them: if the collector is slow or dead, spans are lost, and nothing else
happens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mlc_serve import __version__
from mlc_serve.server.tracing import Ended

# How many seconds the last spans may take to be sent when the server ends.
FLUSH_SECONDS = 2.0


def batched(endpoint: str) -> SpanProcessor:
    """Return what sends spans in batches to a collector, such as http://127.0.0.1:4318/v1/traces."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint))


class Spans:
    """Makes a span of each request that has ended, and gives it to a processor. Implements tracing.Tracer."""

    def __init__(self, processor: SpanProcessor, environment: Mapping[str, str]) -> None:
        names = {SERVICE_VERSION: __version__}
        if "OTEL_SERVICE_NAME" not in environment:
            names[SERVICE_NAME] = "mlc_serve"
        # At exit, its own handler would wait for a dead collector.
        self._provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("mlc_serve", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def saw(self, request: Ended) -> None:
        """Make the span of a request that has just ended."""
        end = time.time_ns()
        span = self._tracer.start_span(
            f"{request.operation} {request.model}" if request.model else request.operation,
            context=self._propagator.extract(request.parent),
            kind=SpanKind.SERVER,
            attributes=dict(request.attributes),
            start_time=end - int(request.seconds * 1e9),
        )
        if request.error is not None:
            span.set_status(Status(StatusCode.ERROR, request.error))
        span.end(end)

    def close(self) -> None:
        """Send the last spans, but for no longer than FLUSH_SECONDS."""
        closing = threading.Thread(target=self._provider.shutdown, name="close spans", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)
