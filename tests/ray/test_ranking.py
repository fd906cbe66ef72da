"""Which replica gets a request."""

from __future__ import annotations

from mlc_serve.ray.ranking import Ranking

PAGES = [b"1", b"2", b"3", b"4"]
IDLE = {"a": 0, "b": 0}


def ranking_of(**pages: list[bytes]) -> Ranking:
    """A ranking whose replicas have told that they have these pages. Its clock stands still."""
    ranking = Ranking(clock=lambda: 1.0)
    ranking.update({name: {"load": 0, "pages": cached} for name, cached in pages.items()})
    return ranking


def test_what_a_replica_tells_counts_before_anything_was_sent() -> None:
    """A router that has just started finds the replica that has the prefix."""
    assert ranking_of(a=[], b=PAGES[:2]).ranked(IDLE, PAGES)[0] == "b"


def test_what_was_sent_counts_before_a_replica_tells_of_it() -> None:
    """The next turn of a conversation finds its replica at once."""
    ranking = ranking_of(a=[], b=[])
    ranking.routed("b", PAGES[:3])
    assert ranking.ranked(IDLE, PAGES)[0] == "b"


def test_load_outweighs_a_prefix() -> None:
    """A hot prefix does not draw all requests to one replica."""
    assert ranking_of(a=[], b=PAGES[:3]).ranked({"a": 0, "b": 9}, PAGES)[0] == "a"


def test_new_prompts_are_spread() -> None:
    """Among idle replicas, the one that was used longest ago gets a prompt that none has."""
    now = [1.0]
    ranking = Ranking(clock=lambda: now[0])
    ranking.update({"a": {}, "b": {}})
    ranking.routed("a", [b"x"])
    assert ranking.ranked(IDLE, PAGES)[0] == "b"
    now[0] = 2.0
    ranking.routed("b", [b"y"])
    assert ranking.ranked(IDLE, PAGES)[0] == "a"


def test_an_unknown_load_is_what_the_replica_told() -> None:
    """Until a router has heard how many requests a replica has, it uses the last report."""
    ranking = Ranking()
    ranking.update({"a": {"load": 5, "pages": []}, "b": {"load": 2, "pages": []}})
    assert ranking.ranked({"a": None, "b": None}, PAGES) == ["b", "a"]


def test_a_replica_that_is_gone_is_forgotten() -> None:
    """A replica that comes back under the same name has nothing cached."""
    ranking = ranking_of(a=PAGES, b=[])
    ranking.update({"b": {}})
    ranking.update({"a": {}, "b": {}})
    ranking.routed("a", [])
    assert ranking.ranked(IDLE, PAGES)[0] == "b"


def test_a_request_without_a_prompt_goes_where_there_is_least_to_do() -> None:
    """Requests such as a list of models have no pages."""
    assert ranking_of(a=PAGES, b=[]).ranked({"a": 1, "b": 0}, []) == ["b", "a"]
