"""The functions of an EAGLE library: from pairs of a token and the state of the token before it to logits and
states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tvm
import tvm_ffi

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.runtime.forward_pass import ForwardPass
from mlc_serve.runtime.ids import IdBuffer
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.model_functions import Logits, States, on_host
from mlc_serve.runtime.sequence_cache import SequenceCache
from mlc_serve.runtime.state_buffer import StateBuffer


class Pairs(NamedTuple):
    """Pairs that follow one another in a sequence: tokens, and the states of those before each, in one part
    `(n, width)` or several.
    """

    seq_id: int
    token_ids: Sequence[int]
    states: Sequence[States]


class Drafted(NamedTuple):
    """The logits `(n, vocab)` of some pairs, and their own states `(n, hidden)`, which take the place of the
    target's states behind drafted tokens. Both are valid only until the next pass.
    """

    logits: Logits
    states: States


class EagleFunctions:
    """Each call is one forward pass, which appends pairs to sequences of `state`."""

    def __init__(
        self,
        library: Library,
        params: list[tvm.runtime.Tensor],
        limits: EngineLimits,
        state: SequenceCache,
        widths: tuple[int, int],
    ) -> None:
        """`widths` are those of the target's states, and of the draft model's own."""
        width, hidden_size = widths
        self._device = library.device
        self._params = tvm_ffi.convert(params)  # only once: a list would be converted in each call
        self._pass = ForwardPass(library, params, limits, state)
        self._positions = IdBuffer(limits.prefill_chunk_size, library.device)
        self._target_states = StateBuffer(limits.prefill_chunk_size, width, library.device)
        self._own_states = StateBuffer(limits.max_num_sequence, hidden_size, library.device)
        self._project = library.function("project")
        self._prefill = library.function("batch_prefill")
        self._decode = library.function("batch_decode")

    def follow(self, parts: Sequence[Pairs], rows: Sequence[int]) -> Drafted:
        """Append pairs with the target's states, and return what follows these rows of the batch."""
        ids = [token_id for part in parts for token_id in part.token_ids]
        batch = (1, len(ids))
        given = self._target_states.tensor([rows for part in parts for rows in part.states], batch)
        states = self._project(given, self._params)
        positions = self._positions.tensor(rows or [len(ids) - 1])
        seq_ids, lengths = [part.seq_id for part in parts], [len(part.token_ids) for part in parts]
        result = self._pass.run(self._prefill, ids, seq_ids, lengths, batch, states, positions)
        logits, own = self._drafted(result)
        return Drafted(logits[: len(rows)], own[: len(rows)])

    def extend(self, parts: Sequence[Pairs]) -> Drafted:
        """Append one pair to each sequence, with the state that the draft model has made of the one before,
        and return what follows each.
        """
        batch = (len(parts), 1)
        states = self._own_states.tensor([rows for part in parts for rows in part.states], batch)
        ids, seq_ids = [part.token_ids[0] for part in parts], [part.seq_id for part in parts]
        result = self._pass.run(self._decode, ids, seq_ids, [1] * len(parts), batch, states)
        return self._drafted(result)

    def _drafted(self, result: Any) -> Drafted:
        logits, states = result
        return Drafted(on_host(logits, self._device), on_host(states, self._device))
