"""Functions that may be offered to the model: their parameters, how people ask for them, and their results.

Names and parameters have several spellings each, so that the model has to read the offer rather than recall
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from demo_corpus.words import NOUNS, OTHER_WORDS, any_name, any_town, invented_word

Value = str | int


@dataclass(frozen=True)
class Parameter:
    """A parameter: the slot it fills in requests and replies, its spellings, JSON type and values.

    choices: all possible values, if they can be listed; told: whether the request states the value.
    """

    slot: str
    names: tuple[str, ...]
    type: str
    draw: Callable[[Random], Value]
    description: str
    choices: tuple[Value, ...] = ()
    optional: bool = False
    told: bool = True


@dataclass(frozen=True)
class Function:
    """A function: its spellings, parameters, requests that need it, results, and the reply with a result."""

    names: tuple[str, ...]
    description: str
    parameters: tuple[Parameter, ...]
    requests: tuple[str, ...]
    result: Callable[[Random], dict[str, Value]]
    reply: str


def _town() -> Parameter:
    return Parameter(
        "town", ("city", "location", "place", "town"), "string", any_town, "The name of the city"
    )


def _number(slot: str, names: tuple[str, ...], top: int, description: str) -> Parameter:
    return Parameter(slot, names, "integer", lambda rng: rng.randint(1, top), description)


def _words(rng: Random) -> str:
    return " ".join(rng.choice(NOUNS + OTHER_WORDS) for _ in range(rng.randint(1, 4)))


_PERSON = Parameter("person", ("to", "recipient", "name", "person"), "string", any_name, "Who it is for")
_TEXT = Parameter("text", ("text", "message", "content", "body"), "string", _words, "The text")
_QUERY = Parameter("query", ("query", "q", "text", "search_term"), "string", _words, "What to look for")
_ITEM = Parameter("item", ("item", "product", "name"), "string", lambda rng: rng.choice(NOUNS), "The item")
_SYMBOL = Parameter(
    "symbol",
    ("symbol", "company", "ticker"),
    "string",
    lambda rng: invented_word(rng).capitalize(),
    "The company",
)
_SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "stormy")

FUNCTIONS = (
    Function(
        ("get_weather", "get_current_weather", "weather", "fetch_weather"),
        "Get the current weather in a city",
        (_town(),),
        ("What is the weather in {town}?", "What's the weather like in {town}?",
        "How is the weather in {town}?",
         "Is it raining in {town}?", "Tell me the weather in {town}.", "How warm is it in {town}?",
         "Weather in {town}?",
         "What is the weather in {town} today?", "What is the weather like in {town} right now?"),
        lambda rng: {"temperature": rng.randint(0, 40), "condition": rng.choice(_SKIES)},
        "It is {temperature} degrees and {condition} in {town}.",
    ),
    Function(
        ("get_time", "get_current_time", "current_time", "clock"),
        "Get the current time in a city", (_town(),),
        ("What time is it in {town}?", "Tell me the time in {town}.", "What is the time in {town}?",
         "What's the time in {town} now?"),
        lambda rng: {"time": f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"},
        "It is {time} in {town}.",
    ),
    Function(
        ("add", "add_numbers", "sum", "plus"), "Add two numbers",
        (_number("a", ("a", "x", "first"), 999, "First number"), _number("b", ("b", "y",
        "second"), 999, "Second number")),
        ("What is {a} + {b}?", "Add {a} and {b}.", "What is {a} plus {b}?", "Calculate {a} + {b}."),
        lambda rng: {"result": rng.randint(2, 1998)},
        "The result is {result}.",
    ),
    Function(
        ("multiply", "multiply_numbers", "product", "times"), "Multiply two numbers",
        (_number("a", ("a", "x", "first"), 999, "First number"), _number("b", ("b", "y",
        "second"), 999, "Second number")),
        ("What is {a} * {b}?", "Multiply {a} by {b}.", "What is {a} times {b}?", "Calculate {a} * {b}."),
        lambda rng: {"result": rng.randint(2, 9999)},
        "The result is {result}.",
    ),
    Function(
        ("send_message", "send_email", "send_text", "message"), "Send a message to someone", (_PERSON, _TEXT),
        ("Send {person} the message: {text}", "Tell {person}: {text}", "Write to {person}: {text}",
         "Send a message to {person} saying {text}"),
        lambda rng: {"status": rng.choice(("sent", "delivered", "queued"))},
        "The message to {person} was {status}.",
    ),
    Function(
        ("search", "web_search", "search_web", "find"), "Search the web", (_QUERY,),
        ("Search for {query}", "Search the web for {query}", "Look up {query}",
        "Find something about {query}"),
        lambda rng: {"results": rng.randint(0, 500)},
        "I found {results} results for {query}.",
    ),
    Function(
        ("set_timer", "start_timer", "timer", "create_timer"), "Set a timer",
        (_number("minutes", ("minutes", "duration", "duration_minutes"), 90, "Length in minutes"),),
        ("Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.",
        "Wake me in {minutes} minutes.",
         "Timer, {minutes} minutes."),
        lambda rng: {"status": rng.choice(("started", "set", "running"))},
        "The timer for {minutes} minutes is {status}.",
    ),
    Function(
        ("get_price", "lookup_price", "price", "item_price"), "Get the price of an item", (_ITEM,),
        ("How much does a {item} cost?", "What is the price of a {item}?", "Price of a {item}?",
        "What does a {item} cost?"),
        lambda rng: {"price": rng.randint(1, 999)},
        "A {item} costs {price} dollars.",
    ),
    Function(
        ("order", "order_item", "buy", "place_order"), "Order items from the shop",
        (_ITEM, _number("quantity", ("quantity", "count", "amount"), 50, "How many")),
        ("Order {quantity} of item {item}.", "Buy {quantity} times {item}.",
        "I want to order {item}, {quantity} pieces.",
         "Please order {item}, quantity {quantity}."),
        lambda rng: {"order_id": rng.randint(100, 9999)},
        "Your order of {quantity} {item} has the number {order_id}.",
    ),
    Function(
        ("get_stock_price", "stock_price", "stock", "get_stock"),
        "Get the stock price of a company", (_SYMBOL,),
        ("What is the stock price of {symbol}?", "How is the {symbol} stock doing?",
        "Get the stock price of {symbol}."),
        lambda rng: {"price": rng.randint(1, 999)},
        "The stock of {symbol} is at {price} dollars.",
    ),
    Function(
        ("get_population", "population", "city_population", "count_people"),
        "Get the population of a city", (_town(),),
        ("How many people live in {town}?", "What is the population of {town}?",
        "Get the population of {town}."),
        lambda rng: {"population": rng.randint(1, 999) * 1000},
        "{population} people live in {town}.",
    ),
    Function(
        ("turn_on", "switch_on", "light_on", "turn_on_light"), "Turn on the light in a room",
        (Parameter("room", ("room", "area", "where"), "string",
                   lambda rng: rng.choice(("kitchen", "garden", "office", "hall", "bedroom", "garage",
                   "cellar")), "The room"),),
        ("Turn on the light in the {room}.", "Switch on the {room} light.", "Light in the {room}, please.",
         "Make it bright in the {room}."),
        lambda rng: {"status": rng.choice(("on", "on now", "already on"))},
        "The light in the {room} is {status}.",
    ),
)  # fmt: skip


def invented_function(rng: Random) -> Function:
    """An unfamiliar function that is asked for by its name. It represents users' own functions."""
    verb = rng.choice(("get", "set", "find", "make", "run", "check", "update"))
    name = f"{verb}_{rng.choice(NOUNS + OTHER_WORDS)}"
    slots = rng.sample(NOUNS + OTHER_WORDS, rng.randint(1, 3))
    parameters = tuple(_invented_parameter(rng, slot) for slot in slots)
    told = " and ".join(f"{slot} {{{slot}}}" for slot in slots)
    requests = (f"Call {name} with {told}.", f"Use {name} with {told}.", f"Run {name} for {told}.")
    result_name = rng.choice(("result", "status", "value"))
    word = rng.choice(NOUNS)
    purpose = f"{name.replace('_', ' ').capitalize()}"
    return Function(
        (name,),
        purpose,
        parameters,
        requests,
        lambda _: {result_name: word},
        f"The {result_name} is {{{result_name}}}.",
    )


def _invented_parameter(rng: Random, slot: str) -> Parameter:
    if rng.random() < 0.4:
        return _number(slot, (slot,), 99, f"The {slot}")
    return Parameter(slot, (slot,), "string", lambda r: r.choice((*NOUNS, invented_word(r))), f"The {slot}")
