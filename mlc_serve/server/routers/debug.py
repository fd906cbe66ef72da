"""POST /debug/…: inspects and resets engines. Served only with --enable-debug."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from mlc_serve.errors import UnsupportedFieldError
from mlc_serve.host import cuda_profiler
from mlc_serve.protocol.request_part import RequestPart
from mlc_serve.server.documentation import refuses_with, takes
from mlc_serve.server.served import Served
from mlc_serve.server.serving import serving_of


class Target(RequestPart):
    """The body of a request that must name a model."""

    model: str


class AnyTarget(RequestPart):
    """The body of a request that may leave out the model if there is only one."""

    model: str | None = None


router = APIRouter(prefix="/debug", tags=["debug"], responses=refuses_with(404))


@router.post("/dump_event_trace", openapi_extra=takes(Target))
async def dump_event_trace(request: Request) -> list[dict[str, Any]]:
    """Return the events of recent requests, for Chrome's trace viewer."""
    events = (await _served(request, Target)).event_trace()
    if events is None:
        raise UnsupportedFieldError(
            "No events are recorded: the server was started without --enable-tracing."
        )
    return events


@router.post("/dump_engine_metrics", openapi_extra=takes(AnyTarget))
async def dump_engine_metrics(request: Request) -> dict[str, Any]:
    """Return an engine's metrics under MLC-LLM's names."""
    return {"metrics": (await _served(request, AnyTarget)).metrics()}


@router.post("/reset_engine", openapi_extra=takes(Target))
async def reset_engine(request: Request) -> None:
    """End all requests of an engine, and reset its KV cache, its prefix cache and its metrics."""
    await (await _served(request, Target)).reset()


@router.post("/cuda_profiler_start")
async def cuda_profiler_start() -> None:
    """Start collecting in an attached CUDA profiler."""
    cuda_profiler.start()


@router.post("/cuda_profiler_stop")
async def cuda_profiler_stop() -> None:
    """Stop collecting in an attached CUDA profiler."""
    cuda_profiler.stop()


async def _served(request: Request, kind: type[Target | AnyTarget]) -> Served:
    """Return the engine that the body of a request names."""
    serving = serving_of(request)
    target = await serving.bodies.read(request, kind)
    return serving.context.get(target.model)
