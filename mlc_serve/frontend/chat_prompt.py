"""A conversation as the token ids that the model continues. Pure."""

from __future__ import annotations

from typing import Any

from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.params import check_prompt
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.messages import CalledTool, Message
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.text.cover import Cover

# `self` is none of the template's variables: it can't be passed by name.
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "self"})


def chat_prompt_ids(request: ChatCompletionRequest, model: LoadedModel) -> list[int]:
    """The prompt of a chat request. What clients write never becomes a control token: only the template's do.

    Raises InvalidRequestError if the model has no chat template or its template refuses the conversation,
    ContextLengthError if the prompt is too long.
    """
    prompt_ids: list[int] = []
    for piece in _prompt_pieces(request, model):
        prompt_ids += model.tokenizer.encode(piece, add_special_tokens=False)
    check_prompt(prompt_ids, model, "messages")
    return prompt_ids


def chat_prompt(request: ChatCompletionRequest, model: LoadedModel) -> str:
    """The prompt as text, special tokens written out in it."""
    return "".join(_prompt_pieces(request, model))


def _prompt_pieces(request: ChatCompletionRequest, model: LoadedModel) -> list[str]:
    """The prompt, cut so that special tokens stand in a piece only where the template wrote them."""
    if model.chat_template is None:
        raise InvalidRequestError(
            f"The model {model.name!r} has no chat template; it serves raw completions only.", "messages"
        )
    messages, tools = [_for_template(message) for message in request.messages], _tools(request)
    cover = Cover(model.tokenizer.special_texts, [messages, tools])
    messages, tools = cover.over(messages), cover.over(tools)
    prompt = model.chat_template.render(
        messages, tools, add_generation_prompt=_adds_generation_prompt(request), **_variables(request)
    )
    if request.continue_final_message:
        prompt = _cut_after(prompt, messages[-1]["content"])
    return cover.cut(prompt)


def offers_tools(request: ChatCompletionRequest) -> bool:
    """Whether the model is told of tools, and its reply may hold calls of them."""
    return bool(request.tools) and request.tool_choice != "none"


def joined_text(message: Message) -> str:
    """A message's text: its parts, a line each."""
    content = message.content or ""
    return content if isinstance(content, str) else "\n".join(content)


def _tools(request: ChatCompletionRequest) -> list[dict[str, Any]] | None:
    if not offers_tools(request):
        return None
    return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in request.tools]


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
    """Templates know no role `developer`, which is OpenAI's newer name of `system`."""
    role = "system" if message.role == "developer" else message.role
    rendered: dict[str, Any] = {"role": role, "content": joined_text(message)}
    for name in ("name", "tool_call_id", "reasoning_content"):
        value = getattr(message, name)
        if value is not None:
            rendered[name] = value
    if message.tool_calls:
        rendered["tool_calls"] = [_call_for_template(call) for call in message.tool_calls]
    return rendered


def _call_for_template(call: CalledTool) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.parsed_arguments()}
    named = {} if call.id is None else {"id": call.id}
    return {**named, "type": call.type, "function": function}


def _cut_after(prompt: str, content: str) -> str:
    """The prompt without what the template wrote behind the last message, which is to be continued."""
    for written in (content, content.strip()):
        start = prompt.rfind(written)
        if start >= 0:
            return prompt[: start + len(written)]
    raise InvalidRequestError(
        "continue_final_message: the chat template changes the last message, so it can't be continued.",
        "continue_final_message",
    )
