"""A model in a GGUF file is served as the directory is that the file was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.runtime.model_functions import Logits
from mlc_serve.runtime.runner import TVMBackend
from tests.gguf_files import write_gguf

PROMPT = list(range(40, 70))


def test_it_gives_the_same_logits(tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path) -> None:
    """In float32, after a prompt."""
    file = write_gguf(tiny_checkpoint, tmp_path / "model.gguf")
    config = EngineConfig(
        model=str(file),
        quantization="q0f32",
        max_num_sequence=8,
        max_total_sequence_length=1024,
        verbose=False,
    )
    served = logits_of(load_model(config, "cpu", lambda line: None))
    np.testing.assert_allclose(served, logits_of(tiny_model), atol=1e-5)


def logits_of(model: LoadedModel) -> Logits:
    """The logits after a prompt."""
    backend = model.backend
    assert isinstance(backend, TVMBackend)
    backend.state.clear()
    backend.state.add_sequence(0)
    return backend.forward([SequenceStep(0, PROMPT)], [len(PROMPT) - 1]).copy()
