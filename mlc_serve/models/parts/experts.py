"""A mixture of experts: MLPs of which each token is sent to a few, chosen by a router."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mlc_serve.errors import CheckpointError
from mlc_serve.models.parts.activation import Activation
from mlc_serve.models.parts.named_shapes import NamedShape, product_weights


@dataclass(frozen=True)
class ClampedSwiGLU:
    """`gate * sigmoid(alpha * gate) * (up + 1)`, after gate was limited from above and up on both sides."""

    alpha: float = 1.702
    limit: float = 7.0


# An Activation is that of the gate: activation(gate) * up.
ExpertActivation = Activation | ClampedSwiGLU


@dataclass(frozen=True)
class ExpertGroups:
    """Experts that follow one another form groups of equal size. A token is sent only to experts of its
    `num_active` best groups. A group is as good as its best expert, or as the sum of its `summed` best.
    """

    number: int
    num_active: int
    summed: Literal[1, 2] = 1


@dataclass(frozen=True)
class Routing:
    """How a token's experts are chosen by the router's logits, and what their results are multiplied by.

    Logits become scores, by a softmax over all experts or by the sigmoid of each. The experts with the
    greatest scores are chosen; with `correction` a learned number is added to the score of each expert, for
    the choice only. Results are multiplied by the scores times `factor`; with `renormalized` the scores of
    the chosen experts are first divided by their sum. So a softmax over the logits of the chosen experts is a
    renormalized one over all.
    """

    scores: Literal["softmax", "sigmoid"] = "softmax"
    renormalized: bool = False
    factor: float = 1.0
    bias: bool = False  # of the logits
    correction: bool = False
    groups: ExpertGroups | None = None


@dataclass(frozen=True)
class Experts:
    """`num_experts` gated MLPs of `inner` values, of which each token is sent to `num_active`. If `shared` is
    a number, all tokens are also sent to an MLP with SiLU that has so many inner values; with `shared_gate`
    its result is multiplied by the sigmoid of a product with the token.
    """

    num_experts: int
    num_active: int
    inner: int
    activation: ExpertActivation = "silu"
    routing: Routing = field(default_factory=Routing)
    bias: bool = False
    shared: int | None = None
    shared_gate: bool = False

    def __post_init__(self) -> None:
        """Raises CheckpointError if there are not as many experts as a token is sent to."""
        groups = self.routing.groups or ExpertGroups(1, 1)
        if min(self.num_active, groups.number, groups.num_active) < 1:
            raise CheckpointError("a token must be sent to one expert or more, of one group or more")
        size, rest = divmod(self.num_experts, groups.number)
        if rest or size < groups.summed or groups.num_active > groups.number:
            raise CheckpointError(
                f"{self.num_experts} experts can't form {groups.number} groups of which {groups.num_active} "
                f"are rated by their {groups.summed} best experts"
            )
        if self.num_active > size * groups.num_active:
            raise CheckpointError(
                f"a token is sent to {self.num_active} experts, but it can choose only among "
                f"{size * groups.num_active}"
            )

    def weights(self, name: str, hidden: int) -> Iterator[NamedShape]:
        """The names and shapes of the weights, for tokens of `hidden` values.

        The weights of all experts are one matrix: of each expert the rows of gate, then those of up; and of
        each expert the rows of down.
        """
        number, routing = self.num_experts, self.routing
        yield from product_weights(f"{name}.router", number, hidden, bias=routing.bias)
        if routing.correction:
            yield f"{name}.router.correction", (number,)
        gate_up, down = f"{name}.experts.gate_up_proj", f"{name}.experts.down_proj"
        yield from product_weights(gate_up, number * 2 * self.inner, hidden, bias=self.bias)
        yield from product_weights(down, number * hidden, self.inner, bias=self.bias)
        if self.shared is not None:
            yield f"{name}.shared_expert.gate_up_proj.weight", (2 * self.shared, hidden)
            yield f"{name}.shared_expert.down_proj.weight", (hidden, self.shared)
        if self.shared_gate:
            yield f"{name}.shared_gate.weight", (1, hidden)

    def workspace_width(self, hidden: int) -> int:
        """At most so many values of a token of `hidden` values are kept at a time: for each of its experts
        its row, gate, up and their product; and those of the shared expert.
        """
        return self.num_active * (hidden + 3 * self.inner) + 3 * (self.shared or 0)
