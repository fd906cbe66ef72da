"""What drafts for a model, in the order in which it is loaded: what it takes of the memory, then itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.engine.speculation.adaptive_lengths import LONGEST, AdaptiveLengths
from mlc_serve.engine.speculation.draft_lengths import DraftLengths, FixedLengths
from mlc_serve.engine.speculation.ngram import NGram
from mlc_serve.engine.speculation.proposer import NoDrafts, Proposer
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.loading.artifacts import Report
from mlc_serve.loading.draft_model import RECURRENT, DraftModel, decoder_of, recurrent_refusal
from mlc_serve.loading.eagle_model import read_token_ids
from mlc_serve.loading.library import find_eagle_library, find_heads_library, find_library
from mlc_serve.loading.weights import find_eagle_weights, find_weights
from mlc_serve.models.eagle import Eagle, is_of_target
from mlc_serve.runtime.companion import Companion
from mlc_serve.runtime.compiled_rows import rows_for
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.eagle_draft import EagleDraft, EagleFacts
from mlc_serve.runtime.library import Library, ParameterSpec
from mlc_serve.runtime.medusa import Medusa
from mlc_serve.runtime.row_norm import RowNorm
from mlc_serve.runtime.sampler import Sampler
from mlc_serve.runtime.small_draft import SmallDraft


class Target(NamedTuple):
    """The model that is drafted for, with its weights in memory."""

    checkpoint: Checkpoint
    library: Library
    weights: list[Any]

    def weight(self, name: str) -> NDArray[np.float32]:
        """Return a copy of a weight that is no matrix."""
        names = [spec.name for spec in self.library.parameters]
        found: NDArray[np.float32] = self.weights[names.index(name)].numpy().astype(np.float32)
        return found


class Drafter(NamedTuple):
    """What drafts, what is told of the model's sequences for it, if anything, and the most drafts that it can
    make of a request, if there is such a limit.
    """

    proposer: Proposer
    companion: Companion | None = None
    longest: int | None = None


class Drafting(Protocol):
    """What drafts for a model, before the limits are known."""

    def info_with(self, info: ModelInfo) -> ModelInfo:
        """What limits are inferred from if this drafts for the model."""

    def start(self, limits: EngineLimits, target: Target, report: Report) -> Drafter:
        """Load what drafts for the model."""


@dataclass(frozen=True)
class WithoutModel:
    """Implements Drafting for a proposer that takes no memory to speak of."""

    proposer: Proposer

    def info_with(self, info: ModelInfo) -> ModelInfo:
        """See Drafting."""
        return info

    def start(self, limits: EngineLimits, target: Target, report: Report) -> Drafter:  # noqa: ARG002
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

    def start(self, limits: EngineLimits, target: Target, report: Report) -> Drafter:
        """See Drafting."""
        weights = find_weights(self.checkpoint, self.library, report)
        longest = min(limits.max_single_sequence_length, self.library.info.context_window_size)
        own = replace(limits, max_single_sequence_length=longest)
        draft = SmallDraft(self.library, weights, own, target.library.info.vocab_size)
        return Drafter(draft, draft)


@dataclass(frozen=True)
class WithMedusa:
    """Implements Drafting for heads that read the model's last hidden states."""

    draft: DraftModel
    library: Library

    def info_with(self, info: ModelInfo) -> ModelInfo:
        """See Drafting. What a pass of a head takes does not depend on the number of tokens."""
        taken = self.library.param_bytes + sum(self.library.metadata["memory_usage"].values())
        return replace(
            info,
            param_bytes=info.param_bytes + taken,
            max_batch_size=min(info.max_batch_size, self.library.metadata["max_batch_size"]),
        )

    def start(self, limits: EngineLimits, target: Target, report: Report) -> Drafter:  # noqa: ARG002
        """See Drafting."""
        weights = find_weights(self.draft.checkpoint, self.library, report)
        (tap,) = self.draft.taps
        sampler = Sampler(rows_for(target.library))
        medusa = Medusa(self.library, weights, _last_norm(target), tap, sampler)
        return Drafter(medusa, medusa, self.library.metadata["num_heads"])


@dataclass(frozen=True)
class WithEagle:
    """Implements Drafting for a model of one layer that reads the model's hidden states."""

    checkpoint: Checkpoint
    eagle: Eagle
    library: Library
    shared: frozenset[ParameterSpec]  # the weights that are its target's as they are

    def info_with(self, info: ModelInfo) -> ModelInfo:
        """See Drafting. States are kept for up to two passes, and copied for a third one."""
        both = info.with_draft_model(self.library.info)
        kept = 3 * 4 * self.eagle.states_width
        return replace(
            both,
            param_bytes=both.param_bytes - sum(spec.num_bytes for spec in self.shared),
            workspace_bytes_per_token=both.workspace_bytes_per_token + kept,
        )

    def start(self, limits: EngineLimits, target: Target, report: Report) -> Drafter:
        """See Drafting."""
        loaded = zip(target.library.parameters, target.weights, strict=True)
        shared = {spec: weight for spec, weight in loaded if spec in self.shared}
        weights = find_eagle_weights(
            self.checkpoint, self.eagle, target.checkpoint, self.library, shared, report
        )
        facts = EagleFacts(
            taps=self.eagle.taps,
            states_width=self.eagle.states_width,
            hidden_size=self.eagle.hidden_size,
            vocab_size=target.library.info.vocab_size,
            token_ids=read_token_ids(self.checkpoint, self.eagle),
        )
        draft = EagleDraft(self.library, weights, limits, facts)
        return Drafter(draft, draft)


class _Search(NamedTuple):
    """What tells the library of a model that drafts: the settings of the engine, that model, and the one that
    it drafts for, with its library.
    """

    config: EngineConfig
    draft: DraftModel
    target: Checkpoint
    target_library: Library
    place: DeviceName
    report: Report

    @property
    def own_config(self) -> EngineConfig:
        """What the settings are for the model that drafts. Its scheme is that of both, unless its weights are
        quantized already.
        """
        is_quantized = self.draft.checkpoint.quantization is not None
        return EngineConfig(
            model=self.draft.path,
            model_lib=self.draft.library_path,
            opt=self.config.opt,
            quantization=None if is_quantized else self.config.quantization,
        )


def find_drafting(
    config: EngineConfig,
    checkpoint: Checkpoint,
    library: Library,
    draft: DraftModel | None,
    place: DeviceName,
    report: Report,
) -> Drafting:
    """Return what drafts for a model as the configuration says. `draft` is what find_draft_model has found.
    Raises StartupError.
    """
    mode = config.speculative_mode
    if mode == "disable":
        return WithoutModel(NoDrafts())
    if library.is_recurrent:
        raise recurrent_refusal(mode, checkpoint)
    if draft is None:
        return WithoutModel(NGram())
    search = _Search(config, draft, checkpoint, library, place, report)
    if draft.eagle is not None:
        return _eagle(search, draft.eagle)
    return _medusa(search) if mode == "medusa" else _small_model(search)


def speculation_for(config: EngineConfig, drafter: Drafter) -> Speculation:
    """Return the speculation of an engine with a drafter."""
    if config.speculative_mode == "disable":
        return Speculation.none()
    length, longest = config.spec_draft_length or 0, drafter.longest
    lengths: DraftLengths = (
        FixedLengths(_at_most(longest, length)) if length else AdaptiveLengths(_at_most(longest, LONGEST))
    )
    return Speculation(drafter.proposer, lengths)


def _at_most(longest: int | None, length: int) -> int:
    return length if longest is None else min(length, longest)


def _small_model(search: _Search) -> WithSmallModel:
    draft = search.draft
    library = find_library(search.own_config, draft.checkpoint, search.place, search.report)
    if library.is_recurrent:
        raise draft.refusal(search.target, RECURRENT)
    return WithSmallModel(draft.checkpoint, library)


def _medusa(search: _Search) -> WithMedusa:
    draft, wanted = search.draft, search.config.spec_draft_length
    library = find_heads_library(search.own_config, draft.checkpoint, search.place, search.report)
    num_heads = library.metadata["num_heads"]
    if (wanted or 0) > num_heads:
        search.report(
            f"spec_draft_length = {wanted} is more than {draft.path} has heads, so that {num_heads} tokens "
            "are drafted at a time."
        )
    return WithMedusa(draft, library)


def _eagle(search: _Search, eagle: Eagle) -> WithEagle:
    """Find the library of a draft model. Its scheme is that of its target, some of whose weights it has, but
    for weights of its own that are quantized already.
    """
    checkpoint, target = search.draft.checkpoint, search.target
    own = search.own_config
    if own.model_lib is None:
        own = replace(own, quantization=checkpoint.quantization or search.target_library.quantization)
    library = find_eagle_library(own, checkpoint, target, search.place, search.report)
    both = set(library.parameters).intersection(search.target_library.parameters)
    shared = frozenset(spec for spec in both if is_of_target(spec.name))
    return WithEagle(checkpoint, eagle, library, shared)


def _last_norm(target: Target) -> RowNorm:
    """The norm before a model's head."""
    norm, name = decoder_of(target.checkpoint, "medusa").norm, "model.norm"
    bias = target.weight(f"{name}.bias") if norm.bias else None
    return RowNorm(target.weight(f"{name}.weight"), bias, norm.epsilon, norm.kind == "layer")
