"""An OpenAI-compatible LLM server: continuous batching over a paged KV cache, compiled by Apache TVM.

The names below are imported when they are first used, so that `import mlc_serve` and `--help` don't load TVM.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc_serve.api.async_engine import AsyncMLCEngine
    from mlc_serve.api.embedding_engine import AsyncEmbeddingEngine
    from mlc_serve.api.sync_engine import MLCEngine
    from mlc_serve.config import EngineConfig, ServerConfig
    from mlc_serve.errors import MLCServeError, RequestError, StartupError
    from mlc_serve.interface.serve import serve
    from mlc_serve.supervisor.config import MLCServerConfig
    from mlc_serve.supervisor.mlc_server import MLCServer
    from mlc_serve.supervisor.popen_server import PopenServer
    from mlc_serve.supervisor.status import MLCServerStatus

__version__ = "0.1.0"

__all__ = [
    "AsyncEmbeddingEngine",
    "AsyncMLCEngine",
    "EngineConfig",
    "MLCEngine",
    "MLCServeError",
    "MLCServer",
    "MLCServerConfig",
    "MLCServerStatus",
    "PopenServer",
    "RequestError",
    "ServerConfig",
    "StartupError",
    "serve",
]

_HOMES = {
    "AsyncEmbeddingEngine": "mlc_serve.api.embedding_engine",
    "AsyncMLCEngine": "mlc_serve.api.async_engine",
    "EngineConfig": "mlc_serve.config",
    "MLCEngine": "mlc_serve.api.sync_engine",
    "MLCServeError": "mlc_serve.errors",
    "MLCServer": "mlc_serve.supervisor.mlc_server",
    "MLCServerConfig": "mlc_serve.supervisor.config",
    "MLCServerStatus": "mlc_serve.supervisor.status",
    "PopenServer": "mlc_serve.supervisor.popen_server",
    "RequestError": "mlc_serve.errors",
    "ServerConfig": "mlc_serve.config",
    "StartupError": "mlc_serve.errors",
    "serve": "mlc_serve.interface.serve",
}


def __getattr__(name: str) -> Any:
    """Import the module that owns a public name, when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mlc_serve' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
