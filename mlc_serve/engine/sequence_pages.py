"""Whole pages of a sequence, copied out of a model's state as bytes that another process can take in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PageLayout:
    """What the bytes of a page mean. They can be exchanged only between states whose layouts are equal.

    A page has `page_size` tokens and takes `page_bytes`. `digest` tells arrangements of these bytes apart:
    number of layers and heads, dimensions and types. It does not tell apart the models that computed them.
    """

    digest: str
    page_size: int
    page_bytes: int

    def num_tokens_in(self, num_bytes: int) -> int:
        """Return how many tokens the whole pages have that fit into `num_bytes`."""
        return num_bytes // self.page_bytes * self.page_size

    def num_bytes_of(self, num_tokens: int) -> int:
        """Return how many bytes `num_tokens`, a multiple of the page size, take."""
        return num_tokens // self.page_size * self.page_bytes


@dataclass(frozen=True)
class SequencePages:
    """One or more pages of a sequence, page after page in `data`. The first one begins with the token at
    position `start`, a multiple of the page size, on which the keys in it may depend.

    Raises ValueError for anything but whole pages.
    """

    layout: PageLayout
    start: int
    data: memoryview | bytes

    def __post_init__(self) -> None:
        num_bytes, size = len(self.data), self.layout.page_bytes
        if not num_bytes or num_bytes % size:
            raise ValueError(f"data: {num_bytes} bytes are not one or more pages of {size} bytes")
        if self.start < 0 or self.start % self.layout.page_size:
            raise ValueError(
                f"start: {self.start} is not where a page of {self.layout.page_size} tokens begins"
            )

    @property
    def num_tokens(self) -> int:
        """The number of tokens in all pages."""
        return self.layout.num_tokens_in(len(self.data))

    @property
    def stop(self) -> int:
        """The position after the last token."""
        return self.start + self.num_tokens

    def part(self, start: int, stop: int) -> SequencePages:
        """Return the pages of the tokens at positions [start, stop), which must be in here and fill at least
        one page. The bytes are not copied.
        """
        if not self.start <= start < stop <= self.stop:
            raise ValueError(f"[{start}, {stop}) is not a part of [{self.start}, {self.stop})")
        first, last = (self.layout.num_bytes_of(place - self.start) for place in (start, stop))
        return SequencePages(self.layout, start, memoryview(self.data)[first:last])
