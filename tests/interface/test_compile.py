"""compile_model, from a directory to a library."""

from __future__ import annotations

from pathlib import Path

import pytest
import tvm

from mlc_serve.errors import CheckpointError, CompileError, ConfigError
from mlc_serve.interface.compile import compile_model
from mlc_serve.runtime.library import Library
from tests.checkpoints import Shape, write_checkpoint

SMALL = Shape(hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=24, vocab_size=300)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one layer."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), SMALL)


@pytest.mark.parametrize(
    ("quantization", "scheme", "dtype"), [(None, "q8f32_1", "uint8"), ("q0f16", "q0f16", "float16")]
)
def test_a_library_is_written(
    checkpoint: Path, tmp_path: Path, quantization: str | None, scheme: str, dtype: str
) -> None:
    """It can be opened, and its weights have the scheme's type; by default the CPU's scheme is used."""
    output = tmp_path / "model.so"
    compile_model(str(checkpoint), quantization, "O3", "cpu", None, output)
    library = Library(output, tvm.cpu())
    assert library.metadata["quantization"] == scheme
    assert library.metadata["model_type"] == "llama"
    assert library.parameters[0].dtype == dtype
    assert library.info.context_window_size == SMALL.context_window_size


def test_what_can_not_be_compiled_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """It is refused before the compiler runs, and nothing is written."""
    output = tmp_path / "model.so"
    with pytest.raises(CheckpointError, match="there is no such directory"):
        compile_model(str(tmp_path / "nothing"), None, "O3", "cpu", None, output)
    with pytest.raises(ConfigError, match="'q5' is not available"):
        compile_model(str(checkpoint), "q5", "O3", "cpu", None, output)
    with pytest.raises(CompileError, match="no target for 'tpu'"):
        compile_model(str(checkpoint), None, "O3", "tpu", None, output)
    assert not output.exists()


def test_an_output_that_can_not_be_written_is_named(checkpoint: Path, tmp_path: Path) -> None:
    """One example is an output in a missing directory."""
    with pytest.raises(CompileError, match=r"\S+/missing is not a directory"):
        compile_model(str(checkpoint), None, "O3", "cpu", None, tmp_path / "missing" / "model.so")
