"""Where the tokens of an encoded text start in it."""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers


def token_starts(encoded: tokenizers.Encoding) -> list[int]:
    """Return for each token how many characters of the text are complete before it.

    The parts of a character that several tokens share start where the character does. A token starts at the
    latest where the one before it ends, because some tokenizers leave white space out of the span of the
    token that stands for it. What the tokenizer adds to a text has no place of its own.
    """
    return _starts(encoded.offsets, encoded.special_tokens_mask)


def _starts(spans: Sequence[tuple[int, int]], are_added: Sequence[int]) -> list[int]:
    starts, end = [], 0
    for (start, stop), is_added in zip(spans, are_added, strict=True):
        starts.append(end if is_added else min(start, end))
        end = max(end, stop)
    return starts
