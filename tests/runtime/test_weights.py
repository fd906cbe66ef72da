"""Reading converted weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tvm

from mlc_serve.checkpoint.conversion import convert
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.errors import DamagedArtifactError
from mlc_serve.loading.architecture import sources_of
from mlc_serve.runtime import weights
from mlc_serve.runtime.library import ParameterSpec
from mlc_serve.runtime.weights import load_weights
from tests.checkpoints import Shape, write_checkpoint

NORM = ParameterSpec("model.norm.weight", (16,), "float32", "plain", (16,))
HEAD = ParameterSpec("lm_head.weight", (19, 16, 16), "float16", "tiles16", (300, 16))
PAIRS = ParameterSpec("model.embed_tokens.weight", (19, 8, 32), "bfloat16", "tiles16-pairs", (300, 16))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three converted tensors."""
    shape = Shape(hidden_size=16, num_layers=1, intermediate_size=24, vocab_size=300)
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "checkpoint", shape))
    (tmp_path / "weights").mkdir()
    convert(sources_of(checkpoint), [NORM, HEAD, PAIRS], None, tmp_path / "weights", lambda count: None)
    return tmp_path / "weights"


def load(directory: Path, *specs: ParameterSpec) -> list[tvm.runtime.Tensor]:
    """Load parameters onto the CPU."""
    return load_weights(directory, list(specs), tvm.cpu(), lambda count: None)


def test_parameters_come_in_the_library_s_order(directory: Path) -> None:
    """Parameters come in the order asked for, not the file's, and aligned for kernels to read vectors."""
    head, norm = load(directory, HEAD, NORM)
    assert (tuple(head.shape), str(head.dtype)) == (HEAD.shape, "float16")
    assert (tuple(norm.shape), str(norm.dtype)) == (NORM.shape, "float32")
    assert np.from_dlpack(norm).ctypes.data % 64 == np.from_dlpack(head).ctypes.data % 64 == 0


def test_bfloat16_is_taken_as_it_is(directory: Path) -> None:
    """A bfloat16 tensor keeps its type and its values, although NumPy itself has no such type."""
    (pairs,) = load(directory, PAIRS)
    assert (tuple(pairs.shape), str(pairs.dtype)) == (PAIRS.shape, "bfloat16")
    stored = RawShards(directory).tensor(PAIRS.name)
    np.testing.assert_array_equal(pairs.numpy().astype(np.float32), stored.astype(np.float32))


def test_progress_adds_up_to_the_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of the file is reported once, piece by piece, whatever is loaded from it."""
    size = (directory / "params_shard_0.bin").stat().st_size
    monkeypatch.setattr(weights, "_PIECE", size // 3 + 1)
    counts: list[int] = []
    load_weights(directory, [NORM], tvm.cpu(), counts.append)
    assert counts == [size // 3 + 1] * 2 + [size - 2 * (size // 3 + 1)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ParameterSpec("lost", (16,), "float32", "plain", (16,)), "lack lost, which the library takes"),
        (ParameterSpec(NORM.name, (17,), "float32", "plain", (17,)), r"float32 \[16\]; .* float32 \[17\]"),
        (ParameterSpec(NORM.name, (16,), "float16", "plain", (16,)), r"float32 \[16\]; .* float16 \[16\]"),
    ],
    ids=["missing", "shape", "type"],
)
def test_what_the_library_does_not_take_is_named(directory: Path, spec: ParameterSpec, message: str) -> None:
    """The error names a tensor that is missing, or that has another shape or type than the library's."""
    with pytest.raises(DamagedArtifactError, match=message):
        load(directory, spec)


def test_a_truncated_shard_is_named(directory: Path) -> None:
    """The error names the shard, and says how many of its bytes are there."""
    shard = directory / "params_shard_0.bin"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(
        DamagedArtifactError, match=rf"params_shard_0\.bin ends after {size - 10} of {size} bytes"
    ):
        load(directory, NORM)


@pytest.mark.parametrize("spec", [NORM, HEAD, PAIRS], ids=lambda spec: spec.name)
def test_one_changed_bit_is_found(directory: Path, spec: ParameterSpec) -> None:
    """A changed bit is found in any tensor, even if only another one is loaded."""
    shard = directory / "params_shard_0.bin"
    (entry,) = json.loads((directory / "tensor-cache.json").read_text())["records"]
    (record,) = (record for record in entry["records"] if record["name"] == spec.name)
    content = bytearray(shard.read_bytes())
    content[record["byteOffset"] + record["nbytes"] // 2] ^= 0x10
    shard.write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=f"the bytes of {spec.name} are not those"):
        load(directory, NORM)


def test_zeros_of_the_same_size_are_found(directory: Path) -> None:
    """A shard of zeros, which a file system that lost its last writes leaves, is found."""
    shard = directory / "params_shard_0.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(DamagedArtifactError, match="are not those that were written"):
        load(directory, NORM)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"records": []}', '{"records": [{}]}', '{"records": [3]}', "\x80"]
)
def test_a_damaged_index_is_named(directory: Path, content: str) -> None:
    """The error names the index, whatever is left of it."""
    (directory / "tensor-cache.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedArtifactError, match=r"tensor-cache\.json can't be read: "):
        load(directory, NORM)


@pytest.mark.parametrize("file", ["tensor-cache.json", "params_shard_0.bin"])
def test_a_missing_file_is_named(directory: Path, file: str) -> None:
    """The error names the index or the shard, whichever is missing."""
    (directory / file).unlink()
    with pytest.raises(DamagedArtifactError, match=file):
        load(directory, NORM)


@pytest.mark.parametrize("key", ["shape", "dtype", "nbytes", "byteOffset", "crc32", "name"])
@pytest.mark.parametrize("value", [None, -1, 10**30, "int4", [1]], ids=str)
def test_an_index_that_lies_is_damage(directory: Path, key: str, value: object) -> None:
    """An index with a wrong value is reported as damage."""
    path = directory / "tensor-cache.json"
    index = json.loads(path.read_text())
    index["records"][0]["records"][0][key] = value
    path.write_text(json.dumps(index))
    with pytest.raises(DamagedArtifactError):
        load(directory, NORM)
