"""Functions that measure a model in this process, or a server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from tqdm import tqdm

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.bench.asking import ask_engine, ask_server
from mlc_serve.bench.closed_loop import NoMeasureError
from mlc_serve.bench.event_client import EventClient, ReplyError
from mlc_serve.bench.measures import Row, measure_decode, measure_load, measure_prefill
from mlc_serve.chat.remote_source import RemoteSource
from mlc_serve.config import EngineConfig, LaunchConfig, Workload
from mlc_serve.errors import ConfigError, RemoteServerError, RequestError, StartupError
from mlc_serve.interface.in_process import load_in_process

_PAGE = 16
Measure = Callable[[], Awaitable[Row]]


def bench_in_process(
    engine: EngineConfig,
    launch: LaunchConfig,
    workload: Workload,
    prefill_tokens: int,
    batches: Sequence[int],
) -> list[Row]:
    """Measure the prefill of one prompt and the decode of each batch; one row each. Raises StartupError.

    Limits that are not set are made large enough. The prefix cache is off, because it would save the work
    that is measured.
    """
    config = _large_enough(engine, workload, prefill_tokens, max(batches))
    running = AsyncMLCEngine.from_loaded(load_in_process(config, launch))
    ask_for = partial(ask_engine, running)
    measures: list[Measure] = [lambda: measure_prefill(ask_for(1), prefill_tokens, workload.runs)]
    measure = partial(measure_decode, ask_for, workload, drafts=engine.speculative_mode != "disable")
    measures += [partial(measure, batch) for batch in batches]
    try:
        return asyncio.run(_all(measures))
    except RequestError as error:
        raise ConfigError(str(error)) from error
    except NoMeasureError as error:
        raise StartupError(str(error)) from error
    finally:
        running.terminate()


def bench_server(
    url: str,
    model: str | None,
    api_key: str | None,
    workload: Workload,
    concurrency: Sequence[int],
    trust: ssl.SSLContext | None = None,
) -> list[Row]:
    """Measure a server, one row for each number of clients. `url` is the prefix of the API's paths. Without
    `model`, the first served one is used. `trust` has the authorities for https://; without it, they are the
    system's. Raises StartupError.
    """
    try:
        source = RemoteSource(url, model, api_key, trust)
    except RemoteServerError as error:
        raise StartupError(str(error)) from error
    source.close()
    try:
        client = EventClient(url, api_key, trust)
        return asyncio.run(_bench_server(client, url, source.name, workload, concurrency))
    except (NoMeasureError, ReplyError, OSError) as error:
        raise StartupError(f"{url}: {error}") from error


async def _bench_server(
    client: EventClient, url: str, model: str, workload: Workload, concurrency: Sequence[int]
) -> list[Row]:
    path = f"{urlsplit(url).path}/completions"
    async with client:
        ask = ask_server(client, workload.max_tokens, model, path)
        return await _all([lambda n=n: measure_load(ask, workload, n) for n in concurrency])  # type: ignore[misc]


async def _all(measures: Sequence[Measure]) -> list[Row]:
    return [await measure() for measure in tqdm(measures, desc="measuring", disable=None, leave=False)]


def _large_enough(
    engine: EngineConfig, workload: Workload, prefill_tokens: int, largest_batch: int
) -> EngineConfig:
    sequence = max(workload.prompt_tokens + 2 * workload.max_tokens, prefill_tokens + 1) + _PAGE
    return replace(
        engine,
        prefix_cache_mode="disable",
        max_num_sequence=engine.max_num_sequence or largest_batch,
        max_total_sequence_length=engine.max_total_sequence_length or largest_batch * sequence,
    )
