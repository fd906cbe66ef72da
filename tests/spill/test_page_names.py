"""PageNames: pages with the same contents have the same name, and no others."""

from __future__ import annotations

from itertools import islice

from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.spill.page_names import PageNames

NAMES = PageNames("a model", 2)


def names(token_ids: list[int], namespace: str = "", own: PageNames = NAMES) -> list[str]:
    """Return the names of a prefix's pages."""
    return list(own.of(Prefix(namespace, token_ids)))


def test_a_common_beginning_has_common_names() -> None:
    """Names depend on all tokens before, and not on those behind or on how tokens are held."""
    one, other = names([1, 2, 3, 4, 5, 6, 7]), names([1, 2, 3, 4, 9, 9])
    assert len(one) == len(set(one)) == 3
    assert one[:2] == other[:2]
    assert one[2] != other[2]
    assert list(NAMES.of(Prefix("", (1, 2, 3, 4)))) == one[:2]
    assert names([0, 0, 3, 4])[1] != one[1]
    assert names([1]) == []


def test_another_model_or_namespace_has_other_names() -> None:
    """No page of theirs is found, and namespaces can't be read from names."""
    token_ids = [1, 2, 3, 4]
    others = [
        names(token_ids, "tenant"),
        names(token_ids, "tenan"),
        names(token_ids, own=PageNames("another model", 2)),
        names(token_ids, own=PageNames("a mode", 2)),
        names(token_ids, "l", own=PageNames("a mode", 2)),
    ]
    everything = [*names(token_ids), *(name for other in others for name in other)]
    assert len(set(everything)) == 12
    assert not any("tenant" in name for name in everything)
    assert all(name.startswith(NAMES.beginning) for name in others[0])


def test_the_first_name_needs_no_others() -> None:
    """So that a prompt of which nothing is stored costs nothing."""
    many = Prefix("", range(10**9))
    assert list(islice(NAMES.of(many), 1)) == names([0, 1])
