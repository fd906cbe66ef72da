"""Renders conversations with a model's own Jinja2 templates, as Hugging Face's transformers does.

Templates come with models from untrusted sources, so they run in a sandbox, and their work is metered. Only
what the template itself writes can become a control token, never a client's text. Reads no files.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.conversation import CheckLength, Conversation, Message, PromptTemplate, Tool
from mlc_serve.text.json_texts import texts_of
from mlc_serve.text.pieces import Piece, text_of
from mlc_serve.text.templates.cover import ControlNames, Cover
from mlc_serve.text.templates.forms import MessageForms, probes
from mlc_serve.text.templates.jinja_template import JinjaTemplate
from mlc_serve.text.templates.meter import Meter
from mlc_serve.text.templates.stand_ins import StandIns
from mlc_serve.text.text_search import TextSearch

# The most steps that one trial at start-up may take.
_STEPS_OF_A_TRIAL = 50_000
_END_OF_REASONING = "</think>"


class ChatTemplate(PromptTemplate):
    """The Jinja2 templates of one model: one, or several by name, of which "tool_use" is used with tools.

    `special_tokens` (bos_token, eos_token, ...) are variables of every template. `control_texts` are the
    names of the tokenizer's control tokens. Raises CheckpointError if a template can't be compiled.
    """

    def __init__(
        self,
        source: str | Mapping[str, str],
        special_tokens: Mapping[str, str] | None = None,
        control_texts: Collection[str] = (),
    ) -> None:
        sources = {"default": source} if isinstance(source, str) else dict(source)
        if not sources:
            raise CheckpointError("the chat template is an empty list")
        self._source, self._all_sources = sources.get("default"), "\n".join(sources.values())
        self._templates: dict[str, _Template] = {}
        for name, text in sources.items():
            try:
                self._templates[name] = _Template(text, special_tokens or {}, control_texts)
            except CheckpointError as error:
                raise CheckpointError(f"the chat template {reprlib.repr(name)} {error}") from error

    @property
    def jinja_source(self) -> str | None:
        """The template that is used without tools; None if there is none."""
        return self._source

    @property
    def source(self) -> str:
        """See PromptTemplate."""
        return self._all_sources

    @property
    def takes_tools(self) -> bool:
        """See PromptTemplate."""
        default = self._templates.get("default")
        return "tool_use" in self._templates or (default is not None and default.takes_tools)

    @property
    def takes_calls(self) -> bool:
        """See PromptTemplate."""
        return self.takes_tools or any(one.takes_calls for one in self._templates.values())

    @property
    def takes_system(self) -> bool:
        """See PromptTemplate."""
        return all(one.takes_system for one in self._templates.values())

    def render(
        self,
        conversation: Conversation,
        meter: Meter | None = None,
        check_length: CheckLength = lambda _num_characters: None,
    ) -> list[Piece]:
        """See PromptTemplate. The conversation's variables take precedence over special tokens.

        Raises InvalidRequestError: param "messages" if the template refuses the messages, fails on them or
        takes too many steps; param "tools" if there are tools and the template doesn't use them.
        """
        name = "tool_use" if conversation.tools and "tool_use" in self._templates else "default"
        if name not in self._templates:
            raise InvalidRequestError(f"the model has no chat template named {name!r}", param="messages")
        return self._templates[name].render(conversation, meter or Meter(), check_length)


class _Template:
    """One of the templates, and what was learned about it by rendering trial conversations."""

    def __init__(
        self, source: str, special_tokens: Mapping[str, str], control_texts: Collection[str]
    ) -> None:
        plain = JinjaTemplate(source)
        self.takes_tools = "tools" in plain.variables
        self._forms = MessageForms.found_by(partial(self._tried, plain, special_tokens))
        self._jinja, self._special_tokens, self._names = plain, special_tokens, ControlNames({})
        if control_texts:
            self._learn_names(source, control_texts)

    @property
    def takes_calls(self) -> bool:
        """Whether a call appeared in a trial's prompt."""
        return self._forms.writes_calls

    @property
    def takes_system(self) -> bool:
        """Whether a system message appeared in a trial's prompt."""
        return self._forms.takes("system")

    def render(self, conversation: Conversation, meter: Meter, check_length: CheckLength) -> list[Piece]:
        """See ChatTemplate."""
        if conversation.tools and not self.takes_tools:
            raise InvalidRequestError("the model's chat template has no place for tools", param="tools")
        messages = [self._forms.fit(message) for message in conversation.messages]
        client = [conversation.variables, messages, conversation.tools]
        texts = list(texts_of(client))
        meter.grant(texts)
        cover = Cover(self._names, texts)
        pieces = self._written(conversation, cover.over(client), cover, meter)
        check_length(len(text_of(pieces)))
        filled = cover.whole_over(client)
        if filled is not None:
            meter.grant(texts)
            pieces = cover.sure(pieces, self._written(conversation, filled, cover, meter))
        if conversation.continues_last:
            _check_continued(pieces, conversation.messages[-1])
        return pieces

    def _written(
        self, conversation: Conversation, client: list[Any], cover: Cover, meter: Meter
    ) -> list[Piece]:
        """Return the prompt for the client's variables, messages and tools, whose texts are covered."""
        variables, messages, tools = client
        if conversation.continues_last:
            messages[-1] = _with_end(messages[-1], cover.end)
        given = {
            **variables,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": conversation.add_generation_prompt,
        }
        parts = self._jinja.run({"documents": None, **self._special_tokens, **given}, meter)
        return cover.pieces(_cut_at(cover.end, parts) if conversation.continues_last else parts)

    def _learn_names(self, source: str, control_texts: Collection[str]) -> None:
        """Find out how to recognize the control tokens that the template writes: by stand-ins if its prompts
        stay the same with them, and also by marks in clients' texts if it composes names from parts.
        """
        stand_ins = StandIns(control_texts)
        plain, plain_tokens = self._jinja, self._special_tokens
        replaced = JinjaTemplate(source, stand_ins.put_into_template)
        tokens = {name: stand_ins.put_into(text) for name, text in plain_tokens.items()}
        written = []
        for messages, tools in probes(self._forms):
            expected = self._tried(plain, plain_tokens, messages, tools)
            prompt = self._tried(replaced, tokens, messages, tools)
            if expected != (None if prompt is None else stand_ins.take_from(prompt)):
                self._names = ControlNames({}, control_texts, plain.literals, plain.asked)
                return
            written.append(prompt or "")
        # If the template fails in every trial, it is not known whether it composes names.
        composes = not any(written) or TextSearch(control_texts).is_in("\n".join(written))
        self._jinja, self._special_tokens = replaced, tokens
        self._names = ControlNames(
            stand_ins.names, control_texts if composes else (), plain.literals, plain.asked
        )

    def _tried(
        self,
        jinja: JinjaTemplate,
        special_tokens: Mapping[str, str],
        messages: Sequence[Message],
        tools: Sequence[Tool] | None,
    ) -> str | None:
        """Return the prompt for messages in their final form, or None if the template fails."""
        given = {"messages": messages, "tools": tools if self.takes_tools else None}
        context = {"documents": None, "add_generation_prompt": True, **special_tokens, **given}
        try:
            return "".join(jinja.run(context, Meter(_STEPS_OF_A_TRIAL)))
        except InvalidRequestError:
            return None


def _with_end(message: Message, end: str) -> Message:
    """Return the message with a mark after its text."""
    content: Any = message["content"] or ""
    if isinstance(content, str):
        return {**message, "content": content + end}
    return {**message, "content": [*content[:-1], {**content[-1], "text": content[-1]["text"] + end}]}


def _cut_at(end: str, parts: Sequence[str]) -> list[str]:
    """Return the prompt up to the mark after the last message."""
    prompt, found, _ = "".join(parts).rpartition(end)
    return [prompt.replace(end, "")] if found else [""]


def _check_continued(pieces: Sequence[Piece], message: Message) -> None:
    """Raise if the prompt does not end with the message; leading white space and reasoning may be missing."""
    content = message.get("content") or ""
    text = content if isinstance(content, str) else content[-1]
    kept = text.rpartition(_END_OF_REASONING)[2].lstrip()
    if not pieces or not text_of(pieces).endswith(kept):
        raise InvalidRequestError(
            "continue_final_message: the chat template changes the last message, so it can't be continued.",
            "continue_final_message",
        )
