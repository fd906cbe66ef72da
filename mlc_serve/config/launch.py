"""LaunchConfig: settings that belong neither to the engine nor to the HTTP server, such as the device."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.config.option import Kind, check_options, option
from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class LaunchConfig:
    """Settings that belong neither to the engine nor to the HTTP server. Raises ConfigError."""

    device: str = option(
        "auto", "Device: auto, cpu, cuda, cuda:1, rocm, metal, vulkan or opencl.", flags=("--device",)
    )
    enable_tracing: bool = option(
        False,
        "Record events of requests for /debug/dump_event_trace.",
        kind=Kind.BOOLEAN,
        flags=("--enable-tracing",),
    )
    embedding_model: str | None = option(
        None,
        "Model that makes embeddings, to serve beside MODEL. An encoder may also be MODEL itself.",
        flags=("--embedding-model",),
    )
    embedding_model_lib: str | None = option(
        None,
        "Compiled library of the embedding model. Without it, the model is compiled on first use.",
        flags=("--embedding-model-lib",),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.embedding_model_lib is not None and self.embedding_model is None:
            raise ConfigError("embedding_model_lib is set, but embedding_model is not")
