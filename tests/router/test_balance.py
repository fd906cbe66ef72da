"""How a prompt is divided between two servers."""

from __future__ import annotations

import pytest

from mlc_serve.router.balance import decode_share, window_end


@pytest.mark.parametrize(
    ("num_tokens", "share", "end"),
    [(2, 0, 1), (100, 0, 99), (100, 0.2, 80), (100, 0.001, 99), (10, 0.9, 1), (3, 0.9, 1)],
)
def test_the_decode_server_computes_the_end(num_tokens: int, share: float, end: int) -> None:
    """It is left its share of the prompt, and at least the last token."""
    assert window_end(num_tokens, share) == end


def test_a_busy_prefill_server_computes_less() -> None:
    """Nothing is left to the decode server unless the other one is busier; never is it left everything."""
    assert decode_share(0, 0) == decode_share(3, 3) == decode_share(1, 5) == 0
    shares = [decode_share(load, 2) for load in (3, 5, 20, 1000)]
    assert shares == sorted(set(shares))
    assert 0 < shares[0] < shares[-1] == 0.9
