"""`mlc_serve router` as a function: several servers behind one address.

Owns the signals of the process: the first one ends it gently, and the second one at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from mlc_serve.config import (
    EngineConfig,
    LaunchConfig,
    RouterConfig,
    RouterMode,
    ServerConfig,
    SupervisionConfig,
)
from mlc_serve.config.api_keys import with_all_keys
from mlc_serve.errors import EXIT_OK, EXIT_STARTUP_ERROR, ConfigError
from mlc_serve.host.end_signals import end_signals
from mlc_serve.host.server_socket import bind_socket
from mlc_serve.host.threads import NUM_THREADS_VARIABLE, num_cores
from mlc_serve.interface.supervise import log_to
from mlc_serve.router.address import Address
from mlc_serve.router.backend import Backend
from mlc_serve.router.replicas import Replicas, replica_config
from mlc_serve.router.router import Router
from mlc_serve.router.upstream import Upstream
from mlc_serve.server.router_service import RouterService
from mlc_serve.server.tls import server_context
from mlc_serve.supervisor.settings import Settings

KEY_VARIABLE = "MLC_SERVE_BACKEND_API_KEY"
# How long a thread that reads a long request may keep the streams waiting for the interpreter.
_SWITCH_SECONDS = 0.001
# How much longer than its requests a replica may take to end.
_STOP_SECONDS = 10.0


def serve(
    model: str,
    model_lib: str | None,
    router_host: str,
    router_port: int,
    endpoint_hosts: Sequence[str],
    endpoint_ports: Sequence[int],
    endpoint_num_gpus: Sequence[int],
    enable_prefix_cache: bool,
    router_mode: RouterMode = "round-robin",
    pd_balance_factor: float = 0.0,
    router_type: type[Router] = Router,
) -> None:
    """Start a server at each endpoint of this machine, and route requests to them until SIGINT or SIGTERM.

    The parameters are those of MLC's function of this name; in mode disagg, the first server prefills.
    `router_type` is a class derived from Router, whose `translate_request` decides what is done with a
    request. Raises StartupError, and SystemExit with the exit code if no server can run.
    """
    _check_endpoints(endpoint_hosts, endpoint_ports, endpoint_num_gpus)
    mode: Any = "radix" if enable_prefix_cache else "disable"
    endpoints = [
        ServerConfig(host=host, port=port) for host, port in zip(endpoint_hosts, endpoint_ports, strict=True)
    ]
    code = run_router(
        EngineConfig(model=model, model_lib=model_lib, mode="server", prefix_cache_mode=mode),
        ServerConfig(host=router_host, port=router_port),
        LaunchConfig(),
        SupervisionConfig(),
        RouterConfig(
            router_mode=router_mode,
            replicas=len(endpoints),
            pd_balance_factor=str(pd_balance_factor if router_mode == "disagg" else 0),
        ),
        router_type,
        endpoints,
    )
    if code:
        sys.exit(code)


def _check_endpoints(hosts: Sequence[str], ports: Sequence[int], num_gpus: Sequence[int]) -> None:
    if not len(hosts) == len(ports) == len(num_gpus):
        raise ConfigError("endpoint_hosts, endpoint_ports and endpoint_num_gpus: expected the same length")
    if any(number != 1 for number in num_gpus):
        raise ConfigError("endpoint_num_gpus: tensor parallelism is not built yet, so expected 1 for each")


def run_router(
    engine: EngineConfig,
    server: ServerConfig,
    launch: LaunchConfig,
    supervision: SupervisionConfig,
    config: RouterConfig,
    router_type: type[Router] = Router,
    endpoints: Sequence[ServerConfig] | None = None,
) -> int:
    """Route requests until a signal arrives, and return the exit code. Raises StartupError.

    `endpoints` are the settings of the servers that are started; without them, these are `server` on the
    loopback interface. Keys are also taken from the environment. If there are no other servers and the
    supervisor gives all of them up, the code is EXIT_STARTUP_ERROR.
    """
    log_to(logging.StreamHandler(), server.log_level, server.log_format)
    server = with_all_keys(server, os.environ)
    config = replace(config, backend_api_key=config.backend_api_key or os.environ.get(KEY_VARIABLE) or None)
    if engine.model is not None and not config.num_replicas:
        raise ConfigError(
            "MODEL is given, but the router starts no server: add --replicas, or leave MODEL out"
        )
    endpoints = endpoints or [replica_config(server)] * config.num_replicas
    settings = [
        Settings.of(engine, endpoint, launch, _patient(supervision, server)) for endpoint in endpoints
    ]
    replicas = Replicas(settings, _environment(config.num_replicas, os.environ))
    own = replicas.backends(config.num_prefill_replicas)
    router = router_type([*own, *_backends(config)], config, server)
    tls = server_context(server, os.environ)
    sys.setswitchinterval(_SWITCH_SECONDS)
    with closing(bind_socket(server.host, server.port)) as sock:
        service = RouterService(router, server, sock, tls)
        with asyncio.Runner(loop_factory=service.loop_factory) as runner:
            return runner.run(_Routing(service, router, replicas, config).run())


def _patient(supervision: SupervisionConfig, server: ServerConfig) -> SupervisionConfig:
    """Return settings with which a server may finish its requests before it is killed."""
    least = server.shutdown_timeout + _STOP_SECONDS
    return replace(supervision, stop_timeout=max(supervision.stop_timeout, least))


def _environment(num_replicas: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which the servers share the cores, unless the user has set them."""
    if num_replicas < 2 or NUM_THREADS_VARIABLE in environ:
        return {}
    return {NUM_THREADS_VARIABLE: str(max(1, num_cores() // num_replicas))}


def _backends(config: RouterConfig) -> list[Backend]:
    """Return the servers that run already. Raises ConfigError for an address that is wrong or there twice."""
    addresses = [Address.of(url) for url in (*config.prefill_backends, *config.backends)]
    names = [f"{address.netloc}{address.prefix}" for address in addresses]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ConfigError(f"backends: {name} is there twice")
    trust = _trust(config.backend_ca_file)
    key = config.backend_api_key
    return [
        Backend(name, Upstream(address, trust), key, key, prefills=number < len(config.prefill_backends))
        for number, (name, address) in enumerate(zip(names, addresses, strict=True))
    ]


def _trust(path: str | None) -> ssl.SSLContext | None:
    """Return the authorities in a file; None stands for the system's. Raises ConfigError."""
    if path is None:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"backend_ca_file: {path} contains no certificate in PEM format") from error
    except OSError as error:
        raise ConfigError(f"backend_ca_file: can't read {path}: {error.strerror}") from error


class _Routing:
    """One router, the servers that it starts, and the signals that end them."""

    def __init__(
        self, service: RouterService, router: Router, replicas: Replicas, config: RouterConfig
    ) -> None:
        self._service = service
        self._router = router
        self._replicas = replicas
        self._config = config
        self._interrupted: signal.Signals | None = None
        self._exit_code = EXIT_OK
        self._wake = asyncio.Event()

    async def run(self) -> int:
        """Run until the end, and return the exit code."""
        with end_signals(partial(self._handle, asyncio.get_running_loop())):
            if self._config.num_replicas:
                self._replicas.start(self._router.fleet)
            serving = asyncio.create_task(self._service.serve())
            names = ", ".join(backend.name for backend in self._router.fleet)
            print(f"Routing to {names} on {self._service.url}", flush=True)
            try:
                await self._until_the_end(serving)
            finally:
                await self._service.stop()
                await self._replicas.stop()
                await serving
        return self._exit_code

    async def _until_the_end(self, serving: asyncio.Task[None]) -> None:
        """Wait for a signal, for the end of the service, or until no server can ever answer."""
        ends = {asyncio.create_task(self._wake.wait()), serving}
        if self._config.num_replicas and not self._config.backends:
            ends.add(asyncio.create_task(self._given_up()))
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends - {serving}:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _given_up(self) -> None:
        reason = await self._replicas.given_up()
        print(f"mlc_serve: error: {reason}", file=sys.stderr)
        self._exit_code = EXIT_STARTUP_ERROR

    def _handle(self, loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
        """Wake `run`, which ends gently; a second signal ends it at once."""
        if self._interrupted is not None:
            self._replicas.kill_now()
            os._exit(128 + number)
        self._interrupted = number
        loop.call_soon_threadsafe(self._wake.set)
