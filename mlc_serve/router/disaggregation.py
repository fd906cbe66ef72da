"""Disaggregation: some servers compute prompts for the others. Implements MovePolicy."""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.config import RouterConfig
from mlc_serve.router.backend import Backend
from mlc_serve.router.balance import decode_share
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.prefix_map import PrefixMap
from mlc_serve.router.prompt import Prompt, num_tokens_in
from mlc_serve.router.prompt_moves import Move


class Disaggregation:
    """Lets the best server that prefills compute what a decode server would probably have to compute."""

    def __init__(self, fleet: Fleet, prefixes: PrefixMap, config: RouterConfig) -> None:
        self._fleet = fleet
        self._prefixes = prefixes
        self._config = config

    @staticmethod
    def decoders(able: Sequence[Backend]) -> list[Backend]:
        """Return the servers that generate; those that prefill do it only if there are no others."""
        return [backend for backend in able if not backend.prefills] or list(able)

    def choose(self, prompt: Prompt, decoder: Backend) -> Move | None:
        """See MovePolicy."""
        able = [backend for backend in self._fleet.able(prompt.model) if backend.prefills]
        num_new = len(prompt.pages) - self._prefixes.num_matched(decoder.name, prompt.pages)
        if not able or decoder.prefills or num_tokens_in(num_new) < self._config.move_min_tokens:
            return None
        matched = self._prefixes.matched(prompt.pages)
        sender = self._fleet.ranked(able, len(prompt.pages), matched, self._config.load_weight)[0]
        fixed = self._config.decode_share
        return Move(sender, decode_share(sender.load, decoder.load) if fixed is None else fixed)

    def failed(self, sender: Backend, decoder: Backend) -> None:
        """See MovePolicy. The next prompt is a new try."""
