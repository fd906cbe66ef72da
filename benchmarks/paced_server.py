"""A server whose model costs nothing and draws a token for every sequence at fixed intervals.

    python -m benchmarks.paced_server --step-ms 20

All CPU time of such a server is the cost of everything but the model. It listens on any free port.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.engine.backend import SequenceStep, StepResult
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import run
from mlc_serve.testing import FakeKVCache, fake_model

MAX_SEQUENCES = 64
MAX_LENGTH = 1024
PAGE = 16
LETTERS = b"abcdefghijklmnopqrstuvwxyz "


class PacedBackend:
    """Draws letters in turn; each step takes `step_seconds`, during which other threads may run."""

    def __init__(self, step_seconds: float) -> None:
        self.state = FakeKVCache(PAGE, MAX_SEQUENCES * MAX_LENGTH // PAGE)
        self._step_seconds = step_seconds
        self._num_steps = 0

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """Draw a letter for each sequence that asks for one; see Backend.run."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        self._num_steps += 1
        for step in steps:
            self.state.append(step.seq_id, step.token_ids)
        drawn = StepResult((LETTERS[self._num_steps % len(LETTERS)],))
        return [drawn if step.draws else StepResult() for step in steps]


def paced_model(step_seconds: float) -> LoadedModel:
    """A loaded model that runs on a PacedBackend."""
    backend = PacedBackend(step_seconds)
    limits = fake_model(
        max_num_sequence=MAX_SEQUENCES,
        max_total_sequence_length=MAX_SEQUENCES * MAX_LENGTH,
        max_single_sequence_length=MAX_LENGTH,
        prefill_chunk_size=MAX_LENGTH,
        prefix_cache_mode="disable",
    )
    return replace(limits, backend=backend)


def main() -> int:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-ms", type=float, default=20, help="time of a step; 0: as fast as it goes")
    options = parser.parse_args()
    context = ServerContext()
    context.add(AsyncMLCEngine.from_loaded(paced_model(options.step_ms / 1000)))
    return run(context, ServerConfig(port=0))


if __name__ == "__main__":
    sys.exit(main())
