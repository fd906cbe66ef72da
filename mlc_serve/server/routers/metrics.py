"""GET /metrics, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from mlc_serve.server.serving import serving_of

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return all metrics in Prometheus' text format."""
    text = await serving_of(request).metrics.text()
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
