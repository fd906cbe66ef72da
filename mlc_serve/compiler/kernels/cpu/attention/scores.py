"""How the products of queries and keys become scores."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tvm import tirx

from mlc_serve.compiler.kernels.cpu.primitives.hyperbolic_tangent import tanh

MASKED = -5e4  # no real score comes near it, and its weight vanishes once a real score is seen
_LOG2_E = math.log2(math.e)


class Scores(NamedTuple):
    """A score is a product times `scale`; with a `soft_cap`, such an x becomes cap * tanh(x / cap).

    Kernels compute them in base 2, which is to say times log2(e), and multiply queries by a factor first.
    """

    scale: float
    soft_cap: float | None = None

    @property
    def query_factor(self) -> float:
        """What queries are multiplied by."""
        return self.scale * _LOG2_E if self.soft_cap is None else self.scale / self.soft_cap

    def capped(self, product: Any, lanes: int = 1) -> Any:
        """The score in base 2 of a product with such a query. Without a soft cap, it is the product."""
        if self.soft_cap is None:
            return product
        return tanh(product, lanes) * tirx.const(self.soft_cap * _LOG2_E, "float32")


def sink_score(sinks: Any, head: Any) -> Any:
    """The score in base 2 of a head's sink, of which `sinks` has the natural one."""
    return sinks[head] * tirx.const(_LOG2_E, "float32")
