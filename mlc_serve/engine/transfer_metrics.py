"""What an engine reports about prefixes that it exchanges with other engines."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter


class PromptSources(NamedTuple):
    """Where the tokens of a prompt came from: found here, received from another engine, or computed here."""

    matched: int
    transferred: int
    recomputed: int


class TransferMetrics:
    """All counters carry the label `model`. They may be written on any thread."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        self._received, self._sent = (
            Counter(f"mlc_serve_{name}", description, ["model"], registry=registry).labels(model_name)
            for name, description in (
                ("kv_received_tokens", "Tokens whose keys and values came from another server"),
                ("kv_sent_tokens", "Tokens whose keys and values were sent to another server"),
            )
        )
        by_source = Counter(
            "mlc_serve_microserving_prompt_tokens",
            "Prompt tokens of requests that were prepared by another server, by where they came from",
            ["model", "source"],
            registry=registry,
        )
        self._sources = [by_source.labels(model_name, source) for source in PromptSources._fields]

    def received(self, num_tokens: int) -> None:
        """Count tokens that were received."""
        self._received.inc(num_tokens)

    def sent(self, num_tokens: int) -> None:
        """Count tokens that were sent."""
        self._sent.inc(num_tokens)

    def started(self, sources: PromptSources) -> None:
        """Count the prompt of a request that was started after its prefix had been received."""
        for counter, num_tokens in zip(self._sources, sources, strict=True):
            counter.inc(num_tokens)
