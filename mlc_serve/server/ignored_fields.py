"""Reports request fields that the server does not know and has ignored.

The operator sees them in a metric and, once for each name, in the log. The client sees them in a header.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial

from fastapi import Request
from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import MutableHeaders
from starlette.types import Message

from mlc_serve.server.middleware.reply_heads import on_reply_head

logger = logging.getLogger(__name__)

HEADER = "X-Ignored-Fields"
# Clients choose the names: long ones are cut, and unusual characters are replaced.
_LONGEST_NAME = 64
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]")
# Each name makes a series of the metric, and clients can invent any number of names.
_MAX_NAMES = 100
_OTHER = "other"


class IgnoredFields:
    """Counts ignored fields by name, for the first hundred names, and logs each of these once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "mlc_serve_ignored_fields",
            "Requests with a field that the server does not know, by the field's name",
            ["field"],
            registry=registry,
        )
        self._names: set[str] = set()

    def tell(self, request: Request, names: Sequence[str]) -> None:
        """Report the fields that were ignored in a request."""
        harmless = [_UNUSUAL.sub("?", name[:_LONGEST_NAME]) for name in names]
        if harmless:
            on_reply_head(request.scope, partial(_list_in_header, harmless))
        for name in harmless:
            self._counter.labels(self._label(name)).inc()

    def _label(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) == _MAX_NAMES:
            return _OTHER
        self._names.add(name)
        logger.warning("the field %s of a request is unknown and was ignored; this is logged once", name)
        return name


def _list_in_header(names: Sequence[str], head: Message) -> None:
    MutableHeaders(scope=head)[HEADER] = ", ".join(names)
