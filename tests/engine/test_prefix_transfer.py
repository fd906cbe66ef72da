"""PrefixTransfer: prefixes that are moved between two engines, and the pages that they take."""

from __future__ import annotations

import random

import pytest

from mlc_serve.engine.core import why_no_transfer
from mlc_serve.engine.prefix_transfer import PrefixTransfer, ReceivedPrefix
from mlc_serve.engine.request import EngineRequest
from mlc_serve.errors import KVCacheFullError
from mlc_serve.testing import FakeKVCache, FakeRecurrentState, FakeWindowedState
from tests.engine.bench import Bench, limits, oracle

PROMPT = bytes(range(97, 117))  # 20 tokens, 5 pages


def transfer_of(bench: Bench) -> PrefixTransfer:
    """What moves the prefixes of an engine."""
    assert bench.core.prefix_transfer is not None
    return bench.core.prefix_transfer


def computed(prompt: bytes = PROMPT) -> Bench:
    """An engine that has computed a prompt."""
    bench = Bench()
    bench.submit("source", prompt, max_tokens=1)
    bench.finish()
    return bench


def exported(prompt: bytes, start: int, stop: int) -> bytes:
    """The pages of a prompt's tokens at positions [start, stop), from an engine that has computed them."""
    source = computed(prompt)
    held = transfer_of(source).hold(prompt[:stop], "")
    assert held is not None
    data = bytes(transfer_of(source).export(held, start, stop).data)
    transfer_of(source).release(held)
    return data


def received(bench: Bench, prompt: bytes = PROMPT, stop: int = 16) -> ReceivedPrefix:
    """A prefix that an engine has received, as far as it had not computed it."""
    prefix = transfer_of(bench).reserve(prompt[:stop], "", len(prompt) + 4)
    try:
        if not prefix.is_whole:
            transfer_of(bench).append(prefix, exported(prompt, prefix.num_matched, stop))
    except KVCacheFullError:
        transfer_of(bench).let_go(prefix)
        raise
    return prefix


@pytest.mark.parametrize("num_pages", range(1, 6))
@pytest.mark.parametrize("portion", range(1, 4))
def test_a_request_goes_on_with_what_was_received(num_pages: int, portion: int) -> None:
    """However the pages come, a request finds all of them, but for its last token, and draws what it would
    have drawn alone.
    """
    bench, stop = Bench(), 4 * num_pages
    transfer = transfer_of(bench)
    prefix = transfer.reserve(PROMPT[:stop], "", len(PROMPT) + 4)
    for start in range(0, stop, 4 * portion):
        assert not prefix.is_whole
        transfer.append(prefix, exported(PROMPT, start, min(start + 4 * portion, stop)))
    assert prefix.is_whole
    request = bench.submit("a", PROMPT, max_tokens=9)
    bench.finish()
    assert bench.num_cached("a") == min(stop, 16)
    assert bench.output("a") == oracle(request, 64)[0]
    assert bench.sample("kv_received_tokens_total") == stop


def test_only_what_is_missing_is_received() -> None:
    """A prefix begins with what is cached, which is kept from then on, and the rest is appended to it."""
    bench = computed(PROMPT[:8] + b"other")
    transfer = transfer_of(bench)
    prefix = transfer.reserve(PROMPT[:16], "", 24)
    assert prefix.num_matched == 8
    bench.core._cache.make_room(prefix.parked.seq_id, 10_000)
    transfer.append(prefix, exported(PROMPT, 8, 16))
    request = bench.submit("a", PROMPT)
    bench.finish()
    assert (bench.num_cached("a"), bench.output("a")) == (16, oracle(request, 64)[0])


def test_namespaces_are_kept_apart() -> None:
    """What was received for one namespace is found by requests of this namespace alone."""
    bench = Bench()
    prefix = transfer_of(bench).reserve(PROMPT[:16], "mine", 24)
    transfer_of(bench).append(prefix, exported(PROMPT, 0, 16))
    for name, namespace in (("a", "yours"), ("b", "mine")):
        bench.submit(name, PROMPT, namespace=namespace)
        bench.finish()
    assert (bench.num_cached("a"), bench.num_cached("b")) == (0, 16)


def test_promises_are_kept_from_each_other() -> None:
    """Prefixes are promised no more pages than there are, with those of running requests and a page to grow;
    a promise ends with its request.
    """
    bench = Bench(num_pages=20, max_total_sequence_length=80)
    transfer = transfer_of(bench)
    bench.submit("running", b"12345678", max_tokens=20)
    bench.step()
    first = transfer.reserve(PROMPT[:16], "", 40)  # 10 pages, and 4 are the running request's
    with pytest.raises(KVCacheFullError, match="1 pages too few"):
        transfer.reserve(b"x" * 16, "", 28)
    second = transfer.reserve(b"x" * 16, "", 24)
    transfer.append(first, exported(PROMPT, 0, 16))
    with pytest.raises(KVCacheFullError):
        transfer.reserve(b"y" * 4, "", 4)
    transfer.redeem(first)
    third = transfer.reserve(b"y" * 4, "", 24)
    for prefix in (first, second, third):
        transfer.let_go(prefix)
    bench.finish()


def test_what_is_parked_makes_no_room_for_what_is_received() -> None:
    """A prefix may take the pages of recycled sequences, but not those of another one that is parked."""
    bench = Bench(num_pages=16)
    bench.submit("recycled", b"0123456789ab" * 4, max_tokens=1)  # 13 pages
    bench.finish()
    first = received(bench)
    bench.submit("running", b"abcdefgh" * 6, max_tokens=8, namespace="x")
    transfer = transfer_of(bench)
    second = transfer.reserve(b"z" * 12, "", 12)
    bench.step(3)
    assert not first.parked.is_lost
    with pytest.raises(KVCacheFullError, match="full of running requests"):
        transfer.append(second, exported(b"z" * 16, 0, 12))
    transfer.let_go(second)
    transfer.let_go(first)
    bench.finish()


def test_running_requests_go_first() -> None:
    """If they need every page, a parked prefix is lost: no more can be appended, and its request computes all
    tokens itself.
    """
    bench = Bench(num_pages=16)
    transfer = transfer_of(bench)
    prefix = transfer.reserve(PROMPT[:16], "", 24)
    transfer.append(prefix, exported(PROMPT, 0, 8))
    bench.submit("large", b"0123456789" * 6, max_tokens=4)
    bench.finish()
    assert prefix.parked.is_lost
    with pytest.raises(KVCacheFullError, match="make room for running requests"):
        transfer.append(prefix, exported(PROMPT, 8, 16))
    transfer.let_go(prefix)
    request = bench.submit("a", PROMPT)
    bench.finish()
    assert bench.output("a") == oracle(request, 64)[0]


def test_an_incomplete_prefix_is_dropped() -> None:
    """It takes no page and is found by nobody, while a whole one stays until pages are needed."""
    bench = Bench()
    transfer = transfer_of(bench)
    prefix = transfer.reserve(PROMPT[:16], "", 24)
    transfer.append(prefix, exported(PROMPT, 0, 12))
    transfer.let_go(prefix)
    assert bench.backend.state.num_free_pages == 64
    transfer.let_go(received(bench))
    assert bench.backend.state.num_free_pages == 60
    bench.submit("a", PROMPT)
    bench.finish()
    assert bench.num_cached("a") == 16


def test_pages_that_are_not_wanted_change_nothing() -> None:
    """More tokens than the prefix lacks, and anything but whole pages, are refused."""
    bench = Bench()
    transfer = transfer_of(bench)
    prefix = transfer.reserve(PROMPT[:8], "", 24)
    pages = exported(PROMPT, 0, 12)
    for wrong in (pages, pages[:31], b""):
        with pytest.raises(ValueError, match=r"more than|not one or more pages"):
            transfer.append(prefix, wrong)
    assert (prefix.num_here, bench.backend.state.num_free_pages) == (0, 64)


def test_a_prefix_is_held_while_it_is_sent() -> None:
    """Until it is released, it outlives the sequence that it was found in."""
    bench = computed()
    transfer = transfer_of(bench)
    held = transfer.hold(PROMPT[:16], "")
    assert held is not None
    bench.core._cache.make_room(held.seq_id, 10_000)
    assert bytes(transfer.export(held, 4, 16).data) == exported(PROMPT, 4, 16)
    assert bench.sample("kv_sent_tokens_total") == 12
    transfer.release(held)
    assert bench.backend.state.num_free_pages == 64


def test_only_what_is_computed_can_be_held() -> None:
    """A prefix of which a part is missing is not held."""
    transfer = transfer_of(computed())
    assert transfer.hold(PROMPT[:16] + b"else", "") is None
    assert transfer.hold(PROMPT[:16], "other") is None


def test_a_reset_ends_all() -> None:
    """After a reset nothing is parked or promised, and what was is lost."""
    bench = computed()
    transfer = transfer_of(bench)
    prefix, held = transfer.reserve(b"x" * 16, "", 64), transfer.hold(PROMPT[:16], "")
    assert held is not None
    bench.core.reset()
    assert prefix.parked.is_lost
    with pytest.raises(KVCacheFullError):
        transfer.export(held, 0, 4)
    transfer.release(held)
    transfer.let_go(prefix)
    assert bench.backend.state.num_free_pages == 64
    assert transfer.reserve(b"x" * 16, "", 256).num_matched == 0


@pytest.mark.parametrize("seed", range(8))
def test_transfers_change_no_output(seed: int) -> None:
    """Whatever is received, sent, dropped and lost between the steps, every request draws what it would draw
    alone, and all pages are accounted for.
    """
    rng = random.Random(seed)
    bench = Bench(num_pages=20, max_total_sequence_length=80)
    transfer = transfer_of(bench)
    prompts = [bytes(rng.choices(b"ab", k=4)) * rng.randint(1, 6) + b"end" for _ in range(6)]
    requests: dict[str, EngineRequest] = {}
    parked: list[ReceivedPrefix] = []
    for number in range(40):
        prompt = rng.choice(prompts)
        action = rng.choice(["submit", "receive", "let go", "step", "step"])
        if action == "submit":
            name = f"request {number}"
            requests[name] = bench.submit(name, prompt, max_tokens=rng.randint(1, 12))
        elif action == "receive":
            try:
                parked.append(received(bench, prompt, len(prompt) // 4 * 4))
            except KVCacheFullError:
                continue
        elif action == "let go" and parked:
            transfer.let_go(parked.pop(rng.randrange(len(parked))))
        elif bench.core.has_work:
            bench.step()
    bench.finish()
    for name, request in requests.items():
        assert bench.output(name) == oracle(request, 64)[0], name


def test_where_prefixes_stay() -> None:
    """States that are more than pages, and engines without a prefix cache, exchange none, and say why."""
    paged = FakeKVCache(4, 64)
    assert why_no_transfer(limits(), paged) is None
    assert why_no_transfer(limits(prefix_cache_mode="disable"), paged) == "the server has no prefix cache"
    assert why_no_transfer(limits(max_recycling_sequences=0), paged) == "the server has no prefix cache"
    for state in (FakeWindowedState(4, 64, 16), FakeRecurrentState(4, 64)):
        assert "can't be copied" in str(why_no_transfer(limits(), state))
        assert Bench(state=state).core.prefix_transfer is None
    assert Bench(prefix_cache_mode="disable").core.prefix_transfer is None
