"""The harness itself: it finds what attacks are forbidden to do."""

from __future__ import annotations

import httpx

from tests.e2e.attacks.attack import attack
from tests.e2e.attacks.server import AttackedServer


def test_a_harmless_request_is_no_attack(attacked: AttackedServer) -> None:
    """Everything is within its bounds while two ordinary clients are served."""
    with attack(attacked):
        reply = httpx.post(f"{attacked.url}/v1/completions", json={"prompt": "Hello", "max_tokens": 1})
    assert reply.status_code == 200
