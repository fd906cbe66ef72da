"""The `debug_config` of a request, which a server honours only if it was started with --enable-debug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from mlc_serve.errors import UnsupportedFieldError
from mlc_serve.protocol.fields import RequestPart, refuse_unsupported

NOT_SERVED: Mapping[str, str] = {
    "pinned_system_prompt": "prefixes can't be pinned; the prefix cache keeps what was used last",
    "special_request": "engine metrics are served by GET /metrics and POST /debug/dump_engine_metrics",
    "grammar_execution_mode": "constrained decoding is not supported yet",
    "disagg_config": "disaggregated prefill is not supported yet",
}


class DebugConfig(RequestPart):
    """Switches for measurements. `ignore_eos` goes on until max_tokens, past the model's own end tokens."""

    ignore_eos: bool = False

    @model_validator(mode="before")
    @classmethod
    def _served_fields_only(cls, data: Any) -> Any:
        for name, reason in NOT_SERVED.items():
            if isinstance(data, Mapping) and data.get(name):
                refuse_unsupported(reason, name)
        return {k: v for k, v in data.items() if k not in NOT_SERVED} if isinstance(data, Mapping) else data


def check_debug_allowed(config: DebugConfig | None, enabled: bool) -> None:
    """Raises UnsupportedFieldError if a request has a debug_config and the server does not take any."""
    if config is not None and not enabled:
        raise UnsupportedFieldError(
            "debug_config is honoured only by a server started with --enable-debug.", "debug_config"
        )
