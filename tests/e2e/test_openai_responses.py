"""OpenAI's own Python SDK and the Responses API: what it parses, accumulates, sends back and raises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response

from mlc_serve.engine.sampling import Draw
from mlc_serve.testing import EOS_ID
from tests.e2e.live_server import live_server
from tests.frontend.responses.test_event_writer import EVERYTHING, events_of

TOOLS: Any = [
    {
        "type": "function",
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": False,
    }
]
ASKED: Any = {"model": "fake", "tools": TOOLS}
CALL = b'<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'


def _call_then_tell(stored: Sequence[int], draw: Draw) -> int:
    """Call the tool, unless its output is the last message."""
    prompt = bytes(token for token in draw.prompt_ids if token < 256)
    script = b"It is sunny." if b"Sun" in prompt.rsplit(b"tool\n", 1)[-1] else CALL
    position = len(stored) - len(draw.prompt_ids)
    return script[position] if position < len(script) else EOS_ID


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """The SDK and a server that all tests share, whose model calls a tool and then tells its output."""
    with (
        live_server(_call_then_tell) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as sdk,
    ):
        yield sdk


def output_of(response: Response) -> list[Any]:
    """The output of the only call of a response."""
    (call,) = response.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Oslo"}
    return [{"type": "function_call_output", "call_id": call.call_id, "output": "Sun"}]


def test_a_conversation_with_a_tool_that_the_client_keeps(client: openai.OpenAI) -> None:
    """Items of a reply are sent back as the SDK has them, and the reply has all fields that it requires."""
    question: Any = {"role": "user", "content": "What is the weather?"}
    first = client.responses.create(**ASKED, input=[question], store=False)
    assert Response.model_validate(first.to_dict()).output == first.output
    items: Any = [question, *first.output, *output_of(first)]
    second = client.responses.create(**ASKED, input=items, store=False)
    assert (second.output_text, second.status) == ("It is sunny.", "completed")


def test_a_conversation_with_a_tool_that_the_server_keeps(client: openai.OpenAI) -> None:
    """The helper for streams accumulates each turn, and the next one continues it by its id."""
    with client.responses.stream(**ASKED, input="What is the weather?") as stream:
        first = stream.get_final_response()
    with client.responses.stream(**ASKED, input=output_of(first), previous_response_id=first.id) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        second = stream.get_final_response()
    assert "".join(deltas) == second.output_text == "It is sunny."
    assert second.usage is not None
    assert second.usage.total_tokens == second.usage.input_tokens + 13
    assert client.responses.retrieve(second.id).output_text == second.output_text
    assert [item.type for item in client.responses.input_items.list(second.id)] == ["function_call_output"]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


def test_errors_are_the_sdks_own(client: openai.OpenAI) -> None:
    """Refusals arrive as the SDK's exceptions, with param and code."""
    with pytest.raises(openai.BadRequestError) as unknown:
        client.responses.create(model="fake", input="Hi", previous_response_id="resp_none")
    assert unknown.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.responses.create(model="fake", input="Hi", tools=[{"type": "web_search"}])
    assert (unsupported.value.param, unsupported.value.code) == ("tools.0.type", "unsupported")


def test_the_helper_accumulates_every_kind_of_item() -> None:
    """Reasoning, a message and two calls in one stream become the response of its last event."""
    events = events_of(*EVERYTHING)
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    headers = {"Content-Type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, text=text, headers=headers))
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(base_url="http://localhost/v1", api_key="any", http_client=http) as sdk,
        sdk.responses.stream(model="m", input="Hello") as stream,
    ):
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    assert final.output_text == 'So "it"\n'
