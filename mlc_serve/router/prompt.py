"""Prompt: what the router reads in a request, to find the server that has most of its prompt cached.

The router has no tokenizer and no chat template. It reads the text of a prompt in the order in which
templates write it: the tools, the system's text, the messages. Two requests that agree in the beginning of
that text agree in the beginning of their prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mlc_serve.errors import InvalidRequestError
from mlc_serve.protocol.json_text import JsonLimits, parse_json
from mlc_serve.router.message import RoutedRequest
from mlc_serve.router.prefix_map import page_hashes

# About 16 tokens of English text, which is a page of a server's cache.
PAGE_BYTES = 64
RESPONSES = "/v1/responses"
_MODEL_PATH = "/v1/models/"
# The fields of a prompt by path, in the order of the prompt.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "/v1/chat/completions": ("tools", "messages"),
    "/v1/completions": ("prompt",),
    RESPONSES: ("tools", "instructions", "input"),
    "/v1/messages": ("tools", "system", "messages"),
}


class Prompt(NamedTuple):
    """A request's model, the hashes of its prompt's pages, and the stored response that it continues."""

    model: str | None = None
    pages: Sequence[bytes] = ()
    continues: str | None = None


def prompt_of(request: RoutedRequest, limits: JsonLimits) -> Prompt:
    """Read a request. One that can't be read has no prompt, and the server that gets it will say why."""
    if request.path.startswith(_MODEL_PATH):
        return Prompt(request.path.removeprefix(_MODEL_PATH))
    try:
        fields = parse_json(request.body, limits) if request.body else None
    except InvalidRequestError:
        return Prompt()
    if not isinstance(fields, dict):
        return Prompt()
    model = _text(fields.get("model"))
    names = _FIELDS.get(request.path, ())
    text = b"".join(_parts(fields, names))
    continues = _text(fields.get("previous_response_id")) if request.path == RESPONSES else None
    return Prompt(model, page_hashes(text, PAGE_BYTES, f"{request.path} {model}"), continues)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _parts(fields: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[bytes]:
    """Yield the text of the fields. A longer list of entries has a text that begins as the shorter one's."""
    for name in names:
        value = fields.get(name)
        entries = value if isinstance(value, list) else [] if value is None else [value]
        for entry in entries:
            yield entry.encode(errors="surrogatepass") if isinstance(entry, str) else _as_json(entry)
            yield b"\n"


def _as_json(entry: object) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode(errors="surrogatepass")
