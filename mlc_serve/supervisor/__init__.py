"""Keeps servers running, each in its own process."""

from __future__ import annotations

from mlc_serve.supervisor.config import MLCServerConfig
from mlc_serve.supervisor.mlc_server import MLCServer
from mlc_serve.supervisor.popen_server import PopenServer
from mlc_serve.supervisor.status import STATUS_CHANGED, MLCServerStatus

__all__ = ["STATUS_CHANGED", "MLCServer", "MLCServerConfig", "MLCServerStatus", "PopenServer"]
