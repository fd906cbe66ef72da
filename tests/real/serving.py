"""Serves a real model from a process of its own, as users do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import openai
from real_models import RealModel

from mlc_serve import EngineConfig, PopenServer
from tests.patience import PATIENCE
from tests.supervisor.supervised import free_port


@contextmanager
def serving(model: RealModel, quantization: str | None) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK, connected to a server of the model. Without `quantization` the scheme is the default."""
    config = EngineConfig(quantization=quantization, verbose=False)
    port = free_port()
    with (
        PopenServer(
            str(model.directory), "cpu", engine_config=config, enable_debug=False, port=port
        ) as server,
        openai.OpenAI(
            base_url=server.openai_v1_base_url, api_key="any", max_retries=0, timeout=PATIENCE
        ) as client,
    ):
        yield client


def served_name(client: openai.OpenAI) -> str:
    """The name of the only model that the server has."""
    (model,) = client.models.list().data
    return model.id
