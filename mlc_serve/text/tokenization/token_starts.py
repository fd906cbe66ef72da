"""Where the tokens of an encoded text start in it."""

from __future__ import annotations

from collections.abc import Callable

import tokenizers


def token_starts(encoded: tokenizers.Encoding, token_text: Callable[[int], str]) -> list[int]:
    """Return for each token how many characters of the text are complete before it.

    The parts of a character that several tokens share start where the character does. A token starts at the
    latest where the one before it ends, because some tokenizers leave spaces out of the span of the token
    that stands for them; if nothing is left of a span, the token's own text says how long it is. What the
    tokenizer adds to a text has no place in it.
    """
    starts, end = list[int](), 0
    spans = zip(encoded.ids, encoded.offsets, encoded.special_tokens_mask, strict=True)
    for token_id, (start, stop), is_added in spans:
        starts.append(end if is_added else min(start, end))
        is_lost = start == stop and not is_added
        end = max(end, starts[-1] + len(token_text(token_id)) if is_lost else stop)
    return starts
