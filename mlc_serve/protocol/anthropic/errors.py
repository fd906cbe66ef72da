"""Turns a RequestError into Anthropic's error object."""

from __future__ import annotations

from typing import Any, Literal

from mlc_serve.errors import ContextLengthError, RequestError
from mlc_serve.protocol.replies import Reply

# The types of errors by status. Other refusals are invalid requests, other failures the server's.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ThreadRefusal(Reply):
    """Tells clients that they have to send all messages of a conversation: no request may have the field
    `thread`. Anthropic's SDK, whose runner of tools tries one first, then goes on without.
    """

    error_code: Literal["thread_unsupported_request"]
    unsupported: list[str]


class AnthropicErrorDetail(Reply):
    """What went wrong; an invalid field is named in the message."""

    type: str
    message: str
    details: ThreadRefusal | None = None


class AnthropicErrorReply(Reply):
    """The reply to a request that is refused or has failed, and the event that ends a stream that fails."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None


_NO_THREADS = ThreadRefusal(error_code="thread_unsupported_request", unsupported=["thread"])


def anthropic_error(error: RequestError, request_id: str | None) -> AnthropicErrorReply:
    """Return the reply for an error."""
    details: dict[str, Any] = {"details": _NO_THREADS} if error.param == "thread" else {}
    detail = AnthropicErrorDetail(type=_type_of(error), message=_message_of(error), **details)
    return AnthropicErrorReply(type="error", error=detail, request_id=request_id)


def _type_of(error: RequestError) -> str:
    return _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")


def _message_of(error: RequestError) -> str:
    """Return the message. By these first words, Anthropic's clients see that they should shorten a prompt."""
    return f"prompt is too long: {error.message}" if isinstance(error, ContextLengthError) else error.message
