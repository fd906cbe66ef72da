"""Bodies as clients and frameworks send them: each must be answered with 200."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.live_server import live_server

USER: dict[str, Any] = {"role": "user", "content": "Hi"}
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Weather",
    "properties": {
        "city": {"type": "string", "title": "City"},
        "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$schema": "http://json-schema.org/draft-07/schema#",
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": WEATHER_SCHEMA,
        "strict": True,
    },
}
CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}


def answered(call: dict[str, Any], **message: Any) -> list[dict[str, Any]]:
    """A conversation in which a tool was called and has returned a result."""
    assistant = {"role": "assistant", "content": None, "tool_calls": [call], **message}
    return [USER, assistant, {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"}]


CHAT: dict[str, dict[str, Any]] = {
    "guidellm": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 4,
        "max_completion_tokens": 4,
        "stop": None,
        "ignore_eos": True,
    },
    "LangChain": {
        "messages": [{"role": "system", "content": "Be brief."}, USER],
        "temperature": 0.7,
        "n": 1,
        "stream": False,
        "tools": [WEATHER],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "max_tokens": -1,
    },
    "LangChain's history": {"messages": answered(CALL, content="", name="agent", refusal=None)},
    "llama-index": {
        "messages": [{"role": "system", "content": "Be brief."}, USER],
        "stream": False,
        "temperature": 0.1,
        "tools": [{**WEATHER, "function": {**WEATHER["function"], "strict": False}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
    },
    "pydantic-ai": {
        "messages": [{"role": "system", "content": "Be brief."}, USER],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [WEATHER],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning_effort": "max",
        "user": "ann",
    },
    "openai-agents": {
        "messages": answered(CALL),
        "tools": [WEATHER],
        "stream": False,
        "store": True,
        "verbosity": "low",
        "metadata": {"trace_id": "1"},
        "prompt_cache_retention": "24h",
        "parallel_tool_calls": False,
    },
    "Vercel AI SDK": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"type":"text","value":"Sunny"}'},
        ],
        "max_tokens": 16,
        "temperature": 0,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": WEATHER_SCHEMA}}],
        "tool_choice": "auto",
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
    },
    "litellm": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
            },
            {
                "role": "assistant",
                "content": "Hello",
                "tool_calls": None,
                "function_call": None,
                "provider_specific_fields": {"refusal": None},
                "annotations": [],
                "thinking_blocks": [],
                "reasoning_content": "Hm.",
            },
            {**USER, "cache_control": {"type": "ephemeral"}},
        ],
        "tools": [{**WEATHER, "cache_control": {"type": "ephemeral"}}],
        "extra_body": {},
        "thinking": {"type": "disabled"},
    },
    "OpenAI's Python SDK": {
        "messages": [{"role": "developer", "content": "Be brief.", "name": "boss"}, USER],
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "logit_bias": {},
        "logprobs": False,
        "top_logprobs": 0,
        "max_completion_tokens": 16.0,
        "modalities": ["text"],
        "audio": None,
        "prediction": {"type": "content", "content": "Hello"},
        "prompt_cache_key": "k",
        "safety_identifier": "ann",
        "seed": 7,
        "service_tier": "auto",
        "stop": "",
        "store": False,
        "top_p": 0,
        "verbosity": "medium",
        "web_search_options": {},
        "response_format": {"type": "text"},
        "moderation": {"mode": "off"},
        "prompt_cache_options": {"mode": "explicit"},
    },
    "OpenAI's parsed replies": {
        "messages": [
            USER,
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "parsed": None},
            {"role": "assistant", "content": None, "refusal": "", "annotations": [], "audio": {"id": "a"}},
            *answered({**CALL, "function": {**CALL["function"], "parsed_arguments": {"city": "Rome"}}})[1:],
        ],
        "tools": [WEATHER],
    },
    "OpenRouter's and Gemini's history": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "id": "msg_1",
                "content": "Hello",
                "reasoning": "Hm.",
                "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
                "tool_calls": [{**CALL, "index": 0, "extra_content": {"google": {"thought_signature": "x"}}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": None},
        ],
        "include_reasoning": True,
        "provider": {"order": ["a"]},
        "transforms": [],
    },
    "an agent that reports a model's mistake": {
        "messages": answered({**CALL, "function": {"name": "weather", "arguments": '{"city": Rome'}}),
        "tools": [WEATHER],
    },
    "an agent whose model called nothing": {
        "messages": [USER, {"role": "assistant", "content": None}, USER],
        "tools": [],
        "functions": [],
        "function_call": "auto",
    },
    "vLLM's clients": {
        "messages": [USER],
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "length_penalty": 1.0,
        "use_beam_search": False,
        "early_stopping": False,
        "best_of": 1,
        "echo": False,
        "priority": 0,
        "ignore_eos": False,
        "min_tokens": 0,
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "include_stop_str_in_output": False,
        "add_special_tokens": False,
        "add_generation_prompt": True,
        "continue_final_message": False,
        "truncate_prompt_tokens": None,
        "prompt_logprobs": None,
        "guided_json": None,
        "return_tokens_as_token_ids": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "mm_processor_kwargs": {},
        "request_id": "r1",
        "documents": [],
        "bad_words": [],
        "allowed_token_ids": None,
        "logits_processors": [],
        "vllm_xargs": {},
        "kv_transfer_params": None,
    },
    "Open WebUI": {
        "messages": [USER],
        "stream": True,
        "model": "fake",
        "stream_options": {"include_usage": True},
        "session_id": "s",
        "chat_id": "c",
        "id": "i",
        "features": {"web_search": False},
        "background_tasks": {"title_generation": True},
    },
    "llama.cpp's and SGLang's clients": {
        "messages": [USER],
        "cache_prompt": True,
        "n_predict": 4,
        "samplers": "edskypmxt",
        "dry_multiplier": 0,
        "xtc_probability": 0,
        "typical_p": 1,
        "mirostat": 0,
        "separate_reasoning": True,
        "stream_reasoning": True,
        "no_stop_trim": False,
    },
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "guidellm": {
        "prompt": "Hi",
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 4,
        "max_completion_tokens": 4,
        "ignore_eos": True,
    },
    "LangChain": {
        "prompt": ["Hi"],
        "best_of": 1,
        "frequency_penalty": 0,
        "logit_bias": {},
        "logprobs": False,
        "max_tokens": -1,
        "n": 1,
        "stop": [""],
        "seed": None,
        "temperature": 0.7,
        "top_p": 1,
    },
    "lm-evaluation-harness": {
        "prompt": [[72, 105]],
        "temperature": 0,
        "max_tokens": 1.0,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
        "model": "fake",
    },
    "vLLM's clients": {
        "prompt": "Hi",
        "use_beam_search": False,
        "length_penalty": 1.0,
        "skip_special_tokens": True,
        "add_special_tokens": True,
        "prompt_embeds": None,
        "include_stop_str_in_output": True,
        "stop": ["x"],
        "suffix": None,
    },
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of the server that gets all bodies."""
    with live_server() as server, httpx.Client(base_url=f"{server.url}/v1", timeout=60) as http:
        yield http


def limited(body: dict[str, Any]) -> dict[str, Any]:
    """The body, with a limit on tokens if it has none, so that the reply is short."""
    return body if "max_completion_tokens" in body else {"max_tokens": 4, **body}


@pytest.mark.parametrize("name", CHAT)
def test_chat(client: httpx.Client, name: str) -> None:
    """The chat requests of common clients are answered, even with fields that have no effect."""
    reply = client.post("/chat/completions", json=limited(CHAT[name]))
    assert reply.status_code == 200, reply.text
    assert '"error"' not in reply.text


@pytest.mark.parametrize("name", COMPLETIONS)
def test_completions(client: httpx.Client, name: str) -> None:
    """The completion requests of common clients are answered, even with fields that have no effect."""
    reply = client.post("/completions", json=limited(COMPLETIONS[name]))
    assert reply.status_code == 200, reply.text
    assert '"error"' not in reply.text


def test_what_is_known_is_not_listed_as_ignored(client: httpx.Client) -> None:
    """X-Ignored-Fields lists unknown fields only, so that it means something."""
    known = ("LangChain", "openai-agents", "OpenAI's Python SDK", "OpenAI's parsed replies", "pydantic-ai")
    for name in known:
        reply = client.post("/chat/completions", json=limited(CHAT[name]))
        assert "x-ignored-fields" not in reply.headers, name
    reply = client.post("/chat/completions", json=CHAT["Open WebUI"])
    assert "session_id" in reply.headers["x-ignored-fields"]
