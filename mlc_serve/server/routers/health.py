"""Probes, which need no key: /health says whether the process works, /ready whether it takes requests."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlc_serve.protocol.replies import Reply
from mlc_serve.server.middleware.errors import retry_headers
from mlc_serve.server.serving import Serving, serving_of


class Report(Reply):
    """The result of a probe. There are `reasons` if `status` is not `ok`."""

    status: str
    reasons: list[str] | None = None


router = APIRouter(tags=["health"], responses={200: {"model": Report}, 503: {"model": Report}})


@router.get("/health")
async def health(request: Request) -> Response:
    """Answer 200 while every engine works, and 503 with the reasons otherwise."""
    return report("unhealthy", _sick(serving_of(request)))


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Answer 200 while the server takes requests, and 503 while it drains or an engine is dead or stuck."""
    serving = serving_of(request)
    draining = ["the server is shutting down"] if serving.context.is_draining else []
    return report("not ready", draining + _sick(serving))


def _sick(serving: Serving) -> list[str]:
    return serving.context.sick(serving.config.watchdog_timeout)


def report(trouble: str, reasons: list[str]) -> Response:
    """Return 200, or 503 if there are `reasons` for `trouble`."""
    result = Report(status=trouble, reasons=reasons) if reasons else Report(status="ok")
    status = 503 if reasons else 200
    return Response(result.to_json(), status, retry_headers(status), media_type="application/json")
