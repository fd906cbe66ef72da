"""A limit on reasoning, followed byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_serve.engine.constraint import Constraint
from mlc_serve.grammar.reasoning_limit import LimitedReasoning, ReasoningLimit
from mlc_serve.testing import FakeConstraint
from mlc_serve.testing.tokens import VOCAB_SIZE


def limited(max_tokens: int, form: Constraint | None = None, *, is_open: bool = False) -> LimitedReasoning:
    """Return a limited answer over a vocabulary of bytes."""
    end_ids = tuple(b"</t>")
    limit = ReasoningLimit(max_tokens, "<t>", "</t>", end_ids, lambda token_id: bytes([token_id]), is_open)
    return limit.constraint(form)


def allowed(constraint: Constraint, ahead: bytes = b"") -> bytes:
    """Return the bytes that may follow."""
    words = np.zeros(-(-VOCAB_SIZE // 32), np.int32)
    constraint.mask(words, list(ahead))
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:256]
    return bytes(np.flatnonzero(bits).tolist())


@pytest.mark.parametrize("is_open", [True, False])
def test_reasoning_is_ended_at_the_limit(is_open: bool) -> None:
    """After so many tokens only the end mark can be written, and what follows it is free."""
    constraint = limited(3, is_open=is_open)
    constraint.accept(b"" if is_open else b" <t>")
    constraint.accept(b"ab")
    assert len(allowed(constraint)) == 256
    assert constraint.forced() == ()
    assert allowed(constraint, b"c<") == b"/"
    constraint.accept(b"c")
    assert bytes(constraint.forced()) == b"</t>"
    for byte in b"</t>":
        assert allowed(constraint) == bytes([byte])
        constraint.accept([byte])
    assert len(allowed(constraint)) == 256
    assert constraint.forced() == ()
    assert not constraint.is_complete


@pytest.mark.parametrize("answer", [b"abcdef", b"<tabcdef", b"<t>a</t>bcdef", b"x<t>abcdef"])
def test_what_is_no_reasoning_is_not_limited(answer: bytes) -> None:
    """Nor is reasoning that ends earlier."""
    constraint = limited(3)
    constraint.accept(answer)
    assert len(allowed(constraint)) == 256


def test_no_reasoning_at_all() -> None:
    """With a limit of 0, reasoning that is open ends at once."""
    assert bytes(limited(0, is_open=True).forced()) == b"</t>"


def test_the_form_is_followed_as_well() -> None:
    """Its masks apply until the limit is reached and afterwards, and it says when the answer is complete."""
    form = FakeConstraint([b"ab", b"<", b"/", b"t", b">", b"x"], VOCAB_SIZE, 6, jumps=True)
    constraint = limited(1, form, is_open=True)
    assert allowed(constraint) == b"ab"
    constraint.accept(b"b")
    assert bytes(constraint.forced()) == b"</t>"
    constraint.accept(b"</t>")
    assert bytes(constraint.forced()) == b"x"
    constraint.accept(b"x")
    assert constraint.is_complete
