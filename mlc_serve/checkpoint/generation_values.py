"""Sampling values and end tokens that the files of a model recommend.

A model is served even if a recommendation can't be followed: it is left out, with a warning in one line that
names the file, the key and the value.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

# The smallest and the largest value that is followed.
_BOUNDS = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
}
_TOP_K_OFF = -1  # vLLM writes this; transformers writes 0


class Recommendations:
    """What one file recommends."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def sampling(self, declared: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of GenerationDefaults that a generation config sets. Null counts as absent.

        Sampling switched off (do_sample false) is temperature 0. A top_k of 0 or -1 keeps all tokens: None.
        """
        values = {name: self._number(name, declared.get(name)) for name in _BOUNDS}
        chosen: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        top_k = self._top_k(declared.get("top_k"))
        if top_k is not None:
            chosen["top_k"] = top_k or None
        if declared.get("do_sample") is False:
            chosen["temperature"] = 0.0
        return chosen

    def token_ids(self, declared: Any, name: str, vocab_size: Any) -> frozenset[int]:
        """The ids in a field, which may hold one id, lists of ids, or nothing. Each must be less than
        `vocab_size`, if that is an integer.
        """
        limit = vocab_size if isinstance(vocab_size, int) else None
        entries = [entry for entry in _flattened(declared) if entry is not None]
        wrong = [entry for entry in entries if not _is_token_id(entry, limit)]
        if wrong:
            self._leave_out(name, wrong, f"the id of one of the model's {vocab_size} tokens")
        return frozenset(int(entry) for entry in entries if _is_token_id(entry, limit))

    def _number(self, name: str, value: Any) -> float | None:
        low, high = _BOUNDS[name]
        if value is None:
            return None
        if _is_number(value) and low <= value <= high:
            return float(value)
        self._leave_out(name, value, f"a number from {low:g} to {high:g}")
        return None

    def _top_k(self, value: Any) -> int | None:
        """0 keeps all tokens."""
        if value is None:
            return None
        top_k = _whole(value)
        if top_k is not None and top_k >= _TOP_K_OFF:
            return max(top_k, 0)
        self._leave_out("top_k", value, "a whole number from 0 on")
        return None

    def _leave_out(self, name: str, value: Any, wanted: str) -> None:
        logger.warning("%s: %s is left out: %s is not %s", self._file, name, reprlib.repr(value), wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> int | None:
    """A whole number, which may be written as 50.0; None for anything else."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_token_id(value: Any, limit: int | None) -> bool:
    token_id = _whole(value)
    return token_id is not None and token_id >= 0 and (limit is None or token_id < limit)


def _flattened(value: Any) -> Iterator[Any]:
    """The entries of a list and of the lists in it. Any other value counts as the only entry."""
    waiting = [value]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += reversed(entry)
        else:
            yield entry
