"""What a replica tells about its cached prompts is bounded, and the newest is kept."""

from __future__ import annotations

from mlc_serve.ray.recent_pages import RecentPages


def test_the_oldest_pages_make_room() -> None:
    """Beyond the limit, the last pages of the prompt that was answered longest ago are forgotten first."""
    recent = RecentPages(max_pages=4)
    recent.record([b"a1", b"a2", b"a3"])
    recent.record([b"b1", b"b2"])
    assert recent.newest_first() == [b"b1", b"b2", b"a1", b"a2"]


def test_a_prompt_that_comes_again_is_new_again() -> None:
    """The pages of a conversation that goes on are kept before others."""
    recent = RecentPages(max_pages=3)
    recent.record([b"a1"])
    recent.record([b"b1", b"b2"])
    recent.record([b"a1", b"a2"])
    assert recent.newest_first() == [b"a1", b"a2", b"b1"]
