"""Puts filters that spend steps into a parsed template, for work that no hook of Jinja2 sees.

Their names contain a space, so that no template can call or replace them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from jinja2 import nodes, pass_context
from jinja2.visitor import NodeTransformer

from mlc_serve.text.templates import costs
from mlc_serve.text.templates.meter import Meter, settled

N = TypeVar("N", bound=nodes.Node)

# About this many nodes of a template are evaluated in a microsecond.
_NODES_PER_STEP = 4
# Filters that have already counted the text that they return.
_COUNTED_TEXTS = frozenset({"join", "lower", "replace", "string", "tojson", "trim", "upper"})


def with_meters(tree: nodes.Template) -> nodes.Template:
    """Return the same template with meters in it."""
    metered: nodes.Template = _Metering().visit(tree)
    return metered


class _Metering(NodeTransformer):
    """Adds the filters. A body that may run several times spends steps for its length each time it runs."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        if node.test is not None:
            node.iter = _filter(cast(nodes.Expr, node.iter), "turns", _steps([node.test], node.lineno))
        return self._with_metered_body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._with_metered_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._with_metered_body(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        return self._with_metered_body(node)

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802
        node = self.generic_visit(node)
        node.nodes = [child if _is_counted(child) else _filter(child, "written") for child in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        node = self.generic_visit(node)
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), "joined")

    def visit_Add(self, node: nodes.Add) -> nodes.Expr:  # noqa: N802
        summands: list[nodes.Expr] = []
        left: nodes.Expr = node
        while isinstance(left, nodes.Add):
            summands.append(left.right)
            left = left.left
        visited = [self.visit(summand) for summand in (left, *reversed(summands))]
        return _filter(nodes.Tuple(visited, "load", lineno=node.lineno), "added")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        node = self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            ends = (node.arg.start, node.arg.stop, node.arg.step)
            missing = nodes.Const(None, lineno=node.lineno)
            return _filter(node.node, "sliced", *(end or missing for end in ends))
        if not isinstance(node.arg, nodes.Const):
            node.arg = _filter(node.arg, "compared")
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        node = self.generic_visit(node)
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        if not _is_short(operands, node.ops):
            node.expr = _filter(node.expr, "compared")
            for operand in node.ops:
                operand.expr = _filter(operand.expr, "compared")
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:  # noqa: N802
        node = self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _filter(node.key, "compared")
        return node

    def generic_visit(self, node: N, *args: Any, **kwargs: Any) -> N:
        """Visit the node's children, and return the node."""
        visited: N = super().generic_visit(node, *args, **kwargs)  # type: ignore[assignment]
        return visited

    def _with_metered_body(self, node: nodes.For | nodes.Macro | nodes.CallBlock | nodes.Block) -> nodes.Node:
        steps = _steps(node.body, node.lineno)
        node = self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filter(steps, "spent"), lineno=node.lineno))
        return node


def _is_counted(node: nodes.Expr) -> bool:
    """Return whether the node is a constant, or a text that was counted when it was made."""
    if isinstance(node, nodes.Filter):
        return node.name in _COUNTED_TEXTS or node.name == _name("joined")
    return isinstance(node, nodes.TemplateData | nodes.Const)


def _is_short(operands: list[nodes.Expr], operators: list[nodes.Operand]) -> bool:
    """Return whether a comparison takes constant time, such as `x in ["a", "b"]`: one side is a short
    constant, and the other side is not searched.
    """
    if len(operators) > 1:
        return False
    left, right = operands
    if operators[0].op in ("in", "notin"):
        return isinstance(right, nodes.List | nodes.Tuple) and all(map(_is_short_constant, right.items))
    return _is_short_constant(left) or _is_short_constant(right)


def _is_short_constant(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const) and (not isinstance(node.value, str) or len(node.value) <= 64)


def _filter(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, _name(name), list(args), [], None, None, lineno=node.lineno)


def _name(name: str) -> str:
    return f"metered {name}"


def _steps(body: list[nodes.Node], lineno: int) -> nodes.Const:
    """Return the steps that one run of the nodes takes."""
    inner = [part for node in body for part in (node, *node.find_all(nodes.Node))]
    texts = sum(len(part.data) for part in inner if isinstance(part, nodes.TemplateData))
    return nodes.Const(1 + len(inner) // _NODES_PER_STEP + texts // 64, lineno=lineno)


def _spent(context: Any, steps: int) -> None:
    context.meter.spend(steps)


def _turns(context: Any, values: Iterable[Any], steps: int) -> Iterator[Any]:
    counted: Iterator[Any] = context.meter.counted(values, steps)
    return counted


def _written(context: Any, value: Any) -> Any:
    """Count a value that is about to be written into the prompt."""
    meter: Meter = context.meter
    meter.build(len(value) if type(value) is str else costs.as_text(meter, (value,)))
    return value


def _joined(context: Any, values: tuple[Any, ...]) -> str:
    """Return the values as one text, as `~` joins them."""
    meter: Meter = context.meter
    meter.build(costs.as_text(meter, values))
    return "".join(map(str, values))


def _added(context: Any, values: tuple[Any, ...]) -> Any:
    """Return the sum of the values, added from left to right. Texts are joined in one step."""
    meter: Meter = context.meter
    if set(map(type, values)) == {str}:
        meter.build(4 * sum(map(len, values)))
        return "".join(values)
    total = values[0]
    for value in values[1:]:
        meter.build(costs.sum_of(total, value))
        total = total + value
        if isinstance(total, int):
            meter.check_number(total.bit_length())
    return total


def _compared(context: Any, value: Any) -> Any:
    """Count a value that is about to be compared, searched, or looked up."""
    meter: Meter = context.meter
    if type(value) is str:
        meter.build(len(value))
        return value
    value = settled(meter, value)
    meter.weigh(value)
    return value


def _sliced(context: Any, value: Any, start: Any, stop: Any, step: Any) -> Any:
    context.meter.build(costs.sum_of(value, ""))
    return value[start:stop:step]


_FUNCTIONS: tuple[Callable[..., Any], ...] = (_spent, _turns, _written, _joined, _added, _compared, _sliced)
# The filters that are put into templates.
METERS: Mapping[str, Callable[..., Any]] = {
    _name(function.__name__[1:]): pass_context(function) for function in _FUNCTIONS
}
