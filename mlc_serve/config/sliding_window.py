"""The window through which a model sees a whole sequence."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class SlidingWindow:
    """A token sees `size` tokens: the first `sinks` ones of its sequence, and the last ones, itself included.

    A sequence can then be of any length, and keeps only what its next token sees.
    """

    size: int
    sinks: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.sinks < self.size:
            raise ConfigError(
                f"attention_sink_size={self.sinks} must be less than sliding_window_size={self.size}"
            )

    @property
    def recent(self) -> int:
        """How many of the last tokens are seen."""
        return self.size - self.sinks

    def sink_pages(self, page_size: int) -> int:
        """How many pages hold sinks."""
        return -(-self.sinks // page_size)

    def most_pages(self, chunk: int, page_size: int) -> int:
        """The most pages that a sequence holds if a forward pass appends at most `chunk` tokens to it: those
        of the sinks, and those of what the first and the last token of a pass see.
        """
        seen_by_any = self.recent - 1 + chunk
        return self.sink_pages(page_size) + (seen_by_any + page_size - 2) // page_size + 1
