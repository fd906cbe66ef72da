"""The first message of a sender, the receiver's answers, and how refusals cross the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mlc_serve.errors import (
    InvalidRequestError,
    KVCacheFullError,
    KVTransferError,
    ParkedRequestConflictError,
    ParkedRequestGoneError,
    RequestError,
)
from mlc_serve.kv_transfer.address import VERSION, Address
from mlc_serve.kv_transfer.channel import Channel
from mlc_serve.kv_transfer.terms import Terms

_LONGEST_SHOWN = 300
_BY_CODE: dict[str | None, type[RequestError]] = {
    kind.code: kind
    for kind in (InvalidRequestError, ParkedRequestConflictError, ParkedRequestGoneError, KVCacheFullError)
}


def hello(address: Address, terms: Terms) -> dict[str, Any]:
    """Return the first message of a sender."""
    return {"version": VERSION, "token": address.token, "instance": address.instance, **asdict(terms)}


def terms_in(message: Mapping[str, Any]) -> Terms:
    """Return the terms of a sender. Those that are not well formed equal no others."""
    return Terms(*(message.get(name) for name in Terms.__dataclass_fields__))  # type: ignore[arg-type]


def refusal(error: RequestError) -> dict[str, Any]:
    """Return the answer of a receiver that does not go on."""
    return {"ok": False, "code": error.code, "message": error.message[:_LONGEST_SHOWN]}


async def accepted(channel: Channel) -> dict[str, Any]:
    """Wait for an answer of the receiver and return it. If it refuses, raises the error that it names."""
    answer = await channel.receive()
    if answer.get("ok") is True:
        return answer
    code, message = answer.get("code"), str(answer.get("message"))[:_LONGEST_SHOWN]
    kind = _BY_CODE.get(code if isinstance(code, str) else None, KVTransferError)
    raise kind(f"The receiver refuses: {message}")
