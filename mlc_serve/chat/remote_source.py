"""The source of a chat with a model on an OpenAI-compatible server."""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2

from mlc_serve.chat.source import Message, ReplyPart
from mlc_serve.errors import RemoteServerError

# Connecting takes milliseconds, but a request may wait in a queue, and the parts of its reply may take long.
_TIMEOUT = httpx2.Timeout(10, read=600)


class RemoteSource:
    """Implements ChatSource. `url` is the prefix of the API's paths. Without `model`, the first served one is
    used. `trust` has the authorities for https://; without it, they are the system's.

    Raises RemoteServerError if the server can't be reached or lists no model.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        api_key: str | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        headers = {b"Authorization": f"Bearer {api_key}".encode()} if api_key else {}
        self._url = url
        self._client = httpx2.Client(headers=headers, timeout=_TIMEOUT, verify=trust or True)
        try:
            self._name = model or self._first_model()
        except BaseException:
            self._client.close()
            raise

    @property
    def name(self) -> str:
        return self._name

    def reply(
        self, messages: Sequence[Message], sampling: Mapping[str, Any]
    ) -> Generator[ReplyPart, None, None]:
        request = {"model": self._name, "messages": messages, "stream": True, **sampling}
        request["stream_options"] = {"include_usage": True}
        with (
            self._faults_told(),
            self._client.sse(f"{self._url}/chat/completions", method="POST", json=request) as source,
        ):
            _refuse_errors(source.response)
            for event in _events(source):
                yield from _parts(event)

    def close(self) -> None:
        self._client.close()

    def _first_model(self) -> str:
        with self._faults_told():
            response = self._client.get(f"{self._url}/models")
            _refuse_errors(response)
            try:
                return str(response.json()["data"][0]["id"])
            except (ValueError, LookupError, TypeError) as error:
                raise RemoteServerError(f"{self._url}/models lists no model") from error

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except httpx2.ConnectError as error:
            if "CERTIFICATE" in str(error):
                raise RemoteServerError(f"{self._url}: {error}; --ca-file names authorities") from error
            raise RemoteServerError(f"nothing answers at {self._url}; is a server running there?") from error
        except httpx2.HTTPError as error:
            raise RemoteServerError(f"{self._url}: {str(error) or type(error).__name__}") from error


def _refuse_errors(response: httpx2.Response) -> None:
    if response.is_success:
        return
    body = response.read()
    try:
        text = str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        text = response.reason_phrase
    raise RemoteServerError(f"the server answered {response.status_code}: {' '.join(text.split())}")


def _events(source: httpx2.EventSource) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of an event stream. Raises RemoteServerError if it ends early."""
    for event in source:
        if not event.data:
            continue
        if event.data == "[DONE]":
            return
        try:
            yield json.loads(event.data)
        except ValueError as error:
            raise RemoteServerError(
                f"the server sent an event that is not JSON: {event.data[:80]!r}"
            ) from error
    raise RemoteServerError("the server ended the reply early")


def _parts(event: Mapping[str, Any]) -> Iterator[ReplyPart]:
    if error := event.get("error"):
        raise RemoteServerError(f"the reply ended with an error: {error.get('message', error)}")
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        text, reasoning = delta.get("content"), delta.get("reasoning_content") or delta.get("reasoning")
        if text or reasoning:
            yield ReplyPart(text or "", reasoning or "")
    if usage := event.get("usage"):
        yield ReplyPart(num_tokens=usage["completion_tokens"], share_kept=_share_kept(usage))


def _share_kept(usage: Mapping[str, Any]) -> float | None:
    """Return the share of drafts that were kept, which servers tell only if they debug."""
    extra = usage.get("extra")
    share = extra.get("draft_acceptance_rate") if isinstance(extra, Mapping) else None
    return share if isinstance(share, (int, float)) else None
