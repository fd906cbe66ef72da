"""What checkpoints call the weights of an architecture."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class FusedProduct(NamedTuple):
    """Products that are computed together, with one weight. Hugging Face's checkpoints store this weight in
    `parts`, whose rows follow one another; MLC's directories store it whole, under the name `mlc_name`.
    """

    name: str
    parts: tuple[str, ...]
    mlc_name: str


class WeightNames(NamedTuple):
    """The products of a family whose names differ; all other weights have the same name everywhere.

    Checkpoints of a model with a head may put one of `prefixes` before every name.
    """

    fused: tuple[FusedProduct, ...]
    prefixes: tuple[str, ...] = ()

    def sources(self, name: str, present: Collection[str]) -> list[str]:
        """The tensors that the weight `name` consists of, from the first rows to the last, in a checkpoint
        that has the tensors `present`. If none of the possible names is present, the last ones are returned.
        """
        sources = [name]
        for spelling in self._other_spellings(name):
            if sources[0] not in present:
                sources = spelling
        return sources

    def in_mlc(self, name: str) -> str:
        """What the weight `name` is called in an MLC directory."""
        for product in self.fused:
            name = name.replace(product.name, product.mlc_name)
        return name

    def _other_spellings(self, name: str) -> list[list[str]]:
        """A library that MLC built asks for MLC's name; our libraries ask for our own."""
        for product in self.fused:
            for asked in (product.mlc_name, product.name):
                if asked in name:
                    spellings = ((product.mlc_name,), product.parts)
                    return [[name.replace(asked, part) for part in parts] for parts in spellings]
        return [[prefix + name] for prefix in self.prefixes]


def decoder_names(mlc_qkv: str) -> WeightNames:
    """The names of Llama and of similar families. MLC calls their fused QKV product `mlc_qkv`."""
    q, k, v = (f"self_attn.{part}_proj" for part in "qkv")
    gate_up = "mlp.gate_up_proj"
    return WeightNames(
        (
            FusedProduct("self_attn.qkv_proj", (q, k, v), f"self_attn.{mlc_qkv}"),
            FusedProduct(gate_up, ("mlp.gate_proj", "mlp.up_proj"), gate_up),
        )
    )
