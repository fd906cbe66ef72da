"""The settings of a request that its response repeats."""

from __future__ import annotations

import json
from typing import Any

from mlc_serve.errors import InvalidRequestError
from mlc_serve.protocol.request_part import RequestPart
from mlc_serve.protocol.responses.replies import ResponseSettings
from mlc_serve.protocol.responses.request import ResponseRequest

# `iterencode` is written in Python, so that other threads can run while it encodes a long value.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def settings_json(request: ResponseRequest, model: str, *, store: bool) -> str:
    """Return the ResponseSettings as JSON. `store` says whether the response is really kept.

    Raises InvalidRequestError if the request contains a number that JSON can't express.
    """
    settings = ResponseSettings(
        model=request.model or model,
        instructions=request.instructions,
        previous_response_id=request.previous_response_id,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs or 0,
        tools=[tool.model_dump() for tool in request.tools],
        tool_choice=_dumped(request.tool_choice),
        parallel_tool_calls=request.parallel_tool_calls,
        text={"format": _format(request)},
        reasoning={"effort": request.reasoning and request.reasoning.effort, "summary": None},
        metadata=request.metadata or {},
        store=store,
        truncation="disabled",
        background=False,
        service_tier="default",
    )
    try:
        return json_text(settings.model_dump()).decode()
    except ValueError as error:  # Python's parser accepts NaN and Infinity
        raise InvalidRequestError(
            "The request contains NaN or Infinity, which JSON doesn't have; send a number, a text or null."
        ) from error


def json_text(value: object) -> bytes:
    """Return JSON in UTF-8. Raises ValueError if it has a number that is not finite."""
    return "".join(_ENCODER.iterencode(value)).encode()


def _dumped(choice: str | RequestPart) -> str | dict[str, Any]:
    return choice if isinstance(choice, str) else choice.model_dump()


def _format(request: ResponseRequest) -> dict[str, Any]:
    form = request.text and request.text.format
    return {"type": "text"} if form is None else form.model_dump(by_alias=True, exclude_none=True)
