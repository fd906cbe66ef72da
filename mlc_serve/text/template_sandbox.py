"""The Jinja2 environment that chat templates are written for, with a bound on the work that one rendering may
do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, ClassVar

from jinja2 import TemplateRuntimeError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TemplateRefusalError(TemplateRuntimeError):
    """The template itself says that it can't write such a conversation; its text is the template's."""


class StepBudget:
    """Turns of loops and calls that one rendering has left. Templates end by them, or by
    TemplateRuntimeError.
    """

    NAME = "__step_budget__"
    LIMIT = 1_000_000

    def __init__(self) -> None:
        self._left = self.LIMIT

    @classmethod
    def of(cls, context: Context) -> StepBudget:
        """The budget of the rendering that the context belongs to."""
        budget: StepBudget = context[cls.NAME]
        return budget

    def spend(self) -> None:
        """Take one step."""
        self._left -= 1
        if self._left < 0:
            raise TemplateRuntimeError(f"it is not done after {self.LIMIT} steps")


class GenerationTag(Extension):
    """`{% generation %}` marks what the model wrote, for training; what it encloses is written as it is."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The enclosed nodes."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The settings, tags, functions and filters that templates of Hugging Face models rely on."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        self.filters |= {"tojson": _to_json, "metered": _metered}

    def parse(self, source: str, name: str | None = None, filename: str | None = None) -> nodes.Template:
        """The template's tree, each loop of which spends the rendering's budget."""
        tree = super().parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "metered", [], [], None, None, lineno=loop.lineno)
        tree.set_environment(self)
        return tree

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """As in the sandbox, for one step of the budget. Dunder names leave all others to keywords."""
        StepBudget.of(__context).spend()
        return super().call(__context, __obj, *args, **kwargs)


@pass_context
def _metered(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    budget = StepBudget.of(context)
    for value in values:
        budget.spend()
        yield value


def _raise_exception(message: str) -> None:
    raise TemplateRefusalError(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005  the local date is what templates state


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON for a model's eyes, not a browser's: nothing is escaped that JSON leaves as it is."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
