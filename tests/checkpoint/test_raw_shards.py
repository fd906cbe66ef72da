"""Reading tensors from MLC's binary shards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.errors import CheckpointError
from tests.mlc_checkpoints import TENSORS, write_mlc_checkpoint


@pytest.mark.parametrize("cache_name", ["tensor-cache.json", "ndarray-cache.json"])
def test_reads_each_tensor_as_it_was_written(tmp_path: Path, cache_name: str) -> None:
    """Tensors of all dtypes are read anywhere in a shard, under the cache's newer and older name."""
    shards = RawShards(write_mlc_checkpoint(tmp_path, cache_name=cache_name))

    assert set(shards.names) == set(TENSORS)
    for name, expected in TENSORS.items():
        tensor = shards.tensor(name)
        assert tensor.dtype == expected.dtype
        np.testing.assert_array_equal(tensor, expected)


def test_halved_tensors_come_back_as_float32(tmp_path: Path) -> None:
    """In the format f32-to-bf16, the file has bfloat16, and the tensor is read as float32."""
    tensor = RawShards(write_mlc_checkpoint(tmp_path, halved=True)).tensor("model.norm.weight")
    rounded = TENSORS["model.norm.weight"].astype(ml_dtypes.bfloat16)

    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, rounded.astype(np.float32))


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    """The error names the tensor that the directory does not have."""
    with pytest.raises(CheckpointError, match=r"there is no tensor lm_head\.weight"):
        RawShards(write_mlc_checkpoint(tmp_path)).tensor("lm_head.weight")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """The error names a missing shard, as after a partial download, before any tensor is read."""
    (write_mlc_checkpoint(tmp_path) / "params_shard_1.bin").unlink()

    with pytest.raises(
        CheckpointError, match=r"there is no params_shard_1\.bin, which tensor-cache\.json names"
    ):
        RawShards(tmp_path)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    """The error names a shard of another size than the recorded one, with both sizes."""
    shard = write_mlc_checkpoint(tmp_path) / "params_shard_0.bin"
    shard.write_bytes(shard.read_bytes()[:-1])

    with pytest.raises(CheckpointError, match=r"params_shard_0\.bin: 111 bytes, but .* says 112"):
        RawShards(tmp_path)


def test_a_missing_cache_is_named(tmp_path: Path) -> None:
    """The error has both names that the cache may have."""
    with pytest.raises(CheckpointError, match=r"neither tensor-cache\.json nor ndarray-cache\.json"):
        RawShards(tmp_path)


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update({key: value})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_set("dtype", "float8"), "tensor model.embed_tokens.q_weight: dtype float8 is not supported"),
        (_set("shape", [4, 7]), r"96 bytes are not the size of uint32 \[4, 7\] in format raw"),
        (_set("shape", [-4, -6]), "96 bytes are not the size of"),
        (_set("byteOffset", 40), "it is not inside its shard of 112 bytes"),
        (_set("byteOffset", -1), "it is not inside its shard of 112 bytes"),
        (_set("format", "zip"), "records.0.records.0.format: "),
        (_set("shape", "4x6"), "records.0.records.0.shape: "),
        (dict.clear, "records.0.records.0.name: Field required"),
    ],
)
def test_a_record_that_can_not_be_true_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], fault: str
) -> None:
    """A record with impossible values is refused at the start, instead of giving wrong weights."""
    path = write_mlc_checkpoint(tmp_path) / "tensor-cache.json"
    cache = json.loads(path.read_text())
    change(cache["records"][0]["records"][0])
    path.write_text(json.dumps(cache))

    with pytest.raises(CheckpointError, match=fault):
        RawShards(tmp_path)
