"""The format of compressed-tensors, which llm-compressor writes. Its weights of one byte are `scaled`.

    X.weight_packed       (N, K * bits / 32) int32   words along the depth
    X.weight_scale        (N, G), or (N, 1)
    X.weight_zero_point   (N * bits / 32, G) int32   words along the rows, if weights are not symmetric
    X.weight_shape        (2,)                       N and K, which here are those of the words
    X.weight_g_idx        (K,) int32                 the group of each column; neighbours without it

Integers are signed; in words, 8 or 128 is added to them and to the zero points.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.packed.column_groups import FLOATS, ColumnGroups, column_groups, num_groups
from mlc_serve.checkpoint.packed.packing import Packing, Parts, Shape
from mlc_serve.checkpoint.packed.scaled import Scaled
from mlc_serve.checkpoint.packed.settings import Settings
from mlc_serve.checkpoint.packed.words import num_words, unpack_rows
from mlc_serve.quantization.packed import PackedWeight

_PACKED, _PLAIN = "pack-quantized", ("float-quantized", "int-quantized", "naive-quantized")
# Which modules are packed is told by the tensors. Activations are not rounded.
_WITHOUT_EFFECT = ("quant_method", "version", "ignore", "global_compression_ratio")
_READ = (
    *("format", "quantization_status", "config_groups"),
    *("kv_cache_scheme", "sparsity_config", "transform_config"),
)
_GROUP_KEYS = ("targets", "weights", "input_activations", "output_activations", "format")
_WEIGHTS_WITHOUT_EFFECT = ("observer", "observer_kwargs", "scale_dtype", "zp_dtype", "actorder")
_WEIGHTS_READ = ("num_bits", "type", "symmetric", "strategy", "group_size", "block_structure", "dynamic")


@dataclass(frozen=True)
class PackQuantized:
    """Implements Packing. `group_size` None: a row has one scale."""

    bits: int
    group_size: int | None
    is_symmetric: bool

    main: ClassVar[str] = ".weight_packed"
    weight: ClassVar[str] = ".weight"
    others: ClassVar[tuple[str, ...]] = (
        ".weight_scale",
        ".weight_zero_point",
        ".weight_shape",
        ".weight_g_idx",
    )

    def shape(self, parts: Parts) -> Shape:
        """See Packing."""
        num_rows, words = parts.shape(".weight_packed", 2)
        depth = words * 32 // self.bits
        count = num_groups(depth, self.group_size)
        parts.check_shape(".weight_scale", (num_rows, count))
        if not self.is_symmetric:
            parts.check_shape(".weight_zero_point", (num_words(num_rows, self.bits), count))
        if parts.has(".weight_g_idx"):
            parts.check_shape(".weight_g_idx", (depth,))
        return num_rows, depth

    def packed(self, parts: Parts) -> PackedWeight | None:
        """See Packing."""
        groups = self._groups(parts)
        return self._integers(parts, groups.size) if groups.are_neighbours() else None

    def floats(self, parts: Parts) -> NDArray[Any]:
        """See Packing."""
        groups = self._groups(parts)
        return groups.floats(self._integers(parts, groups.size))

    def _groups(self, parts: Parts) -> ColumnGroups:
        _, depth = shape = self.shape(parts)
        stated = parts.tensor(".weight_shape", "int32", "int64").tolist()
        if stated != list(shape):
            raise parts.error(".weight_shape", f"is {stated}, but must be {list(shape)}: whole words")
        count = num_groups(depth, self.group_size)
        return column_groups(parts, ".weight_g_idx", depth, self.group_size, count)

    def _integers(self, parts: Parts, group_size: int) -> PackedWeight:
        integers = unpack_rows(parts.tensor(".weight_packed", "int32"), self.bits)
        scale = parts.tensor(".weight_scale", *FLOATS)
        if self.is_symmetric:
            zero = np.full(scale.shape, 1 << (self.bits - 1), np.int16)
        else:
            words = parts.tensor(".weight_zero_point", "int32")
            zero = unpack_rows(words.T, self.bits).T[: len(scale)].astype(np.int16)
        return PackedWeight(integers, zero, scale, group_size)


def compressed_tensors(settings: Settings) -> list[Packing]:
    """How the weights of a quantization_config of compressed-tensors are read. Raises CheckpointError."""
    settings.check_keys(_READ, _WITHOUT_EFFECT)
    settings.one_of("quantization_status", ("compressed",), "compressed")
    settings.absent("kv_cache_scheme", "transform_config")
    sparsity = Settings.of(f"{settings.place}.sparsity_config", settings.values.get("sparsity_config") or {})
    sparsity.one_of("format", ("dense",), "dense")
    form = settings.one_of("format", (_PACKED, *_PLAIN))
    group = _only_group(settings)
    group.one_of("format", (form, None))
    weights = Settings.of(f"{group.place}.weights", group.values.get("weights"))
    weights.check_keys(_WEIGHTS_READ, _WEIGHTS_WITHOUT_EFFECT)
    weights.one_of("dynamic", (False, None))
    return [_pack_quantized(weights) if form == _PACKED else _scaled(weights)]


def _only_group(settings: Settings) -> Settings:
    """The settings of the modules that are quantized, which must be the same for all."""
    groups = settings.values.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        raise settings.error("config_groups", "but must be an object with one group")
    ((name, values),) = groups.items()
    group = Settings.of(f"{settings.place}.config_groups.{reprlib.repr(name)[1:-1]}", values)
    group.check_keys(_GROUP_KEYS)
    return group


def _pack_quantized(weights: Settings) -> PackQuantized:
    weights.one_of("type", ("int",), "int")
    by_group = weights.one_of("strategy", ("group", "channel")) == "group"
    size = weights.group_size("group_size", -1) if by_group else None
    is_symmetric = weights.one_of("symmetric", (True, False), True)
    return PackQuantized(weights.one_of("num_bits", (4, 8)), size, is_symmetric)


def _scaled(weights: Settings) -> Scaled:
    weights.one_of("type", ("float", "int"))
    weights.one_of("num_bits", (8,))
    weights.one_of("symmetric", (True,), True)
    by_block = weights.one_of("strategy", ("tensor", "channel", "block")) == "block"
    return Scaled(weights.block_size("block_structure") if by_block else None, ".weight_scale")
