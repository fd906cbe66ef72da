"""Opening a library."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import tvm
from tvm import relax

from mlc_serve.errors import CheckpointError
from mlc_serve.runtime.library import Library, ParameterSpec


def write_library(path: Path, metadata: str | None) -> Path:
    """A library with one function, which returns the metadata if there is any."""
    builder = relax.BlockBuilder()
    with builder.function("_metadata" if metadata is not None else "other", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(metadata or ""))
    tvm.compile(builder.finalize(), target="llvm").export_library(str(path))
    return path


@pytest.mark.parametrize("content", [b"", b"no library at all", b"\x7fELF" + bytes(200)])
def test_a_file_that_is_no_library_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error names the file."""
    path = tmp_path / "model.so"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.so can't be loaded as a model library: \S"):
        Library(path, tvm.cpu())


@pytest.mark.parametrize("size", [6, 64, 999])
def test_a_library_that_is_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    """It is refused before it is mapped into memory, as reading beyond a file's end kills the process."""
    path = tmp_path / "model.so"
    header = b"\x7fELF\x02".ljust(40, b"\0") + struct.pack("<Q10xHH2x", 1000 - 3 * 64, 64, 3)
    path.write_bytes(header.ljust(1000, b"\0")[:size])
    with pytest.raises(CheckpointError, match=rf"model\.so is cut off: it has {size} of \d+ bytes"):
        Library(path, tvm.cpu())


def test_a_library_of_something_else_is_refused(tmp_path: Path) -> None:
    """A library without readable metadata, or without the functions of a chat model, is refused."""
    with pytest.raises(CheckpointError, match="can't be loaded as a model library"):
        Library(write_library(tmp_path / "a.so", None), tvm.cpu())
    with pytest.raises(CheckpointError, match="can't be loaded as a model library"):
        Library(write_library(tmp_path / "b.so", "no JSON"), tvm.cpu())
    with pytest.raises(CheckpointError, match="lacks the functions embed, batch_prefill, batch_decode"):
        Library(write_library(tmp_path / "c.so", "{}"), tvm.cpu())


@pytest.mark.parametrize(
    ("extra", "layout", "logical_shape"),
    [({}, "plain", (4, 3, 16)), ({"layout": "tiles16", "logical_shape": [50, 3]}, "tiles16", (50, 3))],
)
def test_a_parameter_tells_its_layout(
    extra: dict[str, Any], layout: str, logical_shape: tuple[int, ...]
) -> None:
    """A parameter whose metadata has no layout, as in MLC's libraries, has that of checkpoints."""
    entry = json.loads(json.dumps({"name": "w", "shape": [4, 3, 16], "dtype": "float32", **extra}))
    assert ParameterSpec.from_metadata(entry) == ParameterSpec(
        "w", (4, 3, 16), "float32", layout, logical_shape
    )


@pytest.mark.parametrize(("parts", "kept"), [({}, 2), ({"page_parts": 1}, 1)])
def test_a_token_takes_what_its_pages_keep_of_it(tmp_path: Path, parts: dict[str, int], kept: int) -> None:
    """Keys and values in each layer, or only keys if values are a part of them."""
    cache = {"num_hidden_layers": 3, "num_key_value_heads": 1, "head_dim": 576, "dtype_bytes": 2}
    sizes = dict.fromkeys(("context_window_size", "prefill_chunk_size", "max_batch_size", "vocab_size"), 64)
    metadata = {
        **sizes,
        "params": [],
        "memory_usage": {},
        "kv_state_kind": "kv_cache",
        "kv_cache": cache | parts,
    }
    library = Library(write_library(tmp_path / "a.so", json.dumps(metadata)), tvm.cpu(), needed=())
    assert library.info.kv_bytes_per_token == kept * 3 * 576 * 2
