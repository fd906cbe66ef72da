"""What mixtures of experts say about themselves."""

from __future__ import annotations

import re

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.models.parts.experts import ExpertGroups, Experts, Routing


def test_weights_have_canonical_names() -> None:
    """The matrices of all experts are one, and what a mixture lacks has no weight."""
    plain = {
        "mlp.router.weight": (4, 64),
        "mlp.experts.gate_up_proj.weight": (4 * 2 * 24, 64),
        "mlp.experts.down_proj.weight": (4 * 64, 24),
    }
    assert dict(Experts(4, 2, 24).weights("mlp", 64)) == plain
    routing = Routing(bias=True, correction=True)
    full = Experts(4, 2, 24, routing=routing, bias=True, shared=40, shared_gate=True)
    assert dict(full.weights("mlp", 64)) == plain | {
        "mlp.router.bias": (4,),
        "mlp.router.correction": (4,),
        "mlp.experts.gate_up_proj.bias": (4 * 2 * 24,),
        "mlp.experts.down_proj.bias": (4 * 64,),
        "mlp.shared_expert.gate_up_proj.weight": (80, 64),
        "mlp.shared_expert.down_proj.weight": (64, 40),
        "mlp.shared_gate.weight": (1, 64),
    }


@pytest.mark.parametrize(
    ("num_experts", "num_active", "groups", "message"),
    [
        (4, 5, None, "sent to 5 experts, but it can choose only among 4"),
        (4, 0, None, "one expert or more"),
        (8, 3, ExpertGroups(4, 1), "sent to 3 experts, but it can choose only among 2"),
        (6, 1, ExpertGroups(4, 1), "6 experts can't form 4 groups"),
        (8, 1, ExpertGroups(4, 5), "8 experts can't form 4 groups of which 5"),
        (4, 1, ExpertGroups(4, 1, summed=2), "rated by their 2 best"),
    ],
)
def test_choices_that_are_not_there_are_refused(
    num_experts: int, num_active: int, groups: ExpertGroups | None, message: str
) -> None:
    """A configuration can't ask for more experts than a token can be sent to."""
    with pytest.raises(CheckpointError, match=re.escape(message)):
        Experts(num_experts, num_active, 24, routing=Routing(groups=groups))
