"""How long passes take by batch size, as MLC-LLM reports it."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.engine.plan import Plan

# Larger batches are not reported.
_LARGEST = 64


@dataclass(slots=True)
class _Mean:
    """The seconds of a batch size, without those of its first pass, which includes a warm-up."""

    is_warm: bool = False
    count: int = 0
    total: float = 0.0

    def add(self, seconds: float) -> None:
        if self.is_warm:
            self.total += seconds
            self.count += 1
        self.is_warm = True


class BatchTimes:
    """Mean times of passes without prompts.

    Of passes without drafts (`decode`) and with them (`verify`) by their number of tokens, drafts included;
    and of drafting one token (`draft`) by the number of requests that were drafted for.
    """

    def __init__(self) -> None:
        self._means: dict[str, dict[int, _Mean]] = {"decode": {}, "draft": {}, "verify": {}}

    def ran(self, plan: Plan, seconds: float, draft_seconds: float) -> None:
        """Count the pass of a plan, which took `seconds`, and what drafting for it took."""
        if plan.num_prompt_tokens:
            return
        longest = plan.longest_draft
        if not longest:
            self._add("decode", plan.num_decodes, seconds)
            return
        self._add("verify", plan.num_decode_rows, seconds)
        self._add("draft", sum(bool(entry.draft_ids) for entry in plan.entries), draft_seconds / longest)

    def snapshot(self) -> dict[str, dict[str, float]]:
        """Return the means and the counts under MLC-LLM's names. Without passes of a kind, its name is left
        out.
        """
        kinds = {f"{kind}_time_by_batch_size": _figures(means) for kind, means in self._means.items()}
        return {name: figures for name, figures in kinds.items() if figures}

    def _add(self, kind: str, size: int, seconds: float) -> None:
        if size <= _LARGEST:
            self._means[kind].setdefault(size, _Mean()).add(seconds)


def _figures(means: dict[int, _Mean]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for size, mean in sorted(means.items()):
        if mean.count:
            figures[f"mean{{batch_size={size}}}"] = mean.total / mean.count
            figures[f"count{{batch_size={size}}}"] = mean.count
    return figures
