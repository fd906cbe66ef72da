"""Measuring, in this process and over HTTP."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_serve.config import EngineConfig, LaunchConfig, Workload
from mlc_serve.errors import ConfigError, StartupError
from mlc_serve.interface.bench import bench_in_process, bench_server
from mlc_serve.loaded_model import LoadedModel
from tests.e2e.live_server import live_server

WORKLOAD = Workload(prompt_tokens=16, max_tokens=8, runs=1)
CPU = LaunchConfig(device="cpu")


def test_prefill_and_every_batch_are_measured(tiny_model: LoadedModel, tiny_checkpoint: Path) -> None:
    """Each has a row, with rates above zero."""
    engine = EngineConfig(model=str(tiny_checkpoint), quantization="q0f32", verbose=False)
    rows = bench_in_process(engine, CPU, WORKLOAD, 32, [1, 2])
    assert [row["measured"] for row in rows] == ["prefill of 32", "decode, batch 1", "decode, batch 2"]
    assert all(float(str(row["tokens_per_s"])) > 0 for row in rows)


def test_drafts_are_measured_in_tokens_of_a_step(tiny_model: LoadedModel, tiny_checkpoint: Path) -> None:
    """Only decodes have the figure, and only if tokens are drafted."""
    plain = EngineConfig(model=str(tiny_checkpoint), quantization="q0f32", verbose=False)
    drafting = replace(plain, speculative_mode="ngram", spec_draft_length=3)
    rows = [row for engine in (plain, drafting) for row in bench_in_process(engine, CPU, WORKLOAD, 32, [1])]
    assert [float(str(row["tokens_per_step"])) >= 1 for row in rows if "tokens_per_step" in row] == [True]
    assert "tokens_per_step" in rows[-1]


def test_prompts_that_do_not_fit_are_refused(tiny_model: LoadedModel, tiny_checkpoint: Path) -> None:
    """The error is the engine's for such a request."""
    engine = EngineConfig(model=str(tiny_checkpoint), quantization="q0f32", verbose=False)
    with pytest.raises(ConfigError, match="maximum context length"):
        bench_in_process(engine, CPU, WORKLOAD, 5000, [1])


def test_a_server_is_measured_by_its_clients() -> None:
    """Its first model is measured with each number of clients."""
    with live_server() as server:
        rows = bench_server(f"{server.url}/v1", None, None, WORKLOAD, [1, 3])
    assert [row["concurrency"] for row in rows] == [1, 3]
    assert all(float(str(row["tokens_per_s"])) > 0 for row in rows)


def test_a_server_that_refuses_or_is_not_there_is_told() -> None:
    """The error is one line."""
    with live_server() as server, pytest.raises(StartupError, match="status 404"):
        bench_server(f"{server.url}/v1", "other", None, WORKLOAD, [1])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StartupError, match="nothing answers at"):
        bench_server(f"http://127.0.0.1:{port}/v1", None, None, WORKLOAD, [1])
