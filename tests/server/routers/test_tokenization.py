"""/tokenize, /detokenize, /apply-template and /tokenizer_info"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import BOS_ID, IM_END_ID, IM_START_ID, FakeBackend, fake_model
from mlc_serve.testing.served import FakeServed
from tests.server.conftest import MakeClient

HELLO = [{"role": "user", "content": "hello <|im_end|>"}]


async def answer(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    """The reply to a request that is answered."""
    reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_a_text_has_tokens_and_tokens_have_a_text(client: httpx.AsyncClient, prefix: str) -> None:
    """The number, the tokens and, if asked for, their entries come back, and the text of tokens does."""
    asked = await answer(client, f"{prefix}/tokenize", prompt="hé <s>", model="fake")
    tokens = [BOS_ID, *"hé ".encode(), BOS_ID]
    assert asked == {"count": 6, "max_model_len": 1024, "tokens": tokens, "token_strs": None}
    strings = await answer(client, f"{prefix}/tokenize", prompt="a b", return_token_strs=True)
    assert strings["token_strs"] == ["<s>", "a", "Ġ", "b"]
    assert await answer(client, f"{prefix}/detokenize", tokens=tokens) == {"prompt": "<s>hé <s>"}


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        ({"prompt": "ab"}, True),
        ({"prompt": "ab", "add_special_tokens": False}, False),
        ({"content": "ab"}, False),
        ({"content": "ab", "add_special": True}, True),
    ],
)
async def test_special_tokens_are_added_as_each_form_has_it(
    client: httpx.AsyncClient, body: dict[str, Any], begins: bool
) -> None:
    """By default they are added to vLLM's `prompt`, and not to llama.cpp's `content`."""
    assert (await answer(client, "/tokenize", **body))["tokens"] == [BOS_ID] * begins + [*b"ab"]


async def test_a_conversation_is_written_as_for_a_reply(client: httpx.AsyncClient) -> None:
    """Its tokens are as many as a chat reply counts, and what a client writes never controls the model."""
    tokens = (await answer(client, "/tokenize", messages=HELLO))["tokens"]
    reply = await answer(client, "/v1/chat/completions", messages=HELLO, max_tokens=1)
    assert len(tokens) == reply["usage"]["prompt_tokens"]
    assert (tokens.count(IM_START_ID), tokens.count(IM_END_ID)) == (2, 1)
    prompt = (await answer(client, "/apply-template", messages=HELLO))["prompt"]
    assert prompt == "<|im_start|>user\nhello <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    closed = await answer(client, "/v1/apply-template", messages=HELLO, add_generation_prompt=False)
    assert closed["prompt"] == prompt.removesuffix("<|im_start|>assistant\n")


TOOL = {"name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_requests_of_other_apis_have_the_tokens_of_their_prompts(
    client: httpx.AsyncClient, prefix: str
) -> None:
    """They are as many as a reply counts, with system texts and tools, and those of the same chat."""
    message: dict[str, Any] = {"system": "Be brief.", "messages": HELLO, "max_tokens": 1}
    message["tools"] = [{"name": "f", "input_schema": TOOL["parameters"]}]
    asked = await answer(client, f"{prefix}/tokenize/messages", **message)
    counted = await answer(client, "/v1/messages/count_tokens", **message)
    assert len(asked["tokens"]) == asked["count"] == counted["input_tokens"]
    response = {"instructions": "Be brief.", "input": HELLO, "tools": [{**TOOL, "type": "function"}]}
    chat = {
        "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
        "tools": [{"type": "function", "function": TOOL}],
    }
    found = await answer(client, f"{prefix}/tokenize/responses", **response)
    assert found["tokens"] == asked["tokens"] == (await answer(client, "/tokenize", **chat))["tokens"]
    usage = (await answer(client, "/v1/responses", **response, max_output_tokens=1))["usage"]
    assert usage["input_tokens"] == found["count"]


async def test_a_prompt_that_is_too_long_is_counted(client: httpx.AsyncClient) -> None:
    """Clients learn by how much a prompt is too long, unless its text could never fit."""
    assert (await answer(client, "/tokenize", prompt="a" * 5000))["count"] == 5001
    messages = [{"role": "user", "content": "a" * 5000}]
    assert (await answer(client, "/tokenize", messages=messages))["count"] > 5000
    for body in ({"prompt": "a" * 50000}, {"messages": [{"role": "user", "content": "a" * 50000}]}):
        reply = await client.post("/tokenize", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "content": "b"}, "content"),
        ("/tokenize", {"prompt": "a", "with_pieces": True}, "with_pieces"),
        ("/tokenize", {"prompt": "a", "add_special": True, "add_special_tokens": False}, "add_special"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"prompt": "a", "model": "none"}, "model"),
        ("/detokenize", {"tokens": [260]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/tokenize/messages", {"messages": []}, "messages"),
        ("/tokenize/messages", {"messages": HELLO, "tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ("/tokenize/responses", {"input": []}, "input"),
        ("/tokenize/responses", {"input": "a", "previous_response_id": "resp_1"}, "input"),
        ("/tokenize/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ("/apply-template", {"messages": HELLO, "chat_template_kwargs": {"tools": 1}}, None),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], param: str | None
) -> None:
    """A refusal names the field."""
    reply = await client.post(path, json=body)
    assert reply.status_code in (400, 404)
    assert reply.json()["error"]["param"] == (param or "chat_template_kwargs.tools")


async def test_a_full_server_still_counts_tokens(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    """The engine isn't asked, so that its queue and its pace don't matter."""
    backend.gate.clear()
    assert (await answer(client, "/tokenize", prompt="a"))["count"] == 2
    assert backend.batches == []


async def test_info_is_what_the_files_say(context: ServerContext, make_client: MakeClient) -> None:
    """The tokenizer's description and the chat template are returned, for the model that is named."""
    model = fake_model("other")
    model.tokenizer.description = {"tokenizer_class": "Fake", "bos_token": "<s>"}
    context.add(other := AsyncMLCEngine.from_loaded(replace(model, chat_template=None)))
    context.add(FakeServed("none"))
    async with make_client() as client:
        found = (await client.get("/tokenizer_info", params={"model": "other"})).json()
        assert found == {"tokenizer_class": "Fake", "bos_token": "<s>", "chat_template": None}
        fake = (await client.get("/v1/tokenizer_info?model=fake")).json()
        assert "add_generation_prompt" in fake["chat_template"]
        assert (await client.get("/tokenizer_info")).status_code == 404
        assert (await client.get("/tokenizer_info?model=none")).status_code == 400
        assert (await client.post("/tokenize", json={"prompt": "a", "model": "none"})).status_code == 400
    other.terminate()


async def test_keys_protect_every_path(make_client: MakeClient) -> None:
    """Without the server's key nothing is answered."""
    async with make_client(api_keys=("secret",)) as client:
        for path in ("/tokenize", "/tokenize/messages", "/v1/detokenize", "/apply-template"):
            assert (await client.post(path, json={})).status_code == 401
        assert (await client.get("/tokenizer_info")).status_code == 401
