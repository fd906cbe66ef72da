"""LaunchConfig: settings that belong neither to the engine nor to the HTTP server, such as the device."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.config.not_yet import refuse_not_yet
from mlc_serve.config.option import Kind, check_options, option


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
        None, "Embedding model. Not built yet.", flags=("--embedding-model",)
    )
    embedding_model_lib: str | None = option(
        None, "Library of the embedding model. Not built yet.", flags=("--embedding-model-lib",)
    )

    def __post_init__(self) -> None:
        check_options(self)
        refuse_not_yet(self)
