"""The base of all objects within a request, which decides how each field is treated.

* A field that the type declares is honoured, and checked as the type says.
* A field in the type's WITHOUT_EFFECT is accepted if its value changes nothing here.
* The same field with another value, which could change the answer, is refused by name.
* An unknown field is ignored, and recorded in the UnknownFields that are the context of the validation.
  Without such a context it is refused.

Any field that is null is treated as absent.
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
    """Why a field changes nothing here if its value is one of `only`. With None this holds for any value."""

    reason: str
    only: tuple[object, ...] | None = None

    def admits(self, value: object) -> bool:
        """Return whether a field with this value changes nothing."""
        return self.only is None or value in self.only


class RequestPart(BaseModel):
    """An object within a request. Types are not converted, except 2.0 to 2, and null means absent."""

    model_config = ConfigDict(
        extra="ignore", strict=True, frozen=True, allow_inf_nan=False, serialize_by_alias=True
    )

    # The path of the part in a request, without positions in lists; empty for the request itself.
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
        """Return the fields that are honoured. Raises an error of pydantic's if one has to be refused."""
        return {name: value for name, value in data.items() if cls._honours(name, value, unknown)}

    @classmethod
    def wire_names(cls) -> Mapping[str, str]:
        """Return the attribute of each field that is honoured, by the name that requests use for it. They
        differ only if a class of pydantic's has an attribute of that name.
        """
        return {field.alias or name: name for name, field in cls.__pydantic_fields__.items()}

    @classmethod
    def _honours(cls, name: str, value: object, unknown: UnknownFields | None) -> bool:
        if value is None or name in cls.wire_names():
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
