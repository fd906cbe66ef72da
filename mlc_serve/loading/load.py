"""Loads the model that a configuration names, in one list of steps.

The results of slow steps are kept (see `artifacts`). From the second start on, no compiler runs, and no
tensor of the checkpoint is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.config import EngineConfig
from mlc_serve.engine.limits import ModelInfo
from mlc_serve.errors import CheckpointError, ConfigError, StartupError
from mlc_serve.host.threads import use_every_core
from mlc_serve.loaded_model import LoadedEmbeddingModel, LoadedModel
from mlc_serve.loading.architecture import makes_embeddings
from mlc_serve.loading.artifacts import Report
from mlc_serve.loading.chosen_limits import choose_limits
from mlc_serve.loading.draft_model import find_draft_model
from mlc_serve.loading.drafting import Target, find_drafting, speculation_for
from mlc_serve.loading.library import find_library
from mlc_serve.loading.load_embedding import load_decoder, load_encoder
from mlc_serve.loading.prefix_files import find_prefix_files
from mlc_serve.loading.weights import find_weights
from mlc_serve.models.table import is_encoder
from mlc_serve.runtime.device import find_device
from mlc_serve.runtime.runner import TVMBackend
from mlc_serve.text.answer_form import answer_form
from mlc_serve.text.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def load_served(config: EngineConfig, device: str, report: Report) -> LoadedModel | LoadedEmbeddingModel:
    """Load the model that a configuration names, for what it is made for: to generate text, or to make
    embeddings. Raises StartupError as load_model does.
    """
    if config.model is None:
        raise ConfigError("there is no model to load: the configuration names none")
    with _unforeseen_told_in_one_line(config.model):
        is_for_embeddings = makes_embeddings(open_checkpoint(locate(config.model)))
    load = load_embedding_model if is_for_embeddings else load_model
    return load(config, device, report)


def load_embedding_model(config: EngineConfig, device: str, report: Report) -> LoadedEmbeddingModel:
    """Load the model that a configuration names, to make embeddings. Raises StartupError."""
    if config.model is None:
        raise ConfigError("there is no model to load: the configuration names none")
    with _unforeseen_told_in_one_line(config.model):
        use_every_core()
        checkpoint = open_checkpoint(locate(config.model))
        if is_encoder(checkpoint.model_type):
            return load_encoder(config, config.model, checkpoint, device, report)
        return load_decoder(config, config.model, checkpoint, find_device(device), report)


def load_model(config: EngineConfig, device: str, report: Report) -> LoadedModel:
    """Load the model that a configuration names, compiling and converting it if that has not been done. The
    device is "auto", or one such as "cpu" or "cuda:1". `report` is called with each line that says what was
    chosen.

    Raises StartupError for anything that is wrong with the configuration, the checkpoint, the cache, the disk
    or the device.
    """
    if config.model is None:
        raise ConfigError("there is no model to load: the configuration names none")
    with _unforeseen_told_in_one_line(config.model):
        use_every_core()
        checkpoint = open_checkpoint(locate(config.model))
        if is_encoder(checkpoint.model_type):
            raise CheckpointError(f"{config.model} makes embeddings, and can't generate text")
        place = find_device(device)
        tokenizer = checkpoint.tokenizer
        chat_template, defaults = checkpoint.chat_template(), checkpoint.generation_defaults()
        answers = answer_form(chat_template, config.tool_call_parser, config.reasoning_parser)
        draft = find_draft_model(config, checkpoint)
        library = find_library(config, checkpoint, place, report, draft.taps if draft else ())
        _compare_vocabularies(tokenizer, library.info, report)
        drafting = find_drafting(config, checkpoint, library, draft, place, report)
        limits = choose_limits(config, drafting.info_with(library.info), place, report)
        weights = find_weights(checkpoint, library, report)
        drafter = drafting.start(limits, Target(checkpoint, library, weights), report)
        backend = TVMBackend(library, weights, limits, drafter.companion)
        return LoadedModel(
            name=config.model,
            device=str(place),
            quantization=library.quantization,
            weights=checkpoint.portable_fingerprint(),
            backend=backend,
            info=library.info,
            limits=limits,
            tokenizer=tokenizer,
            chat_template=chat_template,
            defaults=defaults,
            answers=answers,
            speculation=speculation_for(config, drafter),
            prefix_files=find_prefix_files(config, checkpoint, library, backend.state, report),
        )


@contextmanager
def _unforeseen_told_in_one_line(model: str) -> Iterator[None]:
    """Turn an unforeseen error into a StartupError. Its traceback is logged at level debug."""
    try:
        yield
    except StartupError:
        raise
    except Exception as error:  # a checkpoint, a driver or a disk may cause any error
        logger.debug("loading %s failed", model, exc_info=True)
        told = " ".join(str(error).split())
        raise StartupError(f"loading {model} failed: {type(error).__name__}: {told}") from error


def _compare_vocabularies(tokenizer: Tokenizer, info: ModelInfo, report: Report) -> None:
    """Report a tokenizer that has more tokens than the model: tokens that were added after training, such as
    one for padding.
    """
    if tokenizer.vocab_size > info.vocab_size:
        report(
            f"The tokenizer's ids end at {tokenizer.vocab_size - 1}, the model's at {info.vocab_size - 1}: "
            "prompts that contain a token that the model does not know are refused."
        )
