"""Write the tables of settings in docs/operations.md from their declarations in mlc_serve/config.

python scripts/render_options.py            writes the file
python scripts/render_options.py --check    exits with 1 if the file is not current
"""

from __future__ import annotations

import sys
from typing import Any

from made_section import DOCS, MadeSection, main, table_row

from mlc_serve.config import (
    DeploymentConfig,
    EngineConfig,
    LaunchConfig,
    RouterConfig,
    ServerConfig,
    StatusServiceConfig,
    SupervisionConfig,
)
from mlc_serve.config.not_yet import NOT_YET
from mlc_serve.config.option import Kind, Option, options_of


def tables() -> str:
    """All settings, by what they belong to, and what is not built yet."""
    titles = {
        "Engine": EngineConfig,
        "Server": ServerConfig,
        "Launch": LaunchConfig,
        "Supervisor": SupervisionConfig,
        "Status service of the supervisor": StatusServiceConfig,
        "Router": RouterConfig,
        "Deployment on Ray Serve": DeploymentConfig,
    }
    parts = [f"### {title}\n\n{_table(config)}" for title, config in titles.items()]
    return "\n".join([*parts, f"### Not built yet\n\n{_not_yet_table()}"])


def _table(config: type[Any]) -> str:
    rows = [_row(name, default, declared) for name, default, declared in options_of(config)]
    return "\n".join(["| field | flag | override | default | meaning |", "|---|---|---|---|---|", *rows, ""])


def _row(name: str, default: object, declared: Option) -> str:
    flags = "<br>".join(f"`{flag}`" for flag in declared.flags)
    override = f"`{declared.override}`" if declared.override else ""
    cells = (f"`{name}`", flags, override, _default(default), f"{declared.help} {_values(declared)}".strip())
    return table_row(*cells)


def _default(default: object) -> str:
    if default is None or default == ():
        return ""
    if isinstance(default, tuple):
        return "`[" + ", ".join(f'"{entry}"' for entry in default) + "]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _values(declared: Option) -> str:
    bounded = declared.minimum is not None or bool(declared.choices)
    plain = declared.kind in {Kind.TEXT, Kind.BOOLEAN, Kind.TEXTS, Kind.MODELS}
    return f"({declared.expected})" if bounded or not plain else ""


def _not_yet_table() -> str:
    rows = [
        f"| `{name}` | {', '.join(_allowed(value) for value in entry.allowed)} | {entry.reason} |"
        for name, entry in NOT_YET.items()
    ]
    return "\n".join(["| field | allowed | why |", "|---|---|---|", *rows, ""])


def _allowed(value: object) -> str:
    return "unset" if value is None else f"`{value}`"


SECTION = MadeSection(
    DOCS / "operations.md",
    "<!-- settings: made by scripts/render_options.py -->",
    "<!-- end of settings -->",
    tables,
)

if __name__ == "__main__":
    sys.exit(main(__doc__, [SECTION]))
