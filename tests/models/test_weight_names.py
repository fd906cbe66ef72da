"""What checkpoints call weights."""

from __future__ import annotations

import pytest

from mlc_serve.models.weight_names import decoder_names

QKV = "model.layers.3.self_attn.qkv_proj.weight"
OF_MLC = "model.layers.3.self_attn.c_attn.weight"
PARTS = [f"model.layers.3.self_attn.{part}_proj.weight" for part in "qkv"]
NAMES = decoder_names(mlc_qkv="c_attn")


@pytest.mark.parametrize("asked", [QKV, OF_MLC])
@pytest.mark.parametrize(
    ("present", "sources"),
    [([OF_MLC], [OF_MLC]), (PARTS, PARTS), ([], PARTS), ([OF_MLC, *PARTS], [OF_MLC])],
)
def test_a_fused_product_is_found_under_each_name(asked: str, present: list[str], sources: list[str]) -> None:
    """Whole as MLC has it, or in parts; parts are what is missed if there is neither. Libraries of MLC ask
    for MLC's name.
    """
    assert NAMES.sources(asked, present) == sources


def test_a_name_of_its_own_goes_first() -> None:
    """A directory that was converted once has our names."""
    assert NAMES.sources(QKV, [QKV, *PARTS]) == [QKV]


def test_all_other_weights_have_one_name() -> None:
    """Whether they are there or not."""
    assert NAMES.sources("lm_head.weight", []) == ["lm_head.weight"]
    assert NAMES.in_mlc("lm_head.weight") == "lm_head.weight"


def test_mlc_has_names_of_its_own() -> None:
    """For the fused product of Qwen's attention; Llama's has none."""
    assert NAMES.in_mlc(QKV) == OF_MLC
    assert decoder_names(mlc_qkv="qkv_proj").in_mlc(QKV) == QKV
