"""Turns a conversation into the token ids that the model continues. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.params import check_prompt, check_text
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.messages import CalledTool, Message
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.text.calls.described import in_words
from mlc_serve.text.conversation import Conversation
from mlc_serve.text.pieces import Piece, text_of
from mlc_serve.text.templates.meter import Meter

# `self` can't be a variable of the template, since it can't be passed by name.
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "self"})


@dataclass(frozen=True)
class ChatPrompt:
    """The prompt of a chat request, and whether the model goes on within its reasoning."""

    token_ids: list[int]
    reasoning_is_open: bool


def read_chat(request: ChatCompletionRequest, model: LoadedModel, meter: Meter | None = None) -> ChatPrompt:
    """Return the prompt of a chat request, in which the only control tokens are the template's own.

    Raises InvalidRequestError if the model has no chat template or its template refuses the conversation, and
    ContextLengthError if the prompt is too long.
    """
    pieces = _checked_pieces(request, model, meter)
    prompt_ids = model.tokenizer.encode_pieces(pieces)
    check_prompt(prompt_ids, model, "messages")
    return ChatPrompt(prompt_ids, _reasoning_is_open(request, model, pieces))


def chat_prompt_ids(
    request: ChatCompletionRequest, model: LoadedModel, meter: Meter | None = None
) -> list[int]:
    """Return the token ids of the prompt; see read_chat."""
    return read_chat(request, model, meter).token_ids


def chat_tokens(request: ChatCompletionRequest, model: LoadedModel, meter: Meter | None = None) -> list[int]:
    """Like `chat_prompt_ids`, but raises ContextLengthError only for a text that can't possibly fit."""
    return model.tokenizer.encode_pieces(_checked_pieces(request, model, meter))


def chat_prompt(request: ChatCompletionRequest, model: LoadedModel, meter: Meter | None = None) -> str:
    """Return the prompt as text, in which special tokens appear by name. Raises as `chat_tokens` does."""
    return "".join(piece.text for piece in _checked_pieces(request, model, meter))


def _checked_pieces(
    request: ChatCompletionRequest, model: LoadedModel, meter: Meter | None = None
) -> list[Piece]:
    check_text(_certain_length(request), model, "messages")
    return _prompt_pieces(request, model, meter)


def _certain_length(request: ChatCompletionRequest) -> int:
    """Return how many characters of content every template is sure to write. Templates may leave out the
    white space around a message's content, and the reasoning in the assistant's messages.
    """
    contents = (message.content or "" for message in request.messages if message.role != "assistant")
    return sum(len(content.strip()) for content in contents if isinstance(content, str))


def _prompt_pieces(
    request: ChatCompletionRequest, model: LoadedModel, meter: Meter | None = None
) -> list[Piece]:
    if model.chat_template is None:
        raise InvalidRequestError(
            f"The model {model.name!r} has no chat template; it serves raw completions only.", "messages"
        )
    conversation = Conversation(
        messages=[_for_template(message) for message in request.messages],
        tools=_tools(request),
        variables=_variables(request),
        add_generation_prompt=_adds_generation_prompt(request),
        continues_last=request.continue_final_message,
    )
    conversation = in_words(conversation, model.chat_template)
    return model.chat_template.render(conversation, meter, partial(check_text, model=model, param="messages"))


def offers_tools(request: ChatCompletionRequest) -> bool:
    """Return whether the prompt describes tools, so that the reply may contain calls."""
    return bool(request.offered_tools)


def _reasoning_is_open(request: ChatCompletionRequest, model: LoadedModel, pieces: Sequence[Piece]) -> bool:
    marks = model.answers.reasoning
    if marks is None:
        return False
    if request.continue_final_message:
        content = request.messages[-1].content or ""
        return marks.are_open_in(content if isinstance(content, str) else content[-1])
    return _adds_generation_prompt(request) and marks.are_opened_by(text_of(pieces))


def _tools(request: ChatCompletionRequest) -> list[dict[str, Any]] | None:
    if not offers_tools(request):
        return None
    return [
        tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in request.offered_tools
    ]


def _adds_generation_prompt(request: ChatCompletionRequest) -> bool:
    if request.add_generation_prompt is None:
        return not request.continue_final_message
    return request.add_generation_prompt


def _variables(request: ChatCompletionRequest) -> dict[str, Any]:
    taken = sorted(_RESERVED.intersection(request.chat_template_kwargs))
    if taken:
        raise InvalidRequestError(
            f"chat_template_kwargs: {taken[0]!r} is set by the server.", f"chat_template_kwargs.{taken[0]}"
        )
    effort = {} if request.reasoning_effort is None else {"reasoning_effort": request.reasoning_effort}
    return effort | request.chat_template_kwargs


def _for_template(message: Message) -> dict[str, Any]:
    """Return the message for a template, which doesn't know `developer`, OpenAI's newer name for `system`."""
    role = "system" if message.role == "developer" else message.role
    rendered: dict[str, Any] = {"role": role, "content": message.content}
    for name in ("name", "tool_call_id", "reasoning_content"):
        value = getattr(message, name)
        if value is not None:
            rendered[name] = value
    if message.tool_calls:
        rendered["tool_calls"] = [_call_for_template(call) for call in message.tool_calls]
    return rendered


def _call_for_template(call: CalledTool) -> dict[str, Any]:
    function = {
        "name": call.function.name,
        "arguments": call.function.arguments,
        "parsed_arguments": call.function.parsed_arguments(),
    }
    named = {} if call.id is None else {"id": call.id}
    return {**named, "type": call.type, "function": function}
