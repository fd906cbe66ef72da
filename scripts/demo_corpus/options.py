"""Parameters that a request may omit: how requests state them, and functions that have some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from demo_corpus.functions import Function, Parameter, Value
from demo_corpus.words import NOUNS, OTHER_WORDS, PLAIN_COLOURS


@dataclass(frozen=True)
class Option:
    """An optional parameter, and the words with which a request states its value."""

    parameter: Parameter
    wordings: tuple[str, ...]


def _number(
    slot: str, names: tuple[str, ...], top: int, description: str, wordings: tuple[str, ...]
) -> Option:
    def draw(rng: Random) -> Value:
        return rng.randint(1, top)

    return Option(Parameter(slot, names, "integer", draw, description, optional=True), wordings)


def _choice(
    slot: str,
    names: tuple[str, ...],
    choices: tuple[Value, ...],
    description: str,
    wordings: tuple[str, ...],
) -> Option:
    def draw(rng: Random) -> Value:
        return rng.choice(choices)

    return Option(Parameter(slot, names, "string", draw, description, choices, optional=True), wordings)


_UNIT = _choice(
    "unit", ("unit", "units", "scale"), ("celsius", "fahrenheit"), "The unit of temperature",
    (" in {unit}", ", in {unit}"),
)  # fmt: skip
_DAYS = _number("days", ("days", "num_days", "forecast_days"), 14, "How many days ahead",
                (" for {days} days", ", {days} days"))  # fmt: skip
_CURRENCY = _choice("currency", ("currency", "money"), ("dollars", "euros", "pounds"), "The currency",
                    (" in {currency}", ", in {currency}"))  # fmt: skip
_FORMAT = _choice("format", ("format", "hour_format"), ("12h", "24h"), "How to write the time",
                  (" in {format} format", ", as {format}"))  # fmt: skip
_YEAR = _number("year", ("year", "as_of", "census"), 2030, "The year", (" in {year}", ", year {year}"))
_PRIORITY = _choice("priority", ("priority", "urgency"), ("low", "normal", "high"), "How urgent it is",
                    (". Priority: {priority}.", ". The priority is {priority}."))  # fmt: skip
_LIMIT = _number("limit", ("limit", "max_results", "count"), 20, "How many results",
                 (", {limit} results", ", at most {limit} results"))  # fmt: skip
_SOURCE = _choice("source", ("source", "kind"), ("news", "images", "books"), "Where to look",
                  (", only {source}", ", in the {source}"))  # fmt: skip
_LABEL = Option(
    Parameter("label", ("label", "title"), "string", lambda rng: rng.choice(NOUNS), "Its label",
              optional=True),
    (", label {label}", ". Label: {label}."),
)  # fmt: skip
_COLOUR = _choice("colour", ("colour", "color", "shade"), PLAIN_COLOURS[:4], "The colour",
                  (", colour {colour}", ", in {colour}"))  # fmt: skip
_BRIGHTNESS = _number("brightness", ("brightness", "level", "percent"), 100, "How bright, in percent",
                      (" at {brightness} percent", ", {brightness} percent"))  # fmt: skip
_ROUNDED = _number("decimals", ("decimals", "precision", "digits"), 5, "Decimals of the result",
                   (", {decimals} decimals", " with {decimals} decimals"))  # fmt: skip

_BY_FUNCTION = {
    "get_weather": (_UNIT, _DAYS),
    "get_time": (_FORMAT,),
    "add": (_ROUNDED,),
    "multiply": (_ROUNDED,),
    "send_message": (_PRIORITY,),
    "search": (_LIMIT, _SOURCE),
    "set_timer": (_LABEL,),
    "get_price": (_CURRENCY,),
    "order": (_COLOUR, _PRIORITY),
    "get_stock_price": (_CURRENCY, _YEAR),
    "get_population": (_YEAR,),
    "turn_on": (_BRIGHTNESS, _COLOUR),
}


def with_options(rng: Random, function: Function) -> Function:
    """`function` with none, one or two optional parameters, which its requests may state or omit."""
    for option in _some(rng, function):
        told = rng.random() < 0.5
        wording = rng.choice(option.wordings)
        function = replace(
            function,
            parameters=(*function.parameters, replace(option.parameter, told=told)),
            requests=tuple(_said(r, wording) for r in function.requests) if told else function.requests,
        )
    return function


def _some(rng: Random, function: Function) -> list[Option]:
    known = _BY_FUNCTION.get(function.names[0]) or (_invented(rng, function),)
    return rng.sample(known, min(len(known), rng.choice((0, 1, 1, 2))))


def _invented(rng: Random, function: Function) -> Option:
    taken = {parameter.slot for parameter in function.parameters}
    slot = rng.choice([word for word in NOUNS + OTHER_WORDS if word not in taken])
    wordings = (f", {slot} {{{slot}}}", f" and {slot} {{{slot}}}")
    if rng.random() < 0.3:
        return _number(slot, (slot,), 99, f"The {slot}", wordings)
    return _choice(slot, (slot,), tuple(rng.sample(NOUNS, rng.randint(2, 4))), f"The {slot}", wordings)


def _said(request: str, wording: str) -> str:
    body = request.rstrip(".?!")
    end = "" if wording.endswith(".") else request[len(body) :]
    return f"{body}{wording}{end}"
