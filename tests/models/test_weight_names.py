"""What checkpoints call weights."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_serve.models.weight_changes import Both, PlusOne, Rows, Transposed
from mlc_serve.models.weight_names import Part, WeightNames, decoder_names, renamed

QKV = "model.layers.3.self_attn.qkv_proj.weight"
OF_MLC = "model.layers.3.self_attn.c_attn.weight"
PARTS = [Part(f"model.layers.3.self_attn.{part}_proj.weight") for part in "qkv"]
NAMES = decoder_names(mlc_qkv="c_attn")


def test_a_fused_product_is_found_in_each_form() -> None:
    """Whole as MLC has it, or in parts as Hugging Face has it."""
    assert NAMES.parts(QKV, "huggingface", ()) == PARTS
    assert NAMES.parts(QKV, "mlc", ()) == [Part(OF_MLC)]


def test_all_other_weights_have_one_name() -> None:
    """In each form."""
    assert NAMES.parts("lm_head.weight", "huggingface", ()) == [Part("lm_head.weight")]
    assert NAMES.in_mlc("lm_head.weight") == [Part("lm_head.weight")]


@pytest.mark.parametrize("names", [NAMES, decoder_names(mlc_qkv="qkv_proj")])
def test_names_of_mlc_can_be_turned_back(names: WeightNames) -> None:
    """As libraries need that MLC built."""
    for name in (QKV, "lm_head.weight", "model.layers.3.input_layernorm.weight"):
        (part,) = names.in_mlc(name)
        assert names.of_mlc(part.name) == name


def test_names_may_change_places() -> None:
    """A name of ours may be a form's name of another weight."""
    names = WeightNames(mlc=(renamed("inner", "norm"), renamed("outer", "inner")))
    assert [names.in_mlc(name) for name in ("a.inner.weight", "a.outer.weight")] == [
        [Part("a.norm.weight")],
        [Part("a.inner.weight")],
    ]
    assert [names.of_mlc(name) for name in ("a.norm.weight", "a.inner.weight")] == [
        "a.inner.weight",
        "a.outer.weight",
    ]


def test_only_whole_words_are_replaced() -> None:
    """Not a part of a longer one."""
    names = WeightNames(huggingface=(renamed("norm", "ln"),))
    assert names.parts("a.norm_2.norm.weight", "huggingface", ()) == [Part("a.norm_2.ln.weight")]


def test_a_prefix_is_used_if_the_name_is_not_there() -> None:
    """Models with a head put it before all names."""
    names = WeightNames(prefixes=("bert.",))
    assert names.parts("a.weight", "huggingface", ["a.weight"]) == [Part("a.weight")]
    assert names.parts("a.weight", "huggingface", ["bert.a.weight"]) == [Part("bert.a.weight")]


def test_changes_are_combined() -> None:
    """A change that a later renaming adds is made first, because its names are nearer to the checkpoint's."""
    names = WeightNames(
        (renamed("up", "c_fc", change=Rows((1, 0))), renamed("mlp", "ff", change=Transposed()))
    )
    (part,) = names.parts("mlp.up.weight", "huggingface", ())
    assert part == Part("ff.c_fc.weight", Both(Transposed(), Rows((1, 0))))
    assert part.change.shape((3, 2)) == (2, 3)
    assert part.change.values(np.array([[1, 2], [3, 4], [5, 6]])).tolist() == [[2, 4, 6], [1, 3, 5]]


def test_one_is_added_in_float32() -> None:
    """Because the sum may need more digits than the stored type has."""
    assert PlusOne().values(np.array([2.0**-11], np.float16)).tolist() == [1 + 2.0**-11]
