"""How a supervisor runs a server, and the service that reports the server's status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlc_serve.config.option import Kind, check_options, option
from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class SupervisionConfig:
    """How a supervisor runs a server. Raises ConfigError if a value is out of range. Times are in seconds.

    `command` is ("mlc_serve",), ("mlc_llm",), or the first words of a command line that takes the flags of
    `mlc_serve serve`.
    """

    max_tokens: int = option(
        32_000,
        "Most tokens of one request, prompt and output together, where the model's context window is longer.",
        kind=Kind.INTEGER,
        minimum=2,
        flags=("--max-tokens",),
    )
    command: Sequence[str] = option(
        ("mlc_serve",),
        "What to run: mlc_serve, mlc_llm (found on PATH), or a JSON list with the first words of a command "
        "that takes the flags of `mlc_serve serve`.",
        kind=Kind.TEXTS,
        flags=("--command",),
    )
    port_attempts: int = option(
        100,
        "Number of ports to try, starting with --port.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--port-attempts",),
    )
    startup_timeout: float = option(
        600.0,
        "Seconds in which a server must answer after its start, compiling its model included.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--startup-timeout",),
    )
    ready_attempts: int = option(
        60,
        "A program that waits until the server is ready waits for at most this many ready intervals.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--ready-attempts",),
    )
    ready_interval: float = option(
        1.0,
        "The ready interval: seconds between the probes of a server that is starting.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--ready-interval",),
    )
    health_interval: float = option(
        5.0,
        "Seconds between the probes of a server that is ready.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--health-interval",),
    )
    health_timeout: float = option(
        10.0,
        "Seconds that the answer to a probe may take.",
        kind=Kind.NUMBER,
        minimum=0.01,
        flags=("--health-timeout",),
    )
    health_tolerance: int = option(
        3,
        "Probes in a row that may fail; one more, and the server is restarted.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--health-tolerance",),
    )
    restart_delay: float = option(
        1.0,
        "Seconds before a restart; doubled by each restart within the window.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--restart-delay",),
    )
    restart_max_delay: float = option(
        60.0,
        "Longest delay before a restart, in seconds.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--restart-max-delay",),
    )
    restart_limit: int = option(
        5,
        "Restarts within the window after which the supervisor gives up; 0 never restarts.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--restart-limit",),
    )
    restart_window: float = option(
        300.0,
        "Seconds for which a restart counts.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--restart-window",),
    )
    stop_timeout: float = option(
        40.0,
        "Seconds that a server gets to end after SIGINT, before it and its children are killed.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--stop-timeout",),
    )
    output_lines: int = option(
        200,
        "Lines of the server's output that are kept.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--output-lines",),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not self.command:
            raise ConfigError("command is empty: expected mlc_serve, mlc_llm or the words of a command")


@dataclass(frozen=True)
class StatusServiceConfig:
    """The HTTP service that reports a supervisor's status. Raises ConfigError if a value is out of range."""

    status_port: int | None = option(
        None,
        "Port of 127.0.0.1 on which the supervisor reports the status and takes commands; 0 chooses any free "
        "one. Without this option there is no such service.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=65535,
        flags=("--status-port",),
    )
    status_token: str | None = option(
        None,
        "Bearer token for /start, /stop and /restart. Without this option it is taken from the environment "
        "variable MLC_SERVE_STATUS_TOKEN, or generated and printed.",
        flags=("--status-token",),
    )

    def __post_init__(self) -> None:
        check_options(self)
