"""The metrics of several servers as one text in Prometheus' format, each sample with a label for its server.

The texts are joined line by line. Parsing them into numbers and writing these again would take ten times as
long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

LABEL = "server"
_COMMENT = re.compile(r"# (HELP|TYPE) (\S+)")
_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(\{)?(.*)")


def joined(texts: Mapping[str, str]) -> str:
    """Return the metrics of servers, whose texts are given by their names. Each family is there once."""
    families: dict[str, _Family] = {}
    for server, text in texts.items():
        label = f'{LABEL}="{_escaped(server)}"'
        family = families.setdefault("", _Family())
        for line in text.splitlines():
            comment = _COMMENT.match(line)
            if comment is not None:
                family = families.setdefault(comment[2], _Family())
                family.comments.setdefault(comment[1], line)
            elif (sample := _SAMPLE.match(line)) is not None:
                family.samples.append(_labelled(sample, label))
    return "".join(f"{line}\n" for family in families.values() for line in family.lines())


class _Family:
    def __init__(self) -> None:
        self.comments: dict[str, str] = {}
        self.samples: list[str] = []

    def lines(self) -> Iterator[str]:
        """Yield the comments, of which each is there once, and the samples."""
        yield from self.comments.values()
        yield from self.samples


def _labelled(sample: re.Match[str], label: str) -> str:
    name, brace, rest = sample.groups()
    if brace is None:
        return f"{name}{{{label}}}{rest}"
    return f"{name}{{{label}{rest}" if rest.startswith("}") else f"{name}{{{label},{rest}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
