"""Names for pages of prefixes: equal if and only if the pages have the same contents."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator

from mlc_serve.engine.prefix_store import Prefix

_NAME_BYTES, _KEY_BYTES = 20, 8


class PageNames:
    """A page's keys and values follow from the model, the code that computes them, and all tokens up to the
    page's end. Its name is a hash of these, and of the namespace, so that nobody can find out by a name what
    another one has asked. All names begin with `beginning`, which stands for `key`: the model and the code.
    """

    def __init__(self, key: str, page_size: int) -> None:
        self._page_size = page_size
        self._key = key.encode()
        self.beginning = hashlib.blake2b(self._key, digest_size=_KEY_BYTES).hexdigest() + "-"

    def of(self, prefix: Prefix) -> Iterator[str]:
        """Yield the names of the whole pages of a prefix, in order."""
        link = _digest(self._key, prefix.namespace.encode())
        for start in range(0, len(prefix.token_ids) - self._page_size + 1, self._page_size):
            page = prefix.token_ids[start : start + self._page_size]
            link = _digest(link, array("q", page).tobytes())
            yield self.beginning + link.hex()


def _digest(before: bytes, content: bytes) -> bytes:
    """A hash of two texts that depends on where one ends and the other begins."""
    joined = len(before).to_bytes(8, "little") + before + content
    return hashlib.blake2b(joined, digest_size=_NAME_BYTES).digest()
