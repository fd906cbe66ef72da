"""Replica: one process of a deployment, with the engines of all models and the application that serves them.

Serve calls its methods, all of them on one event loop, which is not the process's main thread's. The replica
installs no signal handlers and binds no port; Serve starts, drains and ends the process.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp

from mlc_serve.api.served_models import Load, chat_models, embedding_models, open_engine
from mlc_serve.config.api_keys import with_all_keys
from mlc_serve.errors import EngineDeadError
from mlc_serve.ray.arguments import Settings, read_arguments
from mlc_serve.ray.call import Call, Parts, answers
from mlc_serve.ray.recent_pages import RecentPages
from mlc_serve.router.message import ReplyHead, ReplyPart
from mlc_serve.router.prompt import Prompt
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.server.tracing import tracer_for

logger = logging.getLogger(__name__)

# Until the engines have stopped, but no longer than this many seconds, the process is not ended.
_CLOSE_SECONDS = 3.0


class Replica:
    """Loads the models, which may take minutes, and answers requests until Serve ends it."""

    def __init__(self, name: str, arguments: Mapping[str, Any], load: Load, load_embedding: Load) -> None:
        """`name` is the replica's own, and `arguments` are those of build_app. The models are loaded as by
        loading.load_served and load_embedding_model. Raises StartupError.
        """
        self._name = name
        settings = read_arguments(arguments)
        self._config = with_all_keys(settings.server, os.environ)
        self._context = _context(settings, load, load_embedding)
        self._tracer = tracer_for(self._config.otlp_traces_endpoint, os.environ)
        self._app = create_app(self._context, self._config, tracer=self._tracer)
        self._num_open = 0
        self._recent = RecentPages()

    @property
    def application(self) -> ASGIApp:
        """The application of a server with these settings."""
        return self._app

    async def answer(self, call: Call) -> AsyncGenerator[Parts, None]:
        """Yield the application's reply to a call, which names this replica.

        Raises EngineDeadError before the first parts if this replica can't answer, so that another one can.
        """
        self._require_health()
        self._num_open += 1
        try:
            async with aclosing(answers(self._app, call)) as batches:
                async for parts in batches:
                    yield [self._noted(part, call.prompt) for part in parts]
        finally:
            self._num_open -= 1

    async def check_health(self) -> None:
        """Raise EngineDeadError if an engine is dead, or has been in one step for too long. Serve then
        replaces the replica.
        """
        self._require_health()

    async def record_routing_stats(self) -> dict[str, Any]:
        """Return what the request routers are told of this replica: its load, and the pages of prompts that
        it has probably cached, the newest first.
        """
        return {"load": self._num_open, "pages": self._recent.newest_first()}

    def close(self) -> None:
        """End the engines. Serve calls this after the open requests have ended or their time is over."""
        closing = threading.Thread(target=self._context.close, name="close", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if self._tracer is not None:
            self._tracer.close()

    def _noted(self, part: ReplyPart, prompt: Prompt) -> ReplyPart:
        """Return a part of a reply as it is sent; if it says that a prompt was computed, note that."""
        if not isinstance(part, ReplyHead):
            return part
        if part.status == HTTPStatus.OK:
            self._recent.record(prompt.pages)
        return ReplyHead(part.status, (*part.headers, (b"x-routed-to", self._name.encode())))

    def _require_health(self) -> None:
        reasons = self._context.sick(self._config.watchdog_timeout)
        if reasons:
            raise EngineDeadError("; ".join(reasons))


def _context(settings: Settings, load: Load, load_embedding: Load) -> ServerContext:
    models = chat_models(settings.engine, settings.server.served_model_name)
    embedding = embedding_models(settings.engine, settings.launch, models)
    context = ServerContext()
    try:
        for model in models:
            context.add(open_engine(model, settings.launch, load, logger.info), model.aliases)
        for model in embedding:
            context.add(open_engine(model, settings.launch, load_embedding, logger.info), model.aliases)
    except BaseException:
        context.close()
        raise
    return context
