"""MLCServerStatus: what is known of a supervised server, as a value that turns into JSON."""

from __future__ import annotations

from datetime import datetime, timezone

from pydantic import BaseModel, ConfigDict, Field

# What a change of status is called wherever it is told.
STATUS_CHANGED = "mlc-status-changed"


def _now() -> datetime:
    return datetime.now(timezone.utc)


class MLCServerStatus(BaseModel):
    """A server's state at one moment. Frozen.

    `http_available`: the last probe was answered well. `port` is the one that was chosen, and `pid`
    the server's own process; both are None while none runs. `error` says why there is no server, or why it
    does not answer. `since` is when process_running and http_available took their values, in UTC. `restarts`
    counts those since the last start that somebody asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    process_running: bool = False
    http_available: bool = False
    port: int | None = None
    pid: int | None = None
    error: str | None = None
    since: datetime = Field(default_factory=_now)
    restarts: int = 0

    @property
    def word(self) -> str:
        """The state in one word: serving, starting, unavailable, stopped or failed."""
        if self.process_running:
            if self.http_available:
                return "serving"
            return "unavailable" if self.error else "starting"
        return "failed" if self.error else "stopped"

    def same_state(self, other: MLCServerStatus) -> bool:
        """Whether `since` holds for both."""
        return (self.process_running, self.http_available) == (other.process_running, other.http_available)
