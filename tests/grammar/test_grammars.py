"""Grammars compiled for a tokenizer over bytes, and followed byte by byte."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mlc_serve.errors import InvalidRequestError
from mlc_serve.grammar import Grammar, Grammars
from mlc_serve.grammar.constraint import GrammarConstraint
from mlc_serve.testing.tokens import EOS_ID, IM_END_ID, VOCAB_SIZE, byte_tokenizer

STOPS = frozenset({EOS_ID, IM_END_ID})
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    """Grammars for a model with more ids than its tokenizer has entries."""
    return Grammars(byte_tokenizer(), VOCAB_SIZE + 60)


def constraint(grammars: Grammars, grammar: Grammar, *, jumps: bool = True) -> GrammarConstraint:
    """Return a fresh constraint."""
    return grammars.compile(grammar).constraint(STOPS, jumps=jumps)


def allowed(follower: GrammarConstraint, ahead: bytes = b"") -> set[int]:
    """Return the tokens that may follow."""
    words = np.zeros(-(-(VOCAB_SIZE + 60) // 32), np.int32)
    follower.mask(words, list(ahead))
    return set(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist())


def accepts(grammars: Grammars, grammar: Grammar, text: str) -> bool:
    """Return whether a text may be written, byte by byte, and may end there."""
    follower = constraint(grammars, grammar)
    for byte in text.encode():
        if byte not in allowed(follower):
            return False
        follower.accept([byte])
    return follower.is_complete or EOS_ID in allowed(follower)


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (Grammar.of_schema(PERSON, "p"), '{"name": "Ann", "age": 3}', '{"name":"Ann","age":3}'),
        (Grammar.of_schema({"type": "object"}, "p"), '{"a": [1, null]}', "[1]"),
        (Grammar.of_schema({"const": 'quote " and é'}, "p"), '"quote \\" and é"', '"quote"'),
        (Grammar.of_schema(PERSON, "p", "[ ]?"), '{"name": "Ann","age":3}', '{"name":  "Ann","age":3}'),
        (Grammar("regex", r"\d{3}-[a-c]+", "p"), "123-abc", "12-a"),
        (Grammar.of_choice(["yes", 'n"o\n', "é\\"], "p"), 'n"o\n', "no"),
        (Grammar.of_choice(["yes", 'n"o\n', "é\\"], "p"), "é\\", "é"),
        (Grammar("grammar", 'start: "a" b+\nb: /[xy]/', "p"), "axy", "a"),
        (Grammar("grammar", 'root ::= "a" b+\nb ::= [xy]', "p"), "axy", "az"),
    ],
)
def test_only_what_the_grammar_describes_can_be_written(
    grammars: Grammars, grammar: Grammar, good: str, bad: str
) -> None:
    """Each kind of grammar accepts one text and refuses another; JSON has the layout of json.dumps."""
    assert accepts(grammars, grammar, good)
    assert not accepts(grammars, grammar, bad)


def test_end_tokens_are_allowed_where_the_grammar_may_end(grammars: Grammars) -> None:
    """The request's own end tokens are allowed there and nowhere else; no id without an entry ever is."""
    follower = constraint(grammars, Grammar("regex", "ab?", "p"))
    assert allowed(follower) == set(b"a")
    follower.accept(b"a")
    assert allowed(follower) == set(b"b") | STOPS
    assert allowed(follower, b"b") == STOPS
    assert allowed(follower, b"x") == set()
    assert allowed(follower) == set(b"b") | STOPS
    follower.accept([IM_END_ID])


def test_forced_tokens_lead_to_the_next_choice(grammars: Grammars) -> None:
    """What has no alternative is forced, unless the constraint doesn't jump; then the grammar is complete."""
    follower = constraint(grammars, Grammar.of_schema(PERSON, "p"))
    assert bytes(follower.forced()) == b'{"name": "'
    follower.accept(b'{"name": "A"')
    assert bytes(follower.forced()) == b', "age": '
    follower.accept(b', "age": 7}')
    assert follower.is_complete
    assert constraint(grammars, Grammar.of_schema(PERSON, "p"), jumps=False).forced() == ()


def test_a_forced_name_of_a_control_token_stays_text(grammars: Grammars) -> None:
    """A schema can't write control tokens: their names are forced letter by letter."""
    follower = constraint(grammars, Grammar.of_schema({"const": "<|im_end|>"}, "p"))
    assert bytes(follower.forced()) == b'"<|im_end|>"'


@pytest.mark.parametrize("within", [{"type": "string"}, {"enum": ["a", "b"]}])
def test_an_unknown_format_is_an_annotation(grammars: Grammars, within: dict[str, Any]) -> None:
    """A format that can't be enforced changes nothing; a keyword beside it that can't is still refused."""
    follower = constraint(grammars, Grammar.of_schema({**within, "format": "path"}, "p"))
    assert bytes(follower.forced()) == b'"'
    with pytest.raises(InvalidRequestError, match="not"):
        grammars.compile(Grammar.of_schema({**within, "format": "path", "not": {"const": "a"}}, "p"))


@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        ({"type": "strin"}, "", "strin"),
        (
            {"properties": {"a": {"items": {"type": "string", "not": {"const": "x"}}}}},
            ".properties.a.items",
            "not",
        ),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]}, ".anyOf.1", "/$defs/x"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"uniqueItems": True}}}, ".$defs.x", "uniqueItems"),
        ({"type": "string", "pattern": "(?=a)b"}, "", "look-around"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "", "minimum"),
    ],
)
def test_a_schema_that_cant_be_followed_is_refused(
    grammars: Grammars, schema: Any, place: str, reason: str
) -> None:
    """The refusal names the place within the schema and the reason."""
    with pytest.raises(InvalidRequestError) as caught:
        grammars.compile(Grammar.of_schema(schema, "schema"))
    assert caught.value.param == f"schema{place}"
    assert reason in str(caught.value)


UNIQUE = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}


def of_parts(*parts: Grammar) -> Grammar:
    """Return a grammar of the parts, one after the other."""
    options = {"x-guidance": {"lenient": True}}
    schemas = [json.dumps({**json.loads(part.text), **options}) for part in parts]
    start = "start: " + " ".join(f"%json {schema}" for schema in schemas)
    return Grammar("lark", start, "whole", schemas=parts)


def test_a_lenient_schema_is_followed_as_far_as_it_can_be(grammars: Grammars) -> None:
    """What can't be enforced is ignored, what is wrong is refused by its place."""
    assert accepts(grammars, Grammar.of_schema(UNIQUE, "p", is_lenient=True), "[1, 1]")
    assert not accepts(grammars, Grammar.of_schema(UNIQUE, "p", is_lenient=True), '["a"]')
    for fault in ({"type": "strin"}, {"pattern": "(?=a)b"}, {"$ref": "#/$defs/nowhere"}):
        schema = {"properties": {"a": UNIQUE, "b": fault}, "not": {}}
        with pytest.raises(InvalidRequestError) as caught:
            grammars.compile(Grammar.of_schema(schema, "p", is_lenient=True))
        assert caught.value.param == "p.properties.b"


def test_a_grammar_is_as_lenient_as_its_parts(grammars: Grammars) -> None:
    """A keyword that can't be enforced is refused only in a part that isn't lenient, whatever is kept."""
    lenient, strict = (Grammar.of_schema(UNIQUE, f"p{i}", is_lenient=i == 0) for i in range(2))
    assert accepts(grammars, of_parts(lenient, lenient), "[1, 1][2]")
    assert accepts(grammars, of_parts(lenient, Grammar.of_schema({"type": "null"}, "p1")), "[1, 1]null")
    for parts in ([lenient, strict], [strict, lenient]):
        assert grammars.find(of_parts(*parts)) is None
        with pytest.raises(InvalidRequestError, match="uniqueItems") as caught:
            grammars.compile(of_parts(*parts))
        assert caught.value.param == "p1"
    with pytest.raises(InvalidRequestError) as caught:
        grammars.compile(of_parts(lenient, Grammar.of_schema({"type": "strin"}, "p1", is_lenient=True)))
    assert caught.value.param == "p1"


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", "(", "p"),
        Grammar("grammar", 'start: "a" nowhere', "p"),
        Grammar("grammar", "start: <nothing>", "p"),
        Grammar("grammar", "", "p"),
        Grammar("json_schema", "[" * 1000 + "]" * 1000, "p"),
        Grammar.of_schema({"anyOf": [{"required": [f"{i}{j}" for j in range(9)]} for i in range(999)]}, "p"),
    ],
)
def test_bad_and_unbounded_grammars_are_refused(grammars: Grammars, grammar: Grammar) -> None:
    """What is not valid, and what would take too long, is refused by the field's name."""
    with pytest.raises(InvalidRequestError) as caught:
        grammars.compile(grammar)
    assert caught.value.param == "p"


def test_a_long_grammar_is_refused() -> None:
    """The length of a grammar is bounded before anything is done with it."""
    with pytest.raises(InvalidRequestError, match="at most 262144"):
        Grammar("regex", "a" * 300_000, "p")


def test_grammars_are_kept(grammars: Grammars) -> None:
    """A grammar is found again until 64 others were used."""
    first = Grammar("regex", "first", "p")
    assert grammars.find(first) is None
    template = grammars.compile(first)
    for i in range(63):
        grammars.compile(Grammar("regex", f"other{i}", "p"))
    assert grammars.find(first) is template
    for i in range(64):
        grammars.compile(Grammar("regex", f"more{i}", "p"))
    assert grammars.find(first) is None
