"""The table of packed forms, by the names that a quantization_config has for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlc_serve.checkpoint.packed.awq import awq
from mlc_serve.checkpoint.packed.compressed_tensors import compressed_tensors
from mlc_serve.checkpoint.packed.gptq import gptq
from mlc_serve.checkpoint.packed.mxfp4 import mxfp4
from mlc_serve.checkpoint.packed.packing import Packing
from mlc_serve.checkpoint.packed.scaled import fp8
from mlc_serve.checkpoint.packed.settings import Settings

KEY = "quantization_config"
_METHODS: dict[str, Callable[[Settings], list[Packing]]] = {
    "awq": awq,
    "compressed-tensors": compressed_tensors,
    "fp8": fp8,
    "gptq": gptq,
    "mxfp4": mxfp4,
}


def read_packings(file: Path, declared: Any) -> list[Packing]:
    """How packed weights are read, by the quantization_config that a file declares; nothing without one.

    Raises a CheckpointError that names the file and the key that is not supported.
    """
    if declared is None:
        return []
    settings = Settings.of(f"{file}: {KEY}", declared)
    return _METHODS[settings.one_of("quant_method", tuple(_METHODS))](settings)
