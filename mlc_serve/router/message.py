"""The requests and replies that a router passes on, and which of their headers it may pass on.

Headers are pairs of bytes, whose names are in lower case. Nothing else of a message is read or changed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Headers = tuple[tuple[bytes, bytes], ...]

EVENT_STREAM = b"text/event-stream"
# Requests that may be sent twice: apart from these, only GET and HEAD change nothing on a server.
_REPEATABLE = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        *(f"{prefix}/rerank" for prefix in ("", "/v1", "/v2")),
        *(
            f"{prefix}/{name}"
            for prefix in ("", "/v1")
            for name in (
                "score",
                "tokenize",
                "tokenize/messages",
                "tokenize/responses",
                "detokenize",
                "apply-template",
            )
        ),
    }
)
# Headers that concern one connection only (RFC 9110, section 7.6.1).
_OF_A_CONNECTION = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Each connection has its own host and framing, and the whole body is at hand. The router itself answers
# browsers that ask which origins are allowed.
_NOT_SENT_ON = frozenset({b"host", b"content-length", b"expect", b"origin", b"x-request-id"})
# The router sends its own.
_NOT_SENT_BACK = frozenset({b"date", b"server", b"x-request-id", b"request-id"})
_CORS = b"access-control-"
_CORS_VARY = (b"vary", b"Origin")


class RoutedRequest(NamedTuple):
    """A client's request. `target` is its path with the query, as the client sent them; `path` is decoded."""

    method: str
    path: str
    target: bytes
    headers: Headers
    body: bytes

    @property
    def is_repeatable(self) -> bool:
        """Whether a second server may get it after the first one has failed."""
        return self.method in ("GET", "HEAD") or self.path in _REPEATABLE

    def as_sent(self, host: str, prefix: str, request_id: str, api_key: str | None) -> bytes:
        """Return what is sent to a server at `host`, whose paths begin with `prefix`. An `api_key` takes the
        place of the client's own.
        """
        own = [(b"Host", host.encode()), (b"X-Request-Id", request_id.encode())]
        if self.body or self.method not in ("GET", "HEAD"):
            own.append((b"Content-Length", b"%d" % len(self.body)))
        dropped = _NOT_SENT_ON
        if api_key is not None:
            own.append((b"Authorization", b"Bearer " + api_key.encode(errors="surrogateescape")))
            dropped |= {b"authorization", b"x-api-key"}
        lines = b"".join(b"%s: %s\r\n" % header for header in (*own, *passed_on(self.headers, dropped)))
        target = prefix.encode() + self.target
        return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (self.method.encode(), target, lines, self.body)


class ReplyHead(NamedTuple):
    """The status and the headers of a reply."""

    status: int
    headers: Headers

    def value(self, name: bytes) -> bytes | None:
        """Return the value of a header, or None."""
        return next((value for other, value in self.headers if other == name), None)

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is a stream of server-sent events."""
        return (self.value(b"content-type") or b"").startswith(EVENT_STREAM)

    @property
    def length(self) -> int | None:
        """The length of the body in bytes, or None if the head doesn't tell it."""
        text = self.value(b"content-length")
        return int(text) if text is not None and text.isdigit() else None

    def is_short(self, most: int) -> bool:
        """Return whether the body has no more than so many bytes, and is not a stream."""
        return not self.is_event_stream and self.length is not None and self.length <= most

    def routed(self, server: str) -> ReplyHead:
        """Return the head that the client gets, which names the server that has answered."""
        headers = [header for header in passed_on(self.headers, _NOT_SENT_BACK) if header != _CORS_VARY]
        return ReplyHead(self.status, (*headers, (b"x-routed-to", server.encode())))


ReplyPart = ReplyHead | bytes


def passed_on(headers: Headers, dropped: Iterable[bytes]) -> Headers:
    """Return the headers that are neither `dropped` nor meant for one connection or for CORS."""
    named = {
        name.strip().lower() for key, value in headers if key == b"connection" for name in value.split(b",")
    }
    left_out = _OF_A_CONNECTION.union(dropped, named)
    return tuple(
        (name, value) for name, value in headers if name not in left_out and not name.startswith(_CORS)
    )
