"""The steps of a rendering."""

from __future__ import annotations

import pytest
from jinja2 import TemplateRuntimeError

from mlc_serve.text.templates.meter import ELEMENT, Meter, settled, text_size


def test_steps_are_taken_until_there_are_none() -> None:
    """The last step passes and the next one doesn't; a client's texts add some."""
    meter = Meter(2)
    meter.spend(2)
    meter.grant(["x" * 400])
    meter.spend(100)
    with pytest.raises(TemplateRuntimeError, match="not done after"):
        meter.spend(100)


def test_what_is_built_takes_steps_by_its_size() -> None:
    """Building a text takes a step for each 64 bytes."""
    meter = Meter(10)
    meter.build(64 * 8)
    with pytest.raises(TemplateRuntimeError):
        meter.build(64)


def test_a_walk_counts_every_part_wherever_it_stands() -> None:
    """A list that holds another list twice counts it twice."""
    inner = ["abc", "äöü"]
    size = 3 + 4 * 3
    assert text_size("abc") + text_size("äöü") == size
    assert Meter().weigh([inner, inner]) == 2 * ELEMENT + 2 * (2 * ELEMENT + size)
    assert Meter().weigh({"a": None}.items()) == ELEMENT + 2 * ELEMENT + 1 + ELEMENT


def test_a_walk_ends_when_the_steps_do() -> None:
    """The walk ends however many paths lead through the value."""
    value: list[object] = []
    for _ in range(100):
        value = [value, value]
    with pytest.raises(TemplateRuntimeError, match="not done after 1000 steps"):
        Meter(1000).weigh(value)


def test_iterators_become_lists_for_a_step_each() -> None:
    """An iterator's items take a step each; values that are not iterators stay as they are."""
    meter, values = Meter(3), [1, 2, 3]
    assert settled(meter, values) is values
    assert settled(meter, iter(values)) == values
    with pytest.raises(TemplateRuntimeError):
        settled(meter, iter([4]))
