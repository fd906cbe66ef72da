"""Answers requests about tokens and prompts, beside the event loop. They need no place, and run no model."""

from __future__ import annotations

from functools import partial

from mlc_serve.api.long_texts import LongTexts
from mlc_serve.frontend.tokenization import answer, tokenizer_info
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.tokenization import TokenizationRequest, TokenizerInfo
from mlc_serve.text.templates.meter import Meter


class Tokenization:
    """Answers one request at a time, on a thread of its own, so that no chat waits for it."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._texts = LongTexts(num_threads=1)

    async def answer(self, request: TokenizationRequest) -> str:
        """Return the reply's JSON, which may be long. Raises what frontend.tokenization.answer raises.

        If the caller is cancelled, the work ends.
        """
        meter = Meter()
        return await self._texts.read(partial(_answer, request, self._model, meter), meter.cancel)

    def info(self) -> TokenizerInfo:
        """Return what a client needs to prepare prompts by itself."""
        return tokenizer_info(self._model)

    def end(self) -> None:
        """Let the thread end. Any thread may call this."""
        self._texts.end()


def _answer(request: TokenizationRequest, model: LoadedModel, meter: Meter) -> str:
    return answer(request, model, meter).to_json()
