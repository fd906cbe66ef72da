"""PrefixMap: chains of page hashes, and which server was sent how many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.router.prefix_map import PrefixMap, page_hashes


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def chain(text: str, namespace: str = "model") -> list[bytes]:
    """The hashes of a text in pages of four bytes."""
    return page_hashes(text.encode(), 4, namespace)


@given(st.text("ab", max_size=20), st.text("ab", max_size=20))
def test_chains_agree_as_far_as_prompts_do(first: str, second: str) -> None:
    """Two prompts have as many hashes in common as whole pages at their beginning."""
    common = 0
    while common < min(len(first), len(second)) and first[common] == second[common]:
        common += 1
    pairs = list(zip(chain(first), chain(second), strict=False))
    assert [one == other for one, other in pairs] == [number < common // 4 for number in range(len(pairs))]
    assert len(chain(first)) == len(first) // 4


def test_token_ids_are_hashed_by_value() -> None:
    """A page of token ids is that many ids, whatever their size."""
    ids = [1, 70000, 3, 2**40, 5]
    assert len(page_hashes(ids, 2, "m")) == 2
    assert page_hashes(ids, 2, "m") == page_hashes([*ids[:4], 9], 2, "m")
    assert page_hashes(ids, 2, "m")[0] != page_hashes([1, 70001], 2, "m")[0]
    with pytest.raises(OverflowError):
        page_hashes([2**80], 1, "m")


def test_another_namespace_shares_nothing() -> None:
    """The same prompt for another model is another chain."""
    assert not set(chain("aaaabbbb")) & set(chain("aaaabbbb", "other"))


def test_a_long_prompt_costs_a_bounded_number_of_hashes() -> None:
    """Only the first pages are hashed."""
    assert page_hashes(b"x" * 100, 4, "m", max_pages=3) == page_hashes(b"x" * 12, 4, "m")


def test_a_server_has_what_it_was_sent() -> None:
    """A match is the number of leading pages; servers without any are not listed."""
    prefixes = PrefixMap()
    prefixes.record("a", chain("aaaabbbbcccc"))
    prefixes.record("b", chain("aaaaxxxx"))
    prefixes.record("c", chain("zzzz"))
    assert prefixes.matched(chain("aaaabbbbdddd")) == {"a": 2, "b": 1}


def test_a_server_that_starts_anew_has_nothing() -> None:
    """Forgetting one server leaves the others, and the server may be sent prompts again."""
    prefixes = PrefixMap()
    for server in ("a", "b"):
        prefixes.record(server, chain("aaaa"))
    prefixes.forget("a")
    prefixes.forget("unknown")
    assert prefixes.matched(chain("aaaa")) == {"b": 1}
    prefixes.record("a", chain("aaaa"))
    assert prefixes.matched(chain("aaaa")) == {"a": 1, "b": 1}


def test_what_was_sent_long_ago_is_forgotten() -> None:
    """A page counts for as long as the expiry from the last time that it was sent."""
    clock = Clock()
    prefixes = PrefixMap(expiry=10, clock=clock)
    prefixes.record("a", chain("aaaabbbb"))
    clock.now = 8
    prefixes.record("a", chain("aaaacccc"))
    clock.now = 12
    assert prefixes.matched(chain("aaaabbbb")) == {"a": 1}
    assert prefixes.matched(chain("aaaacccc")) == {"a": 2}


def test_the_map_is_bounded_for_each_server() -> None:
    """The pages that were sent longest ago make room, the end of a chain before its beginning."""
    prefixes = PrefixMap(max_pages=3)
    prefixes.record("a", chain("aaaabbbb"))
    prefixes.record("b", chain("aaaabbbb"))
    prefixes.record("a", chain("xxxxyyyy"))
    assert prefixes.matched(chain("aaaabbbb")) == {"a": 1, "b": 2}
    prefixes.record("a", chain("ppppqqqqrrrrssss"))
    assert prefixes.matched(chain("ppppqqqqrrrrssss")) == {"a": 3}
