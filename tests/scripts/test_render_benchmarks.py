"""Tables of benchmarks are made from kept runs."""

from __future__ import annotations

import pytest
from render_benchmarks import Comparison, Results

from benchmarks.kept_runs import Machine, Report, Run

MACHINE = Machine(title="Two cores", cpu="C", cores=2, instruction_sets=["AVX2"], notes="A note.")


def printed(shape: str, ours: str) -> Report:
    """A comparison with all columns that benchmarks.peers prints; `ours` is our rate of each row."""
    names = ("decode, batch 1", "decode, batch 8", "decode, batch 32", "prefill of 512")
    rows: list[dict[str, str | int | float]] = [
        {
            "tokens/s": name,
            "mlc_serve": ours,
            "llama.cpp": "20 (19 to 21)",
            "OpenVINO GenAI": "30 (29 to 31)",
            "faster peer": "OpenVINO GenAI",
            "ratio": "1.33",
            "median of rounds' ratios": "1.30",
            "memory GB/s": "50 (50 to 50)",
            "others' use of cores": "at most 2%",
            "share of the limit": "75%, 50%, 60%" if name in (names[0], names[3]) else "-, -, -",
        }
        for name in names
    ]
    return Report(title=f"{shape}: mlc_serve q8f32_1, llama.cpp Q8_0, OpenVINO int8", rows=rows)


def results() -> Results:
    """A machine with two comparisons in as many files, and a run of another kind."""
    runs = {
        f"m-{what}": Run(machine="m", date="2026-11-30", reports=[report])
        for what, report in {
            "offline": Report(title="offline", rows=[{"measured": "decode", "tokens_per_s": 1.5}]),
            "peers-llama3.2-1b": printed("llama3.2-1b", "7 (6 to 8)"),
            "peers-smollm2-135m": printed("smollm2-135m", "40 (39 to 41)"),
        }.items()
    }
    return Results({"m": MACHINE, "n": MACHINE}, runs)


def test_what_the_program_printed_becomes_a_line_of_the_page() -> None:
    """Ranges and the peers' shares are left out, and the smaller shape comes first. A line has three batch
    sizes and prefill.
    """
    peers, ratios = "20 / 20 / 20 / 20 | 30 / 30 / 30 / 30", "1.33 / 1.33 / 1.33 / 1.33"
    lines = results().table("m").splitlines()[2:]
    assert lines == [
        f"| smollm2-135m, 8 bits | 40 / 40 / 40 / 40 | {peers} | {ratios} | 75 % / 75 % |",
        f"| llama3.2-1b, 8 bits | 7 / 7 / 7 / 7 | {peers} | {ratios} | 75 % / 75 % |",
    ]


def test_the_readme_has_the_medians_of_one_shape() -> None:
    """Others are on the page alone."""
    lines = results().short_table("m").splitlines()
    assert lines[0] == "Two cores:"
    assert lines[4:] == [
        "| 8 bits: batch 1 / 8 / 32 | 40 / 40 / 40 | 20 / 20 / 20 | 30 / 30 / 30 |",
        "| 8 bits: prefill of 512 | 40 | 20 | 30 |",
    ]


def test_every_run_is_listed_with_its_ranges() -> None:
    """The list has all columns of all reports."""
    listing = "\n".join(results().listing())
    assert "### offline" in listing
    assert "| decode | 1.5 |" in listing
    assert "75%, 50%, 60%" in listing
    assert "40 (39 to 41)" in listing


def test_a_machine_without_comparisons_has_no_table() -> None:
    """README.md, the list, and the page's table of the only machine that was compared."""
    assert [section.start.split(":")[0] for section in results().sections()] == [
        "<!-- figures",
        "<!-- m",
        "<!-- runs",
    ]


def test_a_comparison_names_its_shape() -> None:
    """Of a title that doesn't, no table can be made."""
    with pytest.raises(ValueError, match="names no shape"):
        Comparison.of(printed("unknown", "1"))
