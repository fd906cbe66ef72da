"""Writing and reading both kinds of tensor cache, and damage to the cache of converted weights."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mlc_serve.checkpoint import tensor_cache
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.checkpoint.tensor_cache import CheckedWriter, ShardWriter, read_checked_shard
from mlc_serve.errors import DamagedArtifactError

TENSORS = {
    "a": np.arange(6, dtype=np.uint32).reshape(2, 3),
    "b": np.linspace(0, 1, 5).astype(ml_dtypes.bfloat16),
    "c": np.linspace(0, 1, 40, dtype=np.float32),
    "d": np.ones(3, np.float16),
}


def test_tensors_of_mlc_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors are read back from shards with checksums, each within the limit unless one tensor is larger."""
    monkeypatch.setattr(tensor_cache, "SHARD_BYTES", 100)
    writer = ShardWriter(tmp_path)
    for name, tensor in TENSORS.items():
        writer.add(name, tensor)
    writer.close(num_weights=54)

    shards = RawShards(tmp_path)
    for name, tensor in TENSORS.items():
        assert shards.tensor(name).dtype == tensor.dtype
        assert np.array_equal(shards.tensor(name), tensor)
    assert [path.stat().st_size for path in shards.files] == [34, 160, 6]

    cache = json.loads((tmp_path / "tensor-cache.json").read_text())
    assert cache["metadata"] == {"ParamSize": 4, "ParamBytes": 200, "BitsPerParam": 8 * 200 / 54}
    for shard in cache["records"]:
        content = (tmp_path / shard["dataPath"]).read_bytes()
        assert shard["md5sum"] == hashlib.md5(content).hexdigest()
    assert (tmp_path / "ndarray-cache.json").read_text() == (tmp_path / "tensor-cache.json").read_text()


# The index that our first version wrote for one tensor of three float32 numbers.
FIRST_INDEX = """{
 "metadata": {"ParamSize": 1, "ParamBytes": 12, "crc32": 867406308},
 "records": [{"dataPath": "params_shard_0.bin", "format": "raw-shard", "nbytes": 12, "records": [
  {"name": "w", "shape": [3], "dtype": "float32", "format": "raw", "nbytes": 12, "byteOffset": 0,
   "crc32": 3699134100}]}]
}"""


def write_checked(directory: Path) -> None:
    """Write TENSORS as a cache of converted weights."""
    with CheckedWriter(directory) as writer:
        for name, tensor in TENSORS.items():
            writer.add(name, tensor)


def test_converted_weights_are_read_back(tmp_path: Path) -> None:
    """Each tensor begins at a multiple of 64 bytes in the one shard, and has a checksum of its bytes."""
    write_checked(tmp_path)
    shard = read_checked_shard(tmp_path)
    content = (tmp_path / shard.dataPath).read_bytes()
    assert len(content) == shard.nbytes
    assert [record.byteOffset for record in shard.records] == [0, 64, 128, 320]
    for record, (name, tensor) in zip(shard.records, TENSORS.items(), strict=True):
        stored = content[record.byteOffset : record.end]
        assert (record.name, tuple(record.shape), record.dtype) == (name, tensor.shape, str(tensor.dtype))
        assert (stored, record.crc32) == (tensor.tobytes(), zlib.crc32(stored))


def test_a_cache_of_the_first_version_is_read(tmp_path: Path) -> None:
    """A cache in the first version's format is still read, so that no user has to convert again."""
    (tmp_path / "tensor-cache.json").write_text(FIRST_INDEX)
    (record,) = read_checked_shard(tmp_path).records
    assert (record.name, record.end, record.crc32) == ("w", 12, zlib.crc32(np.ones(3, np.float32).tobytes()))


def test_a_changed_index_is_damage(tmp_path: Path) -> None:
    """A changed index is found by its own checksum."""
    write_checked(tmp_path)
    path = tmp_path / "tensor-cache.json"
    path.write_text(path.read_text().replace('"a"', '"e"'))
    with pytest.raises(
        DamagedArtifactError, match=r"tensor-cache\.json can't be read: its checksum is wrong"
    ):
        read_checked_shard(tmp_path)


def test_a_cache_that_is_not_finished_has_no_index(tmp_path: Path) -> None:
    """An exception while tensors are written leaves nothing that could be taken for a whole cache."""
    with pytest.raises(TypeError), CheckedWriter(tmp_path) as writer:
        writer.add("a", np.array([object()]))  # can't be written
    assert not (tmp_path / "tensor-cache.json").exists()
