"""Replaces the names of control tokens in a chat template by private-use characters.

No client's text contains these characters, so each of them in the prompt is one of the template's own control
tokens, however the template has joined and cut the client's texts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeVisitor

from mlc_serve.text.text_search import TextSearch

# Methods and filters that search a text, most likely a client's, for their first argument.
_SEARCHING = frozenset(
    {"count", "endswith", "find", "index", "lstrip", "partition", "removeprefix", "removesuffix", "replace"}
    | {"rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "startswith", "strip"}
)


class StandIns:
    """Private-use characters for the control names in one template, assigned as the names are found."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = TextSearch(names)
        self._free = count(0x100000)
        self._characters: dict[str, str] = {}

    @property
    def names(self) -> Mapping[str, str]:
        """The names, by their characters."""
        return {character: name for name, character in self._characters.items()}

    def put_into(self, text: str) -> str:
        """Return the text with each name replaced by its character."""
        return self._names.replace(text, self._character)

    def take_from(self, text: str) -> str:
        """Return the text with each character replaced by its name."""
        return TextSearch(self.names).replace(text, self.names.__getitem__)

    def put_into_template(self, tree: nodes.Template) -> None:
        """Do the same to what the template writes. Names that it searches for in a text stay as they are."""
        _Replacing(self.put_into).visit(tree)

    def _character(self, name: str) -> str:
        if name not in self._characters:
            self._characters[name] = chr(next(self._free))
        return self._characters[name]


class _Replacing(NodeVisitor):
    """Changes the constants of a template, except those that it searches for in a text."""

    def __init__(self, change: Callable[[str], str]) -> None:
        self._change = change

    def visit_TemplateData(self, node: nodes.TemplateData) -> None:  # noqa: N802
        node.data = self._change(node.data)

    def visit_Const(self, node: nodes.Const) -> None:  # noqa: N802
        if isinstance(node.value, str):
            node.value = self._change(node.value)

    def visit_Compare(self, node: nodes.Compare) -> None:  # noqa: N802
        for expression in (node.expr, *(operand.expr for operand in node.ops)):
            self._visit_sought(expression)

    def visit_Call(self, node: nodes.Call) -> None:  # noqa: N802
        is_search = isinstance(node.node, nodes.Getattr) and node.node.attr in _SEARCHING
        self._visit_search(node) if is_search else self.generic_visit(node)

    def visit_Filter(self, node: nodes.Filter) -> None:  # noqa: N802
        self._visit_search(node) if node.name in _SEARCHING else self.generic_visit(node)

    def visit_Test(self, node: nodes.Test) -> None:  # noqa: N802
        self._visit_search(node)

    def _visit_search(self, node: Any) -> None:
        if node.node is not None:
            self.visit(node.node)
        for position, argument in enumerate(node.args):
            self.visit(argument) if position else self._visit_sought(argument)

    def _visit_sought(self, node: nodes.Expr) -> None:
        for part in node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]:
            if not isinstance(part, nodes.Const):
                self.visit(part)
