"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import applications
from fastapi.openapi.utils import get_openapi

from mlc_serve.errors import RequestError
from tests.server.conftest import MakeClient


def references(node: Any) -> list[str]:
    """All `$ref` within a document."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


@pytest.fixture
async def document(make_client: MakeClient) -> dict[str, Any]:
    """The document of a server with all its paths."""
    async with make_client(enable_debug=True) as client:
        return dict((await client.get("/openapi.json")).json())


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """Every `$ref`, also within bodies, leads to one of the document's components."""
    components = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= components
    assert "#/components/schemas/Message" in components


async def test_bodies_are_described(document: dict[str, Any]) -> None:
    """Request bodies are described with their fields."""
    for path, field in (("/v1/chat/completions", "messages"), ("/v1/completions", "prompt")):
        body = document["paths"][path]["post"]["requestBody"]
        assert body["required"]
        assert field in body["content"]["application/json"]["schema"]["properties"]


async def test_replies_are_described(document: dict[str, Any]) -> None:
    """Whole replies and streams are both described."""
    content = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"]["$ref"].endswith("/ChatCompletion")
    assert "text/event-stream" in content


async def test_every_status_of_a_refusal_is_told_somewhere(document: dict[str, Any]) -> None:
    """A chat completion lists the statuses of all refusals, as it can end in each of them, and the calls of
    microserving those that only they have.
    """
    paths = ("/v1/chat/completions", "/microserving/start_generate")
    chat, start = (document["paths"][path]["post"]["responses"].keys() for path in paths)
    assert {str(kind.status) for kind in RequestError.__subclasses__()} <= chat | start
    assert start - chat == {"409", "410"}


async def test_no_component_is_left_over(document: dict[str, Any]) -> None:
    """Every component is referred to, so none belongs to a status that the server never sends."""
    components = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert components <= set(references(document))


async def test_the_document_is_made_once(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request makes the document. The second one gets all of it too, and makes nothing."""
    made: list[object] = []

    def counted(**parts: Any) -> dict[str, Any]:
        made.append(parts["routes"])
        return get_openapi(**parts)

    monkeypatch.setattr(applications, "get_openapi", counted)
    async with make_client() as client:
        documents = [(await client.get("/openapi.json")).json() for _ in range(2)]
    assert documents[0] == documents[1]
    assert len(made) == 1
