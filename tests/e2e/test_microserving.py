"""Microserving between two server processes on the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from demo_server import demo_server

from mlc_serve.kv_transfer.address import Address, Transport
from mlc_serve.kv_transfer.kv_port import ALL_TRANSPORTS
from tests.patience import PATIENCE

PAGE = 16  # tokens
QUESTION = "What is the capital of France? What is 2 plus 3? Spell the word house."


@pytest.fixture(scope="module")
def clients() -> Iterator[Sequence[httpx.Client]]:
    """Clients of a server that computes prompts, and of one that generates."""
    with ExitStack() as stack:
        urls = [stack.enter_context(demo_server()) for _ in range(2)]
        yield [stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE)) for url in urls]


def called(client: httpx.Client, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Make a call that must succeed, and return its reply."""
    reply = client.post(path, json=fields)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def _events(text: str) -> list[dict[str, Any]]:
    """The objects in a stream's events."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("transport", ALL_TRANSPORTS)
@pytest.mark.parametrize("streams", [False, True])
def test_every_split_gives_the_text_of_one_server(
    clients: Sequence[httpx.Client], transport: Transport, streams: bool
) -> None:
    """Wherever a prompt is split, and over either transport, the answer is that of one server, and what was
    moved is not computed again.
    """
    prefill, decode = clients
    messages = [{"role": "user", "content": QUESTION}]
    prompt = called(prefill, "/tokenize", {"messages": messages})["tokens"]
    body = {"prompt": prompt, "max_tokens": 16, "temperature": 0}
    plain = called(prefill, "/v1/completions", {**body, "cache_salt": "plain"})
    for end in range(1, len(prompt)):
        fields = {**body, "cache_salt": f"{transport} {streams} {end}", "user": f"{transport} {end}"}
        if end >= PAGE:
            move(prefill, decode, transport, fields, end)
        else:
            called(decode, "/microserving/prep_recv", {**fields, "end": end})
        start = {**fields, "begin": end, "stream": streams, "stream_options": {"include_usage": True}}
        reply = decode.post("/microserving/start_generate", json=start)
        parts = _events(reply.text) if streams else [reply.json()]
        text = "".join(choice["text"] for part in parts for choice in part["choices"])
        assert text == plain["choices"][0]["text"], end
        cached = parts[-1]["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached == end - end % PAGE


def move(
    prefill: httpx.Client, decode: httpx.Client, transport: Transport, fields: dict[str, Any], end: int
) -> None:
    """Prepare a request, and move the tokens before `end` over a transport."""
    prepared = called(decode, "/microserving/prep_recv", {**fields, "end": end})
    address = Address.decoded(prepared["kv_append_metadata"])
    only = replace(address, transports=[transport]).encoded()
    window = {"begin": prepared["prefix_matched_length"], "end": end, "kv_addr_info": only}
    assert called(prefill, "/microserving/remote_send", {**fields, **window}) == {}
