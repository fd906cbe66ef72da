"""Compiles and runs one Jinja2 template, and turns whatever it raises into one of our errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jinja2 import Template, TemplateSyntaxError, meta, nodes

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.templates.meter import Meter
from mlc_serve.text.templates.sandbox import TemplateRefusalError, TemplateSandbox

T = TypeVar("T")

# About a hundred times as long as usual templates.
_LONGEST_SOURCE = 2**20
_LONGEST_FAULT = 500


class JinjaTemplate:
    """One compiled template, which `revise` may change after it is parsed.

    Raises CheckpointError if it can't be parsed or compiled; the error's text continues "the chat template".
    """

    def __init__(self, source: str, revise: Callable[[nodes.Template], None] = lambda _: None) -> None:
        if len(source) > _LONGEST_SOURCE:
            raise CheckpointError(f"is longer than {_LONGEST_SOURCE} characters")
        self._sandbox = TemplateSandbox()
        try:
            self._compile(source, revise)
        except TemplateSyntaxError as error:
            raise CheckpointError(f"can't be parsed: line {error.lineno}: {error.message}") from error
        except Exception as error:
            raise CheckpointError(f"can't be compiled: {_fault(error)}") from error

    @property
    def asked(self) -> set[str]:
        """The words that the template may use as keys, such as a and b in `map(attribute="a.b")`."""
        words = {word for text in self.literals for word in (text, *text.split("."))}
        return words | self._asked_names

    def run(self, variables: Mapping[str, Any], meter: Meter) -> list[str]:
        """Return the text that the template writes, in pieces.

        Raises InvalidRequestError (param "messages") if it refuses, fails, or uses up the meter.
        """
        written = self._try(variables, meter)
        if isinstance(written, InvalidRequestError):
            raise written
        return written

    def _compile(self, source: str, revise: Callable[[nodes.Template], None]) -> None:
        tree = self._sandbox.parse(source)
        names = tree.find_all(nodes.Name)
        self.variables = {name.name for name in names if name.ctx == "load"}
        self._asked_names = {node.attr for node in tree.find_all(nodes.Getattr)}
        self._asked_names |= meta.find_undeclared_variables(tree)
        self.literals = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
        revise(tree)
        self._template: Template = self._sandbox.from_string(tree)

    def _try(self, variables: Mapping[str, Any], meter: Meter) -> list[str] | InvalidRequestError:
        """Return what `run` returns or raises. A new error holds no reference to the template's values."""
        try:
            return list(self._sandbox.run(self._template, variables, meter))
        except TemplateRefusalError as refusal:
            fault = str(refusal)
        except RecursionError:
            fault = _CANNOT + "it calls itself without end"
        except Exception as error:  # noqa: BLE001  its expressions can raise anything
            fault = _CANNOT + _fault(error)
        return InvalidRequestError(fault[:_LONGEST_FAULT], param="messages")


_CANNOT = "the model's chat template can't render these messages: "


def _fault(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST_FAULT] or type(error).__name__
