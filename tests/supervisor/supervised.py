"""What the supervisor's tests share: fake children, quick settings, and waiting for a status."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from mlc_serve.supervisor import MLCServer, MLCServerConfig, MLCServerStatus
from tests.patience import PATIENCE

FAKE_CHILD = Path(__file__).with_name("fake_child.py")
# The fake child that floods prints so many lines, which begin with their number, to either stream.
NUM_FLOOD_LINES = 20_000
QUICK: dict[str, Any] = {
    "ready_interval": 0.02,
    "health_interval": 0.05,
    "health_timeout": PATIENCE,
    "health_tolerance": 1,
    "restart_delay": 0.01,
    "stop_timeout": PATIENCE,
    "startup_timeout": PATIENCE,
}


def fake_command(mode: str = "serve") -> tuple[str, ...]:
    """A command that runs the fake child in a mode."""
    return (sys.executable, "-I", "-S", str(FAKE_CHILD), mode)


def config_for(mode: str = "serve", **settings: Any) -> MLCServerConfig:
    """Quick settings for a fake child on a free port."""
    return MLCServerConfig(**{"port": free_port(), **QUICK, **settings, "command": fake_command(mode)})


def free_port() -> int:
    """A port that no process listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


async def status_where(
    server: MLCServer, condition: Callable[[MLCServerStatus], object], patience: float = PATIENCE
) -> MLCServerStatus:
    """Wait for a status that fulfils a condition."""

    async def wait() -> MLCServerStatus:
        status = server.get_status()
        while not condition(status):
            status = await changes.__anext__()
        return status

    changes = server.status_events(buffered=1000)
    try:
        return await asyncio.wait_for(wait(), patience)
    finally:
        changes.close()


async def ready(server: MLCServer, patience: float = PATIENCE) -> MLCServerStatus:
    """Wait until a server serves."""
    return await status_where(server, lambda status: status.http_available, patience)


def wait_gone(*pids: int) -> None:
    """Wait until processes have ended."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], PATIENCE)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
