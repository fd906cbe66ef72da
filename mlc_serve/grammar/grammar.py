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
    within its text. What can't be enforced is a fault of these parts, and named by their fields. `is_lenient`
    says that keywords of a JSON schema that can't be enforced are ignored.
    """

    kind: Kind
    text: str
    param: str = field(compare=False)
    whitespace: str | None = None
    content: Grammar | None = None
    schemas: tuple[Grammar, ...] = ()
    is_lenient: bool = False

    def __post_init__(self) -> None:
        if len(self.text) > MAX_CHARACTERS:
            raise InvalidRequestError(
                f"{self.param}: has {len(self.text)} characters; at most {MAX_CHARACTERS} are accepted.",
                self.param,
            )

    @property
    def parts(self) -> tuple[Grammar, ...]:
        """The grammars that a server's grammar is made of."""
        return self.schemas if self.content is None else (*self.schemas, self.content)

    @classmethod
    def of_schema(
        cls, schema: Any, param: str, whitespace: str | None = None, *, is_lenient: bool = False
    ) -> Grammar:
        """Return the grammar of the JSON values that a schema describes."""
        text = json.dumps(schema, ensure_ascii=False)
        return cls("json_schema", text, param, whitespace, is_lenient=is_lenient)

    @classmethod
    def of_choice(cls, texts: Sequence[str], param: str) -> Grammar:
        """Return the grammar of a few texts."""
        return cls("choice", json.dumps(texts, ensure_ascii=False), param)
