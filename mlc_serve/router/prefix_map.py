"""PrefixMap: which server has probably cached how much of a prompt's beginning.

A prompt is cut into pages of one size, and each page's hash covers all pages before it, too. So a prompt is a
chain of hashes, and two prompts have as many hashes in common as whole pages at their beginning.

The map is a guess, since it learns from what was sent where and not from the servers. It is bounded, and
forgets what a server has not been sent for a while, as the server's own cache does.
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

DIGEST_BYTES = 16
# Token ids are hashed as 64-bit integers.
_ID_BYTES = 8


def page_hashes(
    prompt: bytes | Sequence[int], page_size: int, namespace: str, max_pages: int = 8192
) -> list[bytes]:
    """Return the hashes of a prompt's first whole pages, at most `max_pages` of them.

    `prompt` is a text's bytes or token ids, and `page_size` is the length of a page in these. `namespace`
    says what else must be the same for a prefix to be of use, such as the model. Raises OverflowError for
    token ids of more than 64 bits.
    """
    width = page_size if isinstance(prompt, bytes) else page_size * _ID_BYTES
    head = prompt[: page_size * max_pages]
    text = head if isinstance(head, bytes) else array("q", head).tobytes()
    last = blake2b(namespace.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()
    hashes = []
    for start in range(0, len(text) - width + 1, width):
        last = blake2b(last + text[start : start + width], digest_size=DIGEST_BYTES).digest()
        hashes.append(last)
    return hashes


class PrefixMap:
    """The pages that each server was sent: at most `max_pages` for a server, each for `expiry` seconds."""

    def __init__(
        self, max_pages: int = 65536, expiry: float = 1800.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_pages = max_pages
        self._expiry = expiry
        self._clock = clock
        # For each server, the time at which each page was last sent, the oldest first.
        self._sent: dict[str, OrderedDict[bytes, float]] = {}

    def matched(self, hashes: Sequence[bytes]) -> dict[str, int]:
        """Return how many of the chain's first pages each server has, for the servers that have any."""
        counts = {server: self.num_matched(server, hashes) for server in self._sent}
        return {server: count for server, count in counts.items() if count}

    def num_matched(self, server: str, hashes: Sequence[bytes]) -> int:
        """Return how many of the chain's first pages a server has."""
        pages = self._sent.get(server)
        return 0 if pages is None else _num_leading(hashes, pages, self._clock() - self._expiry)

    def record(self, server: str, hashes: Sequence[bytes]) -> None:
        """Note that a server was sent the prompt with this chain. The last pages of a chain are the oldest,
        so that they are forgotten first: without the pages before them, they are of no use.
        """
        pages = self._sent.setdefault(server, OrderedDict())
        now = self._clock()
        for page in reversed(hashes):
            pages[page] = now
            pages.move_to_end(page)
        while pages and (len(pages) > self._max_pages or next(iter(pages.values())) < now - self._expiry):
            pages.popitem(last=False)

    def forget(self, server: str) -> None:
        """Forget all that a server was sent, because it has started anew or is gone."""
        self._sent.pop(server, None)


def _num_leading(hashes: Sequence[bytes], pages: OrderedDict[bytes, float], oldest: float) -> int:
    """Return how many pages from the beginning of the chain were sent no earlier than `oldest`."""
    for number, page in enumerate(hashes):
        sent = pages.get(page)
        if sent is None or sent < oldest:
            return number
    return len(hashes)
