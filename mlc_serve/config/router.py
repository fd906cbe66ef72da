"""How a router chooses among servers, and which servers these are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mlc_serve.config.option import Kind, Spelling, check_options, option
from mlc_serve.errors import ConfigError

RouterMode = Literal["prefix", "round-robin", "disagg"]
AUTO = "auto"
_DEFAULT_REPLICAS = 2


@dataclass(frozen=True)
class RouterConfig:
    """The settings of a router. Raises ConfigError if a value is out of range. Times are in seconds."""

    router_mode: RouterMode = option(
        "prefix",
        "How a server is chosen for a request: by how much of the prompt it was sent before, less its load "
        "(prefix), or only by the number of its running requests (round-robin, as in MLC). With disagg, "
        "some servers compute prompts for the others, which are chosen as with prefix.",
        flags=("--router-mode",),
        choices=get_args(RouterMode),
    )
    replicas: int | None = option(
        None,
        "Number of servers to start on this machine, each with MODEL and the flags of `serve`. Default: 2, "
        "or none if there is a --backend.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=64,
        flags=("--replicas",),
    )
    backends: Sequence[str] = option(
        (),
        "Address of a server that runs already, such as http://10.0.0.5:8000; may be given several times.",
        kind=Kind.TEXTS,
        flags=("--backend",),
        spelling=Spelling.REPEATED,
    )
    prefill_replicas: int = option(
        1,
        "How many of the servers that the router starts compute prompts for the others. Only in mode disagg.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=64,
        flags=("--prefill-replicas",),
    )
    prefill_backends: Sequence[str] = option(
        (),
        "Address of a running server that computes prompts for the others; may be given several times. Only "
        "in mode disagg.",
        kind=Kind.TEXTS,
        flags=("--prefill-backend",),
        spelling=Spelling.REPEATED,
    )
    pd_balance_factor: str = option(
        "0",
        "Share of a long prompt that is left to the server that generates, from 0 to below 1; auto lets the "
        "loads decide. Only in mode disagg.",
        flags=("--pd-balance-factor",),
    )
    disagg_min_tokens: int = option(
        256,
        "A prompt of which fewer tokens than this have to be computed is not moved. Only in mode disagg.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--disagg-min-tokens",),
    )
    migration_min_tokens: int = option(
        256,
        "In mode prefix, a cached prefix is moved to the server that gets the request if at least so many "
        "tokens need not be computed then. 0 moves nothing.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--migration-min-tokens",),
    )
    backend_api_key: str | None = option(
        None,
        "Key to send to the servers instead of the client's own. It is better taken from the environment "
        "variable MLC_SERVE_BACKEND_API_KEY.",
        flags=("--backend-api-key",),
    )
    backend_ca_file: str | None = option(
        None,
        "PEM file with the authorities that sign the certificates of https:// backends. Default: the "
        "system's.",
        flags=("--backend-ca-file",),
    )
    load_weight: float = option(
        0.5,
        "How much the load of servers counts in mode prefix. With 0.5, a prompt that is wholly cached "
        "outweighs a difference in running requests of up to twice their mean; with 1, of once their mean.",
        kind=Kind.NUMBER,
        minimum=0,
        maximum=1000,
        flags=("--load-weight",),
    )
    max_server_requests: int | None = option(
        None,
        "Most requests that one server is sent at a time; if all have that many, further ones are refused "
        "with status 429. Default: no limit but the servers' own.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-server-requests",),
    )
    poll_interval: float = option(
        1.0,
        "Seconds between the probes of a server. After two failures in a row it gets no requests, until a "
        "probe succeeds.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--poll-interval",),
    )
    poll_timeout: float = option(
        3.0,
        "Seconds that the answer to such a probe may take.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--poll-timeout",),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if "\n" in (self.backend_api_key or ""):
            raise ConfigError("backend_api_key: a key with a line break can't be sent in a header")
        if self.num_replicas == 0 and not self.backends:
            raise ConfigError("replicas is 0, but there is no backend either: expected a --backend")
        self._check_roles()

    def _check_roles(self) -> None:
        """Raise ConfigError unless mode disagg has servers for both roles."""
        share = self.decode_share
        if share is not None and not 0 <= share < 1:
            raise ConfigError(f"pd_balance_factor is {share:g}: expected a number from 0 to below 1, or auto")
        if self.router_mode != "disagg":
            if self.prefill_backends or share != 0:
                raise ConfigError("prefill_backends and pd_balance_factor: expected router_mode to be disagg")
            return
        if not (self.num_prefill_replicas or self.prefill_backends):
            raise ConfigError("router_mode is disagg: expected a --prefill-backend, or --prefill-replicas")
        if not (self.num_replicas - self.num_prefill_replicas or self.backends):
            raise ConfigError("router_mode is disagg: expected a server besides those that prefill")

    @property
    def num_prefill_replicas(self) -> int:
        """How many of the servers that the router starts compute prompts for the others."""
        return min(self.prefill_replicas, self.num_replicas) if self.router_mode == "disagg" else 0

    @property
    def decode_share(self) -> float | None:
        """The share of a prompt that is left to the server that generates; None if the loads decide."""
        if self.pd_balance_factor == AUTO:
            return None
        try:
            return float(self.pd_balance_factor)
        except ValueError:
            raise ConfigError(
                f"pd_balance_factor is {self.pd_balance_factor!r}: expected a number from 0 to below 1, "
                "or auto"
            ) from None

    @property
    def num_replicas(self) -> int:
        """How many servers the router starts."""
        if self.replicas is not None:
            return self.replicas
        return 0 if self.backends else _DEFAULT_REPLICAS
