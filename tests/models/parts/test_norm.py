"""What norms call their weights."""

from __future__ import annotations

from mlc_serve.models.parts.norm import Norm


def test_a_norm_has_a_bias_only_if_it_says_so() -> None:
    """Its weights have the norm's name and width."""
    assert list(Norm("rms", 8, 1e-5).weights("norm")) == [("norm.weight", (8,))]
    assert list(Norm("layer", 8, 1e-5, bias=True).weights("ln")) == [("ln.weight", (8,)), ("ln.bias", (8,))]
