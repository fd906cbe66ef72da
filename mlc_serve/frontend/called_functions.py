"""The functions that a reply may call."""

from __future__ import annotations

from typing import Any

from mlc_serve.protocol.openai import ChatCompletionRequest


def called_functions(request: ChatCompletionRequest) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each offered function's arguments, by name. Without a schema the function
    takes no arguments.
    """
    without: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    functions = [tool.function for tool in request.offered_tools]
    return {
        function.name: without if function.parameters is None else function.parameters
        for function in functions
    }


def strict_functions(request: ChatCompletionRequest) -> dict[str, dict[str, Any]]:
    """Like `called_functions`, but functions that are not strict take any object."""
    strict = {tool.function.name for tool in request.offered_tools if tool.function.strict}
    functions = called_functions(request).items()
    return {name: schema if name in strict else {"type": "object"} for name, schema in functions}
