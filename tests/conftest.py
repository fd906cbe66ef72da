"""What all tests share: a cache for them alone, and one small model that is compiled and loaded once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tvm  # noqa: F401  all of TVM, before mlc_serve.runtime is imported, which asks for its runtime alone
from hypothesis import HealthCheck, settings

from mlc_serve.config import EngineConfig
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.loading.artifacts import HOME_VARIABLE
from tests.checkpoints import write_checkpoint

# The import of mlc_serve.runtime sets this for child processes too, among which are those that run tests.
os.environ.pop("TVM_USE_RUNTIME_LIB", None)
# Those share the cores, so that a pool of threads for all cores in each would be slower than one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example takes depends on who else has the cores.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def cache_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of libraries and weights for this run of the tests, which all its processes share."""
    own = tmp_path_factory.getbasetemp()
    directory = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    directory.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(directory))
        yield directory


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", seed=11)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> LoadedModel:
    """That checkpoint, compiled and loaded on the CPU. A test that uses its KV cache must clear it first."""
    config = EngineConfig(
        model=str(tiny_checkpoint),
        quantization="q0f32",
        max_num_sequence=8,
        max_total_sequence_length=1024,
        verbose=False,
    )
    return load_model(config, "cpu", lambda line: None)
