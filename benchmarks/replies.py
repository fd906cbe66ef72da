"""Replies that are not streamed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlc_serve.bench.event_client import EventClient


async def whole_reply(client: EventClient, path: str, body: Mapping[str, object]) -> dict[str, Any]:
    """Post JSON, and return the object that the server answers. Raises what EventClient.post raises."""
    reply: dict[str, Any] = json.loads("".join([line async for line in client.post(path, body)]))
    return reply
