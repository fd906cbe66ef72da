"""POST /debug/…: looking into engines and resetting them. Served only where --enable-debug was given."""

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
    """The model that is meant."""

    model: str


class AnyTarget(RequestPart):
    """The model that is meant; the only one if none is named."""

    model: str | None = None


router = APIRouter(prefix="/debug", tags=["debug"], responses=refuses_with(404))


@router.post("/dump_event_trace", openapi_extra=takes(Target))
async def dump_event_trace(request: Request) -> list[dict[str, Any]]:
    """The events of recent requests, as Chrome's trace viewer reads them."""
    events = (await _served(request, Target)).event_trace()
    if events is None:
        raise UnsupportedFieldError(
            "No events are recorded: the server was started without --enable-tracing."
        )
    return events


@router.post("/dump_engine_metrics", openapi_extra=takes(AnyTarget))
async def dump_engine_metrics(request: Request) -> dict[str, Any]:
    """An engine's sums under the names that MLC-LLM gives them."""
    return {"metrics": (await _served(request, AnyTarget)).metrics()}


@router.post("/reset_engine", openapi_extra=takes(Target))
async def reset_engine(request: Request) -> None:
    """End all requests of an engine and forget its KV cache, its prefix cache and its metrics."""
    await (await _served(request, Target)).reset()


@router.post("/cuda_profiler_start")
async def cuda_profiler_start() -> None:
    """Let an attached CUDA profiler collect from here."""
    cuda_profiler.start()


@router.post("/cuda_profiler_stop")
async def cuda_profiler_stop() -> None:
    """Let it collect no more."""
    cuda_profiler.stop()


async def _served(request: Request, kind: type[Target | AnyTarget]) -> Served:
    """What the body of a request names."""
    serving = serving_of(request)
    target = await serving.bodies.read(request, kind)
    return serving.context.get(target.model)
