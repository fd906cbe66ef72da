"""The servers that are attacked: one with default settings, one with keys, few files and short time-outs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.attacks.attack import ANSWER, QUESTION
from tests.e2e.attacks.server import AttackedServer, attacked_server
from tests.scripted_checkpoint import Endless, Reply, write_scripted_checkpoint

# The reply to this question goes on until it is cut off.
STORY = "Tell me a story."
# Model names. BROKEN declares an end-of-sequence id beyond its vocabulary; the template of HOSTILE carries
# out whichever attack the last message of a chat names.
BROKEN, HOSTILE = "broken", "hostile"
KEYS = ("first key", "second key, voilà")
FEW_FILES = 128
REPLIES: dict[str, Reply] = {QUESTION: ANSWER, STORY: Endless("Once upon a time there was a fox. ")}
HOSTILE_TEMPLATE = """\
{%- set order = messages[-1].content %}
{%- if order == 'budget' %}
  {%- set __step_budget__ = 1 %}
  {%- for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}
{%- elif order == 'filter' %}{{ (range(99999) | list * 500) | join | length }}
{%- elif order == 'repeat' %}{{ 'x' * (order | length * 500000000) }}
{%- elif order == 'pad' %}{{ ('%' ~ order | length ~ '000000000d') | format(1) }}
{%- elif order == 'cycler' %}{{ cycler().next() }}
{%- elif order == 'recursion' %}
  {%- macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}
{%- elif order == 'join' %}<|user|>{{ '<|' ~ messages[0].name ~ '|>' }}
{%- else %}<|user|>{{ order }}{{ title or '' }}
{%- endif %}"""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with three models; `attacked` answers QUESTION with ANSWER, and STORY without end."""
    directory = tmp_path_factory.mktemp("attacked")
    write_scripted_checkpoint(directory / "attacked", REPLIES)
    write_scripted_checkpoint(directory / BROKEN, REPLIES, eos_token_id=[256, 100_000])
    hostile = write_scripted_checkpoint(directory / HOSTILE, REPLIES)
    settings = hostile / "tokenizer_config.json"
    written = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(written | {"chat_template": HOSTILE_TEMPLATE}), encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def attacked(checkpoints: Path) -> Iterator[AttackedServer]:
    """A server with default settings."""
    with attacked_server(checkpoints / "attacked") as server:
        yield server


@pytest.fixture(scope="session")
def impatient(attacked: AttackedServer, checkpoints: Path) -> Iterator[AttackedServer]:
    """A server that requires one of KEYS, may open FEW_FILES files, and has time-outs of one second.

    It serves all three models, and starts after the other server, which compiles for both.
    """
    keys = {"MLC_SERVE_API_KEY": "\n".join(KEYS)}
    patience = [f"--{name}-timeout=1" for name in ("header", "body", "idle", "send")]
    with attacked_server(
        checkpoints / "attacked",
        *("--additional-models", BROKEN, HOSTILE),
        *patience,
        directory=checkpoints,
        max_files=FEW_FILES,
        key=KEYS[1],
        **keys,
    ) as server:
        yield server
