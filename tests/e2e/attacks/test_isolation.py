"""What a client, or a page in somebody's browser, might learn from a server but must not."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.attacks.attack import MODEL, QUESTION
from tests.e2e.attacks.conftest import KEYS
from tests.e2e.attacks.server import AttackedServer

SECRET = "The password is swordfish. " * 8 + QUESTION


def cached_tokens(server: AttackedServer, key: str, **fields: str) -> int:
    """How many tokens of SECRET a client with a key finds in the prefix cache."""
    reply = httpx.post(
        f"{server.url}/v1/completions",
        json={"model": MODEL, "prompt": SECRET, "max_tokens": 1, **fields},
        headers={b"Authorization": f"Bearer {key}".encode()},
        timeout=60,
    )
    assert reply.status_code == 200, reply.text
    count: int = reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


def test_another_key_finds_nothing_in_the_cache(impatient: AttackedServer) -> None:
    """A client finds only its own prefixes in the cache; with a salt, only those with the same salt."""
    first, second = KEYS
    assert cached_tokens(impatient, first) == 0
    assert cached_tokens(impatient, first) > 0
    assert cached_tokens(impatient, second) == 0
    assert cached_tokens(impatient, second, cache_salt="another user") == 0


def test_keys_of_the_environment_are_asked_for(impatient: AttackedServer) -> None:
    """Each key is accepted, even if it ends in a byte that looks like a space; the command line has none."""
    for key in KEYS:
        headers = {b"Authorization": f"Bearer {key}".encode()}
        assert httpx.get(f"{impatient.url}/v1/models", headers=headers).status_code == 200
    assert httpx.get(f"{impatient.url}/v1/models").status_code == 401
    assert b"first key" not in Path(f"/proc/{impatient.pid}/cmdline").read_bytes()


def test_a_name_that_was_made_to_lead_here(attacked: AttackedServer) -> None:
    """A page whose name was rebound to this machine's address is refused."""
    reply = httpx.get(f"{attacked.url}/v1/models", headers={"Host": "evil.example"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (421, "unknown_host")


def test_pages_may_ask_for_a_private_network(attacked: AttackedServer) -> None:
    """By default every page gets this permission, but not to send credentials."""
    asking = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    reply = httpx.options(f"{attacked.url}/v1/chat/completions", headers=asking)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-private-network"] == "true"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/metrics"])
def test_head_requests_are_answered(attacked: AttackedServer, path: str) -> None:
    """A HEAD request gets a reply without a body."""
    reply = httpx.head(f"{attacked.url}{path}")
    assert (reply.status_code, reply.content) == (200, b"")


def test_a_slash_at_the_end(attacked: AttackedServer) -> None:
    """A slash at the end, as clients write it that join paths from parts, is allowed."""
    assert httpx.get(f"{attacked.url}/v1/models/").status_code == 200
