"""What all objects within a request share: which fields of theirs are honoured, accepted, ignored or refused.

A field is one of four things:
* It is declared by the type: it is honoured, and checked as the type says.
* It is in the type's WITHOUT_EFFECT, with a value that changes nothing here: it is accepted.
* It is there with another value, which could change the answer: it is refused by its name.
* Nobody knows it: it is ignored, and noted in the UnknownFields that are the context of the validation.
  Without such a context it is refused.

Null asks for nothing, whatever the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

from mlc_serve.protocol.refusals import refuse_unknown, refuse_unsupported
from mlc_serve.protocol.unknown_fields import UnknownFields


@dataclass(frozen=True)
class WithoutEffect:
    """Why a field changes nothing here. `only` are the values for which that holds; None: for all of them."""

    reason: str
    only: tuple[object, ...] | None = None

    def admits(self, value: object) -> bool:
        """Whether a field with this value changes nothing."""
        return self.only is None or value in self.only


class RequestPart(BaseModel):
    """An object within a request: no conversion between types but from 2.0 to 2, and null is absent."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    # How the part is called in a request, without positions in lists; the request itself has no such name.
    PLACE: ClassVar[str] = ""
    WITHOUT_EFFECT: ClassVar[Mapping[str, WithoutEffect]] = {}

    @model_validator(mode="before")
    @classmethod
    def _honoured_fields(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, BaseModel):
            data = data.model_dump()
        return cls.honoured(data, info.context) if isinstance(data, Mapping) else data

    @classmethod
    def honoured(cls, data: Mapping[str, Any], unknown: UnknownFields | None) -> dict[str, Any]:
        """The fields that are honoured. Ends the validation if another is to be refused."""
        return {name: value for name, value in data.items() if cls._honours(name, value, unknown)}

    @classmethod
    def _honours(cls, name: str, value: object, unknown: UnknownFields | None) -> bool:
        if value is None or name in cls.__pydantic_fields__:
            return value is not None
        entry = cls.WITHOUT_EFFECT.get(name)
        if entry is None:
            cls._ignore(name, unknown)
        elif not entry.admits(value):
            refuse_unsupported(entry.reason, name)
        return False

    @classmethod
    def _ignore(cls, name: str, unknown: UnknownFields | None) -> None:
        if unknown is None:
            refuse_unknown(name)
        unknown.add(cls.PLACE, name)
