"""The reply to a request for embeddings. Its numbers become JSON only when it is sent, as they may take
megabytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlc_serve.protocol.embeddings import Embedding, EmbeddingList, EmbeddingUsage

_PER_PIECE = 16  # vectors, whose JSON takes about a millisecond


@dataclass(frozen=True)
class EmbeddingReply:
    """`vectors` has a row for each input."""

    model: str
    vectors: npt.NDArray[np.float32]
    encoding_format: Literal["float", "base64"]
    usage: EmbeddingUsage

    def json(self) -> Iterator[str]:
        """Yield the reply's JSON in pieces."""
        yield '{"object":"list","data":['
        for first in range(0, len(self.vectors), _PER_PIECE):
            rows = range(first, min(first + _PER_PIECE, len(self.vectors)))
            yield ("," if first else "") + ",".join(map(self._entry, rows))
        yield f'],"model":{json.dumps(self.model)},"usage":{self.usage.to_json()}}}'

    def typed(self) -> EmbeddingList:
        """Return the reply as an object."""
        data = [
            Embedding(object="embedding", index=i, embedding=self._value(i)) for i in range(len(self.vectors))
        ]
        return EmbeddingList(object="list", data=data, model=self.model, usage=self.usage)

    def _entry(self, row: int) -> str:
        value = self._value(row)
        text = f'"{value}"' if isinstance(value, str) else f"[{','.join([format(x, '.9g') for x in value])}]"
        return f'{{"object":"embedding","index":{row},"embedding":{text}}}'

    def _value(self, row: int) -> str | list[float]:
        if self.encoding_format == "base64":
            return base64.b64encode(self.vectors[row].astype("<f4").tobytes()).decode()
        return self.vectors[row].tolist()  # type: ignore[no-any-return]  # NumPy can't know the shape
