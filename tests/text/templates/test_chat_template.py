"""Chat templates: rendered as transformers renders them, and safe to run."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.conversation import Conversation
from mlc_serve.text.pieces import text_of
from mlc_serve.text.templates.chat_template import ChatTemplate
from mlc_serve.text.templates.meter import Meter
from tests.prompts import prompt_of

CHATML = """\
{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' }}
    {{- '\\n' if not loop.last }}
{% endfor %}
{% if add_generation_prompt %}
{{ '\\n<|im_start|>assistant\\n' }}
{% endif %}
"""

HEADERS = """\
{{- bos_token }}
{%- set now = strftime_now('%Y') if strftime_now is defined else 'unknown' %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|header|>system<|end|>\\n\\nThe year is ' ~ now ~ '.\\n' }}
{%- if tools is not none %}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- '\\n' }}
    {%- endfor %}
{%- endif %}
{{- system + '<|eot|>' }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant', 'tool'] %}
        {{- raise_exception('There is no role ' ~ message.role) }}
    {%- endif %}
    {%- if message.tool_calls is defined and message.tool_calls | length > 1 %}
        {{- raise_exception('One call at a time') }}
    {%- endif %}
    {{- '<|header|>' + message.role + '<|end|>\\n\\n' + message.content | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|header|>assistant<|end|>\\n\\n' }}{% endif %}
"""

HERMES = """\
{%- macro call_text(call) %}
    {{- '\\n<tool_call>\\n' ~ (call.function | tojson) ~ '\\n</tool_call>' }}
{%- endmacro %}
{%- set state = namespace(last_user=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set state.last_user = loop.index0 %}{% endif %}
{%- endfor %}
{%- if tools %}
    {{- '<|im_start|>system\\nTools:' }}
    {%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
        {%- continue %}
    {%- endif %}
    {{- '<|im_start|>' + message.role }}{{ ' (last)' if loop.index0 == state.last_user }}
    {%- generation %}
    {%- if message.content %}{{ '\\n' + message.content }}{% endif %}
    {%- for call in message.tool_calls or [] %}{{ call_text(call) }}{% endfor %}
    {%- endgeneration %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{{- loops | default('') }}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Is it 'wet' & <cold>? 雨", "parameters": {}},
    },
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}},
]
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "  Speak <b>plainly</b>. "},
    {"role": "user", "content": "Wie geht's? \n{{ 1 + 1 }} 🙂"},
    {"role": "assistant", "content": "Gut."},
    {"role": "user", "content": ""},
]
CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "Rain in Malmö?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Malmö"}'}}
        ],
    },
    {"role": "tool", "content": "yes"},
    {"role": "tool", "content": "heavily"},
]


def with_parsed_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as transformers' users pass them: the arguments of calls are objects."""
    parsed = deepcopy(messages)
    for message in parsed:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return parsed


@pytest.mark.parametrize("template", [CHATML, HEADERS, HERMES], ids=["chatml", "headers", "hermes"])
@pytest.mark.parametrize("messages", [TALK, TALK[1:], CALLS], ids=["talk", "no system", "calls"])
@pytest.mark.parametrize("tools", [TOOLS, None], ids=["tools", "no tools"])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_renders_as_transformers_does(
    template: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    add_generation_prompt: bool,
) -> None:
    """White space, JSON and variables are the same: a model sees prompts like those of its training."""
    if template == CHATML:
        tools = None
    asked: dict[str, Any] = {"add_generation_prompt": add_generation_prompt, "loops": "3"}
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    given = [with_parsed_arguments(messages)]
    (expected,), _ = render_jinja_template(given, tools, chat_template=template, **asked, **special)

    assert expected == prompt_of(ChatTemplate(template, special), messages, tools, **asked)


def test_tools_choose_the_template_that_is_named_for_them() -> None:
    """Of several named templates, "tool_use" writes conversations with tools and "default" all others."""
    template = ChatTemplate({"default": "plain", "tool_use": "{{ tools | length }} tools"})

    assert prompt_of(template, TALK) == "plain"
    assert prompt_of(template, TALK, TOOLS) == "2 tools"


def test_tools_without_a_place_are_refused() -> None:
    """Tools are refused if the template does not read `tools`, as it would drop them silently."""
    with pytest.raises(InvalidRequestError, match="no place for tools") as refusal:
        prompt_of(ChatTemplate(CHATML), TALK, TOOLS)

    assert refusal.value.param == "tools"
    assert prompt_of(ChatTemplate(CHATML), TALK, []) == prompt_of(ChatTemplate(CHATML), TALK)


def test_variables_reach_the_template() -> None:
    """Clients may set a template's own variables, such as enable_thinking, but not those that the server
    sets.
    """
    template = ChatTemplate(
        "{{ enable_thinking }} {{ messages | length }} {{ tools }} {{ add_generation_prompt }}"
    )
    taken = {"messages": [], "tools": ["mine"], "add_generation_prompt": "mine"}

    assert prompt_of(template, TALK, enable_thinking=False) == "False 4 None True"
    pieces = template.render(Conversation(TALK, variables={"enable_thinking": False, **taken}))
    assert text_of(pieces) == "False 4 None True"


def test_what_a_template_refuses_is_the_clients_fault() -> None:
    """The text that a template passes to raise_exception reaches the client unchanged."""
    with pytest.raises(InvalidRequestError, match=r"^There is no role narrator$") as refusal:
        prompt_of(ChatTemplate(HEADERS), [{"role": "narrator", "content": "Once"}])

    assert refusal.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content + 1 }}",
        "{{ messages[99].content.text }}",
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content | tojson(indent='x', sort_keys=1, separators=3) }}",
        "{{ 'x' * 10 ** 15 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ undefined_function() }}",
        "{% macro deeper() %}{{ deeper() }}{% endmacro %}{{ deeper() }}",
        "{% for a in 5 %}{% endfor %}",
        "{{ cycler() }}",
        "{{ namespace(1) }}",
        "{{ (5).to_bytes(2, 'big') }}",
    ],
)
def test_a_template_that_fails_is_an_error_not_a_crash(source: str) -> None:
    """Whatever an expression raises, the error says that these messages can't be rendered."""
    with pytest.raises(InvalidRequestError, match=r"can't render these messages: .+"):
        prompt_of(ChatTemplate(source), TALK)


def test_each_rendering_has_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that is used often does not run out of steps."""
    monkeypatch.setattr(Meter, "LIMIT", 2000)
    template = ChatTemplate(CHATML)

    assert len({prompt_of(template, TALK) for _ in range(100)}) == 1


def test_the_conversation_stays_as_it_was() -> None:
    """Templates can't change a client's messages."""
    with pytest.raises(InvalidRequestError):
        prompt_of(ChatTemplate("{{ messages[0].update(role='user') }}"), TALK)

    assert TALK[0]["role"] == "system"


@pytest.mark.parametrize("source", ["{% for %}", "{{ open", "{% generation %}"])
def test_a_template_that_does_not_parse_stops_the_start(source: str) -> None:
    """The error blames the model's directory, not a client."""
    with pytest.raises(CheckpointError, match="'default' can't be parsed: line 1: "):
        ChatTemplate(source)
