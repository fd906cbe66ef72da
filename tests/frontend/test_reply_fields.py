"""What all replies have in common."""

from __future__ import annotations

from mlc_serve.engine.request import FinishReason
from mlc_serve.frontend.reply_fields import fingerprint, reply_fields, wire_reason
from mlc_serve.protocol.openai import CompletionRequest
from mlc_serve.testing import fake_model


def test_reply_names_the_model_as_the_client_did() -> None:
    """If the client named none, it has the model's own name."""
    model = fake_model("m")
    assert reply_fields(CompletionRequest(prompt=["a"], model="alias"), model, "x")["model"] == "alias"
    assert reply_fields(CompletionRequest(prompt=["a"]), model, "x")["model"] == "m"


def test_fingerprint_follows_the_configuration() -> None:
    """It is equal for equal configurations and differs for another limit."""
    assert fingerprint(fake_model()) == fingerprint(fake_model())
    assert fingerprint(fake_model()) != fingerprint(fake_model(prefill_chunk_size=32))


def test_every_end_but_an_error_has_a_name_on_the_wire() -> None:
    """An error has no finish reason: it is raised."""
    ends = {reason: wire_reason(reason) for reason in FinishReason if reason is not FinishReason.ERROR}
    assert set(ends.values()) == {"stop", "length", "abort"}
