"""The form of a model's answers is chosen by its chat template or by the operator."""

from __future__ import annotations

import pytest

from mlc_serve.errors import ConfigError
from mlc_serve.text.answer_form import answer_form
from mlc_serve.text.calls.formats import FORMATS
from mlc_serve.text.calls.parts import Reasoning
from mlc_serve.text.reasoning import REASONING
from mlc_serve.text.templates.chat_template import ChatTemplate
from tests.answers import read_in_portions

HERMES = ChatTemplate("{{ tools }}{{ messages }}<tool_call></think>")
NO_TOOLS = ChatTemplate("{{ messages[0].content }}{{ '<｜tool▁calls▁begin｜>' }}[/THINK]")


def test_the_template_decides() -> None:
    """A template without a place for tools gets the generic form, whatever else it contains."""
    assert answer_form(HERMES).calls is FORMATS["hermes"]
    assert answer_form(HERMES).reasoning is REASONING["think"]
    assert answer_form(NO_TOOLS).calls is FORMATS["generic"]
    assert answer_form(NO_TOOLS).reasoning is REASONING["mistral"]
    assert answer_form(None).reasoning is None


def test_the_operator_decides_otherwise() -> None:
    """Names take precedence over the template."""
    form = answer_form(HERMES, "llama3_json", "none")
    assert (form.calls, form.reasoning) == (FORMATS["llama3_json"], None)
    assert answer_form(NO_TOOLS, "hermes", "think").reasoning is REASONING["think"]


def test_a_form_that_the_model_is_not_told_is_refused() -> None:
    """Without a place for tools the server describes them, in the generic form only."""
    with pytest.raises(ConfigError, match="tool_call_parser is 'mistral'"):
        answer_form(NO_TOOLS, "mistral")


@pytest.mark.parametrize("name", REASONING)
def test_reasoning_is_the_same_however_it_arrives(name: str) -> None:
    """White space around it is dropped, and it may never end."""
    marks = REASONING[name]
    form = answer_form(HERMES, reasoning=name)
    for answer, expected in (
        (f"\n{marks.begin}\n so \n\n{marks.end}\n\nHi ", [Reasoning("so"), "Hi "]),
        (f"{marks.begin} <tool_call>so {marks.end[:-1]}", [Reasoning(f"<tool_call>so {marks.end[:-1]}")]),
    ):
        for cut in range(len(answer)):
            assert read_in_portions(form, [answer[:cut], answer[cut:]]) == expected
        assert read_in_portions(form, answer) == expected
        unopened = answer.replace(marks.begin, "")
        assert read_in_portions(form, unopened, reasoning_is_open=True) == expected


@pytest.mark.parametrize(
    ("name", "prompt", "is_open"),
    [
        ("think", "<think>\n", True),
        ("think", "<think>\n\n</think>\n\n", False),
        ("think", "assistant\n", False),
        ("deepseek_r1", "assistant\n", True),
        ("deepseek_r1", "<think>\n\n</think>\n\n", False),
    ],
)
def test_a_prompt_may_open_the_reasoning(name: str, prompt: str, is_open: bool) -> None:
    """Its end says so."""
    assert REASONING[name].are_opened_by("a" * 1000 + prompt) == is_open
