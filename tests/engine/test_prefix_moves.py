"""Prefixes move out of an engine's memory and back, or into another engine's, and change no token."""

from __future__ import annotations

import random

import pytest

from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.sequence_pages import PageLayout, SequencePages
from mlc_serve.testing import FakeKVCache, FakePrefixStore
from tests.engine.bench import Bench, oracle

PROMPT = b"a prompt of some pages, and then some"


def bring_back(bench: Bench, store: FakePrefixStore, prompt: bytes, namespace: str = "") -> int:
    """Bring in all pages of a prompt that are stored and not cached, and return how many tokens then are."""
    prefix, moves = Prefix(namespace, prompt), bench.core.prefixes
    held, stored = moves.length(prefix), store.length(prefix)
    return moves.bring_in(prefix, store.read(prefix, held, stored)) if stored > held else held


def store_all(bench: Bench) -> None:
    """Store all that an engine keeps."""
    while bench.core.prefixes.offer_next():
        pass


def kept_by(bench: Bench, prompt: bytes = PROMPT) -> None:
    """Let an engine compute a prompt, so that its prefix cache keeps it."""
    bench.submit("first", prompt)
    bench.finish()


def test_what_is_evicted_comes_back() -> None:
    """A prefix that had to make room is offered to the store, and then serves a request again."""
    store = FakePrefixStore(4)
    bench = Bench(num_pages=16, store=store)
    kept_by(bench)
    assert store.length(Prefix("", PROMPT)) == 0
    bench.submit("other", b"x" * 60, max_tokens=1)
    bench.finish()
    assert bench.core.prefixes.length(Prefix("", PROMPT)) == 0
    assert store.length(Prefix("", PROMPT)) == 36
    assert bring_back(bench, store, PROMPT) == 36
    bench.submit("again", PROMPT)
    bench.finish()
    assert bench.num_cached("again") == 36
    assert bench.output("again") == bench.output("first")


def test_another_engine_goes_on_with_it() -> None:
    """What one engine offers, another one of the same layout uses, behind what it has computed itself."""
    store = FakePrefixStore(4)
    one, other = Bench(store=store), Bench()
    kept_by(one)
    store_all(one)
    kept_by(other, PROMPT[:10] + b"something else")
    assert other.core.prefixes.length(Prefix("", PROMPT)) == 8
    assert bring_back(other, store, PROMPT) == 36
    other.submit("again", PROMPT)
    other.finish()
    assert other.num_cached("again") == 36
    assert other.output("again") == one.output("first")


def test_what_comes_in_pieces_is_kept_as_one() -> None:
    """Each piece replaces the one before it, so that there is one recycled sequence, with its pages alone."""
    kv = FakeKVCache(4, 64)
    store, bench = FakePrefixStore(4), Bench(state=kv)
    source = Bench(store=store)
    kept_by(source)
    store_all(source)
    prefix, moves = Prefix("", PROMPT), bench.core.prefixes
    for start in range(0, 36, 12):
        assert moves.bring_in(prefix, store.read(prefix, start, start + 12)) == start + 12
    assert len(kv.seq_ids) == 1
    assert kv.num_pages - kv.num_free_pages == 9
    bench.core.step()  # which checks that all pages are accounted for


def test_room_is_made_as_far_as_no_request_runs_there() -> None:
    """Recycled sequences make room, running ones do not: then only the first pages come in."""
    store, bench = FakePrefixStore(4), Bench(num_pages=16)
    source = Bench(store=store)
    kept_by(source)
    store_all(source)
    bench.submit("old", b"o" * 30, max_tokens=1)
    bench.finish()
    bench.submit("running", b"r" * 31, max_tokens=20)
    bench.step(3)
    assert bring_back(bench, store, PROMPT) == 4 * (16 - 8)
    assert bench.core.prefixes.length(Prefix("", b"o" * 30)) == 0
    bench.finish()
    assert bench.output("running") == oracle(bench.submit("same", b"r" * 31, max_tokens=20), 64)[0]
    bench.finish()


def test_pages_that_do_not_follow_change_nothing() -> None:
    """Pages behind a gap, of tokens that are cached already, of fewer tokens than they say, or of another
    layout are left out.
    """
    store, bench = FakePrefixStore(4), Bench()
    source = Bench(store=store)
    kept_by(source)
    store_all(source)
    prefix, moves = Prefix("", PROMPT), bench.core.prefixes
    assert moves.bring_in(prefix, store.read(prefix, 8, 20)) == 0
    foreign = SequencePages(PageLayout("another", 4, 32), 0, bytes(64))
    assert moves.bring_in(prefix, foreign) == 0
    assert moves.bring_in(Prefix("", PROMPT[:8]), store.read(prefix, 0, 20)) == 0
    assert moves.bring_in(prefix, store.read(prefix, 0, 20)) == 20
    assert moves.bring_in(prefix, store.read(prefix, 4, 16)) == 20
    assert moves.length(Prefix("other", PROMPT)) == 0
    assert bench.backend.state.num_pages - bench.backend.state.num_free_pages == 5


def test_an_engine_without_a_prefix_cache_takes_nothing() -> None:
    """Its pages stay free."""
    store, bench = FakePrefixStore(4), Bench(prefix_cache_mode="disable")
    source = Bench(store=store)
    kept_by(source)
    store_all(source)
    bring_back(bench, store, PROMPT)
    assert bench.core.prefixes.length(Prefix("", PROMPT)) == 0
    assert not bench.core.prefixes.offer_next()
    assert bench.backend.state.num_free_pages == bench.backend.state.num_pages


def test_a_store_without_room_is_asked_again() -> None:
    """Each part follows the one before it, until the store has everything."""
    store = FakePrefixStore(4, room=2)
    bench = Bench(store=store)
    kept_by(bench)
    lengths = []
    while bench.core.prefixes.offer_next():
        lengths.append(store.length(Prefix("", PROMPT)))
    assert lengths == [8, 16, 24, 32, 36]
    assert not bench.core.prefixes.offer_next()


def test_what_is_evicted_first_is_stored_first() -> None:
    """And what another sequence covers is stored with that one, once."""
    store = FakePrefixStore(4)
    bench = Bench(store=store)
    prompts = [b"oldest prompt", b"middle prompt", b"latest prompt"]
    for number, prompt in enumerate(prompts):
        bench.submit(str(number), prompt, max_tokens=1)
        bench.finish()
    stored = []
    while bench.core.prefixes.offer_next():
        stored.append([store.length(Prefix("", prompt)) for prompt in prompts])
    assert stored == [[12, 0, 0], [12, 12, 0], [12, 12, 12]]
    bench.submit("more", b"oldest prompt, and more", max_tokens=1)
    bench.finish()
    store_all(bench)
    assert store.length(Prefix("", b"oldest prompt, and more")) == 20


def test_a_reset_empties_the_store() -> None:
    """What is forgotten on purpose does not come back."""
    store = FakePrefixStore(4)
    bench = Bench(store=store)
    kept_by(bench)
    store_all(bench)
    bench.core.reset()
    assert store.length(Prefix("", PROMPT)) == 0


@pytest.mark.parametrize("seed", range(40))
def test_any_mix_gives_each_request_the_oracles_tokens(seed: int) -> None:
    """Whatever comes back from the store between any steps, in a cache with few pages, each request has the
    tokens that it gets alone, and no page is lost.
    """
    rng = random.Random(seed)
    store = FakePrefixStore(4, room=rng.choice([None, 1, 3]))
    num_pages = rng.choice([8, 12, 30])
    bench = Bench(
        num_pages=num_pages,
        store=store,
        max_num_sequence=rng.choice([1, 2, 4]),
        max_single_sequence_length=num_pages * 4,
        max_recycling_sequences=rng.choice([None, 1, 3]),
        prefill_chunk_size=rng.choice([3, 8, 32]),
    )
    stems = [b"the same beginning of all ", b"abcdefgh", b""]
    requests = {}
    for i in range(30):
        prompt = (rng.choice(stems) + bytes(rng.choices(b"xyz", k=rng.randint(1, 5))))[: num_pages * 4 - 1]
        namespace = rng.choice(["", "other"])
        if rng.random() < 0.7:
            bring_back(bench, store, prompt, namespace)
        requests[f"r{i}"] = bench.submit(f"r{i}", prompt, namespace=namespace, max_tokens=rng.randint(1, 9))
        bench.step(rng.randint(0, 4))
        if rng.random() < 0.5:
            bench.core.prefixes.offer_next()
    bench.finish()
    for request_id, request in requests.items():
        assert bench.output(request_id) == oracle(request, bench.limits.max_single_sequence_length)[0]
