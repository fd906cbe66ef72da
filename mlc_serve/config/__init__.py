"""All settings, as frozen dataclasses. Each setting is declared once.

Command-line flags, --overrides keys, help texts and the tables in docs/operations.md are made from these
declarations. Nothing here uses argparse, a model or a device; a setting that is None is inferred later, by
code that knows the model or the device.
"""

from mlc_serve.config.chat import ChatConfig
from mlc_serve.config.deployment import DeploymentConfig
from mlc_serve.config.engine import (
    DEFAULT_MODE,
    DEFAULT_OPT,
    LOCAL_SEQUENCES,
    EngineConfig,
    Mode,
    OptimizationLevel,
    PrefillMode,
    PrefixCacheMode,
    ReasoningParser,
    SpeculativeMode,
    ToolCallParser,
    parse_overrides,
)
from mlc_serve.config.launch import LaunchConfig
from mlc_serve.config.router import RouterConfig, RouterMode
from mlc_serve.config.server import ServerConfig
from mlc_serve.config.supervision import StatusServiceConfig, SupervisionConfig
from mlc_serve.config.workload import Workload

__all__ = [
    "DEFAULT_MODE",
    "DEFAULT_OPT",
    "LOCAL_SEQUENCES",
    "ChatConfig",
    "DeploymentConfig",
    "EngineConfig",
    "LaunchConfig",
    "Mode",
    "OptimizationLevel",
    "PrefillMode",
    "PrefixCacheMode",
    "ReasoningParser",
    "RouterConfig",
    "RouterMode",
    "ServerConfig",
    "SpeculativeMode",
    "StatusServiceConfig",
    "SupervisionConfig",
    "ToolCallParser",
    "Workload",
    "parse_overrides",
]
