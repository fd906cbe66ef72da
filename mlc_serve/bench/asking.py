"""Functions that send the load to an engine in this process, or to a server over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.bench.closed_loop import Ask, Prompt
from mlc_serve.bench.event_client import EventClient, ReplyError
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.frontend.params import GenerationParams


def ask_engine(engine: AsyncMLCEngine, max_tokens: int) -> Ask:
    """Ask an engine in this process for exactly `max_tokens` greedy tokens."""
    params = GenerationParams(SamplingParams(temperature=0.0, max_tokens=max_tokens))

    async def ask(prompt: Prompt) -> AsyncIterator[int]:
        async for delta in engine.generate(prompt, params):
            yield len(delta.token_ids)

    return ask


def ask_server(
    client: EventClient,
    max_tokens: int,
    model: str | None = None,
    path: str = "/v1/completions",
    fields: Mapping[str, object] | None = None,
) -> Ask:
    """Ask an OpenAI-compatible server for exactly `max_tokens` greedy tokens that continue a prompt.

    `model` names the model that answers; it is not needed if the server has only one. `fields` are further
    fields of the request, which may end the output earlier.
    """
    sent = {**_streamed(max_tokens), **({"model": model} if model else {}), **(fields or {})}

    def ask(prompt: Prompt) -> AsyncIterator[int]:
        return _asked(client, path, {**sent, "prompt": list(prompt)})

    return ask


def ask_chat(client: EventClient, max_tokens: int) -> Ask:
    """Ask a server in a conversation. The prompt is written out as numbers, so that its length differs."""

    def ask(prompt: Prompt) -> AsyncIterator[int]:
        messages = [{"role": "user", "content": " ".join(map(str, prompt))}]
        return _asked(client, "/v1/chat/completions", {**_streamed(max_tokens), "messages": messages})

    return ask


def _streamed(max_tokens: int) -> dict[str, object]:
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return {"max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, **streaming}


async def _asked(client: EventClient, path: str, body: dict[str, object]) -> AsyncIterator[int]:
    """Yield the numbers of arriving tokens. A chunk with text counts as one; `usage` brings the rest."""
    counted = 0
    async for line in client.post(path, body):
        new = tokens_in(line, counted)
        if new:
            counted += new
            yield new


def tokens_in(line: str, counted: int) -> int:
    """The tokens that a line of an event stream adds to the count. Raises ReplyError for an error event."""
    if not line.startswith("data: {"):
        return 0
    event = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise ReplyError(f"the stream ended with an error: {event['error']}")
    if event.get("usage"):
        return int(event["usage"]["completion_tokens"]) - counted
    return sum(1 for choice in event["choices"] if choice.get("text") or _content(choice))


def _content(choice: dict[str, Any]) -> object:
    """The content of a chunk, if it belongs to a chat reply."""
    return choice.get("delta", {}).get("content")
