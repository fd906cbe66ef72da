"""How a prompt is divided between the server that prefills and the one that generates. Pure functions.

The decode server computes the end of the prompt, at least its last token, since the first draw needs its
logits.
"""

from __future__ import annotations

# Even if the prefill server has much more to do, it computes this share of a prompt.
_LEAST_PREFILL = 0.1


def decode_share(prefill_load: float, decode_load: float) -> float:
    """Return the share of a prompt that the decode server should compute, from 0 to 0.9.

    It computes nothing as long as it is at least as busy as the other one, and the more of the prompt the
    busier the other one is. Loads are numbers of requests.
    """
    excess = prefill_load - decode_load
    return min(1 - _LEAST_PREFILL, max(0.0, excess / (prefill_load + decode_load + 1)))


def window_end(num_tokens: int, share: float) -> int:
    """Return where the part of a prompt ends that is computed elsewhere, if the decode server computes a
    share.

    As in MLC, a share of 0 leaves it the last token.
    """
    return min(num_tokens - 1, num_tokens - int(share * num_tokens))
