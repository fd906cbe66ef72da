"""The forward passes of a recurrent model. All sequences of one pass have the same number of tokens: those
that have one token are computed together, and longer pieces of prompts one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.runtime.hybrid_state import HybridState
from mlc_serve.runtime.ids import IdBuffer
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.paged_kv import PagedKV
from mlc_serve.runtime.recurrent_state import RecurrentState

Logits = npt.NDArray[np.float32]


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
    """The state of a recurrent model's sequences, and the passes that change it. `params` are the library's
    parameters in TVM's form.
    """

    def __init__(self, library: Library, params: Any, limits: EngineLimits) -> None:
        recurrent = RecurrentState(library, limits)
        self.state = (
            HybridState(PagedKV(library.metadata["kv_cache"], limits), recurrent)
            if library.attends
            else recurrent
        )
        self._params = params
        self._ids = IdBuffer(limits.prefill_chunk_size, library.device)
        self._positions = IdBuffer(limits.prefill_chunk_size, library.device)
        self._embed = library.function("embed")
        self._prefill = library.function("batch_prefill")
        self._decode = library.function("batch_decode")

    def forward(self, steps: Sequence[SequenceStep], rows: list[int]) -> Logits:
        """Append the steps' tokens to their sequences, and return the logits of the given rows of the batch.

        The logits have the shape `(len(rows), vocab)`. Tokens that may be taken back, which are drafts and
        the tokens before them, are computed one at a time, because a state is kept after each pass.
        """
        parts = _parts(steps)
        is_long = [len(step.token_ids) > 1 and not step.draft_ids for step in steps]
        pieces = list(self._in_turns([part for part, long in zip(parts, is_long, strict=True) if not long]))
        wanted = set(rows)
        for part, long in zip(parts, is_long, strict=True):
            if long:
                own = [row for row in _rows_of(part) if row in wanted]
                pieces.append(self._prompt_piece(part, own))
        return _gathered(pieces, rows)

    def _in_turns(self, parts: list[_Part]) -> list[_Piece]:
        """Compute the first tokens of all parts together, then the second ones, and so on."""
        num_turns = max((len(part.token_ids) for part in parts), default=0)
        return [
            self._turn(turn, [part for part in parts if len(part.token_ids) > turn])
            for turn in range(num_turns)
        ]

    def _turn(self, turn: int, parts: list[_Part]) -> _Piece:
        def run(embeddings: Any) -> Any:
            batch = embeddings._create_view((len(parts), 1, embeddings.shape[1]))
            return self._decode(batch, *self.state.argument, self._params)

        seq_ids = [part.seq_id for part in parts]
        logits = self._run([part.token_ids[turn] for part in parts], seq_ids, run)
        return _Piece([part.first_row + turn for part in parts], logits)

    def _prompt_piece(self, part: _Part, rows: list[int]) -> _Piece:
        """Compute a piece of a prompt, and the logits of some of its rows."""
        positions = [row - part.first_row for row in rows] or [len(part.token_ids) - 1]

        def run(embeddings: Any) -> Any:
            batch = embeddings._create_view((1, *embeddings.shape))
            return self._prefill(batch, self._positions.tensor(positions), *self.state.argument, self._params)

        return _Piece(rows, self._run(part.token_ids, [part.seq_id], run)[: len(rows)])

    def _run(self, ids: Sequence[int], seq_ids: list[int], run: Callable[[Any], Any]) -> Logits:
        embeddings = self._embed(self._ids.tensor(ids), self._params)
        self.state.begin_forward(seq_ids, [len(ids) // len(seq_ids)] * len(seq_ids))
        try:
            logits = self.state.result_of(run(embeddings))
        finally:
            self.state.end_forward()
        on_host: Logits = np.from_dlpack(logits)  # type: ignore[assignment]  # NumPy can't know the type
        return on_host.reshape(-1, on_host.shape[-1])


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
