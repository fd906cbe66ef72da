"""Writes the grammar of a chat answer: its reasoning, its calls, and the form of its content."""

from __future__ import annotations

from mlc_serve.frontend.called_functions import called_functions, strict_functions
from mlc_serve.frontend.output_grammar import output_grammar
from mlc_serve.grammar import Grammar, closed_schema
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.text.calls.call_format import CallFormat, Functions
from mlc_serve.text.calls.lark import Lark
from mlc_serve.text.reasoning import ReasoningMarks


def chat_grammar(
    request: ChatCompletionRequest, model: LoadedModel, *, reasoning_is_open: bool = False
) -> Grammar | None:
    """Return the grammar of an answer, or None if it may be anything.

    The model may think first, and must end that if the prompt has opened it. Then it writes one call or
    several, if it must call a tool; else content in the form that the request asks for, or calls; else, if
    arguments are strict, any text and calls. Raises InvalidRequestError if the grammar is too long.
    """
    lark, form = Lark(model.tokenizer.special_ids), output_grammar(request)
    rules = _rules_of_calls(request, model.answers.calls, lark, has_form=form is not None)
    marks = model.answers.reasoning
    if rules is None and (form is None or marks is None):
        return form
    thought = "" if marks is None else "thought" if reasoning_is_open else "thought?"
    lines = [f"start: {thought} answer", rules or "answer: @content"]
    if marks is not None:
        lines += _rules_of_reasoning(marks, lark, is_open=reasoning_is_open)
    text = "\n".join(lines) + "\n"
    if rules is None and form is not None:
        return Grammar("lark", text, form.param, content=form)
    return Grammar("lark", text, "tools", content=form, schemas=_schemas(request))


def _rules_of_calls(
    request: ChatCompletionRequest, calls: CallFormat, lark: Lark, *, has_form: bool
) -> str | None:
    """Return rules of which `answer` is the first, or None if calls need no grammar."""
    parallel = request.parallel_tool_calls and not request.names_function
    mark = "" if calls.begin is None else lark.mark(calls.begin)
    functions = {name: closed_schema(schema) for name, schema in _constrained(request).items()}
    if request.forces_call:
        return "answer: calls\n" + calls.rules(functions, lark, lead=mark, parallel=parallel)
    if has_form and request.offered_tools:
        return "answer: @content | calls\n" + calls.rules(functions, lark, lead=mark, parallel=parallel)
    if calls.begin is None or not any(tool.function.strict for tool in request.offered_tools):
        return None
    return _after_text(calls, calls.begin, functions, lark, parallel=parallel)


def _after_text(calls: CallFormat, begin: str, functions: Functions, lark: Lark, *, parallel: bool) -> str:
    """Return rules of text, and of calls that may follow some text."""
    rules = ["answer: TEXT | calls", f"TEXT: {lark.text_without(begin)}", lark.rule_of_text("lead", begin)]
    return "\n".join([*rules, calls.rules(functions, lark, lead="lead", parallel=parallel)])


def _rules_of_reasoning(marks: ReasoningMarks, lark: Lark, *, is_open: bool) -> list[str]:
    begin = "" if is_open else lark.mark(marks.begin)
    return [f"thought: {begin} thoughts /\\s{{0,8}}/", lark.rule_of_text("thoughts", marks.end)]


def _constrained(request: ChatCompletionRequest) -> Functions:
    """Return the functions with the schemas that their arguments have to follow."""
    return called_functions(request) if request.forces_call else strict_functions(request)


def _schemas(request: ChatCompletionRequest) -> tuple[Grammar, ...]:
    """Return the schemas of the functions, by the fields that they come from. Those of functions that are
    not strict are followed as far as they can be.
    """
    constrained = _constrained(request)
    return tuple(
        Grammar.of_schema(
            constrained[tool.function.name],
            f"tools.{position}.function.parameters",
            is_lenient=not tool.function.strict,
        )
        for position, tool in enumerate(request.tools)
        if tool.function.name in constrained
    )
