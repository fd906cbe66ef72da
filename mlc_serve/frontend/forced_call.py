"""Writes the grammar of an answer that must call a tool."""

from __future__ import annotations

from mlc_serve.frontend.called_functions import called_functions
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.text.calls.lark import Lark
from mlc_serve.text.reasoning import ReasoningMarks


def forced_call_grammar(
    request: ChatCompletionRequest, model: LoadedModel, *, reasoning_is_open: bool = False
) -> str | None:
    """Return a grammar in llguidance's Lark of one call of an offered tool, or of several if the request
    allows parallel calls; None if it need not call one.

    The model may think before the calls, and must end that if the prompt has opened it.
    """
    if not request.forces_call:
        return None
    answers = model.answers
    lark = Lark(model.tokenizer.special_ids)
    rules = answers.calls.forced(called_functions(request), lark, parallel=request.parallel_tool_calls)
    if answers.reasoning is None:
        return f"start: calls\n{rules}"
    return f"{_reasoning(answers.reasoning, lark, is_open=reasoning_is_open)}{rules}"


def _reasoning(marks: ReasoningMarks, lark: Lark, *, is_open: bool) -> str:
    """Return the first rules of an answer that may contain reasoning before the calls."""
    thought = "thought" if is_open else "thought?"
    begin = "" if is_open else lark.mark(marks.begin)
    rules = [f"start: {thought} calls", f"thought: {begin} thoughts /\\s{{0,8}}/"]
    return "\n".join([*rules, lark.rule_of_text("thoughts", marks.end)]) + "\n"
