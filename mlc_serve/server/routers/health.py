"""Probes: is the process worth keeping (/health), may it be sent requests (/ready)."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from mlc_serve.config import ServerConfig
from mlc_serve.protocol.replies import Reply
from mlc_serve.server.context import ServerContext
from mlc_serve.server.middleware.errors import retry_headers


class Report(Reply):
    """`status` is `ok`, or there are reasons why not."""

    status: str
    reasons: list[str] | None = None


def health_router(context: ServerContext, config: ServerConfig) -> APIRouter:
    """GET /health and /ready, open to everybody."""
    router = APIRouter(tags=["health"], responses={200: {"model": Report}, 503: {"model": Report}})

    @router.get("/health")
    async def health() -> Response:
        """200 while every engine's loop turns; 503 with the reasons otherwise."""
        return _report("unhealthy", context.sick(config.watchdog_timeout))

    @router.get("/ready")
    async def ready() -> Response:
        """200 while new requests are taken; 503 while the server drains or an engine is dead or stuck."""
        draining = ["the server is shutting down"] if context.is_draining else []
        return _report("not ready", draining + context.sick(config.watchdog_timeout))

    return router


def _report(trouble: str, reasons: list[str]) -> Response:
    report = Report(status=trouble, reasons=reasons) if reasons else Report(status="ok")
    status = 503 if reasons else 200
    return Response(report.to_json(), status, retry_headers(status), media_type="application/json")
