"""The `debug_config` of a request, which a server honours only if it was started with --enable-debug."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mlc_serve.errors import UnsupportedFieldError
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect


class DebugConfig(RequestPart):
    """Switches for measurements."""

    PLACE: ClassVar = "debug_config"
    WITHOUT_EFFECT: ClassVar = {
        "pinned_system_prompt": WithoutEffect(
            "prefixes can't be pinned; the prefix cache keeps what was used most recently", only=(False,)
        ),
        "special_request": WithoutEffect(
            "engine metrics are served by GET /metrics and POST /debug/dump_engine_metrics", only=()
        ),
        "disagg_config": WithoutEffect("the calls of /microserving need none", only=({},)),
    }

    ignore_eos: bool = Field(
        default=False, description="Ignore the model's own end tokens and go on until max_tokens."
    )
    grammar_execution_mode: Literal["jump_forward", "constraint"] = Field(
        default="jump_forward",
        description="With `constraint`, tokens that a grammar forces are drawn like others.",
    )


def check_debug_allowed(config: DebugConfig | None, enabled: bool) -> None:
    """Raise UnsupportedFieldError if a request has a debug_config and the server does not accept one."""
    if config is not None and not enabled:
        raise UnsupportedFieldError(
            "debug_config is honoured only by a server started with --enable-debug.", "debug_config"
        )
