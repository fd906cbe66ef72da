"""The comparison with other engines: what is read from their output, and the arithmetic of the tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.peers.cells import CELLS, Cell
from benchmarks.peers.llama_cpp import decode_rate, prefill_rate
from benchmarks.peers.machine import best_peak
from benchmarks.peers.neighbours import Moment
from benchmarks.peers.ours import bytes_of_weight, matrix_size
from benchmarks.peers.probes import gaps_during
from benchmarks.peers.process import last_json
from benchmarks.peers.ratios import (
    compute_share,
    faster_peer,
    median_and_range,
    median_of_ratios,
    memory_share,
    prefill_operations,
    ratio_of_medians,
)
from benchmarks.peers.rounds import Comparison, Sample, compare
from benchmarks.peers.served import load_rows, probe_rows
from benchmarks.peers.tables import record, row
from benchmarks.shapes import SHAPES, Experts, Shape
from mlc_serve.bench.closed_loop import Record

DECODE, PREFILL = CELLS[0], CELLS[-1]
# One layer with 2 * 2 heads' worth of queries, keys and so on: small enough to count by hand.
SMALL = Shape("llama", 4, 8, 1, 2, 1, 16, 64, 10_000.0)
SMALL_LAYER = 4 * 4 + 2 * 4 + 2 * 4 + 4 * 4 + 3 * 8 * 4


class FakeSide:
    """A side that gives rates from a list."""

    def __init__(self, name: str, rates: list[float], calls: list[str]) -> None:
        self.name = name
        self._rates = rates
        self._calls = calls

    def measure(self, cell: Cell) -> float:
        self._calls.append(f"{self.name} {cell.name}")
        return self._rates.pop(0)

    def weight_bytes(self) -> int:
        return 100_000_000


class FakeMachine:
    """A machine whose memory is as fast as calls were made."""

    threads = 2

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def bandwidth(self) -> float:
        self._calls.append("probe")
        return float(len(self._calls))


def comparison(cell: Cell = DECODE, **rates: list[float]) -> Comparison:
    """Rates of each side beside a bandwidth of 50 GB/s; the first side is ours."""
    samples = {name: [Sample(rate, 50.0, 0.0) for rate in of_side] for name, of_side in rates.items()}
    return Comparison(cell, next(iter(rates)), samples)


def test_the_last_line_of_json_counts() -> None:
    """Programs print other things around their result."""
    assert last_json('loading\n{"a": 1}\n{"a": 2}\ndone\n') == {"a": 2}


def test_output_without_json_is_an_error() -> None:
    """The error shows what was printed instead."""
    with pytest.raises(ValueError, match="no model"):
        last_json("no model\n")


def test_rates_are_read_from_the_programs_of_llama_cpp() -> None:
    """llama-bench gives the prompt's rate; llama-batched-bench the generation's apart from the prompts'."""
    assert prefill_rate('{"n_prompt": 512, "n_gen": 0, "avg_ts": 895.5, "stddev_ts": 1.0}\n') == 895.5
    line = '{"n_kv_max": 2048, "pl": 8, "speed_pp": 900.0, "speed_tg": 298.25, "speed": 500.0}'
    assert decode_rate(f"\n{line}\n\nllama_perf_context_print: done\n") == 298.25


def test_sides_take_turns_with_the_bandwidth_probed_before_each() -> None:
    """A round is one measurement of every side in the order given."""
    calls: list[str] = []
    sides = [FakeSide("ours", [1.0, 2.0], calls), FakeSide("peer", [3.0, 4.0], calls)]

    found = compare(DECODE, sides, 2, FakeMachine(calls))
    assert calls == ["probe", "ours b1", "probe", "peer b1"] * 2
    assert found.ours == "ours"
    assert [(sample.rate, sample.bandwidth) for sample in found.samples["peer"]] == [(3.0, 3.0), (4.0, 7.0)]


def test_what_is_neither_idle_nor_ours_is_others() -> None:
    """Two cores worked three of four seconds in two; one and a half were ours."""
    start, end = Moment(clock=10.0, busy=100.0, own=5.0), Moment(clock=12.0, busy=103.0, own=6.5)
    assert start.others_until(end, 2) == pytest.approx(1.5 / 4)
    assert end.others_until(Moment(clock=13.0, busy=103.0, own=6.6), 2) == 0.0


def test_the_faster_peer_has_the_highest_median() -> None:
    """A single fast run makes no peer the faster one, and our side is none."""
    found = comparison(ours=[90.0, 90.0, 90.0], a=[1.0, 10.0, 99.0], b=[11.0, 12.0, 13.0])
    assert faster_peer(found) == "b"
    assert ratio_of_medians(found) == 90.0 / 12.0


def test_rounds_are_compared_with_whoever_was_faster_in_them() -> None:
    """The median of ratios doesn't mix figures of different rounds."""
    found = comparison(ours=[10.0, 20.0, 30.0], a=[5.0, 40.0, 10.0], b=[10.0, 20.0, 15.0])
    assert median_of_ratios(found) == 1.0


def test_a_token_at_batch_1_reads_every_weight() -> None:
    """The share of the bandwidth is bytes times rate, over the bandwidth beside it."""
    samples = [Sample(100.0, bandwidth, 0.0) for bandwidth in (50.0, 25.0, 20.0)]
    assert memory_share(samples, 100_000_000) == pytest.approx(10 / 25)


def test_a_prefill_multiplies_every_row_with_the_layers_and_one_with_the_output() -> None:
    """The output is of the last token alone; a multiplication and an addition are two operations."""
    assert prefill_operations(SMALL, 10) == 2 * (10 * SMALL_LAYER + 16 * 4)


def test_the_share_of_the_peak_is_operations_over_time() -> None:
    """A prompt's rate divided by its length is prompts a second."""
    operations = prefill_operations(SMALL, PREFILL.prompt)
    samples = [Sample(2.0 * PREFILL.prompt, 50.0, 0.0)]
    assert compute_share(samples, PREFILL, SMALL, operations / 1e9 * 4) == pytest.approx(0.5)


def test_the_narrowest_type_that_the_machine_has_is_the_limit() -> None:
    """Without int8 instructions the limit is the next type's."""
    assert best_peak({"f32": 500, "bf16": 900, "int8": 2000}) == 2000
    assert best_peak({"f32": 500}) == 500
    assert best_peak({}) is None


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [("q0f32", 4), ("q8f32_1", 1 + 2 / 64), ("q4f16_1", 0.5 + 2 / 32), ("q4f32_1", 0.5 + 4 / 32)],
)
def test_a_weight_has_a_share_of_its_scale(quantization: str, expected: float) -> None:
    """Scales are read with the weights."""
    assert bytes_of_weight(quantization) == expected


def test_a_tied_embedding_is_read_once() -> None:
    """The rows of a few tokens that are looked up count for nothing; norms neither."""
    assert matrix_size(SMALL) == SMALL_LAYER + 16 * 4
    assert matrix_size(SHAPES["smollm2-135m"]) == pytest.approx(135e6, rel=0.01)


def test_a_token_reads_its_own_experts_alone() -> None:
    """Two of four experts, but all of the router and of what is no expert."""
    shape = replace(SMALL, model_type="mixtral", experts=Experts(number=4, active=2))
    attention, expert, router, embedding = SMALL_LAYER - 3 * 8 * 4, 3 * 8 * 4, 4 * 4, 16 * 4
    read = attention + 2 * expert + router + embedding
    assert matrix_size(shape) == read
    assert shape.share_of_a_token == read / (read + 2 * expert)
    assert prefill_operations(shape, 10) == 2 * (10 * (read - embedding) + embedding)


def test_medians_come_with_their_range() -> None:
    """Large figures are whole, small ones have three digits."""
    assert median_and_range([241.4, 250.0, 230.0]) == "241 (230 to 250)"
    assert median_and_range([1.23456]) == "1.23 (1.23 to 1.23)"


def test_a_row_has_each_side_the_ratio_and_the_shares() -> None:
    """At batch 1 the limit is memory."""
    names = ("ours", "a", "b")
    found = comparison(ours=[250.0], a=[125.0], b=[100.0])
    cells = row(found, [FakeSide(name, [], []) for name in names], SMALL, {"int8": 2000.0})
    assert cells["ours"] == "250 (250 to 250)"
    assert (cells["faster peer"], cells["ratio"]) == ("a", "2.00")
    assert cells["share of the limit"] == "50%, 25%, 20%"


def test_a_row_of_a_batch_has_no_share() -> None:
    """Between memory and arithmetic no single limit holds."""
    found = comparison(CELLS[1], ours=[250.0], a=[125.0])
    sides = [FakeSide(name, [], []) for name in ("ours", "a")]
    assert row(found, sides, SMALL, {"f32": 500.0})["share of the limit"] == "-, -"


def test_programs_get_every_sample() -> None:
    """A record holds what the table leaves out."""
    found = record(comparison(ours=[1.0], a=[2.0]))
    assert found["cell"] == "b1"
    assert found["samples"] == {
        "ours": [{"tokens_per_s": 1.0, "memory_gb_s": 50.0, "others": 0.0}],
        "a": [{"tokens_per_s": 2.0, "memory_gb_s": 50.0, "others": 0.0}],
    }


def served_round(rate: float) -> dict[str, dict[str, dict[str, float]]]:
    """What one round of servers gives."""
    times = {"ttft_p50_ms": 10.0, "ttft_p95_ms": 20.0, "itl_p50_ms": 3.0, "itl_p95_ms": 4.0}
    probes = {
        "longest_gap_ms": 60.0,
        "longest_to_median_gap": 3.0,
        "long_ttft_ms": 500.0,
        "short_ttft_ms": 90.0,
    }
    server = {clients: {"tokens_per_s": rate, **times} for clients in ("8", "32")}
    library = {clients: {"tokens_per_s": 200.0} for clients in ("8", "32")}
    return {"ours": {**server, "probes": probes}, "library": library}


def test_servers_have_a_row_for_each_number_of_clients() -> None:
    """A library without a server has a rate and no times."""
    rows = load_rows([served_round(90.0), served_round(100.0), served_round(130.0)], "ours")
    assert [(one["clients"], one["server"]) for one in rows] == [
        ("8", "ours"),
        ("8", "library"),
        ("32", "ours"),
        ("32", "library"),
    ]
    assert rows[0]["tokens/s"] == "100 (90 to 130)"
    assert rows[0]["TTFT p50 / p95 ms"] == "10 / 20"
    assert (rows[1]["ours / it"], rows[1]["ITL p50 / p95 ms"]) == ("0.50", "-")


def test_probes_are_of_servers_alone() -> None:
    """What has no server is not probed."""
    (only,) = probe_rows([served_round(1.0)])
    assert only["server"] == "ours"
    assert only["longest / median gap"] == 3.0
    assert only["TTFT behind a burst ms"] == 90.0


def test_a_gap_counts_if_the_long_prompt_was_there_for_any_of_it() -> None:
    """What a stream waited for before and after is not the long prompt's doing."""
    stream = Record(0.0, [(at, 1) for at in (1.0, 2.0, 4.0, 4.5, 6.0, 9.0)])
    assert gaps_during(stream, 3.0, 5.0) == [2.0, 0.5, 1.5]
