"""The model that drafts for another one, as its directory describes it, before anything is compiled or loaded
for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.config import EngineConfig
from mlc_serve.config.speculation import MODEL_MODES, draft_models
from mlc_serve.errors import CheckpointError, ConfigError
from mlc_serve.loading.architecture import config_named, keeps_recurrent_states
from mlc_serve.loading.eagle_model import read_eagle_model
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.eagle import Eagle
from mlc_serve.models.table import is_heads, read_architecture, read_heads

RECURRENT = "its layers keep a recurrent state, from which wrong drafts can't be taken back"


@dataclass(frozen=True)
class DraftModel:
    """A model that drafts. `path` and `library_path` are as the user has named them. `taps` are the layers of
    the model that is drafted for whose states it reads. `eagle` is what an EAGLE model is together with that
    model; None for others.
    """

    path: str
    library_path: str | None
    checkpoint: Checkpoint
    taps: tuple[int, ...] = ()
    eagle: Eagle | None = None

    def refusal(self, target: Checkpoint, reason: str) -> CheckpointError:
        """Why it can't draft for a model."""
        return CheckpointError(f"{self.path} can't draft for {target.directory.name}: {reason}")


def find_draft_model(config: EngineConfig, target: Checkpoint) -> DraftModel | None:
    """Return the model that drafts for `target`, if the configuration names one.

    Raises StartupError if it can't draft for that model, or if nothing can.
    """
    mode = config.speculative_mode
    if mode != "disable" and keeps_recurrent_states(target):
        raise recurrent_refusal(mode, target)
    if mode not in MODEL_MODES:
        return None
    (entry,) = draft_models(config)
    path, library_path = (entry, None) if isinstance(entry, str) else entry
    draft = DraftModel(path, library_path, open_checkpoint(locate(path)))
    if mode != draft.checkpoint.model_type and (mode == "medusa" or is_heads(draft.checkpoint.model_type)):
        raise draft.refusal(target, f"it is a {draft.checkpoint.model_type}, and speculative_mode is {mode}")
    return _CHECKED[mode](draft, target)


def recurrent_refusal(mode: str, target: Checkpoint) -> ConfigError:
    """Why nothing drafts for a model whose layers keep a recurrent state."""
    return ConfigError(
        f"speculative_mode = {mode} is not supported for {target.model_type}: its layers keep a recurrent "
        "state, which computes drafts one after another, so that they would gain nothing"
    )


def decoder_of(target: Checkpoint, mode: str) -> Decoder:
    """Return the architecture of a model whose layers' states are to be read. Raises ConfigError if they
    can't be.
    """
    with config_named(target):
        architecture = read_architecture(target.model_type, target.config)
    if not isinstance(architecture, Decoder) or architecture.recurrence is not None:
        raise recurrent_refusal(mode, target)
    return architecture


def _checked_small_draft(draft: DraftModel, target: Checkpoint) -> DraftModel:
    """A model of its own reads no states. All tokens of both models must be the same."""
    if keeps_recurrent_states(draft.checkpoint):
        raise draft.refusal(target, RECURRENT)
    if target.tokenizer.vocabulary() != draft.checkpoint.tokenizer.vocabulary():
        raise draft.refusal(
            target, "their vocabularies differ, so that a token of one means another text in the other"
        )
    return draft


def _checked_medusa(draft: DraftModel, target: Checkpoint) -> DraftModel:
    """Heads read what the last layer leaves, and draft tokens by their number."""
    decoder = decoder_of(target, "medusa")
    with config_named(draft.checkpoint):
        heads = read_heads(draft.checkpoint.model_type, draft.checkpoint.config)
    for what, own, wanted in (
        ("hidden size", heads.hidden_size, decoder.hidden_size),
        ("vocabulary", heads.vocab_size, decoder.vocab_size),
    ):
        if own != wanted:
            raise draft.refusal(target, f"its {what} is {own}, not {wanted}")
    return replace(draft, taps=(len(decoder.blocks),))


def _checked_eagle(draft: DraftModel, target: Checkpoint) -> DraftModel:
    """What an EAGLE draft model reads is told by its configuration, or by convention."""
    eagle = read_eagle_model(draft.checkpoint, decoder_of(target, "eagle"))
    return replace(draft, taps=eagle.taps, eagle=eagle)


# By mode: checks that a model can draft for another one, and adds what it reads of that.
_CHECKED: dict[str, Callable[[DraftModel, Checkpoint], DraftModel]] = {
    "small_draft": _checked_small_draft,
    "medusa": _checked_medusa,
    "eagle": _checked_eagle,
}
