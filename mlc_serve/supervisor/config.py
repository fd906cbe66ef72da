"""MLCServerConfig: all settings of a supervised server in one flat object, which can be written as JSON.

Its fields are made from the declarations in mlc_serve/config, which also check the values.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, create_model, field_validator, model_validator

from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig, SupervisionConfig
from mlc_serve.config.option import Kind, Option, options_of
from mlc_serve.supervisor.settings import Settings

_PARTS = (EngineConfig, ServerConfig, LaunchConfig, SupervisionConfig)
_TYPES: dict[Kind, Any] = {
    Kind.INTEGER: int,
    Kind.NUMBER: float,
    Kind.BOOLEAN: bool,
    Kind.TEXT: str,
    Kind.TEXTS: tuple[str, ...],
    Kind.MODELS: tuple[str | tuple[str, str], ...],
}

Part = TypeVar("Part", EngineConfig, ServerConfig, LaunchConfig, SupervisionConfig)


def _type_of(default: object, declared: Option) -> Any:
    kind = Literal[declared.choices] if declared.choices else _TYPES[declared.kind]
    return kind if default is not None else kind | None


if TYPE_CHECKING:

    class _Fields(BaseModel):
        def __getattr__(self, name: str) -> Any: ...

else:
    _Fields = create_model(
        "_Fields",
        **{
            name: (_type_of(default, declared), default)
            for part in _PARTS
            for name, default, declared in options_of(part)
            if name != "context_window_limit"  # it is max_tokens here
        },
    )


class MLCServerConfig(_Fields):
    """The fields of EngineConfig, ServerConfig, LaunchConfig and SupervisionConfig. Frozen.

    A `model` of None means the demo model. `log_level` is the name of a level of `logging`, in upper or lower
    case. `command` may be a plain string. Raises ConfigError for a value that is out of range, and pydantic's
    ValidationError for a value of a wrong type or an unknown field; both name the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"

    if TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None: ...

    @classmethod
    def of(
        cls, engine: EngineConfig, server: ServerConfig, launch: LaunchConfig, supervision: SupervisionConfig
    ) -> MLCServerConfig:
        """Return the configuration that consists of these parts."""
        parts = (engine, server, launch, supervision)
        values = {entry.name: getattr(part, entry.name) for part in parts for entry in fields(part)}
        limit = values.pop("context_window_limit") or supervision.max_tokens
        return cls(**{**values, "max_tokens": min(limit, supervision.max_tokens)})

    def settings(self) -> Settings:
        """Return the settings grouped by what they concern. Raises ConfigError if a value is out of range."""
        return Settings.of(
            self._part(EngineConfig, context_window_limit=None),
            self._part(ServerConfig, log_level=self.log_level.lower()),
            self._part(LaunchConfig),
            self._part(SupervisionConfig),
        )

    @field_validator("log_level", mode="before")
    @classmethod
    def _as_logging_has_it(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("command", mode="before")
    @classmethod
    def _one_word_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> MLCServerConfig:
        """Check all values by making the settings, whose declarations contain the checks."""
        self.settings()
        return self

    def _part(self, kind: type[Part], **values: Any) -> Part:
        own = {entry.name: getattr(self, entry.name) for entry in fields(kind) if entry.name not in values}
        return kind(**own, **values)
