"""A compiled model library that is loaded on a device: its functions by name, and its metadata."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import tvm
from tvm.runtime.vm import VirtualMachine

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.engine.limits import ModelInfo
from mlc_serve.errors import CheckpointError

CHAT_FUNCTIONS = ("embed", "batch_prefill", "batch_decode")
ENCODER_FUNCTIONS = ("encode",)
DECODER_EMBEDDING_FUNCTIONS = ("embed", "batch_prefill_to_last_hidden_states")
HEADS_FUNCTIONS = ("head_0",)
EAGLE_FUNCTIONS = (*CHAT_FUNCTIONS, "project")
_KINDS = {
    CHAT_FUNCTIONS: "a chat model",
    HEADS_FUNCTIONS: "heads that draft",
    EAGLE_FUNCTIONS: "an EAGLE draft model",
}
_MLC_PAGE_SIZE = 16  # of libraries that do not state one, such as those that MLC builds
_CACHES = ("create_tir_paged_kv_cache", "create_flashinfer_paged_kv_cache")


@dataclass(frozen=True)
class ParameterSpec:
    """One weight as the library's functions take it.

    `layout` says how a weight of `logical_shape` is packed into `shape`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    logical_shape: tuple[int, ...]

    @classmethod
    def from_metadata(cls, entry: dict[str, Any]) -> ParameterSpec:
        """Read an entry of `params`. Libraries that MLC built name no layout: their weights are laid out as
        in checkpoints.
        """
        shape = tuple(entry["shape"])
        return cls(
            entry["name"],
            shape,
            entry["dtype"],
            entry.get("layout", "plain"),
            tuple(entry.get("logical_shape", shape)),
        )

    @property
    def num_bytes(self) -> int:
        """How many bytes the weight takes."""
        return prod(self.shape) * int(tvm.DataType(self.dtype).bits) // 8


class Library:
    """The Relax virtual machine of one model, which has at least the functions `needed`.

    Raises CheckpointError if the file can't be loaded or is not the library of such a model.
    """

    def __init__(
        self, path: Path, device: tvm.runtime.Device, needed: Sequence[str] = CHAT_FUNCTIONS
    ) -> None:
        self.device = device
        self._path = path
        try:
            _check_whole(path)
            self._module = tvm.runtime.load_module(str(path))
            self._vm = VirtualMachine(self._module, device)
            self.metadata: dict[str, Any] = json.loads(self._vm["_metadata"]())
        except (RuntimeError, AttributeError, ValueError, OSError) as error:
            raise CheckpointError(
                f"{path} can't be loaded as a model library: {_first_line(error)}"
            ) from error
        missing = [name for name in needed if not self.has(name)]
        if missing:
            kind = _KINDS.get(tuple(needed), "an embedding model")
            raise CheckpointError(
                f"{path} lacks the functions {', '.join(missing)}: it is not the library of {kind}"
            )

    def has(self, name: str) -> bool:
        """Return whether there is a function of that name."""
        try:
            self._vm[name]
        except (RuntimeError, AttributeError, ValueError):
            return False
        return True

    def function(self, name: str) -> Callable[..., Any]:
        """Return a function by name."""
        return self._vm[name]  # type: ignore[no-any-return]  # TVM is untyped

    def has_kernel(self, name: str) -> bool:
        """Return whether there is a kernel of that name that can be called on its own."""
        return bool(self._module.implements_function(name, query_imports=True))

    def kernel(self, name: str) -> Callable[..., None]:
        """Return a kernel by name. It takes tensors or arrays, and writes its results into the last ones."""
        return self._module.get_function(name, query_imports=True)  # type: ignore[no-any-return]  # untyped

    def cache_constructor(self) -> Callable[..., Any]:
        """Return the function that creates the paged KV cache."""
        return self.function(next(name for name in _CACHES if self.has(name)))

    @cached_property
    def digest(self) -> str:
        """A hash of the library's code, in 64 hexadecimal digits."""
        return hashlib.sha256(self._path.read_bytes()).hexdigest()

    @property
    def takes_pages(self) -> bool:
        """Whether functions take the pages of a KV cache of the server's, of which the metadata then states
        the type, instead of TVM's cache.
        """
        return "dtype" in self.metadata["kv_cache"]

    @property
    def quantization(self) -> str:
        """The quantization scheme that the library was compiled for."""
        return str(self.metadata["quantization"])

    @property
    def is_by_mlc(self) -> bool:
        """Whether MLC built the library: it names no layouts, and takes weights by MLC's names."""
        return not any("layout" in entry for entry in self.metadata["params"])

    @cached_property
    def parameters(self) -> list[ParameterSpec]:
        """The weights, in the order in which the functions take them."""
        return [ParameterSpec.from_metadata(entry) for entry in self.metadata["params"]]

    @cached_property
    def param_bytes(self) -> int:
        """How many bytes the weights take."""
        return sum(spec.num_bytes for spec in self.parameters)

    @property
    def is_recurrent(self) -> bool:
        """Whether layers keep a recurrent state of each sequence."""
        return self.metadata.get("kv_state_kind") in ("rnn_state", "hybrid")

    @property
    def taps(self) -> tuple[int, ...]:
        """The layers whose states `batch_prefill` and `batch_decode` return beside logits. A tap is what
        enters a layer, counted from 0, and the number of layers stands for what the last one leaves.
        """
        return tuple(self.metadata.get("taps", ()))

    @property
    def attends(self) -> bool:
        """Whether layers keep keys and values."""
        return self.metadata.get("kv_state_kind") != "rnn_state"

    @cached_property
    def info(self) -> ModelInfo:
        """The facts about the model from which limits are inferred."""
        chunk = self.metadata["prefill_chunk_size"]
        return ModelInfo(
            context_window_size=self.metadata["context_window_size"],
            prefill_chunk_size=chunk,
            max_batch_size=self.metadata["max_batch_size"],
            vocab_size=self.metadata.get("vocab_size") or self.metadata["active_vocab_size"],
            param_bytes=self.param_bytes,
            kv_bytes_per_token=_kv_bytes(self.metadata["kv_cache"]) if self.attends else 0,
            workspace_bytes_per_token=-(-max(self.metadata["memory_usage"].values(), default=0) // chunk),
            page_size=self.metadata.get("kv_cache", {}).get("page_size", _MLC_PAGE_SIZE),
            state_bytes_per_sequence=self._state_bytes if self.is_recurrent else 0,
            window=self.window,
        )

    @property
    def window(self) -> SlidingWindow | None:
        """The window through which whole sequences are seen. What libraries that MLC built call so may also
        be the window of some layers.
        """
        size = self.metadata.get("sliding_window_size", -1)
        if self.is_by_mlc or size <= 0:
            return None
        return SlidingWindow(size, max(self.metadata.get("attention_sink_size", 0), 0))

    @property
    def _state_bytes(self) -> int:
        state = self.metadata.get("rnn_state", {})
        if "bytes_per_sequence" not in state:
            raise CheckpointError(
                "the library keeps a recurrent state, as its kv_state_kind says, but does not say how many "
                "bytes it takes; leave out --model-lib, and the model is compiled here"
            )
        return int(state["bytes_per_sequence"])


def _kv_bytes(cache: dict[str, Any]) -> int:
    """How many bytes of keys and values a token has."""
    values: int = cache["num_hidden_layers"] * cache["num_key_value_heads"] * cache["head_dim"]
    return int(cache.get("page_parts", 2)) * values * int(cache.get("dtype_bytes", 2))


def _check_whole(path: Path) -> None:
    """Raise CheckpointError for an ELF file that ends before its section table does.

    Mapping such a file would kill the process. The offsets are those of Elf64_Ehdr in <elf.h>. Files of other
    formats are not checked here.
    """
    with path.open("rb") as file:
        header = file.read(64)
    if header[:5] != b"\x7fELF\x02":
        return
    start, entry, count = struct.unpack_from("<40xQ10xHH", header.ljust(64, b"\0"))
    size, whole = path.stat().st_size, max(start + entry * count, 64)
    if size < whole:
        raise CheckpointError(f"{path} is cut off: it has {size} of {whole} bytes")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
