"""Write the tables of request fields in docs/api.md from their declarations in mlc_serve/protocol.

python scripts/render_fields.py            writes the file
python scripts/render_fields.py --check    exits with 1 if the file is not current
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from made_section import DOCS, MadeSection, main, table_row
from pydantic.fields import FieldInfo

from mlc_serve.protocol.anthropic.blocks import (
    MessagesTurn,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from mlc_serve.protocol.anthropic.request import (
    ContextManagement,
    CountTokensRequest,
    MessagesPrompt,
    MessagesRequest,
    MessagesTool,
    MessagesToolChoice,
    OutputConfig,
    OutputFormat,
    Thinking,
)
from mlc_serve.protocol.debug import DebugConfig
from mlc_serve.protocol.embeddings import EmbedderRequest, EmbeddingRequest, RerankRequest, ScoreRequest
from mlc_serve.protocol.messages import (
    CalledFunction,
    CalledTool,
    ContentPart,
    FunctionDefinition,
    Message,
    Tool,
)
from mlc_serve.protocol.microserving import (
    AbortRequest,
    MicroservingRequest,
    PrepRecvRequest,
    RemoteSendRequest,
    StartGenerateRequest,
)
from mlc_serve.protocol.openai import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    StreamOptions,
)
from mlc_serve.protocol.output_form import JsonSchemaFormat, ResponseFormat, StructuredOutputs
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputMessage,
    ItemReference,
    ReasoningItem,
    ReasoningText,
)
from mlc_serve.protocol.responses.request import (
    ReasoningConfig,
    ResponseRequest,
    ResponseStreamOptions,
    TextConfig,
    TextFormat,
)
from mlc_serve.protocol.responses.tools import AllowedTools, FunctionTool, NamedFunction
from mlc_serve.protocol.tokenization import DetokenizeRequest, TokenizeChatRequest, TokenizeTextRequest

PARTS: dict[str, type[RequestPart]] = {
    "Both": GenerationRequest,
    "Chat": ChatCompletionRequest,
    "Completions": CompletionRequest,
    "`messages`": Message,
    "`messages.content`, where it is a list": ContentPart,
    "`messages.tool_calls`": CalledTool,
    "`messages.tool_calls.function`": CalledFunction,
    "`tools`": Tool,
    "`tools.function`": FunctionDefinition,
    "`stream_options`": StreamOptions,
    "`response_format`": ResponseFormat,
    "`response_format.json_schema`": JsonSchemaFormat,
    "`structured_outputs`": StructuredOutputs,
    "`debug_config`": DebugConfig,
    "`/tokenize`, of a text": TokenizeTextRequest,
    "`/tokenize`, of a conversation, besides the fields of chat": TokenizeChatRequest,
    "`/detokenize`": DetokenizeRequest,
    "Responses": ResponseRequest,
    "`input` of responses: `message`": InputMessage,
    "`input` of responses: `function_call`": FunctionCall,
    "`input` of responses: `function_call_output`": FunctionCallOutput,
    "`input` of responses: `reasoning`": ReasoningItem,
    "`content` and `summary` of `reasoning`": ReasoningText,
    "`input` of responses: `item_reference`": ItemReference,
    "`tools` of responses": FunctionTool,
    "`tool_choice` of responses: `function`": NamedFunction,
    "`tool_choice` of responses: `allowed_tools`": AllowedTools,
    "`text`": TextConfig,
    "`text.format`": TextFormat,
    "`reasoning`": ReasoningConfig,
    "`stream_options` of responses": ResponseStreamOptions,
    "Embeddings, rankings and scores": EmbedderRequest,
    "Embeddings": EmbeddingRequest,
    "Rankings": RerankRequest,
    "Scores": ScoreRequest,
    "Microserving, besides the fields of completions": MicroservingRequest,
    "`/microserving/prep_recv`": PrepRecvRequest,
    "`/microserving/remote_send`": RemoteSendRequest,
    "`/microserving/start_generate`": StartGenerateRequest,
    "`/microserving/abort`": AbortRequest,
}


ANTHROPICS_PARTS: dict[str, type[RequestPart]] = {
    "Messages and count_tokens": MessagesPrompt,
    "Messages": MessagesRequest,
    "count_tokens": CountTokensRequest,
    "`messages` of Anthropic's API": MessagesTurn,
    "`text`, a block": TextBlock,
    "`thinking`, a block": ThinkingBlock,
    "`redacted_thinking`, a block": RedactedThinkingBlock,
    "`tool_use`, a block": ToolUseBlock,
    "`tool_result`, a block": ToolResultBlock,
    "`tools` of Anthropic's API": MessagesTool,
    "`tool_choice`": MessagesToolChoice,
    "`thinking`": Thinking,
    "`output_config`": OutputConfig,
    "`output_config.format`": OutputFormat,
    "`context_management`": ContextManagement,
}


def tables(parts: Mapping[str, type[RequestPart]]) -> str:
    """A table for each kind of object in a request. Fields of both requests are only in the first table."""
    return "\n".join(_table(title, kind) for title, kind in parts.items())


def _table(title: str, kind: type[RequestPart]) -> str:
    base = kind.__mro__[1]
    shared = base.model_fields if issubclass(base, RequestPart) else {}
    schemas = kind.model_json_schema()["properties"]
    rows = [
        _honoured(name, kind.model_fields[attribute], schemas[name])
        for name, attribute in kind.wire_names().items()
        if attribute not in shared
    ]
    known = {name: entry for name, entry in kind.WITHOUT_EFFECT.items() if not _is_inherited(base, name)}
    rows += [
        _without_effect([name for name, _ in alike], entry)
        for entry, alike in groupby(known.items(), key=lambda item: item[1])
    ]
    return "\n".join([f"#### {title}", "", "| field | accepted | |", "|---|---|---|", *rows, ""])


def _is_inherited(base: type[Any], name: str) -> bool:
    return issubclass(base, RequestPart) and name in base.WITHOUT_EFFECT


def _honoured(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    need = "**Required.** " if field.is_required() else ""
    default = _default(field.default) if field.default not in (None, ...) and not field.is_required() else ""
    return table_row(f"`{name}`", _accepted(schema), f"{need}{field.description}{default}")


def _default(default: object) -> str:
    """The default in words; no words if the field is empty or off by default."""
    return f" Default: `{json.dumps(default)}`." if isinstance(default, int | str) and default else ""


def _without_effect(names: Sequence[str], entry: WithoutEffect) -> str:
    values = "anything" if entry.only is None else ", ".join(f"`{json.dumps(value)}`" for value in entry.only)
    listing = ", ".join(f"`{name}`" for name in names)
    return table_row(listing, values or "nothing", f"{'No effect' if values else 'Refused'}: {entry.reason}.")


def _accepted(schema: dict[str, Any]) -> str:
    """What a JSON schema admits, in words. Null is always accepted, so it is not mentioned."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(_kind(kind) for kind in kinds))


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return "a list" + (f" of up to {schema['maxItems']}" if "maxItems" in schema else "")
    name = {"string": "a text", "integer": "an integer", "number": "a number", "boolean": "true or false"}
    return name.get(schema.get("type", ""), "an object") + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    low, above, high, below = (
        schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    )
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if above is not None:
        return f" above {above:g}, up to {high:g}"
    if below is not None:
        return " of 64 bits"
    return "" if low is None else f" of at least {low:g}"


SECTIONS = [
    MadeSection(
        DOCS / "api.md",
        "<!-- fields: made by scripts/render_fields.py -->",
        "<!-- end of fields -->",
        partial(tables, PARTS),
    ),
    MadeSection(
        DOCS / "api.md",
        "<!-- Anthropic's fields: made by scripts/render_fields.py -->",
        "<!-- end of Anthropic's fields -->",
        partial(tables, ANTHROPICS_PARTS),
    ),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, SECTIONS))
