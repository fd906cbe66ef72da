"""Instructor with a server of the demo model. It needs an older SDK of OpenAI, so that `make test-clients`
runs this in an environment of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from mlc_serve.testing import replay
from tests.e2e.live_server import live_server

instructor = pytest.importorskip("instructor", reason="make test-clients runs this")

ASKED: Any = {
    "model": "demo",
    "messages": [{"role": "user", "content": "What is the capital of France? Answer as JSON."}],
    "temperature": 0,
    "max_retries": 0,
}
CALL = b"""<tool_call>
{"name": "IterableCapital", "arguments": {"tasks": [{"capital": "Paris"}, {"capital": "Oslo"}]}}
</tool_call>"""


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


@pytest.fixture
def client(demo_url: str) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK, which instructor wraps."""
    with openai.OpenAI(base_url=demo_url, api_key="any", max_retries=0) as sdk:
        yield sdk


@pytest.mark.client("instructor", "create, with Mode.TOOLS, JSON_SCHEMA and JSON")
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "JSON"])
def test_an_object(client: openai.OpenAI, mode: str) -> None:
    """An object of the class is made of the first reply."""
    wrapped = instructor.from_openai(client, mode=instructor.Mode[mode])
    assert isinstance(wrapped.create(response_model=Capital, **ASKED), Capital)


@pytest.mark.client("instructor", "create_partial")
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_a_partial_object(client: openai.OpenAI, mode: str) -> None:
    """A streamed reply grows into the object."""
    wrapped = instructor.from_openai(client, mode=instructor.Mode[mode])
    *_, last = wrapped.create_partial(response_model=Capital, **ASKED)
    assert last.capital


@pytest.mark.client("instructor", "create_iterable, with Mode.TOOLS")
def test_several_objects() -> None:
    """A list of objects is read from one call while it is streamed."""
    with (
        live_server(replay(CALL)) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as sdk,
    ):
        wrapped = instructor.from_openai(sdk, mode=instructor.Mode.TOOLS)
        found = list(wrapped.create_iterable(response_model=Capital, **{**ASKED, "model": "fake"}))
    assert found == [Capital(capital="Paris"), Capital(capital="Oslo")]
