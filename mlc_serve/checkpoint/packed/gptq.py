"""GPTQ (Frantar et al., 2022), as AutoGPTQ and GPTQModel write it.

    X.qweight   (K * bits / 32, N) int32   words along the depth
    X.qzeros    (G, N * bits / 32) int32   words along the rows
    X.scales    (G, N)
    X.g_idx     (K,) int32                 the group of each column; neighbours without it

The format "gptq" has zero points less one, "gptq_v2" has them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.packed.column_groups import FLOATS, ColumnGroups, column_groups, num_groups
from mlc_serve.checkpoint.packed.packing import Packing, Parts, Shape
from mlc_serve.checkpoint.packed.settings import Settings
from mlc_serve.checkpoint.packed.words import num_words, unpack_rows
from mlc_serve.quantization.packed import PackedWeight

# How the integers were found, or how other programs multiply them. The tensors tell the rest: g_idx the
# groups, and qzeros whether they are symmetric. Activations are not rounded as act_bits says.
WITHOUT_EFFECT = (
    *("quant_method", "method", "meta", "tokenizer", "dataset", "model_name_or_path", "model_file_base_name"),
    *("sym", "desc_act", "act_group_aware", "static_groups", "true_sequential", "hyb_act", "mse"),
    *("damp_percent", "damp_auto_increment", "batch_size", "pad_token_id", "cache_block_outputs"),
    *("block_name_to_quantize", "module_name_preceding_first_block", "modules_in_block_to_quantize"),
    *("modules_to_not_convert", "lm_head", "pack_impl", "backend", "use_cuda_fp16", "use_exllama"),
    *("disable_exllama", "exllama_config", "max_input_length", "model_seqlen"),
    # AutoRound's:
    *(
        "provider",
        "autoround_version",
        "iters",
        "lr",
        "minmax_lr",
        "nsamples",
        "seqlen",
        "amp",
        "scale_dtype",
    ),
    *("enable_minmax_tuning", "enable_norm_bias_tuning", "enable_quanted_input", "low_gpu_mem_usage"),
    *("gradient_accumulate_steps", "quant_block_list", "to_quant_block_names", "supported_types"),
    *("act_bits", "act_group_size", "act_sym", "act_dynamic", "act_data_type"),
)
# These change what the integers stand for, or which of them there are.
UNSUPPORTED = ("rotation", "rotation_configs", "adapter", "super_bits", "super_group_size", "regex_config")
_READ = ("bits", "group_size", "checkpoint_format", "format", "pack_dtype", "data_type")
_ALSO_READ = ("is_marlin_format", "dynamic")


@dataclass(frozen=True)
class GPTQ:
    """Implements Packing. `group_size` None: a row has one scale. `zeros_less_one`: the older format."""

    bits: int
    group_size: int | None
    zeros_less_one: bool

    main: ClassVar[str] = ".qweight"
    weight: ClassVar[str] = ".weight"
    others: ClassVar[tuple[str, ...]] = (".qzeros", ".scales", ".g_idx")

    def shape(self, parts: Parts) -> Shape:
        """See Packing."""
        words, num_rows = parts.shape(".qweight", 2)
        depth = words * 32 // self.bits
        count = num_groups(depth, self.group_size)
        parts.check_shape(".scales", (count, num_rows))
        parts.check_shape(".qzeros", (count, num_words(num_rows, self.bits)))
        if parts.has(".g_idx"):
            parts.check_shape(".g_idx", (depth,))
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
        _, depth = self.shape(parts)
        count = num_groups(depth, self.group_size)
        return column_groups(parts, ".g_idx", depth, self.group_size, count)

    def _integers(self, parts: Parts, group_size: int) -> PackedWeight:
        words, zeros = (parts.tensor(end, "int32", "uint32") for end in (".qweight", ".qzeros"))
        scale = parts.tensor(".scales", *FLOATS).T
        if self.zeros_less_one:
            # One is added to each integer of a word. Thereby a carry undoes the borrow of a zero point of 0.
            zeros = zeros.view(np.uint32) + np.uint32(0x01010101 if self.bits == 8 else 0x11111111)
        zero = unpack_rows(zeros, self.bits).T[: len(scale)].astype(np.int16)
        return PackedWeight(unpack_rows(words.T, self.bits), zero, scale, group_size)


def gptq(settings: Settings) -> list[Packing]:
    """How the weights of a quantization_config of GPTQ are read. Raises CheckpointError."""
    settings.check_keys(_READ, _ALSO_READ, WITHOUT_EFFECT, UNSUPPORTED)
    settings.one_of("pack_dtype", ("int32",), "int32")
    settings.one_of("data_type", ("int", None))
    settings.absent("is_marlin_format", *UNSUPPORTED)
    # Rules with a minus leave modules as they are, which the tensors tell, too. Others change their format.
    dynamic = settings.values.get("dynamic") or {}
    if not isinstance(dynamic, dict) or not all(rule.startswith("-:") for rule in dynamic):
        raise settings.error("dynamic", "but only rules that begin with -: are supported")
    formats = ("gptq", "gptq_v2")
    older = settings.one_of("format", formats, "gptq")
    written = settings.one_of("checkpoint_format", formats, older)
    bits = settings.one_of("bits", (4, 8))
    return [GPTQ(bits, settings.group_size("group_size", 128), written == "gptq")]
