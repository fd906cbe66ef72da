"""Sampling values and end tokens that model directories recommend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlc_serve.checkpoint.generation_values import Recommendations

FILE = Path("model") / "generation_config.json"
WRONG_TEMPERATURES: list[Any] = [True, float("nan"), float("inf"), -0.1, "1", [1], 10**400, {}]
WRONG_TOP_KS: list[Any] = [-2, 1.5, "50", True, [50], float("inf"), float("nan")]


def sampling(**declared: Any) -> dict[str, Any]:
    """The sampling values that are read from a file's content."""
    return Recommendations(FILE).sampling(declared)


def token_ids(declared: Any, vocab_size: Any = 100) -> frozenset[int]:
    """The end tokens that are read from a file's content."""
    return Recommendations(FILE).token_ids(declared, "eos_token_id", vocab_size)


def test_only_what_is_declared_is_set(caplog: pytest.LogCaptureFixture) -> None:
    """Unknown keys and null set nothing, without a warning; a whole number may stand for a float."""
    assert sampling(temperature=1, top_p=None, max_length=20) == {"temperature": 1.0}
    assert caplog.records == []


@pytest.mark.parametrize(
    ("declared", "top_k"), [(0, None), (-1, None), (-1.0, None), (50, 50), (50.0, 50), (10**9, 10**9)]
)
def test_top_k_is_whole_however_it_is_written(
    caplog: pytest.LogCaptureFixture, declared: Any, top_k: int | None
) -> None:
    """top_k may be written as a float, and 0 or -1 keep all tokens."""
    assert sampling(top_k=declared) == {"top_k": top_k}
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", value) for value in WRONG_TEMPERATURES],
        ("top_p", 7),
        ("min_p", -1e-9),
        ("repetition_penalty", 0),
        *[("top_k", value) for value in WRONG_TOP_KS],
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_can_not_be_followed_is_left_out(
    caplog: pytest.LogCaptureFixture, name: str, value: Any
) -> None:
    """An unusable value is left out with a warning of one line that names file and key; the others hold."""
    others = {"frequency_penalty": 0.5, "presence_penalty": 0.25}
    assert sampling(**others, **{name: value}) == others
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(FILE) in record.message
    assert f"{name} is left out: " in record.message
    assert "\n" not in record.message
    assert len(record.message) < 200


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (None, []),
        (3, [3]),
        ([3, 4, 3], [3, 4]),
        ([None], []),
        (0, [0]),
        (2.0, [2]),
        ([[3, [4]], 5], [3, 4, 5]),
    ],
    ids=lambda value: str(value)[:20],
)
def test_token_ids_come_alone_or_listed(
    caplog: pytest.LogCaptureFixture, declared: Any, expected: list[int]
) -> None:
    """End tokens may be one id, several, lists of lists, or none at all."""
    assert token_ids(declared) == frozenset(expected)
    assert caplog.records == []


@pytest.mark.parametrize(
    "declared",
    ["</s>", 1.5, -1, True, 100, 10**400, float("nan"), {"id": 1}],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_token_is_left_out(caplog: pytest.LogCaptureFixture, declared: Any) -> None:
    """What is no id of the vocabulary is left out with one warning for all, and the other ids hold."""
    assert token_ids([7, declared, [declared]]) == {7}
    (record,) = caplog.records
    assert "eos_token_id is left out: " in record.message
    assert "one of the model's 100 tokens" in record.message
    assert len(record.message) < 200


@pytest.mark.parametrize("vocab_size", [None, "many", []])
def test_a_size_that_is_not_known_bounds_nothing(vocab_size: Any) -> None:
    """Without a usable vocabulary size, which is checked elsewhere, every id is accepted."""
    assert token_ids([10**6], vocab_size) == {10**6}
