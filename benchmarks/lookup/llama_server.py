"""llama.cpp's server, which can look drafts up in several ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.lookup.answers import PLAIN, Answer
from benchmarks.peers.llama_cpp import LlamaCpp, LlamaCppModel
from benchmarks.peers.openvino import OpenVino
from benchmarks.peers.servers import llama_server
from mlc_serve.host.threads import num_cores

# What it calls lookup decoding, and the simplest of the ways that its documentation recommends for rewriting.
DRAFTS = (PLAIN, "ngram-cache", "ngram-simple")
ANSWER_SECONDS = 600


@dataclass(frozen=True)
class LlamaServer:
    """Implements Side. Each answer comes from a server that has just started, because some ways of drafting
    keep what they have seen in earlier requests. Each has its own defaults.
    """

    model: LlamaCppModel
    drafts: str
    max_length: int
    log: Path
    engine: str = "llama.cpp"

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        """See Side."""
        options = ["--spec-type", self.drafts]
        with llama_server(self.model, 1, self.log, self.max_length, options)() as url:
            reply = httpx.post(
                f"{url}/completion", json=_body(prompt, max_tokens), timeout=ANSWER_SECONDS, trust_env=False
            )
        reply.raise_for_status()
        return read_answer(reply.json())


def llama_servers(home: Path, checkpoint: Path, bits: int, max_length: int) -> Sequence[LlamaServer]:
    """The server with each way of drafting. Builds and converts whatever isn't in `home` yet."""
    build = LlamaCpp.install(home)
    python = OpenVino.install(home).python
    file = build.convert(checkpoint, bits, home / "models" / checkpoint.name, python)
    model = LlamaCppModel(build, file, num_cores(), share_of_a_token=1.0)
    log = home / "logs" / "llama-server-lookup.log"
    return [LlamaServer(model, drafts, max_length, log) for drafts in DRAFTS]


def _body(prompt: Sequence[int], max_tokens: int) -> Mapping[str, object]:
    greedy = {"temperature": 0, "top_k": 1}
    return {"prompt": list(prompt), "n_predict": max_tokens, "return_tokens": True, **greedy}


def read_answer(reply: Mapping[str, Any]) -> Answer:
    """The answer in the server's reply. A forward pass gives one token more than drafts that it keeps."""
    timings, token_ids = reply["timings"], tuple(reply["tokens"])
    num_kept = timings.get("draft_n_accepted", 0)
    return Answer(token_ids, timings["predicted_ms"] / 1000, timings["predicted_n"] - 1 - num_kept)
