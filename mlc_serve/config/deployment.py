"""How a model is deployed on Ray Serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mlc_serve.config.option import Kind, check_options, option
from mlc_serve.errors import ConfigError

Routing = Literal["prefix", "load"]
AUTO = "auto"


@dataclass(frozen=True)
class DeploymentConfig:
    """How a model is deployed on Ray Serve. Raises ConfigError if a value is out of range.

    `replicas` is the number of replicas as text, or "auto".
    """

    replicas: str = option(
        "1",
        "Number of replicas, each with the whole model; auto starts and stops them as the load demands.",
        flags=("--replicas",),
    )
    min_replicas: int = option(
        1,
        "Fewest replicas that auto keeps. With 0, the first request after a pause waits for a start.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--min-replicas",),
    )
    max_replicas: int = option(
        8,
        "Most replicas that auto starts.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-replicas",),
    )
    requests_per_replica: int | None = option(
        None,
        "Open requests per replica that auto aims at. Default: as many as a replica runs at once.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--requests-per-replica",),
    )
    cpus_per_replica: float | None = option(
        None,
        "CPUs that are reserved for a replica, which computes with as many threads. Default: the cores of "
        "the machine where the application is built, divided among the replicas (of auto, among two).",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--cpus-per-replica",),
    )
    routing: Routing = option(
        "prefix",
        "Which replica gets a request: one that has its prefix cached and little to do (prefix), or one with "
        "little to do, as Serve chooses it (load).",
        flags=("--routing",),
        choices=get_args(Routing),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.replicas != AUTO and not _is_positive_integer(self.replicas):
            raise ConfigError(f"replicas is {self.replicas!r}: expected an integer of at least 1, or auto")
        if self.min_replicas > self.max_replicas:
            raise ConfigError(
                f"min_replicas is {self.min_replicas}: expected at most max_replicas, {self.max_replicas}"
            )

    @property
    def num_replicas(self) -> int | None:
        """The number of replicas, or None if the load decides."""
        return None if self.replicas == AUTO else int(self.replicas)


def _is_positive_integer(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0
