"""What the faces of the API ask of the engine, and what all their replies have in common."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mlc_serve.engine.request import FinishReason
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import GenerationRequest
from mlc_serve.protocol.replies import ChoiceEnd

_WIRE_REASONS: dict[FinishReason, ChoiceEnd] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.ABORT: "abort",
}


# Keeps places for so many choices until it is left. Raises a RequestError if there is no room for them.
Reserve = Callable[[int], AbstractContextManager[None]]


class Generate(Protocol):
    """Answers prompts. Nothing is submitted before the first deltas are asked for; to close it ends all."""

    def __call__(
        self, prompts: Sequence[Sequence[int]], params: GenerationParams, request_id: str | None
    ) -> AsyncGenerator[list[TextDelta], None]:
        """Deltas of all choices as they come, those together that came together.

        Choice i of prompt p has index p * n + i.
        """


def new_id(prefix: str) -> str:
    """An id that no other reply or tool call has."""
    return f"{prefix}-{uuid.uuid4().hex}"


def reply_fields(request: GenerationRequest, model: LoadedModel, reply_id: str) -> dict[str, Any]:
    """The fields that are equal in all parts of one reply."""
    return {
        "id": reply_id,
        "created": int(time.time()),
        "model": request.model or model.name,
        "system_fingerprint": fingerprint(model),
    }


def fingerprint(model: LoadedModel) -> str:
    """Changes whenever the model or the limits it runs under do."""
    return "fp_" + hashlib.sha256(repr((model.name, model.info, model.limits)).encode()).hexdigest()[:10]


def cache_namespace(request: GenerationRequest, owner: str) -> str:
    """The namespace of the prefix cache for an owner's requests with one salt; empty without either.

    A hash, so that a long salt takes no more place than a short one.
    """
    if not owner and request.cache_salt is None:
        return ""
    return hashlib.sha256(repr((owner, request.cache_salt)).encode()).hexdigest()


def wire_reason(reason: FinishReason | None) -> ChoiceEnd | None:
    """The finish reason of a choice as clients see it; a failed one is an error, and has none."""
    return None if reason is None else _WIRE_REASONS[reason]
