"""The items of a conversation as they are stored: JSON texts with an id each. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from mlc_serve.frontend.responses.output import new_id
from mlc_serve.frontend.responses.settings import json_text
from mlc_serve.protocol.responses.items import Item, ItemReference, SentItem, StoredItem, read_item
from mlc_serve.protocol.responses.replies import OutputItem

_ID_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def conversation(
    earlier: Iterable[StoredItem], sent: Iterable[SentItem], referred: Mapping[str, StoredItem]
) -> Iterator[Item]:
    """Yield the items of earlier turns, then those that were sent. `referred` has what references name."""
    yield from map(_read, earlier)
    for item in sent:
        yield _read(referred[item.id]) if isinstance(item, ItemReference) else item


def sent_items(sent: Iterable[SentItem], referred: Mapping[str, StoredItem]) -> list[StoredItem]:
    """Return the items that were sent as they are stored. Those without an id get one."""
    return [referred[item.id] if isinstance(item, ItemReference) else _written(item) for item in sent]


def output_to_store(output: Iterable[OutputItem]) -> list[StoredItem]:
    """Return the items of an output as they are stored."""
    return [StoredItem(item.id, item.to_json().encode()) for item in output]


def _read(item: StoredItem) -> Item:
    return read_item(json.loads(item.text))


def _written(item: Item) -> StoredItem:
    item_id = item.id or new_id(_ID_PREFIXES[item.type])
    return StoredItem(item_id, json_text({"id": item_id, **item.listed()}))
