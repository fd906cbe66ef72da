"""Keeps responses, and the conversations that led to them, until others need the space.

The items are kept as JSON, which takes a known number of bytes. A conversation is a chain of turns: each is
kept once, however many responses continue it, and as long as one of them is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlc_serve.protocol.responses.items import StoredItem

# What a turn or an item takes besides its JSON, in bytes, rounded up.
_OVERHEAD = 512


@dataclass(eq=False)
class Turn:
    """A response with the items that were sent for it, those of its output, and the turn before it.

    `response` is its JSON. `num_users` is how many turns continue it, and one more while it can be named.
    """

    response: bytes
    sent: Sequence[StoredItem]
    output: Sequence[StoredItem]
    before: Turn | None = None
    num_users: int = field(default=0, init=False)

    def conversation(self) -> list[StoredItem]:
        """Return the items of all turns up to this one, in order."""
        turns: list[Turn] = []
        turn: Turn | None = self
        while turn is not None:
            turns.append(turn)
            turn = turn.before
        return [item for each in reversed(turns) for item in (*each.sent, *each.output)]

    @property
    def num_bytes(self) -> int:
        """What the turn takes, without those before it."""
        items = [*self.sent, *self.output]
        texts = len(self.response) + sum(len(item.text) + len(item.id) for item in items)
        return texts + _OVERHEAD * (1 + len(items))


# The owner of a response or an item, and its id.
Key = tuple[str, str]


class ResponseStore:
    """At most `max_responses` responses, which take at most `max_bytes`; those that were used least recently
    make room for new ones. An owner can't see what belongs to another.

    Used on the event loop only.
    """

    def __init__(self, max_responses: int, max_bytes: int) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._turns: OrderedDict[Key, Turn] = OrderedDict()
        # Each item with the turn that it is forgotten with. A turn that refers to an item is not that.
        self._items: dict[Key, tuple[StoredItem, Turn]] = {}
        self.num_bytes = 0

    @property
    def keeps_any(self) -> bool:
        """Whether responses are stored at all."""
        return self._max_responses > 0

    def __len__(self) -> int:
        """Return the number of responses that can be named."""
        return len(self._turns)

    def get(self, owner: str, response_id: str) -> Turn | None:
        """Return a response, or None if it is not stored. It then counts as used."""
        turn = self._turns.get((owner, response_id))
        if turn is not None:
            self._turns.move_to_end((owner, response_id))
        return turn

    def item(self, owner: str, item_id: str) -> StoredItem | None:
        """Return an item of a stored response, or None."""
        known = self._items.get((owner, item_id))
        return None if known is None else known[0]

    def add(self, owner: str, response_id: str, turn: Turn) -> None:
        """Store a response. One that is larger than the store is not kept."""
        key = (owner, response_id)
        self._turns[key] = turn
        self._use(turn)
        for item in (*turn.sent, *turn.output):
            if self.item(owner, item.id) is not item:
                self._items[owner, item.id] = (item, turn)
        while len(self._turns) > self._max_responses or self.num_bytes > self._max_bytes:
            self._remove(next(iter(self._turns)))

    def delete(self, owner: str, response_id: str) -> bool:
        """Delete a response, and return whether it was stored. Conversations that continue it keep it."""
        if (owner, response_id) not in self._turns:
            return False
        self._remove((owner, response_id))
        return True

    def _use(self, turn: Turn | None) -> None:
        """Count one more user of a turn, and with the first one its bytes and its use of the turn before."""
        while turn is not None:
            turn.num_users += 1
            if turn.num_users > 1:
                return
            self.num_bytes += turn.num_bytes
            turn = turn.before

    def _remove(self, key: Key) -> None:
        removed, (owner, _) = self._turns.pop(key), key
        for item in (*removed.sent, *removed.output):
            known = self._items.get((owner, item.id))
            if known is not None and known[1] is removed:
                del self._items[owner, item.id]
        turn: Turn | None = removed
        while turn is not None:
            turn.num_users -= 1
            if turn.num_users > 0:
                return
            self.num_bytes -= turn.num_bytes
            turn = turn.before
