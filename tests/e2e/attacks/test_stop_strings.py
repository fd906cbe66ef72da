"""Stop strings that are long, many, or hard to search for."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.e2e.attacks.attack import attack
from tests.e2e.attacks.conftest import STORY
from tests.e2e.attacks.server import AttackedServer

FOX = "Once upon a time there was a fox. "

STOPS: dict[str, list[str]] = {
    "long": ["ab" * 1_000_000],
    "long, and begun by the reply": [FOX * 60_000],
    "many": [f"{FOX * 3000}{number}" for number in range(16)],
    "hard": [" " * (1000 + number) + "!" for number in range(16)],
}


@pytest.mark.parametrize("name", STOPS)
def test_a_stop_string_costs_what_the_reply_has_of_it(attacked: AttackedServer, name: str) -> None:
    """A stop string of 2 MB that 8 choices look for costs little, and does not hold others up."""
    request: dict[str, Any] = {"prompt": STORY, "max_tokens": 60, "n": 8, "stop": STOPS[name]}
    body = json.dumps(request)
    headers = {"Content-Type": "application/json"}
    with attack(attacked, body_bytes=len(body)):
        reply = httpx.post(f"{attacked.url}/v1/completions", content=body, headers=headers, timeout=60)
    assert reply.status_code == 200
    assert [choice["finish_reason"] for choice in reply.json()["choices"]] == ["length"] * 8
    assert all(choice["text"].startswith(FOX[:20]) for choice in reply.json()["choices"])
