"""Which server stores which response."""

from __future__ import annotations

import pytest

from mlc_serve.router.stored_responses import ResponseIdReader, StoredResponses, response_in_path

EVENT = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_a1","output":[]}}\n\n'
)


@pytest.mark.parametrize("size", [1, 7, len(EVENT)])
def test_an_id_is_found_in_any_portions(size: int) -> None:
    """The id is told once, when the portion that completes it has arrived."""
    reader = ResponseIdReader()
    found = [reader.read(EVENT[start : start + size]) for start in range(0, len(EVENT), size)]
    found += [reader.read(EVENT)]
    assert [entry for entry in found if entry is not None] == ["resp_a1"]


def test_a_reply_without_an_id_costs_little() -> None:
    """The search ends after some length, and for good."""
    reader = ResponseIdReader()
    assert reader.read(b"x" * 1_000_000) is None
    assert reader.read(EVENT) is None


def test_the_makers_are_bounded() -> None:
    """The responses that were used least recently make room."""
    stored = StoredResponses(most=2)
    stored.record("a", "one")
    stored.record("b", "two")
    assert stored.maker("a") == "one"
    stored.record("c", "one")
    assert [stored.maker(entry) for entry in "abc"] == ["one", None, "one"]


@pytest.mark.parametrize(
    ("path", "response_id"),
    [
        ("/v1/responses/resp_1", "resp_1"),
        ("/v1/responses/resp_1/input_items", "resp_1"),
        ("/v1/responses", None),
        ("/v1/responses/", None),
        ("/v1/responsesresp_1", None),
    ],
)
def test_a_path_names_a_response(path: str, response_id: str | None) -> None:
    """The id is the part after /v1/responses."""
    assert response_in_path(path) == response_id
