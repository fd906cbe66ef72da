"""A reply that is not streamed. Its logprobs become JSON only when it is sent, as they may take megabytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlc_serve.protocol.replies import Reply, Without

Whole_co = TypeVar("Whole_co", bound=Reply, covariant=True)

Pieces = Callable[[], Iterator[str]]

# Quotation marks within texts are escaped, so that these can only be fields.
_GAP = re.compile('"(logprobs|prompt_logprobs)":null')


@dataclass(frozen=True)
class WholeReply(Generic[Whole_co]):
    """`outline` is the reply without logprobs: these fields are null where they will be.

    If the client asked for them, `logprobs` has a function for each of these fields, in order, that yields
    its JSON in pieces; `prompt_logprobs` is the same for those of prompts.
    """

    outline: Whole_co
    logprobs: Sequence[Pieces] = ()
    prompt_logprobs: Sequence[Pieces] = ()

    @property
    def has_logprobs(self) -> bool:
        """Whether the reply has logprobs, so that it may be large."""
        return bool(self.logprobs or self.prompt_logprobs)

    def json(self, without: Without | None = None) -> Iterator[str]:
        """Yield the reply's JSON in pieces, each of which takes about a millisecond to write. The fields in
        `without` are left out.
        """
        outline, written = self.outline.to_json(without), 0
        wanted = {"logprobs": iter(self.logprobs), "prompt_logprobs": iter(self.prompt_logprobs)}
        for gap in _GAP.finditer(outline):
            pieces = next(wanted[gap[1]], None)
            if pieces is not None:
                yield outline[written : gap.end() - len("null")]
                yield from pieces()
                written = gap.end()
        yield outline[written:]

    def typed(self) -> Whole_co:
        """Return the reply as an object."""
        if not self.has_logprobs:
            return self.outline
        kind: type[Whole_co] = type(self.outline)
        return kind.model_validate_json("".join(self.json()))
