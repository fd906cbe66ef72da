"""What an output must follow, as a client has sent it. Nothing is checked yet but its length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlc_serve.errors import InvalidRequestError

MAX_CHARACTERS = 256 * 1024

Kind = Literal["json_schema", "regex", "choice", "grammar", "lark"]


@dataclass(frozen=True)
class Grammar:
    """`text` is a JSON schema, a regular expression, a JSON list of texts, a client's grammar in Lark's or
    GBNF's notation, or a server's grammar in llguidance's Lark. `param` is the request's field that it comes
    from. Between the parts of JSON there may be only what the regular expression `whitespace` allows; by
    default the layout is that of Python's `json.dumps`.

    A server's grammar may refer to another one, `content`, by `@content`; `schemas` are the JSON schemas
    within its text, from which a fault can be named by its field.
    """

    kind: Kind
    text: str
    param: str = field(compare=False)
    whitespace: str | None = None
    content: Grammar | None = None
    schemas: tuple[Grammar, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if len(self.text) > MAX_CHARACTERS:
            raise InvalidRequestError(
                f"{self.param}: has {len(self.text)} characters; at most {MAX_CHARACTERS} are accepted.",
                self.param,
            )

    @classmethod
    def of_schema(cls, schema: Any, param: str, whitespace: str | None = None) -> Grammar:
        """Return the grammar of the JSON values that a schema describes."""
        return cls("json_schema", json.dumps(schema, ensure_ascii=False), param, whitespace)

    @classmethod
    def of_choice(cls, texts: Sequence[str], param: str) -> Grammar:
        """Return the grammar of a few texts."""
        return cls("choice", json.dumps(texts, ensure_ascii=False), param)
