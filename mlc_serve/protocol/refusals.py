"""How a validator refuses a field: it raises an error of pydantic's, which later becomes one of ours."""

from __future__ import annotations

from typing import NoReturn

from pydantic_core import PydanticCustomError

UNSUPPORTED = "unsupported"
UNKNOWN = "unknown_field"


def refuse_unsupported(message: str, field: str | None = None) -> NoReturn:
    """Raise an error that becomes an UnsupportedFieldError. `field` is appended to the path of the checked
    field.
    """
    raise PydanticCustomError(UNSUPPORTED, "{message}", _fault(message, field))


def refuse_invalid(message: str, field: str | None = None) -> NoReturn:
    """Raise an error that becomes an InvalidRequestError. `field` is appended to the path of the checked
    field.
    """
    raise PydanticCustomError("invalid_value", "{message}", _fault(message, field))


def refuse_unknown(field: str) -> NoReturn:
    """Raise an error that becomes an InvalidRequestError: the server doesn't know this field."""
    raise PydanticCustomError(UNKNOWN, "{message}", _fault("is not known", field))


def _fault(message: str, field: str | None) -> dict[str, str]:
    return {"message": message} if field is None else {"message": message, "field": field}
