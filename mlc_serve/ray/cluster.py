"""Runs an application on a cluster of Ray's: on one that exists, or on one that is started for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from subprocess import TimeoutExpired
from typing import Any

import ray
from ray import serve

from mlc_serve.errors import StartupError
from mlc_serve.host.processes import running
from mlc_serve.ray.application import build_app

# The address that means the cluster of the environment or of this machine.
_ANY = "auto"
# The address that means a new cluster on this machine, whatever others have left behind.
_NEW = "local"
_ADDRESS_VARIABLE = "RAY_ADDRESS"
_PROBE = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"
_PROBE_SECONDS = 15
_DEPLOYED = (
    "Deployed. Serve was running before and listens where it did, so that --host and --port had no effect."
)


def deploy(config: Mapping[str, Any], address: str | None, report: Callable[[str], object]) -> None:
    """Deploy the application of a configuration, and return when its replicas are ready.

    Without an `address`, the cluster that RAY_ADDRESS names or that runs on this machine is used. If there is
    none, one is started for the application, and this returns when a signal has arrived, the open requests
    have ended, and that cluster has been stopped. Raises StartupError.
    """
    is_own = not _is_connected(address)
    if is_own:
        report("No Ray cluster is running: starting one on this machine.")
        ray.init(address=_NEW, include_dashboard=False, log_to_driver=True)
    try:
        listens_elsewhere = bool(serve.status().proxies)
        _run(config)
        report(_DEPLOYED if listens_elsewhere else f"Serving on {_url(config)}")
        if is_own:
            _wait_for_signal()
            report("Finishing open requests.")
            # Before the proxies, which serve.shutdown ends at once, with the connections of clients.
            serve.delete(config["applications"][0]["name"])
    finally:
        if is_own:
            serve.shutdown()
        ray.shutdown()


def _is_connected(address: str | None) -> bool:
    """Connect to a cluster; return False if there is none and none was asked for."""
    if _answers(address or _ANY):
        ray.init(address=address or _ANY)
        return True
    if address is not None:
        raise StartupError(f"--address: no Ray cluster answers at {address}")
    if named := os.environ.get(_ADDRESS_VARIABLE):
        raise StartupError(f"{_ADDRESS_VARIABLE}: no Ray cluster answers at {named}")
    return False


def _answers(address: str) -> bool:
    """Whether a cluster answers. Ray waits for minutes for one that is gone, whose address a cluster that was
    killed leaves behind, so a process of its own tries it, which can be ended.
    """
    try:
        with running([sys.executable, "-c", _PROBE, address], os.environ) as probe:
            probe.communicate(timeout=_PROBE_SECONDS)
            return probe.returncode == 0
    except TimeoutExpired:
        return False


def _run(config: Mapping[str, Any]) -> None:
    (application,) = config["applications"]
    serve.start(proxy_location=config["proxy_location"], http_options=config["http_options"])
    try:
        serve.run(
            build_app(application["args"]),
            name=application["name"],
            route_prefix=application["route_prefix"],
        )
    except RuntimeError as error:
        raise StartupError(" ".join(str(error).split())) from error


def _url(config: Mapping[str, Any]) -> str:
    options, prefix = config["http_options"], config["applications"][0]["route_prefix"]
    return f"http://{options['host']}:{options['port']}{prefix.rstrip('/')}"


def _wait_for_signal() -> None:
    arrived = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: arrived.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    arrived.wait()
    for number, handler in previous.items():
        signal.signal(number, handler)
