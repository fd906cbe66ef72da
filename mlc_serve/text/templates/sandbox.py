"""The Jinja2 environment that chat templates are written for, with a limit on the work of each rendering.

Templates come with models from untrusted sources. Whatever could take long or build something large is
metered: operators and calls by hooks of Jinja2's sandbox, filters and tests by wrappers, everything else by
changing the parsed template. The meter belongs to the thread that renders; templates can't reach it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import datetime
from functools import partial
from types import BuiltinMethodType
from typing import Any, ClassVar

from jinja2 import Template, TemplateRuntimeError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace, _PassArg

from mlc_serve.text.templates import costs
from mlc_serve.text.templates.costs import FILTERS, TESTS, Cost, method_cost
from mlc_serve.text.templates.meter import Meter, settled
from mlc_serve.text.templates.metering import METERS, with_meters

_METHODS_OF_DICT = frozenset(dir(dict))


class TemplateRefusalError(TemplateRuntimeError):
    """The template itself refuses the conversation. The error's text is the template's."""


class GenerationTag(Extension):
    """`{% generation %}` marks the model's text for training. What it encloses is written as it is."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the enclosed nodes."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateNamespace(Namespace):
    """`namespace()` of templates. Its repr doesn't show its contents, which may include itself."""

    def __repr__(self) -> str:
        return "<namespace>"


class MeteredContext(Context):
    """The context of one rendering. Templates can reach its variables, but not its meter."""

    meter: Meter

    def derived(self, locals: dict[str, Any] | None = None) -> MeteredContext:
        """Return the context of an inner block."""
        within: MeteredContext = super().derived(locals)  # type: ignore[assignment]
        within.meter = self.meter
        return within


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The settings, tags, functions and filters that templates of Hugging Face models rely on."""

    context_class = MeteredContext
    intercepted_binops = frozenset({"-", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
        self.globals |= {
            "namespace": TemplateNamespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self._function_costs: dict[Any, Cost] = {self.globals[name]: _COSTS[name] for name in _COSTS}
        filters: dict[str, Any] = {**self.filters, "tojson": _to_json}
        self.filters |= {name: _with_cost(filters[name], cost) for name, cost in FILTERS.items()}
        tests: dict[str, Any] = {**self.tests}
        self.tests |= {name: _with_cost(tests[name], cost) for name, cost in TESTS.items()}
        self.filters |= METERS

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Return the template's tree with meters in it. Every template is compiled from such a tree."""
        tree = with_meters(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    def run(self, template: Template, variables: Mapping[str, Any], meter: Meter) -> Iterator[str]:
        """Yield what the template writes. Raises whatever its expressions raise."""
        context: MeteredContext = template.new_context(dict(variables))  # type: ignore[assignment]
        context.meter = meter
        return template.root_render_func(context)

    def call_binop(self, context: MeteredContext, operator: str, left: Any, right: Any) -> Any:  # type: ignore[override]
        """Spend the operator's steps, then return its result."""
        meter = context.meter
        if isinstance(left, int) and isinstance(right, int):
            meter.check_number(_bits_of(operator, left, right))
        elif operator == "*":
            meter.build(costs.product_of(left, right))
        elif operator == "%":
            meter.build(costs.modulo(meter, left, right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: MeteredContext, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # noqa: N805
        """Spend the call's steps, then call as the sandbox does. Only what has a known cost can be called.

        The parameters have dunder names so that every other name can be a keyword argument.
        """
        meter = __context.meter
        meter.spend(1 + len(args) + len(kwargs))
        if type(__obj) in (Macro, BlockReference):
            return __context.call(__obj, *args, **kwargs)
        if isinstance(__obj, LoopContext):
            args = (meter.counted(args[0]), *args[1:]) if args else args
        elif not isinstance(__obj, Undefined):
            args = tuple(settled(meter, argument) for argument in args)
            meter.build(__self._call_cost(__obj)(meter, *args, **kwargs))
        return super().call(__context, __obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Do the same as the sandbox, except that `message.role` doesn't look for a method first."""
        if type(obj) is dict and attribute in obj and attribute not in _METHODS_OF_DICT:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def _call_cost(self, function: Any) -> Cost:
        """Return the cost of calling a function. Raises SecurityError if it has none."""
        method = getattr(function, "__wrapped__", function)  # the sandbox puts a function around str.format
        if isinstance(method, BuiltinMethodType) and (cost := method_cost(method.__self__, method.__name__)):
            return partial(_of_owner, cost, method.__self__)
        if isinstance(getattr(function, "__self__", None), LoopContext | Cycler):
            return costs.whole
        if isinstance(function, Joiner):
            return costs.nothing
        if isinstance(function, Hashable) and function in self._function_costs:
            return self._function_costs[function]
        raise SecurityError(f"{type(function).__name__} can't be called by a template")


def _with_cost(function: Callable[..., Any], cost: Cost) -> Callable[..., Any]:
    """Return a filter or a test that spends its steps before it does its work."""
    wants = getattr(function, "jinja_pass_arg", None)

    def counted(context: MeteredContext, *args: Any, **named: Any) -> Any:
        meter = context.meter
        args = tuple(settled(meter, argument) for argument in args)
        meter.build(cost(meter, *args, **named))
        result = function(*_wanted(wants, context), *args, **named)
        if isinstance(result, int):
            meter.check_number(result.bit_length())
        return result

    return pass_context(counted)


def _wanted(wants: _PassArg | None, context: MeteredContext) -> tuple[Any, ...]:
    """Return what Jinja2 passes to a function before its arguments."""
    if wants is None:
        return ()
    if wants is _PassArg.context:
        return (context,)
    return (context.eval_ctx if wants is _PassArg.eval_context else context.environment,)


def _bits_of(operator: str, left: int, right: int) -> int:
    """Return the most bits that the operator's result can have."""
    if operator == "**":
        return left.bit_length() * max(right, 1)
    if operator == "*":
        return left.bit_length() + right.bit_length()
    return max(left.bit_length(), right.bit_length()) + 1


def _of_owner(cost: Cost, owner: Any, meter: Meter, *args: Any, **named: Any) -> int:
    return cost(meter, owner, *args, **named)


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
    """Return JSON for a model, not for a browser: nothing is escaped that need not be escaped in JSON."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


# The costs of the functions that every template can call.
_COSTS: Mapping[str, Cost] = {
    "cycler": costs.elements,
    "dict": costs.times(2),
    "joiner": costs.whole,
    "lipsum": costs.filler,
    "namespace": costs.times(2),
    "raise_exception": costs.times(12),
    "range": costs.nothing,
    "strftime_now": costs.dated,
}
