"""Messages to prompt text by a model's own Jinja2 template, rendered as Hugging Face's transformers renders
it.

Templates come with models from anywhere: they run in a sandbox, and for a bounded number of steps. Knows no
files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jinja2 import TemplateError, TemplateSyntaxError, nodes

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.template_sandbox import StepBudget, TemplateRefusalError, TemplateSandbox

Message = Mapping[str, Any]
Tool = Mapping[str, Any]


class PromptTemplate(Protocol):
    """Writes a conversation as the text that a model continues."""

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        *,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt, with special tokens written out. InvalidRequestError for what can't be written."""


class ChatTemplate:
    """Jinja2 templates of one model: one, or several by name, of which "tool_use" is taken when there are
    tools.

    `special_tokens` (bos_token, eos_token, ...) are variables of every template. CheckpointError if one does
    not parse.
    """

    def __init__(
        self, source: str | Mapping[str, str], special_tokens: Mapping[str, str] | None = None
    ) -> None:
        sources = {"default": source} if isinstance(source, str) else dict(source)
        if not sources:
            raise CheckpointError("the chat template is an empty list")
        self._sandbox = TemplateSandbox()
        parsed = {name: self._parse(name, text) for name, text in sources.items()}
        self._takes_tools = {name: _reads(tree, "tools") for name, tree in parsed.items()}
        self._templates = {name: self._sandbox.from_string(tree) for name, tree in parsed.items()}
        self._special_tokens = dict(special_tokens or {})

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        *,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt. `variables` are what the template reads besides, and may replace special tokens.

        InvalidRequestError (param "messages") if the template refuses them, fails on them or does not come to
        an end, (param "tools") if there are tools and the template has no place for them.
        """
        name = self._choose(tools)
        given = {"messages": messages, "tools": tools, "add_generation_prompt": add_generation_prompt}
        context = {
            "documents": None,
            **self._special_tokens,
            **variables,
            **given,
            StepBudget.NAME: StepBudget(),
        }
        try:
            return self._templates[name].render(context)
        except TemplateRefusalError as refusal:
            raise InvalidRequestError(str(refusal), param="messages") from refusal
        except RecursionError as error:
            raise _cannot_render("it calls itself without end") from error
        except _TEMPLATE_FAULTS as error:
            raise _cannot_render(str(error) or type(error).__name__) from error

    def _choose(self, tools: Sequence[Tool] | None) -> str:
        name = "tool_use" if tools and "tool_use" in self._templates else "default"
        if name not in self._templates:
            raise InvalidRequestError(f"the model has no chat template named {name!r}", param="messages")
        if tools and not self._takes_tools[name]:
            raise InvalidRequestError("the model's chat template has no place for tools", param="tools")
        return name

    def _parse(self, name: str, source: str) -> nodes.Template:
        try:
            return self._sandbox.parse(source)
        except TemplateSyntaxError as error:
            fault = f"line {error.lineno}: {error.message}"
            raise CheckpointError(f"the chat template {name!r} can't be parsed: {fault}") from error


# What expressions of a template can raise on values that it was not written for, or by asking for too much.
_TEMPLATE_FAULTS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
)


def _reads(tree: nodes.Template, variable: str) -> bool:
    return any(name.name == variable and name.ctx == "load" for name in tree.find_all(nodes.Name))


def _cannot_render(fault: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the model's chat template can't render these messages: {fault}", param="messages"
    )
