"""Placement: the ranking of servers by what they have cached and what they have to do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.router.placement import Candidate, rank

LOADS = st.floats(0, 1000, allow_nan=False)
CANDIDATES = st.lists(
    st.builds(Candidate, st.sampled_from("abcdef"), LOADS, st.integers(0, 100), st.floats(0, 10)),
    unique_by=lambda candidate: candidate.name,
)


def best(*candidates: Candidate, num_tokens: int = 100, load_weight: float = 1.0) -> str:
    """The name of the server that is ranked first."""
    return rank(candidates, num_tokens, load_weight)[0].name


def test_the_longest_prefix_wins_among_equal_loads() -> None:
    """Without a difference in load, the server that has more of the prompt cached comes first."""
    assert best(Candidate("a", 2, 40, 0), Candidate("b", 2, 90, 9)) == "b"


def test_one_hot_prefix_does_not_overload_its_server() -> None:
    """A whole prompt in the cache outweighs a difference in load as large as the mean, and no more."""
    assert best(Candidate("hot", 11, 100, 0), Candidate("idle", 5, 0, 0)) == "hot"
    assert best(Candidate("hot", 20, 100, 0), Candidate("idle", 2, 0, 0)) == "idle"


def test_the_weight_of_load_decides_how_much_a_prefix_may_cost() -> None:
    """With a weight of 0, only the prefix counts."""
    hot, idle = Candidate("hot", 20, 100, 0), Candidate("idle", 2, 0, 0)
    assert best(hot, idle, load_weight=0) == "hot"


def test_misses_are_spread() -> None:
    """Prompts that nobody has cached go round all servers evenly, whether or not earlier ones have ended."""
    for ends_at_once in (False, True):
        load, last_used = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0.0)
        counts = dict.fromkeys("abc", 0)
        for now in range(1, 31):
            name = best(*(Candidate(name, load[name], 0, last_used[name]) for name in "abc"))
            counts[name] += 1
            load[name] += not ends_at_once
            last_used[name] = now
        assert set(counts.values()) == {10}


def test_an_empty_prompt_is_placed_by_load() -> None:
    """A prompt without any page has nothing to match, and nobody to go to if there is no server."""
    assert best(Candidate("a", 3, 0, 0), Candidate("b", 1, 0, 5), num_tokens=0) == "b"
    assert rank([], 10) == []


@given(CANDIDATES, st.integers(0, 100))
def test_a_ranking_is_an_order_of_the_candidates(candidates: list[Candidate], num_tokens: int) -> None:
    """Nobody is lost, and the order in which candidates are given changes nothing."""
    ranking = rank(candidates, num_tokens)
    assert sorted(ranking) == sorted(candidates)
    assert rank(candidates[::-1], num_tokens) == ranking
