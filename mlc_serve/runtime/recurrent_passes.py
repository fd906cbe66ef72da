"""The forward passes of a recurrent model. All sequences of one pass have the same number of tokens: those
that have one token are computed together, and longer pieces of prompts one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import tvm

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.runtime.hybrid_state import HybridState
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.model_functions import Computed, Logits, ModelFunctions, without_states
from mlc_serve.runtime.paged_kv import PagedKV
from mlc_serve.runtime.recurrent_state import RecurrentState
from mlc_serve.runtime.sequence_cache import SequenceCache


class _Part(NamedTuple):
    """The tokens of a step, and the number of its first row among those of all steps."""

    seq_id: int
    token_ids: Sequence[int]
    first_row: int


class _Piece(NamedTuple):
    """Logits of some rows of a batch."""

    rows: Sequence[int]
    logits: Logits


class RecurrentPasses:
    """Implements runtime.passes.Passes for recurrent models and hybrids."""

    def __init__(self, library: Library, params: list[tvm.runtime.Tensor], limits: EngineLimits) -> None:
        recurrent = RecurrentState(library, limits)
        self.state: SequenceCache = (
            HybridState(PagedKV(library.metadata["kv_cache"], limits), recurrent)
            if library.attends
            else recurrent
        )
        self._functions = ModelFunctions(library, params, limits, self.state)

    def forward(self, steps: Sequence[SequenceStep], rows: list[int]) -> Computed:
        """See Passes. Drafts, and the tokens before them, are computed one at a time, because a state is kept
        after each pass, so that they can be taken back. Libraries of recurrent models have no taps.
        """
        parts = _parts(steps)
        is_long = [len(step.token_ids) > 1 and not step.draft_ids for step in steps]
        pieces = list(self._in_turns([part for part, long in zip(parts, is_long, strict=True) if not long]))
        wanted = set(rows)
        for part, long in zip(parts, is_long, strict=True):
            if long:
                own = [row for row in _rows_of(part) if row in wanted]
                pieces.append(self._prompt_piece(part, own))
        return without_states(_gathered(pieces, rows), sum(len(part.token_ids) for part in parts))

    def _in_turns(self, parts: list[_Part]) -> list[_Piece]:
        """Compute the first tokens of all parts together, then the second ones, and so on."""
        num_turns = max((len(part.token_ids) for part in parts), default=0)
        return [
            self._turn(turn, [part for part in parts if len(part.token_ids) > turn])
            for turn in range(num_turns)
        ]

    def _turn(self, turn: int, parts: list[_Part]) -> _Piece:
        ids = [part.token_ids[turn] for part in parts]
        logits = self._functions.decode(ids, [part.seq_id for part in parts]).logits
        return _Piece([part.first_row + turn for part in parts], logits)

    def _prompt_piece(self, part: _Part, rows: list[int]) -> _Piece:
        """Compute a piece of a prompt, and the logits of some of its rows."""
        ids, own = part.token_ids, [row - part.first_row for row in rows]
        return _Piece(rows, self._functions.prefill(ids, [part.seq_id], [len(ids)], own).logits)


def _parts(steps: Sequence[SequenceStep]) -> list[_Part]:
    tokens = [(*step.token_ids, *step.draft_ids) for step in steps]
    firsts = [0, *accumulate(map(len, tokens))]
    return [_Part(step.seq_id, ids, first) for step, ids, first in zip(steps, tokens, firsts, strict=False)]


def _rows_of(part: _Part) -> range:
    return range(part.first_row, part.first_row + len(part.token_ids))


def _gathered(pieces: Sequence[_Piece], rows: list[int]) -> Logits:
    """The logits of the rows, in their order. One piece that has just these rows is not copied."""
    if len(pieces) == 1 and list(pieces[0].rows) == rows:
        return pieces[0].logits
    by_row = {row: logits for piece in pieces for row, logits in zip(piece.rows, piece.logits, strict=True)}
    return np.stack([by_row[row] for row in rows]) if rows else pieces[0].logits[:0]
