"""Turns pydantic's errors into a RequestError, and a RequestError into the object that is sent to clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from mlc_serve.errors import InvalidRequestError, RequestError, UnsupportedFieldError
from mlc_serve.protocol.first_faults import MAX_FAULTS
from mlc_serve.protocol.refusals import UNKNOWN, UNSUPPORTED
from mlc_serve.protocol.replies import Reply
from mlc_serve.protocol.unknown_fields import UnknownFields

M = TypeVar("M", bound=BaseModel)

_LONGEST_SHOWN = 60
_NOT_AN_OBJECT = frozenset({"dict_type", "model_type", "model_attributes_type"})


class ErrorDetail(Reply):
    """OpenAI's error object. `param` is the path of the invalid field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Reply):
    """The reply to a request that is refused or has failed. MLC's clients read the fields outside `error`."""

    error: ErrorDetail
    object: Literal["error"]
    message: str
    code: int


def error_object(error: RequestError) -> dict[str, Any]:
    """Return the ErrorReply for an error, as a dict."""
    detail = ErrorDetail(message=error.message, type=error.type, param=error.param, code=error.code)
    reply = ErrorReply(error=detail, object="error", message=error.message, code=error.status)
    return reply.model_dump()


def from_validation_errors(faults: Sequence[Mapping[str, Any]]) -> RequestError:
    """Make one error from pydantic's list. `param` is the path of the first one in the list."""
    told = [_describe(fault) for fault in faults[:MAX_FAULTS]]
    more = len(faults) - len(told)
    message = "; ".join(told) + (f"; and {more} more" if more > 0 else "") + "."
    unsupported = faults[0]["type"] == UNSUPPORTED
    kind = UnsupportedFieldError if unsupported else InvalidRequestError
    return kind(message, _path(faults[0]) or None)


def validated(kind: type[M], fields: object, unknown: UnknownFields | None = None) -> M:
    """Make a request from its fields. Raises InvalidRequestError or UnsupportedFieldError.

    Unknown fields are added to `unknown`; without it they are refused.
    """
    try:
        return kind.model_validate(fields, context=unknown)
    except ValidationError as error:
        raise from_validation_errors(error.errors(include_url=False)) from error


def _describe(fault: Mapping[str, Any]) -> str:
    path = _path(fault)
    if fault["type"] == UNKNOWN:
        return f"{path} is not a field that this server knows"
    if fault["type"] == "missing":
        return f"{path or 'the request body'} is missing"
    if fault["type"] in _NOT_AN_OBJECT:
        return f"{path or 'the request body'}: should be an object, not {_shortened(fault.get('input'))}"
    message = fault["msg"]
    if message.startswith("Input "):
        message = f"{message[len('Input ') :]}, not {_shortened(fault.get('input'))}"
    return f"{path}: {message}" if path else message


def _path(fault: Mapping[str, Any]) -> str:
    steps = [str(step) for step in fault["loc"]]
    field = fault.get("ctx", {}).get("field")
    return ".".join([*steps, field] if field else steps)


def _shortened(value: object) -> str:
    """Return a short description of a value, without reading all of a long one."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value[:_LONGEST_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
