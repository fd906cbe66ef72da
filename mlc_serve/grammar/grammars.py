"""Compiles grammars for one model, within bounds of time and memory, and keeps those that were used last."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llguidance
from llguidance.gbnf_to_lark import any_to_lark

from mlc_serve.errors import InvalidRequestError
from mlc_serve.grammar.closed_schema import closed_schema
from mlc_serve.grammar.constraint import GrammarConstraint
from mlc_serve.grammar.fault_place import place_of_fault
from mlc_serve.grammar.grammar import Grammar
from mlc_serve.grammar.vocabulary import Vocabulary
from mlc_serve.text.tokenization.tokenizer import Tokenizer

_MAX_KEPT = 64
# Bounds on the work of compiling a grammar, and on what the engine's thread does for one token.
_LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=20_000,
    verbose_errors=False,
)


@dataclass(frozen=True)
class Template:
    """A compiled grammar. It is never advanced; constraints are made of copies."""

    matcher: llguidance.LLMatcher
    end_id: int

    def constraint(self, stop_token_ids: frozenset[int], *, jumps: bool) -> GrammarConstraint:
        """Return a constraint at the start of the grammar, for one sequence."""
        return GrammarConstraint(self.matcher.deep_copy(), self.end_id, stop_token_ids, jumps=jumps)


class Grammars:
    """The grammars of one model. Any thread may use it.

    The last 64 grammars that were used are kept. A grammar that is compiled by two threads at the same time
    is compiled twice, which does no harm.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._vocabulary = Vocabulary(tokenizer, vocab_size)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Grammar, Template] = OrderedDict()

    def find(self, grammar: Grammar) -> Template | None:
        """Return a grammar that was compiled before and is still kept."""
        with self._lock:
            template = self._kept.get(grammar)
            if template is not None:
                self._kept.move_to_end(grammar)
            return template

    def compile(self, grammar: Grammar) -> Template:
        """Compile a grammar, which may take long; other threads go on meanwhile.

        Raises InvalidRequestError that says what is wrong and where, if the grammar is not valid, asks for
        something that is not supported, is too complex, or allows no text at all.
        """
        matcher = self._matcher(grammar)
        template = Template(matcher, self._vocabulary.end_id)
        with self._lock:
            self._kept[grammar] = template
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return template

    def _matcher(self, grammar: Grammar) -> llguidance.LLMatcher:
        try:
            matcher = self._parsed(_source(grammar))
        except Exception as error:  # llguidance's converters raise plain exceptions, too
            raise _refused(grammar, str(error)) from error
        self._check(grammar, matcher)
        probe = matcher.deep_copy()
        is_possible = any(probe.compute_bitmask())
        if probe.is_error():
            raise _refused(grammar, probe.get_error())
        if not is_possible:
            raise _refused(grammar, "it allows no text")
        return matcher

    def _parsed(self, source: str) -> llguidance.LLMatcher:
        return llguidance.LLMatcher(self._vocabulary.llguidance, source, log_level=0, limits=_LIMITS)

    def _check(self, grammar: Grammar, matcher: llguidance.LLMatcher) -> None:
        """Raise InvalidRequestError if a grammar has a fault, by the field of the part that has it."""
        fault = _fault(matcher, is_lenient=grammar.is_lenient)
        if not fault:
            return
        for part in grammar.parts:
            if matcher.is_error() or not part.is_lenient:
                self._check(part, self._parsed(_source(part)))
        # What can't be enforced in a grammar of parts is in those that are lenient.
        if matcher.is_error() or not grammar.parts:
            raise _refused(grammar, fault, self._place(grammar, fault))

    def _place(self, grammar: Grammar, fault: str) -> str:
        """Return the path of a fault within a JSON schema, or an empty text."""
        if grammar.kind != "json_schema":
            return ""

        def fault_of(schema: Any) -> str:
            return _fault(self._parsed(_source(Grammar.of_schema(schema, "", grammar.whitespace))))

        return place_of_fault(json.loads(grammar.text), fault, fault_of)


def _fault(matcher: llguidance.LLMatcher, *, is_lenient: bool = False) -> str:
    """Return what is wrong with a grammar or, unless it is lenient, can't be enforced; or an empty text.

    A format that llguidance doesn't know is no fault: JSON Schema makes it an annotation. Tools that are made
    of Python's types have such formats, for example of paths and passwords.
    """
    if matcher.is_error():
        return matcher.get_error()
    warnings = () if is_lenient else matcher.get_grammar_warnings()
    return next((warning for warning in warnings if not warning.startswith("Unknown format")), "")


def _refused(grammar: Grammar, fault: str, place: str = "") -> InvalidRequestError:
    param = grammar.param + place
    return InvalidRequestError(f"{param}: {fault.strip()}", param)


def _source(grammar: Grammar) -> str:
    """Return the grammar in llguidance's JSON."""
    parts = [_PARTS[grammar.kind](grammar)]
    if grammar.content is not None:
        parts.append({**_PARTS[grammar.content.kind](grammar.content), "name": "content"})
    return json.dumps({"grammars": parts})


def _schema_part(grammar: Grammar) -> dict[str, Any]:
    layout: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    if grammar.whitespace is not None:
        layout = {"whitespace_pattern": grammar.whitespace}
    options: Any = {**layout, "lenient": True}  # see _fault
    schema = json.dumps(closed_schema(json.loads(grammar.text)), ensure_ascii=False)
    source = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=options)
    return {"json_schema": json.loads(source)["grammars"][0]["json_schema"]}


def _regex_part(grammar: Grammar) -> dict[str, Any]:
    source = llguidance.LLMatcher.grammar_from_regex(grammar.text)
    return {"lark_grammar": json.loads(source)["grammars"][0]["lark_grammar"]}


def _choice_part(grammar: Grammar) -> dict[str, Any]:
    texts = " | ".join(json.dumps(text, ensure_ascii=False) for text in json.loads(grammar.text))
    return {"lark_grammar": f"start: {texts}"}


_PARTS: dict[str, Callable[[Grammar], dict[str, Any]]] = {
    "json_schema": _schema_part,
    "regex": _regex_part,
    "choice": _choice_part,
    "grammar": lambda grammar: {"lark_grammar": any_to_lark(grammar.text)},
    "lark": lambda grammar: {"lark_grammar": grammar.text},
}
