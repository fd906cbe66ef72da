"""How a validator ends the validation of a field: with what becomes one of our errors."""

from __future__ import annotations

from typing import NoReturn

from pydantic_core import PydanticCustomError

UNSUPPORTED = "unsupported"
UNKNOWN = "unknown_field"


def refuse_unsupported(message: str, field: str | None = None) -> NoReturn:
    """End validation with what becomes an UnsupportedFieldError; `field` adds to the checked path."""
    raise PydanticCustomError(UNSUPPORTED, "{message}", _fault(message, field))


def refuse_invalid(message: str, field: str | None = None) -> NoReturn:
    """End validation with what becomes an InvalidRequestError; `field` adds to the checked path."""
    raise PydanticCustomError("invalid_value", "{message}", _fault(message, field))


def refuse_unknown(field: str) -> NoReturn:
    """End validation with an InvalidRequestError that says that nobody knows the field of this name."""
    raise PydanticCustomError(UNKNOWN, "{message}", _fault("is not known", field))


def _fault(message: str, field: str | None) -> dict[str, str]:
    return {"message": message} if field is None else {"message": message, "field": field}
