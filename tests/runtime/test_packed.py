"""Models whose weights other programs have packed, compared with models of the dequantized weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.loading import load_model
from mlc_serve.quantization.groups import quantize
from mlc_serve.quantization.scheme import SCHEMES
from tests.checkpoints import Shape, write_checkpoint
from tests.packed_checkpoints import AWQ, FP8, GPTQ, write_packed_checkpoint

IDS = [7, 41, 300, 12, 12, 499, 0, 88, 205, 131, 9, 64, 333, 17, 250, 3, 81, 5, 430, 60]


def logprobs(directory: Path, quantization: str | None) -> NDArray[np.float64]:
    """The logprob of each of IDS after the first, computed in a prefill and four decodes."""
    config = EngineConfig(model=str(directory), quantization=quantization, max_num_sequence=2, verbose=False)
    backend = load_model(config, "cpu", lambda line: None).backend
    backend.state.add_sequence(0)
    scores: list[float] = []
    for ids in (IDS[:16], *([token] for token in IDS[16:])):
        position = len(scores)
        targets = [*IDS[position + 1 : position + len(ids) + 1]]
        targets_or_none = [*targets, *[None] * (len(ids) - len(targets))]
        (result,) = backend.run([SequenceStep(0, ids, targets=targets_or_none)])
        scores += [score.logprob for score in result.target_logprobs]
    assert len(scores) == len(IDS) - 1
    return np.array(scores)


def unpacked(directory: Path, tensors: dict[str, NDArray[Any]]) -> Path:
    """A checkpoint of these tensors."""
    write_checkpoint(directory, Shape())
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize(
    "config", [GPTQ | {"desc_act": True}, FP8], ids=lambda config: config["quant_method"]
)
def test_in_floating_point_it_is_the_dequantized_model(tmp_path: Path, config: dict[str, Any]) -> None:
    """A library is shared with it, and logprobs are equal to the last bit."""
    tensors = write_packed_checkpoint(tmp_path / "packed", config, Shape(), seed=8)
    plain = unpacked(tmp_path / "plain", tensors)
    np.testing.assert_array_equal(logprobs(tmp_path / "packed", "q0f32"), logprobs(plain, "q0f32"))


@pytest.mark.parametrize(("config", "scheme"), [(AWQ, None), (GPTQ, "q4f16_1")])
def test_integers_are_multiplied_as_they_are(
    tmp_path: Path, config: dict[str, Any], scheme: str | None
) -> None:
    """By default and in four bits, logprobs are those of the dequantized products in float32, but for inputs
    that are rounded to eight bits.
    """
    tensors = write_packed_checkpoint(tmp_path / "packed", config, Shape(), seed=8)
    form = SCHEMES[scheme or "q8f32_1"].groups
    assert form is not None
    for name in ("model.embed_tokens.weight", "lm_head.weight"):  # these are quantized by us
        held = quantize(tensors[name], form)
        scale = held.scale.astype(np.float32).repeat(form.group_size, axis=1)
        tensors[name] = (held.stored.astype(np.float32) - form.offset) * scale
    expected = logprobs(unpacked(tmp_path / "plain", tensors), "q0f32")
    error = logprobs(tmp_path / "packed", scheme) - expected
    assert np.sqrt((error**2).mean() / expected.var()) < 0.04
