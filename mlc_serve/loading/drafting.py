"""What drafts for a model, in the order in which it is loaded: what it takes of the memory, then itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.config import EngineConfig
from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.engine.speculation.adaptive_lengths import AdaptiveLengths
from mlc_serve.engine.speculation.draft_lengths import DraftLengths, FixedLengths
from mlc_serve.engine.speculation.ngram import NGram
from mlc_serve.engine.speculation.proposer import NoDrafts, Proposer
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.errors import CheckpointError, ConfigError
from mlc_serve.loading.artifacts import Report
from mlc_serve.loading.library import find_library
from mlc_serve.loading.weights import find_weights
from mlc_serve.runtime.companion import Companion
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.small_draft import SmallDraft


class Drafter(NamedTuple):
    """What drafts, and what is told of the model's sequences for it, if anything."""

    proposer: Proposer
    companion: Companion | None = None


class Drafting(Protocol):
    """What drafts for a model, before the limits are known."""

    def info_with(self, info: ModelInfo) -> ModelInfo:
        """What limits are inferred from if this drafts for the model."""

    def start(self, limits: EngineLimits, info: ModelInfo, report: Report) -> Drafter:
        """Load what drafts for the model."""


@dataclass(frozen=True)
class WithoutModel:
    """Implements Drafting for a proposer that takes no memory to speak of."""

    proposer: Proposer

    def info_with(self, info: ModelInfo) -> ModelInfo:
        """See Drafting."""
        return info

    def start(self, limits: EngineLimits, info: ModelInfo, report: Report) -> Drafter:  # noqa: ARG002
        """See Drafting."""
        return Drafter(self.proposer)


@dataclass(frozen=True)
class WithSmallModel:
    """Implements Drafting for a second model with the same tokens."""

    checkpoint: Checkpoint
    library: Library

    def info_with(self, info: ModelInfo) -> ModelInfo:
        """See Drafting."""
        return info.with_draft_model(self.library.info)

    def start(self, limits: EngineLimits, info: ModelInfo, report: Report) -> Drafter:
        """See Drafting."""
        weights = find_weights(self.checkpoint, self.library, report)
        longest = min(limits.max_single_sequence_length, self.library.info.context_window_size)
        own = replace(limits, max_single_sequence_length=longest)
        draft = SmallDraft(self.library, weights, own, info.vocab_size)
        return Drafter(draft, draft)


def find_drafting(
    config: EngineConfig, checkpoint: Checkpoint, library: Library, place: DeviceName, report: Report
) -> Drafting:
    """Return what drafts for a model as the configuration says. Raises StartupError."""
    mode = config.speculative_mode
    if mode == "disable":
        return WithoutModel(NoDrafts())
    if library.is_recurrent:
        raise ConfigError(
            f"speculative_mode = {mode} is not supported for {checkpoint.model_type}: its layers keep a "
            "recurrent state, which computes drafts one after another, so that they would gain nothing"
        )
    if mode == "ngram":
        return WithoutModel(NGram())
    return _small_model(config, checkpoint, place, report)


def speculation_for(config: EngineConfig, drafter: Drafter) -> Speculation:
    """Return the speculation of an engine with a drafter."""
    if config.speculative_mode == "disable":
        return Speculation.none()
    length = config.spec_draft_length
    lengths: DraftLengths = FixedLengths(length) if length else AdaptiveLengths()
    return Speculation(drafter.proposer, lengths)


def _small_model(
    config: EngineConfig, target: Checkpoint, place: DeviceName, report: Report
) -> WithSmallModel:
    (entry,) = config.additional_models
    path, library_path = (entry, None) if isinstance(entry, str) else entry
    checkpoint = open_checkpoint(locate(path))
    _check_tokens(target, checkpoint, path)
    own = EngineConfig(
        model=path, model_lib=library_path, opt=config.opt, quantization=_scheme(config, checkpoint)
    )
    library = find_library(own, checkpoint, place, report)
    if library.is_recurrent:
        raise ConfigError(f"{path} can't draft: its layers keep a recurrent state")
    return WithSmallModel(checkpoint, library)


def _scheme(config: EngineConfig, checkpoint: Checkpoint) -> str | None:
    """The scheme of the model that drafts: as set for both, unless its weights are quantized already."""
    return None if checkpoint.quantization is not None else config.quantization


def _check_tokens(target: Checkpoint, draft: Checkpoint, path: str) -> None:
    """Raise CheckpointError unless all tokens of both models are the same."""
    if target.tokenizer.vocabulary() != draft.tokenizer.vocabulary():
        raise CheckpointError(
            f"{path} can't draft for {target.directory.name}: their vocabularies differ, so that a token of "
            "one means another text in the other"
        )
