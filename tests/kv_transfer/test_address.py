"""The address of a transfer, which callers pass on unread."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError
from mlc_serve.kv_transfer.address import Address
from mlc_serve.kv_transfer.terms import Terms, prompt_hash

TERMS = Terms("demo q8f32", "a1 16 4096", prompt_hash([1, 2, 3]), 8192)
ADDRESS = Address(["shm", "tcp"], "127.0.0.1", 4000, "ab" * 32, "cd" * 16, TERMS, 16, 49)


def written(fields: object) -> str:
    """A text in the form of an address."""
    return base64.b64encode(json.dumps(fields).encode()).decode()


def fields_of(address: Address) -> dict[str, Any]:
    """What an address says."""
    fields: dict[str, Any] = json.loads(base64.b64decode(address.encoded()))
    return fields


@pytest.mark.parametrize(
    "address", [ADDRESS, replace(ADDRESS, start=49), replace(ADDRESS, transports=["tcp"])]
)
def test_an_address_is_read_as_it_was_written(address: Address) -> None:
    """All of it crosses the wire, also if nothing needs to be sent."""
    assert Address.decoded(address.encoded()) == address


def test_fields_of_later_versions_are_ignored() -> None:
    """Fields and transports that are not known make no difference."""
    fields = fields_of(ADDRESS)
    fields.update(colour="red", transport=["rdma", *fields["transport"]])
    assert Address.decoded(written(fields)) == ADDRESS


@pytest.mark.parametrize("slots", [[0], [1, 16, 32]])
def test_the_slots_of_an_mlc_engine_are_refused(slots: list[int]) -> None:
    """MLC's form, a list of numbers, is told apart from nonsense."""
    with pytest.raises(InvalidRequestError, match=r"that of an MLC engine.*NVSHMEM"):
        Address.decoded(written(slots))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"host": None},
        {"port": 65536},
        {"port": "80"},
        {"token": "../docker.sock"},
        {"instance": ""},
        {"num_bytes": -1},
        {"segments": [[0, 10], [20, 29]]},
        {"segments": [[16, 34]]},
        {"segments": [["0", 49]]},
        {"segments": 0},
        {"transport": "tcp"},
        {"end": 2**60},
    ],
    ids=str,
)
def test_what_is_not_well_formed_is_refused(change: dict[str, Any]) -> None:
    """Each field is checked, and the refusal names kv_addr_info."""
    with pytest.raises(InvalidRequestError) as refusal:
        Address.decoded(written(fields_of(ADDRESS) | change))
    assert refusal.value.param == "kv_addr_info"


@pytest.mark.parametrize(
    "text", ["", "x", "kv://1", "ä", written("text"), base64.b64encode(b"[" * 5000).decode(), "A" * 9000]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Text that is no address at all is refused, however long or deep it is."""
    with pytest.raises(InvalidRequestError, match="kv_append_metadata"):
        Address.decoded(text)


@pytest.mark.parametrize(
    ("field", "value"), [("model", "x"), ("layout", "x"), ("prompt", "x"), ("num_bytes", 1)]
)
def test_terms_name_the_first_difference(field: str, value: Any) -> None:
    """Both sides' values are in the refusal."""
    TERMS.require_equal(TERMS)
    with pytest.raises(InvalidRequestError, match=rf"{field} is .* on this server and '?{value}'? on the"):
        TERMS.require_equal(replace(TERMS, **{field: value}))


def test_prompts_of_other_tokens_have_other_hashes() -> None:
    """Neither the order nor the borders of tokens can be confused."""
    prompts = [[1, 2], [2, 1], [1, 2, 0], [258], [513]]
    assert len({prompt_hash(prompt) for prompt in prompts}) == len(prompts)
