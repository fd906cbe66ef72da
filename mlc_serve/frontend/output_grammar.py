"""The grammar that a request's output must follow. Pure functions."""

from __future__ import annotations

from typing import Any

from mlc_serve.grammar import Grammar
from mlc_serve.protocol.openai import GenerationRequest
from mlc_serve.protocol.output_form import ResponseFormat, StructuredOutputs

_ANY_OBJECT = {"type": "object"}


def output_grammar(request: GenerationRequest) -> Grammar | None:
    """Return the grammar that the request's fields ask for, or None if the output is free text.

    Raises InvalidRequestError if it is too long.
    """
    if request.structured_outputs is not None:
        return _of_structured_outputs(request.structured_outputs)
    return None if request.response_format is None else _of_response_format(request.response_format)


def jumps_forward(request: GenerationRequest) -> bool:
    """Return whether tokens that the grammar forces are appended without being drawn."""
    return request.debug_config is None or request.debug_config.grammar_execution_mode == "jump_forward"


def _of_response_format(form: ResponseFormat) -> Grammar | None:
    if form.json_schema is not None:
        return Grammar.of_schema(form.json_schema.schema_, "response_format.json_schema.schema")
    if form.type == "json_object":
        schema: Any = _ANY_OBJECT if form.schema_ is None else form.schema_
        return Grammar.of_schema(schema, "response_format.schema")
    return None


def _of_structured_outputs(form: StructuredOutputs) -> Grammar:
    place, whitespace = "structured_outputs", form.whitespace_pattern
    if form.regex is not None:
        return Grammar("regex", form.regex, f"{place}.regex")
    if form.choice is not None:
        return Grammar.of_choice(form.choice, f"{place}.choice")
    if form.grammar is not None:
        return Grammar("grammar", form.grammar, f"{place}.grammar")
    schema: Any = _ANY_OBJECT if form.json_ is None else form.json_
    return Grammar.of_schema(schema, f"{place}.json", whitespace)
