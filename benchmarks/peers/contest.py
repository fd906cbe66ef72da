"""The three sides of a comparison. All hold the same random checkpoint in the same number of bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.llama_cpp import FORMATS as GGUF_FORMATS
from benchmarks.peers.llama_cpp import LlamaCpp, LlamaCppModel
from benchmarks.peers.openvino import FORMATS as OPENVINO_FORMATS
from benchmarks.peers.openvino import OpenVino, OpenVinoModel
from benchmarks.peers.ours import QUANTIZATION, OurModel
from benchmarks.peers.rounds import Side, say
from benchmarks.setup import random_model
from benchmarks.shapes import SHAPES, Shape


@dataclass(frozen=True)
class Contest:
    """One model in the formats of the engines. OpenVINO GenAI may be left out."""

    title: str
    shape: Shape
    ours: OurModel
    llama_cpp: LlamaCppModel
    openvino: OpenVinoModel | None

    @property
    def sides(self) -> Sequence[Side]:
        """The sides in the order in which they take turns."""
        peers = (self.llama_cpp, self.openvino) if self.openvino else (self.llama_cpp,)
        return self.ours, *peers


@dataclass(frozen=True)
class Contests:
    """The installed peers, and the directory where converted models are kept."""

    llama_cpp: LlamaCpp
    openvino: OpenVino
    models: Path
    threads: int

    @classmethod
    def install(cls, home: Path, threads: int) -> Contests:
        """Install both peers in `home`, unless they are there."""
        say(f"setting up in {home}")
        return cls(LlamaCpp.install(home), OpenVino.install(home), home / "models", threads)

    def contest(self, shape: str, bits: int, quantization: str | None, *, with_openvino: bool) -> Contest:
        """The sides for a model. Makes and converts the model unless that was done before."""
        say(f"preparing {shape} in {bits} bits")
        checkpoint, out, share = random_model(shape), self.models / shape, SHAPES[shape].share_of_a_token
        gguf = self.llama_cpp.convert(checkpoint, bits, out, self.openvino.python)
        ours = quantization or QUANTIZATION[bits]
        formats = f"mlc_serve {ours}, llama.cpp {GGUF_FORMATS[bits]}"
        openvino = None
        if with_openvino:
            exported = self.openvino.convert(checkpoint, bits, out)
            openvino = OpenVinoModel(self.openvino, exported, self.threads, share)
            formats += f", OpenVINO {OPENVINO_FORMATS[bits][0]}"
        return Contest(
            f"{shape}: {formats}",
            SHAPES[shape],
            OurModel(checkpoint, SHAPES[shape], ours),
            LlamaCppModel(self.llama_cpp, gguf, self.threads, share),
            openvino,
        )
