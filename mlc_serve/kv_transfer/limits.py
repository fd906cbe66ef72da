"""How long the two ends of a transfer wait for each other, and how much they take in at a time."""

from __future__ import annotations

from dataclasses import dataclass

# Portions that may be on the way. While the receiver takes one in, the sender prepares the next.
NUM_SLOTS = 2


@dataclass(frozen=True)
class TransferLimits:
    """Times are in seconds.

    A receiver keeps a prefix that it expects, or has received, for `lease` after the last call or portion.
    `connect` bounds the time until two ends are connected, `hello` that until the first message, and
    `portion` that until a portion or its acknowledgement. A portion has about `portion_bytes`, which an
    engine takes in within a step. A receiver has at most `max_connections`, and `max_transfers` of these have
    begun to send.
    """

    lease: float = 30.0
    connect: float = 5.0
    hello: float = 5.0
    portion: float = 30.0
    portion_bytes: int = 8 * 2**20
    max_transfers: int = 16
    max_connections: int = 64

    def portion_of(self, page_bytes: int, num_bytes: int) -> int:
        """Return how many bytes a portion of a transfer of `num_bytes` has: whole pages."""
        pages = max(1, self.portion_bytes // page_bytes)
        return min(pages * page_bytes, num_bytes)
