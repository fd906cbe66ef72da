"""Replicas: the servers that the router itself starts, each supervised in a process of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mlc_serve.config import ServerConfig
from mlc_serve.errors import StartupError, SupervisionError
from mlc_serve.router.address import Address
from mlc_serve.router.backend import Backend
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.upstream import Upstream
from mlc_serve.supervisor.mlc_server import MLCServer
from mlc_serve.supervisor.settings import Settings
from mlc_serve.supervisor.status import MLCServerStatus

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"


def replica_config(router: ServerConfig) -> ServerConfig:
    """Return the settings of a server behind a router with these: any free port of the loopback interface,
    and nothing that only concerns browsers, proxies or the network.
    """
    return replace(
        router,
        host=HOST,
        port=0,
        kv_transfer_port=0,
        allowed_hosts=(),
        allow_credentials=False,
        allow_origins=("*",),
        ssl_certfile=None,
        ssl_keyfile=None,
        ssl_keyfile_password_file=None,
        ssl_ca_certs=None,
        root_path=None,
    )


class Replicas:
    """Servers with these settings. `env` is added to their environment.

    Clients' keys are theirs as well, so that these are passed on as they are.
    """

    def __init__(self, settings: Sequence[Settings], env: Mapping[str, str]) -> None:
        self._servers = [MLCServer(each, env=env) for each in settings]
        self._settings = settings
        self._starting: asyncio.Task[None] | None = None
        self._unfollow: list[Callable[[], None]] = []

    def backends(self, num_prefilling: int) -> list[Backend]:
        """Return what stands for them in a fleet. The first ones compute prompts for the others."""
        return [
            Backend(
                _name(number),
                None,
                own_key=next(iter(each.server.api_keys), None),
                prefills=number <= num_prefilling,
            )
            for number, each in enumerate(self._settings, 1)
        ]

    def start(self, fleet: Fleet) -> None:
        """Start them, and tell the fleet their addresses from now on. The others follow when the first one
        serves, since it may have to compile the model for all.
        """
        for number, (server, settings) in enumerate(zip(self._servers, self._settings, strict=True), 1):
            address = _Address(fleet, _name(number), settings.server.host)
            self._unfollow.append(server.on_status_changed(address.follow))
        self._starting = asyncio.create_task(self._start_all())

    async def _start_all(self) -> None:
        first, *others = self._servers
        await _start(first)
        try:
            await first.wait_ready()
        except SupervisionError as error:
            logger.error("%s does not serve: %s", _name(1), error)
        await asyncio.gather(*map(_start, others))

    async def given_up(self) -> str:
        """Wait until none of them runs or will be started again, and return why the last one does not."""
        if self._starting is not None:
            await asyncio.shield(self._starting)
        await asyncio.gather(*(server.wait_ended() for server in self._servers))
        return self._servers[-1].get_status().error or "the servers have been stopped"

    async def stop(self) -> None:
        """Stop them gently, and kill those that take too long. The fleet is told nothing more."""
        for unfollow in self._unfollow:
            unfollow()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in self._servers))

    def kill_now(self) -> None:
        """Kill them. Any thread or signal handler may call this."""
        for server in self._servers:
            server.kill_sync()


class _Address:
    """Tells the fleet where a server is, whenever it has started."""

    def __init__(self, fleet: Fleet, name: str, host: str) -> None:
        self._move = partial(fleet.move, name)
        self._host = host
        self._present: tuple[int | None, int | None] = (None, None)

    def follow(self, status: MLCServerStatus) -> None:
        """Take note of the process and the port of a new status."""
        present = (status.pid, status.port)
        if present == self._present:
            return
        self._present = present
        port = status.port
        self._move(None if port is None else Upstream(Address("http", self._host, port, "")))


async def _start(server: MLCServer) -> None:
    try:
        await server.start_server()
    except StartupError as error:
        logger.error("a server can't be started: %s", error)


def _name(number: int) -> str:
    return f"replica-{number}"
