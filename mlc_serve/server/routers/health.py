"""Probes: is the process worth keeping (/health), may it be sent requests (/ready)."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from mlc_serve.config import ServerConfig
from mlc_serve.server.context import ServerContext
from mlc_serve.server.errors import retry_headers


def health_router(context: ServerContext, config: ServerConfig) -> APIRouter:
    """GET /health and /ready, open to everybody."""
    router = APIRouter(tags=["health"])

    @router.get("/health")
    async def health() -> JSONResponse:
        """200 while every engine's loop turns; 503 with the reasons otherwise."""
        return _report("unhealthy", context.sick(config.watchdog_timeout))

    @router.get("/ready")
    async def ready() -> JSONResponse:
        """200 while new requests are taken; 503 while the server drains or an engine is dead or stuck."""
        draining = ["the server is shutting down"] if context.is_draining else []
        return _report("not ready", draining + context.sick(config.watchdog_timeout))

    return router


def _report(trouble: str, reasons: list[str]) -> JSONResponse:
    if not reasons:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": trouble, "reasons": reasons}, status_code=503, headers=retry_headers(503))
