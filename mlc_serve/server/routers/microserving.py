"""The microserving calls: /microserving/match, /prep_recv, /remote_send, /start_generate and /abort.

A router uses them to compute a prompt on one server and to generate on another; see docs/microserving.md.
"""

from __future__ import annotations

from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlc_serve.api.microserving import Microserving
from mlc_serve.protocol.debug import check_debug_allowed
from mlc_serve.protocol.microserving import (
    AbortReply,
    AbortRequest,
    MatchReply,
    MicroservingRequest,
    PrepRecvReply,
    PrepRecvRequest,
    RemoteSendReply,
    RemoteSendRequest,
    StartGenerateRequest,
)
from mlc_serve.protocol.replies import Completion, Reply
from mlc_serve.server.answering import UntilSent
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.documentation import refuses_with, takes
from mlc_serve.server.middleware.auth import key_name
from mlc_serve.server.middleware.request_log import record_of
from mlc_serve.server.routers.openai import generate, generates
from mlc_serve.server.serving import serving_of

Call = TypeVar("Call", bound=MicroservingRequest)

router = APIRouter(prefix="/microserving", tags=["microserving"])


@router.post(
    "/match",
    openapi_extra=takes(MicroservingRequest),
    responses={200: {"model": MatchReply}, **refuses_with(404, 429)},
)
async def match(request: Request) -> Response:
    """Tell how much of a prompt is in the prefix cache, also while the server drains."""
    body, calls = await _read(request, MicroservingRequest, while_draining=True)
    return _sent(await calls.match(body, key_name(request)))


@router.post(
    "/prep_recv",
    openapi_extra=takes(PrepRecvRequest),
    responses={200: {"model": PrepRecvReply}, **refuses_with(404, 409, 429)},
)
async def prep_recv(request: Request) -> Response:
    """Park a request, and expect the beginning of its prompt from another server."""
    body, calls = await _read(request, PrepRecvRequest)
    work = calls.prepare(body, key_name(request), serving_of(request).kv_port)
    return _sent(await unless_disconnected(request.receive, work))


@router.post(
    "/remote_send",
    openapi_extra=takes(RemoteSendRequest),
    responses={200: {"model": RemoteSendReply}, **refuses_with(404, 409, 410, 429, 504)},
)
async def remote_send(request: Request) -> Response:
    """Compute the beginning of a prompt, and send it to the server that expects it. While the server drains,
    nothing is computed, but what is cached can be sent.
    """
    body, calls = await _read(request, RemoteSendRequest, while_draining=True)
    work = calls.send(body, key_name(request), serving_of(request).kv_port)
    return _sent(await unless_disconnected(request.receive, work))


@router.post(
    "/start_generate",
    openapi_extra=takes(StartGenerateRequest),
    responses={**generates(Completion, Completion), **refuses_with(409, 410)},
)
async def start_generate(request: Request, until_sent: UntilSent) -> Response:
    """Complete a prompt whose beginning was received."""
    return await generate(request, until_sent, StartGenerateRequest)


@router.post(
    "/abort", openapi_extra=takes(AbortRequest), responses={200: {"model": AbortReply}, **refuses_with(404)}
)
async def abort(request: Request) -> Response:
    """End what the other calls have begun on this server for a request."""
    serving = serving_of(request)
    body = await serving.bodies.read(request, AbortRequest)
    served = serving.context.get_for(StartGenerateRequest, body.model)
    return _sent(served.microserving().abort(body, key_name(request)))


async def _read(
    request: Request, kind: type[Call], *, while_draining: bool = False
) -> tuple[Call, Microserving]:
    """Return the body of a call, and the calls of the engine that it names. Each step refuses what it can
    before the next one does any work.
    """
    serving = serving_of(request)
    context = serving.context
    if not (while_draining and context.is_draining):
        context.require_room()
    body = await serving.bodies.read(request, kind)
    check_debug_allowed(body.debug_config, serving.config.enable_debug)
    find = context.find_for if while_draining else context.get_for
    served = find(StartGenerateRequest, body.model)
    record_of(request).model = served.name
    return body, served.microserving()


def _sent(reply: Reply) -> Response:
    return Response(reply.to_json(), media_type="application/json")
