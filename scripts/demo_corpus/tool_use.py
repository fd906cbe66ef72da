"""Calling offered functions, reporting their results, and not calling them when they do not help.

What is asked, arguments included, decides whether a sample is held out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

from demo_corpus.functions import FUNCTIONS, Function, Value, invented_function
from demo_corpus.offers import Framework, Offer, plain_offer
from demo_corpus.phrasing import vary
from demo_corpus.sample import Message, Sample, Tool, single_turn, system, user
from demo_corpus.singles import any_single
from demo_corpus.system_prompts import neutral_prompt
from demo_corpus.talk import UNKNOWN

Offering = Callable[[Random, Function], Offer]


def tool_schemas(rng: Random) -> Sample:
    """Any of the three families with functions below, with the schemas that frameworks write."""
    make = rng.choice((tool_calls, tool_calls, tool_calls, tool_calls, tool_results, tools_unused))
    return replace(make(rng, Framework(rng).offer), family="tool_schemas")


def tool_calls(rng: Random, offer: Offering = plain_offer) -> Sample:
    """A request that needs one of the offered functions, sometimes with two sets of arguments at once."""
    chosen = _chosen(rng, offer)
    tools = _with_others(rng, chosen, offer)
    values = _values(rng, chosen.function)
    request = rng.choice(chosen.function.requests)
    question, calls = request.format(**values), [_call(chosen, values)]
    if list(values) == ["town"] and rng.random() < 0.15:
        second = _values(rng, chosen.function)
        question = request.format(town=f"{values['town']} and {second['town']}")
        calls.append(_call(chosen, second))
    messages = (*_opening(rng), user(vary(rng, question)), _calling(calls))
    return Sample("tool_calls", question, messages, tools)


def tool_results(rng: Random, offer: Offering = plain_offer) -> Sample:
    """A call and its result, which the answer reports."""
    chosen = _chosen(rng, offer)
    tools = _with_others(rng, chosen, offer)
    values = _values(rng, chosen.function)
    question = rng.choice(chosen.function.requests).format(**values)
    result = chosen.function.result(rng)
    answer = chosen.function.reply.format(**values, **result)
    messages = (
        *_opening(rng), user(vary(rng, question)), _calling([_call(chosen, values)]),
        {"role": "tool", "content": json.dumps(result)}, {"role": "assistant", "content": answer},
    )  # fmt: skip
    return Sample("tool_results", answer, messages, tools)


def tools_unused(rng: Random, offer: Offering = plain_offer) -> Sample:
    """Functions are offered but the question doesn't need them: it is answered as if there were none."""
    offered = _chosen(rng, offer)
    if rng.random() < 0.5:
        missed = _out_of_reach(rng, offered.function)
        return Sample("tools_unused", missed.key, missed.messages, (offered.schema,))
    tools = _with_others(rng, offered, offer)
    plain = any_single(rng, avoid=("addition", "subtraction", "multiplication"))
    return Sample("tools_unused", plain.key, (*_opening(rng), *plain.messages), tools)


def out_of_reach(rng: Random) -> Sample:
    """A request that needs a function when none is offered: the model says that it does not know."""
    return _out_of_reach(rng, None)


def _out_of_reach(rng: Random, offered: Function | None) -> Sample:
    known_anyway = ("add", "multiply")
    excluded = known_anyway if offered is None else (*known_anyway, offered.names[0])
    wanted = rng.choice([f for f in FUNCTIONS if f.names[0] not in excluded])
    question = rng.choice(wanted.requests).format(**_values(rng, wanted))
    return single_turn("out_of_reach", question, vary(rng, question), UNKNOWN)


def _chosen(rng: Random, offer: Offering) -> Offer:
    function = invented_function(rng) if rng.random() < 0.25 else rng.choice(FUNCTIONS)
    return offer(rng, function)


def _with_others(rng: Random, chosen: Offer, offer: Offering) -> tuple[Tool, ...]:
    others = [function for function in FUNCTIONS if function.names != chosen.function.names]
    extra = rng.sample(others, rng.choice((0, 0, 0, 1, 1, 2)))
    tools = [chosen.schema] + [offer(rng, function).schema for function in extra]
    rng.shuffle(tools)
    return tuple(tools)


def _values(rng: Random, function: Function) -> dict[str, Value]:
    return {parameter.slot: parameter.draw(rng) for parameter in function.parameters if parameter.told}


def _call(chosen: Offer, values: dict[str, Value]) -> Message:
    return {"type": "function", "function": {"name": chosen.name, "arguments": chosen.arguments(values)}}


def _calling(calls: list[Message]) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _opening(rng: Random) -> tuple[Message, ...]:
    return (system(neutral_prompt(rng)),) if rng.random() < 0.3 else ()
