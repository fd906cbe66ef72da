"""MLCServerStatus: what is known about a supervised server, as a value that can be sent as JSON."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

# The name of the event that reports a new status.
STATUS_CHANGED = "mlc-status-changed"


def _now() -> datetime:
    return datetime.now(UTC)


class MLCServerStatus(BaseModel):
    """A server's state at one moment. Frozen.

    `http_available` says whether the last probe got a good answer. `port` is the port that was chosen, and
    `pid` the id of the server's process; both are None while none runs. `error` says why there is no server,
    or why it does not answer. `since` is the time (UTC) at which process_running and http_available got their
    values. `restarts` counts the restarts since the server was last started on request.
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
        """Return whether both are in the same state, so that `since` does not change."""
        return (self.process_running, self.http_available) == (other.process_running, other.http_available)
