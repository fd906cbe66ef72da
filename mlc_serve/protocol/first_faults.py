"""Reports only a few of a list's invalid elements, since reporting all of them could take too long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

# One mistake often causes several faults, and listing more of them says nothing new.
MAX_FAULTS = 3


def _first_faults(values: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Validate a list. `validate` stops at the first fault, so the rest is validated one by one."""
    try:
        return validate(values)
    except ValidationError as error:
        position = error.errors(include_url=False)[0]["loc"][:1]
        if not isinstance(values, list) or not position:
            raise
        faults = islice(_faults(values, int(position[0]), validate), MAX_FAULTS)
        raise ValidationError.from_exception_data(error.title, list(faults)) from error


def _faults(
    values: list[object], start: int, validate: ValidatorFunctionWrapHandler
) -> Iterator[InitErrorDetails]:
    for position in range(start, len(values)):
        try:
            validate([values[position]])
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                kind = PydanticCustomError(fault["type"], fault["msg"], fault.get("ctx"))
                yield {"type": kind, "loc": (position, *fault["loc"][1:]), "input": fault["input"]}


# This must come last: Annotated[list[int], Field(min_length=1), FailFast(), FIRST_FAULTS].
FIRST_FAULTS = WrapValidator(_first_faults)
