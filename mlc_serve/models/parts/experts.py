"""A mixture of experts: MLPs of which each token is sent to a few, chosen by a router."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mlc_serve.errors import CheckpointError
from mlc_serve.models.architecture import NamedShape


@dataclass(frozen=True)
class ClampedSwiGLU:
    """`gate * sigmoid(alpha * gate) * (up + 1)`, after gate was limited from above and up on both sides."""

    alpha: float = 1.702
    limit: float = 7.0


# "silu" is SiLU(gate) * up.
ExpertActivation = Literal["silu"] | ClampedSwiGLU


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
        yield from self._router(f"{name}.router", hidden)
        yield from self._experts(f"{name}.experts", hidden)
        if self.shared is not None:
            yield f"{name}.shared_expert.gate_up_proj.weight", (2 * self.shared, hidden)
            yield f"{name}.shared_expert.down_proj.weight", (hidden, self.shared)
        if self.shared_gate:
            yield f"{name}.shared_gate.weight", (1, hidden)

    def _router(self, name: str, hidden: int) -> Iterator[NamedShape]:
        yield f"{name}.weight", (self.num_experts, hidden)
        if self.routing.bias:
            yield f"{name}.bias", (self.num_experts,)
        if self.routing.correction:
            yield f"{name}.correction", (self.num_experts,)

    def _experts(self, name: str, hidden: int) -> Iterator[NamedShape]:
        for product, num_columns, depth in (
            ("gate_up_proj", 2 * self.inner, hidden),
            ("down_proj", hidden, self.inner),
        ):
            yield f"{name}.{product}.weight", (self.num_experts * num_columns, depth)
            if self.bias:
                yield f"{name}.{product}.bias", (self.num_experts * num_columns,)
