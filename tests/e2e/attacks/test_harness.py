"""The harness of these tests itself."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.attacks.attack import MODEL, attack
from tests.e2e.attacks.server import AttackedServer


def test_a_harmless_request_is_no_attack(attacked: AttackedServer) -> None:
    """All checks pass while two ordinary clients are served."""
    with attack(attacked):
        body = {"model": MODEL, "prompt": "Hello", "max_tokens": 1}
        reply = httpx.post(f"{attacked.url}/v1/completions", json=body)
    assert reply.status_code == 200


def test_a_server_that_is_gone_is_found() -> None:
    """The test fails with the message that the other client was not answered."""

    class Gone(AttackedServer):
        url, headers = "http://127.0.0.1:9", {}

        def __init__(self) -> None:
            pass

    with pytest.raises(AssertionError, match="not answered"), attack(Gone()):
        pass
