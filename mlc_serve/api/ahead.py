"""How much of the KV cache is filled for requests that have not begun."""

from __future__ import annotations


class Budget:
    """At most `num_tokens` are read back for requests that have not begun, or more for a single one."""

    def __init__(self, num_tokens: int) -> None:
        self._num_left = self._num_tokens = num_tokens

    def has_room(self, num_tokens: int) -> bool:
        """Return whether so many tokens may be read back now."""
        return num_tokens <= self._num_left or self._num_left == self._num_tokens

    def take(self, num_tokens: int) -> None:
        """Take room for tokens; a negative number gives it back."""
        self._num_left -= num_tokens


class Ahead:
    """The room that one request has taken."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._num_tokens = 0

    def add(self, num_tokens: int) -> bool:
        """Take room for more tokens. Return False if there is too little."""
        if not self._budget.has_room(num_tokens):
            return False
        self._budget.take(num_tokens)
        self._num_tokens += num_tokens
        return True

    def release(self) -> None:
        """Leave the room to others, because the request has begun or ended. Further calls do nothing."""
        self._budget.take(-self._num_tokens)
        self._num_tokens = 0
