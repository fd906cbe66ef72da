"""A server on a real socket, in a thread of the test's process, so that the test can hold its fake device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.host.server_socket import bind_socket, url_of
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import Lifecycle
from mlc_serve.server.tls import server_context
from mlc_serve.testing import Choice, FakeBackend, fake_model
from tests.patience import PATIENCE


class LiveServer:
    """The server's URL, and the fake device behind it.

    `aborted` is set when the engine has to abort a request, `freed` when a sequence leaves the KV cache.
    """

    def __init__(self, url: str, backend: FakeBackend, engine: AsyncMLCEngine) -> None:
        self.url = url
        self.backend = backend
        self.aborted = threading.Event()
        self.freed = threading.Event()
        self._tell_of(engine.streams.loop, "abort", self.aborted)
        self._tell_of(backend.state, "remove_sequence", self.freed)

    def _tell_of(self, owner: object, method: str, event: threading.Event) -> None:
        """Set an event after each call of a method."""
        call: Callable[..., None] = getattr(owner, method)

        def call_and_tell(*args: Any) -> None:
            call(*args)
            event.set()

        setattr(owner, method, call_and_tell)

    @property
    def address(self) -> tuple[str, int]:
        """The server's host and port."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port


@contextmanager
def live_server(
    choose: Choice | None = None,
    *,
    others: Sequence[str] = (),
    limits: Mapping[str, Any] | None = None,
    supervisor_url: str | None = None,
    speculation: Speculation | None = None,
    **config: Any,
) -> Iterator[LiveServer]:
    """A running server, whose fake device draws with `choose`; `others` names further models.

    `limits` are fields of EngineLimits, `config` those of ServerConfig. `speculation` drafts for it.
    Unless `limits` say otherwise there is no prefix cache, so that pages are free as soon as no request uses
    them.
    """
    backend = FakeBackend(num_pages=512, choose=choose)
    context = ServerContext(supervisor_url)
    fields = {"prefix_cache_mode": "disable", **(limits or {})}
    model = fake_model(backend=backend, **fields)
    engine = AsyncMLCEngine.from_loaded(replace(model, speculation=speculation or Speculation.none()))
    context.add(engine)
    for name in others:
        context.add(AsyncMLCEngine.from_loaded(fake_model(name)))
    sock = bind_socket("127.0.0.1", 0)
    sock.listen()
    server_config = ServerConfig(shutdown_timeout=0, **config)
    tls = server_context(server_config, {})
    lifecycle = Lifecycle(context, server_config, sock, tls)
    thread = threading.Thread(target=lifecycle.run)
    server = LiveServer(url_of(sock, server_config.scheme), backend, engine)
    thread.start()
    try:
        httpx.get(f"{server.url}/ready", timeout=PATIENCE, verify=tls is None)
        yield server
    finally:
        backend.gate.set()
        lifecycle.stop()
        thread.join()
