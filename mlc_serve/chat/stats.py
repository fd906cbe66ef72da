"""How fast a reply arrived."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mlc_serve.chat.source import ReplyPart


@dataclass
class ReplyStats:
    """The times of one reply, updated with each part, in seconds of time.perf_counter(). A part with text
    counts as one token until the source reports the number. `share_kept` is known if tokens were drafted.
    """

    asked: float = field(default_factory=time.perf_counter)
    first: float | None = None
    last: float | None = None
    num_tokens: int = 0
    share_kept: float | None = None

    def add(self, part: ReplyPart) -> None:
        """Count a part that has just arrived."""
        if part.text or part.reasoning:
            self.last = time.perf_counter()
            self.first = self.first or self.last
            self.num_tokens += 1
        if part.num_tokens is not None:
            self.num_tokens = part.num_tokens
            self.share_kept = part.share_kept

    def __str__(self) -> str:
        if self.first is None or self.last is None:
            return "no reply yet"
        text = f"{self.num_tokens} tokens, the first after {1000 * (self.first - self.asked):.0f} ms"
        if self.last > self.first:
            text += f", then {(self.num_tokens - 1) / (self.last - self.first):.1f} tokens/s"
        if self.share_kept is not None:
            text += f"; {self.share_kept:.0%} of the drafts were kept"
        return text
