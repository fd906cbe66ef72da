"""What both ends of a transfer have to agree on before a byte is sent."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields

from mlc_serve.errors import InvalidRequestError


@dataclass(frozen=True)
class Terms:
    """`model` names the model, how its weights are stored and their hash, `layout` says what the bytes of a
    page mean, and `prompt` is the hash of the tokens to which they belong. `num_bytes` are sent in all.
    """

    model: str
    layout: str
    prompt: str
    num_bytes: int

    def require_equal(self, theirs: Terms) -> None:
        """Raise InvalidRequestError, which names the first difference."""
        for field in fields(Terms):
            own, other = getattr(self, field.name), getattr(theirs, field.name)
            if own != other:
                raise InvalidRequestError(
                    f"kv_addr_info: {field.name} is {_shown(own)} on this server and {_shown(other)} on the "
                    "other one; both must serve the same model in the same way, and get the same prompt.",
                    "kv_addr_info",
                )


def prompt_hash(token_ids: Sequence[int]) -> str:
    """Return a hash of token ids."""
    return hashlib.sha256(array("q", token_ids).tobytes()).hexdigest()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
