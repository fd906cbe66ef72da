"""AWQ (Lin et al., 2023), as AutoAWQ writes it for its GEMM kernel.

    X.qweight   (K, N / 8) int32   words along the rows
    X.qzeros    (G, N / 8) int32   the same order
    X.scales    (G, N)

The eight integers of a word, from the lowest bits, are those of the rows 0, 2, 4, 6, 1, 3, 5 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.packed.column_groups import FLOATS, num_groups, size_within
from mlc_serve.checkpoint.packed.gptq import UNSUPPORTED, WITHOUT_EFFECT
from mlc_serve.checkpoint.packed.packing import Packing, Parts, Shape
from mlc_serve.checkpoint.packed.settings import Settings
from mlc_serve.quantization.packed import PackedWeight

_BITS, _PER_WORD = 4, 8
_ROWS = (0, 2, 4, 6, 1, 3, 5, 7)  # of the integers in a word
_READ = ("bits", "w_bit", "group_size", "q_group_size", "version", "format", "checkpoint_format", "data_type")
# How other programs multiply. Zero points are always stored.
_FOR_OTHER_PROGRAMS = ("do_fuse", "fuse_max_seq_len", "modules_to_fuse", "zero_point")
_FORMATS = ("gemm", "GEMM")


@dataclass(frozen=True)
class AWQ:
    """Implements Packing. `group_size` None: a row has one scale."""

    group_size: int | None

    main: ClassVar[str] = ".qweight"
    weight: ClassVar[str] = ".weight"
    others: ClassVar[tuple[str, ...]] = (".qzeros", ".scales")

    def shape(self, parts: Parts) -> Shape:
        """See Packing."""
        depth, words = parts.shape(".qweight", 2)
        num_rows, count = words * _PER_WORD, num_groups(depth, self.group_size)
        parts.check_shape(".scales", (count, num_rows))
        parts.check_shape(".qzeros", (count, words))
        return num_rows, depth

    def packed(self, parts: Parts) -> PackedWeight:
        """See Packing."""
        _, depth = self.shape(parts)
        integers, zeros = (_in_order(parts.tensor(end, "int32", "uint32")) for end in (".qweight", ".qzeros"))
        scale = parts.tensor(".scales", *FLOATS).T
        return PackedWeight(integers, zeros.astype(np.int16), scale, size_within(depth, self.group_size))

    def floats(self, parts: Parts) -> NDArray[Any]:
        """See Packing."""
        return self.packed(parts).floats()


def _in_order(words: NDArray[Any]) -> NDArray[np.uint8]:
    """The integers `(N, n)` in words `(n, N / 8)`."""
    columns = np.ascontiguousarray(words.T).view(np.uint32)
    integers = np.empty((len(columns), _PER_WORD, columns.shape[1]), np.uint8)
    for place, row in enumerate(_ROWS):
        integers[:, row] = columns >> np.uint32(place * _BITS) & np.uint32(15)
    return integers.reshape(-1, columns.shape[1])


def awq(settings: Settings) -> list[Packing]:
    """How the weights of a quantization_config of AWQ are read. Raises CheckpointError."""
    settings.check_keys(_READ, _FOR_OTHER_PROGRAMS, WITHOUT_EFFECT, UNSUPPORTED)
    settings.absent(*UNSUPPORTED)
    for key in ("version", "format", "checkpoint_format"):
        settings.one_of(key, _FORMATS, _FORMATS[0])
    settings.one_of("data_type", ("int", None))
    settings.one_of("desc_act", (False, None))
    if settings.values.get("backend") == "llm-awq":
        raise settings.error("backend", "whose order of integers is not supported")
    settings.one_of("bits", (_BITS,), settings.one_of("w_bit", (_BITS,), _BITS))
    key = "q_group_size" if "q_group_size" in settings.values else "group_size"
    return [AWQ(settings.group_size(key, 128))]
