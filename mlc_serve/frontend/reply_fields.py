"""What all replies have in common: the fields that identify them, and the finish reasons."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from mlc_serve.engine.request import FinishReason
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import GenerationRequest
from mlc_serve.protocol.replies import ChoiceEnd

_WIRE_REASONS: dict[FinishReason, ChoiceEnd] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.ABORT: "abort",
}


def reply_fields(request: GenerationRequest, model: LoadedModel, reply_id: str) -> dict[str, Any]:
    """Return the fields that are equal in all parts of one reply."""
    return {
        "id": reply_id,
        "created": int(time.time()),
        "model": request.model or model.name,
        "system_fingerprint": fingerprint(model),
    }


def fingerprint(model: LoadedModel) -> str:
    """Return a text that changes whenever the model or its limits change."""
    return "fp_" + hashlib.sha256(repr((model.name, model.info, model.limits)).encode()).hexdigest()[:10]


def wire_reason(reason: FinishReason | None) -> ChoiceEnd | None:
    """Return the finish reason of a choice as clients see it. If it has failed, they get an error instead."""
    return None if reason is None else _WIRE_REASONS[reason]


def stop_fields(stop_string: str | None) -> dict[str, str]:
    """Return the field of a choice that says which stop string ended it, if one did."""
    return {} if stop_string is None else {"stop_reason": stop_string}
