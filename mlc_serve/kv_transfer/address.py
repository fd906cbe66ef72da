"""The address of a transfer: what `prep_recv` returns as kv_append_metadata, and `remote_send` takes as
kv_addr_info. Callers pass it on unread.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlc_serve.errors import InvalidRequestError
from mlc_serve.kv_transfer.terms import Terms

VERSION = 1
# An address is far shorter, unless somebody has made it up.
_LONGEST = 8192
_ID_LETTERS = frozenset("0123456789abcdef")

Transport = Literal["shm", "tcp"]


@dataclass(frozen=True)
class Address:
    """Where and under which token a receiver expects the tokens at positions [start, stop) of a prompt.

    `instance` is the receiver's id, which is another one after each start of its server. `transports` are
    those that it offers: tcp to `host` and `port`, and shm for senders on the same machine.
    """

    transports: Sequence[Transport]
    host: str
    port: int
    token: str
    instance: str
    terms: Terms
    start: int
    stop: int

    def encoded(self) -> str:
        """Return the address as a text."""
        fields = {
            "version": VERSION,
            "transport": list(self.transports),
            "host": self.host,
            "port": self.port,
            "token": self.token,
            "instance": self.instance,
            "model": self.terms.model,
            "layout": self.terms.layout,
            "prompt": self.terms.prompt,
            "num_bytes": self.terms.num_bytes,
            "segments": [[self.start, self.stop - self.start]] if self.start < self.stop else [],
            "end": self.stop,
        }
        return base64.b64encode(json.dumps(fields).encode()).decode()

    @classmethod
    def decoded(cls, text: str) -> Address:
        """Read an address. Fields that are not known are ignored. Raises InvalidRequestError."""
        fields = _fields(text)
        if _number(fields, "version") != VERSION:
            raise _invalid(f"is of version {fields['version']}, and this server knows version {VERSION}")
        stop = _number(fields, "end")
        terms = Terms(
            _text(fields, "model"),
            _text(fields, "layout"),
            _text(fields, "prompt"),
            _number(fields, "num_bytes"),
        )
        return cls(
            [name for name in ("shm", "tcp") if name in _list(fields, "transport")],
            _text(fields, "host"),
            _number(fields, "port", 2**16 - 1),
            _hex(fields, "token"),
            _hex(fields, "instance"),
            terms,
            _start(_list(fields, "segments"), stop),
            stop,
        )


def _fields(text: str) -> dict[str, Any]:
    try:
        if len(text) > _LONGEST:
            raise ValueError
        fields = json.loads(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _invalid("is not what prep_recv has returned as kv_append_metadata") from None
    if isinstance(fields, list):
        raise _invalid(
            "is that of an MLC engine: slots in the memory of its GPU, which only NVSHMEM can write to; the "
            "receiver must be an mlc_serve, too"
        )
    if not isinstance(fields, dict):
        raise _invalid("is not what prep_recv has returned as kv_append_metadata")
    return fields


def _start(segments: list[Any], stop: int) -> int:
    """Return where the one segment begins, which must end at `stop`, or `stop` if there is none."""
    if not segments:
        return stop
    match segments:
        case [[int(start), int(length)]] if 0 <= start < stop == start + length:
            return start
    raise _invalid("has segments other than a single one that ends at its end")


def _number(fields: dict[str, Any], name: str, most: int = 2**53) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise _invalid(f"has no number {name} from 0 to {most}")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _invalid(f"has no text {name}")
    return value


def _hex(fields: dict[str, Any], name: str) -> str:
    value = _text(fields, name)
    if not _ID_LETTERS.issuperset(value) or not value:
        raise _invalid(f"has no hexadecimal {name}")
    return value


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise _invalid(f"has no list {name}")
    return value


def _invalid(fault: str) -> InvalidRequestError:
    return InvalidRequestError(f"kv_addr_info: {fault}.", "kv_addr_info")
