"""What an engine reports about drafts: Prometheus counters, and MLC-LLM's counts."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter

from mlc_serve.engine.speculation.draft_counts import DraftCounts

# So many places of drafts have counters of their own; the last one counts further drafts, too.
_MOST_POSITIONS = 32


class DraftMetrics:
    """Written on the engine's thread. All counters carry the label `model`.

    Those by `position`, from 0 on, appear when a draft is kept there for the first time.
    """

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        self._model_name = model_name
        self._counts = DraftCounts()
        self._passes, self._drafted, self._kept = (
            Counter(f"mlc_serve_{name}", description, ["model"], registry=registry).labels(model_name)
            for name, description in (
                ("draft_passes", "Passes with drafts, counted for each request that had some"),
                ("draft_tokens", "Tokens drafted"),
                ("draft_tokens_kept", "Drafts that were kept"),
            )
        )
        self._by_position = Counter(
            "mlc_serve_draft_tokens_kept_by_position",
            "Drafts that were kept, by their place in the pass",
            ["model", "position"],
            registry=registry,
        )
        self._positions: list[Counter] = []

    def committed(self, num_drafts: int, num_kept: int) -> None:
        """Count the drafts (at least one) of one request in one pass."""
        self._counts.add(num_drafts, num_kept)
        self._passes.inc()
        self._drafted.inc(num_drafts)
        self._kept.inc(num_kept)
        for place in range(num_kept):
            self._position(min(place, _MOST_POSITIONS - 1)).inc()

    def reset(self) -> None:
        """Set MLC-LLM's counts to zero. Prometheus counters stay, since they must only ever grow."""
        self._counts = DraftCounts()

    def snapshot(self) -> dict[str, Any]:
        """Return MLC-LLM's counts; see DraftCounts.snapshot."""
        return self._counts.snapshot()

    def _position(self, place: int) -> Counter:
        if place == len(self._positions):
            self._positions.append(self._by_position.labels(self._model_name, str(place)))
        return self._positions[place]
