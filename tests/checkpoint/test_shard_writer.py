"""Shards as MLC keeps them are read back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mlc_serve.checkpoint import shard_writer
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.checkpoint.shard_writer import ShardWriter

TENSORS = {
    "a": np.arange(6, dtype=np.uint32).reshape(2, 3),
    "b": np.linspace(0, 1, 5).astype(ml_dtypes.bfloat16),
    "c": np.linspace(0, 1, 40, dtype=np.float32),
    "d": np.ones(3, np.float16),
}


def test_tensors_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From several shards, none of which is larger than the limit unless one tensor is; with checksums."""
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 100)
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
