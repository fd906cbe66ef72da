"""The ASGI application: the layers that a request passes, their order, and the paths.

Owns no state; the engines are in the ServerContext.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from mlc_serve.api.response_store import ResponseStore
from mlc_serve.api.responses import Responses
from mlc_serve.config import ServerConfig
from mlc_serve.kv_transfer.kv_port import KVPort
from mlc_serve.server import ignored_fields
from mlc_serve.server.context import ServerContext
from mlc_serve.server.documentation import ANYWHERE, DocumentedApp, refuses_with
from mlc_serve.server.ignored_fields import IgnoredFields
from mlc_serve.server.json_bodies import JsonBodies
from mlc_serve.server.metrics import ServerMetrics
from mlc_serve.server.middleware import request_id
from mlc_serve.server.middleware.auth import ApiKeys, Keys
from mlc_serve.server.middleware.body_limit import BodyLimit
from mlc_serve.server.middleware.errors import EXCEPTION_HANDLERS, UnexpectedErrors
from mlc_serve.server.middleware.hosts import Hosts, is_loopback
from mlc_serve.server.middleware.paths import Paths
from mlc_serve.server.middleware.reply_heads import ReplyHeads
from mlc_serve.server.middleware.request_id import RequestId
from mlc_serve.server.middleware.request_log import RequestLog
from mlc_serve.server.middleware.root_path import RootPath
from mlc_serve.server.middleware.traces import Traces
from mlc_serve.server.routers import (
    anthropic,
    debug,
    embeddings,
    health,
    metrics,
    microserving,
    openai,
    responses,
    tokenization,
    ui,
)
from mlc_serve.server.serving import Serving
from mlc_serve.server.tracing import Tracer

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    context: ServerContext,
    config: ServerConfig,
    lifespan: Lifespan | None = None,
    tracer: Tracer | None = None,
) -> FastAPI:
    """Return the application that serves a context's engines. `tracer` records the requests that generate."""
    serving = _serving(context, config)
    app = DocumentedApp(
        title="mlc_serve",
        description="OpenAI-compatible serving of language models.",
        middleware=layers(config, tracer),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=_closing(serving.kv_port, lifespan),
        responses=refuses_with(*ANYWHERE),
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.serving = serving
    app.include_router(openai.router)
    app.include_router(anthropic.router)
    app.include_router(responses.router)
    app.include_router(tokenization.router)
    app.include_router(tokenization.router, prefix="/v1")
    app.include_router(embeddings.router)
    app.include_router(microserving.router)
    app.include_router(metrics.router)
    app.include_router(health.router)
    if config.enable_debug:
        app.include_router(debug.router)
    if config.enable_ui:
        app.include_router(ui.router)
    else:
        app.add_api_route("/", front_page, methods=["GET", "HEAD"], include_in_schema=False)
    return app


def _serving(context: ServerContext, config: ServerConfig) -> Serving:
    server_metrics = ServerMetrics(context, vllm_names=config.vllm_metrics)
    bodies = JsonBodies(config, IgnoredFields(server_metrics.registry))
    store = ResponseStore(config.max_stored_responses, config.max_stored_response_bytes)
    responses = Responses(store, config.max_body_bytes)
    kv_port = KVPort(config.kv_transfer_host, config.kv_transfer_port)
    return Serving(context, config, bodies, server_metrics, responses, kv_port)


def _closing(kv_port: KVPort, lifespan: Lifespan | None) -> Lifespan:
    """Return a lifespan that also closes the port."""

    @asynccontextmanager
    async def extended(app: FastAPI) -> AsyncIterator[None]:
        async with nullcontext() if lifespan is None else lifespan(app):
            try:
                yield
            finally:
                await kv_port.close()

    return extended


def layers(config: ServerConfig, tracer: Tracer | None = None) -> list[Middleware]:
    """Return the layers, the outermost first. Each can refuse a request before the next ones do any work.

    Layers that refuse requests are inside CORS, so that browsers may read the refusal. The check of the Host
    header is outside, so that a page that fails it learns nothing.
    """
    return [
        *_root_path(config),
        Middleware(ReplyHeads),
        Middleware(RequestId),
        Middleware(RequestLog),
        *([] if tracer is None else [Middleware(Traces, tracer=tracer)]),
        Middleware(Paths),
        *_hosts(config),
        Middleware(
            CORSMiddleware,
            allow_origins=config.allow_origins,
            allow_methods=config.allow_methods,
            allow_headers=config.allow_headers,
            allow_credentials=config.allow_credentials,
            allow_private_network=True,
            expose_headers=[
                request_id.HEADER,
                request_id.ANTHROPIC_HEADER,
                ignored_fields.HEADER,
                "Retry-After",
                "X-Routed-To",
            ],
        ),
        Middleware(UnexpectedErrors),
        *_api_keys(config),
        Middleware(BodyLimit, max_bytes=config.max_body_bytes),
    ]


def _root_path(config: ServerConfig) -> list[Middleware]:
    return [] if config.root_path is None else [Middleware(RootPath, prefix=config.root_path)]


def _hosts(config: ServerConfig) -> list[Middleware]:
    """Return the check of the Host header. It is left out if the server listens on addresses other than
    loopback without --allowed-hosts, because its names are not known then.
    """
    is_checked = bool(config.allowed_hosts) or is_loopback(config.host)
    if not is_checked or "*" in config.allowed_hosts:
        return []
    return [Middleware(Hosts, names=[config.host, *config.allowed_hosts])]


def _api_keys(config: ServerConfig) -> list[Middleware]:
    """Return the check of API keys, if there are any."""
    if not config.api_keys and config.admin_api_key is None:
        return []
    keys = Keys.of(config.api_keys, config.admin_api_key)
    return [Middleware(ApiKeys, keys=keys, admin_paths=debug.router.prefix, open_paths=_open_paths(config))]


def _open_paths(config: ServerConfig) -> frozenset[str]:
    """Return the paths that need no key, besides the probes.

    The page's files need none, since the user types the key into the page. The data that it shows does.
    """
    page = ui.PAGE_PATHS if config.enable_ui else frozenset[str]()
    return page | {"/metrics"} if config.public_metrics else page


async def front_page(request: Request) -> RedirectResponse:
    """Redirect / to the documentation. Used if the page is disabled."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")
