"""What a JSON schema costs and what jumping forward gains: a server's rates with one kind of request beside
another.

    python -m benchmarks.structured_output [--shape smollm2-135m] [--concurrency 8] [--runs 5]

schema beside free text   every request has a schema of a list that is longer than --max-tokens, which ends
                          both kinds of answers; nothing is jumped over, so that every token has its mask
jumps beside draws        every request has a schema of long keys and short values, which ends the answer;
                          what it forces is appended, or, with grammar_execution_mode "constraint", drawn

The two kinds take turns, run by run, so that whatever else the machine does affects both. `tokens_ratio` and
`requests_ratio` are the medians of the first kind divided by those of the second.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import uvloop

from benchmarks import online
from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, settings_of
from mlc_serve.bench.asking import ask_server
from mlc_serve.bench.closed_loop import (
    NoMeasureError,
    Record,
    closed_loop,
    median_of,
    random_prompts,
    summary,
)
from mlc_serve.bench.event_client import EventClient
from mlc_serve.bench.measures import WAVES

Fields = Mapping[str, object]

LIST = {"type": "array", "items": {"type": "string", "minLength": 8, "maxLength": 32}, "minItems": 200}
PARCEL: dict[str, object] = {
    "delivery_confirmation_number": {"type": "integer", "minimum": 0, "maximum": 99},
    "estimated_time_of_arrival_in_hours": {"type": "integer", "minimum": 0, "maximum": 99},
    "requires_signature_on_delivery": {"type": "boolean"},
    "preferred_contact_method": {"enum": ["email", "phone"]},
    "insurance_coverage_category": {"enum": ["none", "basic", "full"]},
    "destination_country_code": {"enum": ["NO", "SE", "DK"]},
}
FORM = {"type": "object", "properties": PARCEL, "required": list(PARCEL), "additionalProperties": False}


@dataclass(frozen=True)
class Comparison:
    """Requests with some fields beside those with others. With `fills`, all answers have `max_tokens` tokens;
    otherwise all are shorter.
    """

    title: str
    fields: Fields
    beside: Fields
    fills: bool


def constrained(schema: Fields, mode: str) -> Fields:
    """The fields of a request for an answer that follows a schema."""
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return {"response_format": response_format, "debug_config": {"grammar_execution_mode": mode}}


COMPARISONS = (
    Comparison("schema beside free text", constrained(LIST, "constraint"), {}, fills=True),
    Comparison(
        "jumps beside draws", constrained(FORM, "jump_forward"), constrained(FORM, "constraint"), fills=False
    ),
)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(concurrency=[8], max_tokens=256)
    settings = settings_of(parser.parse_args())
    with online.server(settings, enable_debug=True) as url:
        rows = uvloop.run(measure(settings, url))
    print_report("structured output", settings.listing(), rows)


async def measure(settings: Settings, url: str) -> list[Row]:
    """A row for each comparison and concurrency."""
    async with EventClient(url) as client:
        return [
            await compare(comparison, client, settings, clients)
            for comparison in COMPARISONS
            for clients in settings.concurrency
        ]


async def compare(comparison: Comparison, client: EventClient, settings: Settings, clients: int) -> Row:
    """The medians of both kinds of requests, and their ratios."""
    asks = {
        prefix: ask_server(client, settings.max_tokens, fields=fields)
        for prefix, fields in {"": comparison.fields, "beside_": comparison.beside}.items()
    }

    async def run(seed: int) -> dict[str, float]:
        prompts = random_prompts(WAVES * clients, settings.prompt_tokens, seed)
        figures: dict[str, float] = {}
        for prefix, ask in asks.items():
            records = await closed_loop(ask, prompts, clients)
            check_lengths(records, settings.max_tokens, fills=comparison.fills)
            figures |= {prefix + name: value for name, value in rates(records).items()}
        return figures

    found = await median_of(settings.runs, run)
    return {
        "measured": comparison.title,
        "concurrency": clients,
        "tokens_ratio": found["tokens_per_s"] / found["beside_tokens_per_s"],
        "requests_ratio": found["requests_per_s"] / found["beside_requests_per_s"],
        **found,
    }


def rates(records: Sequence[Record]) -> dict[str, float]:
    """Tokens and finished requests per second, and the tokens of an answer."""
    tokens = sum(record.num_tokens for record in records) / len(records)
    tokens_per_s = summary(records)["tokens_per_s"]
    return {"tokens_per_s": tokens_per_s, "requests_per_s": tokens_per_s / tokens, "answer": tokens}


def check_lengths(records: Sequence[Record], max_tokens: int, *, fills: bool) -> None:
    """Raise NoMeasureError if an answer ended in another way than the comparison is about."""
    if any((record.num_tokens == max_tokens) != fills for record in records):
        change = "lower: a schema ended" if fills else "higher: it cut off"
        raise NoMeasureError(f"--max-tokens must be {change} an answer")


if __name__ == "__main__":
    main()
