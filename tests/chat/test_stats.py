"""The figures of a reply."""

from __future__ import annotations

from mlc_serve.chat.source import ReplyPart
from mlc_serve.chat.stats import ReplyStats


def test_rate_and_time_to_the_first_token() -> None:
    """The rate uses the number of tokens that the source reports, without the first one."""
    stats = ReplyStats(asked=1.0, first=1.25, last=3.25, num_tokens=9)
    assert str(stats) == "9 tokens, the first after 250 ms, then 4.0 tokens/s"


def test_kept_drafts_are_told_if_the_source_knows_them() -> None:
    """The share follows the rate; a reply whose source tells none says nothing about drafts."""
    stats = ReplyStats(asked=1.0, first=1.25, last=3.25, num_tokens=9)
    stats.add(ReplyPart(num_tokens=9, share_kept=0.5))
    assert str(stats).endswith(", then 4.0 tokens/s; 50% of the drafts were kept")
    stats.add(ReplyPart(num_tokens=9))
    assert "drafts" not in str(stats)


def test_parts_are_counted_until_the_number_is_told() -> None:
    """A part without text does not count as a token."""
    stats = ReplyStats()
    assert str(stats) == "no reply yet"
    for part in (ReplyPart("a"), ReplyPart(""), ReplyPart("b")):
        stats.add(part)
    assert stats.num_tokens == 2
    stats.add(ReplyPart(num_tokens=7))
    assert stats.num_tokens == 7
