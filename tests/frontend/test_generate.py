"""What all replies have in common."""

from __future__ import annotations

from mlc_serve.engine.request import FinishReason
from mlc_serve.frontend.generate import cache_namespace, fingerprint, new_id, reply_fields, wire_reason
from mlc_serve.protocol.openai import CompletionRequest
from mlc_serve.testing import fake_model


def test_reply_names_the_model_as_the_client_did() -> None:
    """And the model's own name if the client named none."""
    model = fake_model("m")
    assert reply_fields(CompletionRequest(prompt=["a"], model="alias"), model, "x")["model"] == "alias"
    assert reply_fields(CompletionRequest(prompt=["a"]), model, "x")["model"] == "m"


def test_fingerprint_follows_the_configuration() -> None:
    """Equal for equal set-ups, another for another limit."""
    assert fingerprint(fake_model()) == fingerprint(fake_model())
    assert fingerprint(fake_model()) != fingerprint(fake_model(prefill_chunk_size=32))


def test_ids_are_never_equal() -> None:
    """Whoever sends the request."""
    assert new_id("cmpl") != new_id("cmpl")


def test_every_end_but_an_error_has_a_name_on_the_wire() -> None:
    """An error is no finish reason: it is raised."""
    ends = {reason: wire_reason(reason) for reason in FinishReason if reason is not FinishReason.ERROR}
    assert set(ends.values()) == {"stop", "length", "abort"}


def test_namespaces_differ_by_owner_and_by_salt() -> None:
    """Each pair has one of its own, of bounded length; whoever has neither shares the common one."""
    plain, salted = CompletionRequest(prompt=["a"]), CompletionRequest(prompt=["a"], cache_salt="s" * 10**6)
    named = {
        cache_namespace(request, owner) for request in (plain, salted) for owner in ("", "key 0", "key 1")
    }
    assert len(named) == 6
    assert max(map(len, named)) <= 64
    assert cache_namespace(plain, "") == ""
