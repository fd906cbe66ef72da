"""The script that trains what drafts for the demo model, on sizes and a run small enough for a test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from demo_training.acceptance import shares_kept
from demo_training.batches import Batch
from demo_training.draft_run import RATES
from demo_training.eagle import Eagle
from demo_training.eagle_head import EagleHead
from demo_training.export import export_llama
from demo_training.medusa import Medusa
from demo_training.optimizers import Optimizers
from demo_training.packed_weights import export_packed, read_packed
from demo_training.preset import DRAFT_PRESETS, LlamaSizes
from demo_training.small_draft import SmallDraft
from demo_training.student import Student
from demo_training.target import Observed, Target
from tokenizers import Tokenizer
from torch import nn
from train_demo_drafts import DEMO_MODEL, KINDS, main
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.loading.architecture import checked_architecture
from tests.demo.draft_layouts import (
    assert_kept_as_stored,
    config_of,
    eagle_shapes,
    medusa_shapes,
    stored_shapes,
)

TINY = DRAFT_PRESETS["tiny"]
SIZES = LlamaSizes(
    hidden_size=32, intermediate_size=48, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=8
)
LENGTH = 9


class Teller:
    """Implements what shares_kept needs of a student: it always guesses right, but for one number."""

    def __init__(self, wrong: int) -> None:
        self._wrong = wrong

    @property
    def module(self) -> nn.Module:
        return nn.Identity()

    @property
    def matrices(self) -> list[nn.Parameter]:
        return []

    def loss(self, observed: Observed) -> torch.Tensor:
        raise NotImplementedError

    def guesses(self, observed: Observed, most: int) -> list[torch.Tensor]:
        return [observed.expected(number).ids + (number == self._wrong) for number in range(most)]

    def export(self, num_steps: int, directory: Path) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module")
def target() -> Target:
    """The demo model."""
    return Target.load(DEMO_MODEL)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that one whole tiny run of the script wrote, for a model with random weights."""
    out = tmp_path_factory.mktemp("drafts")
    torch.manual_seed(5)
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))
    model = LlamaForCausalLM(SIZES.llama_config(tokenizer.get_vocab_size(), 2, 0))
    export_llama(model, tokenizer, 0, out / "model")
    main(["--out", str(out), "--model", str(out / "model"), "--preset", "tiny"])
    return out


@pytest.fixture
def head() -> EagleHead:
    """An EAGLE head with random weights."""
    torch.manual_seed(3)
    return EagleHead(SIZES.llama_config(64, 2, 0)).requires_grad_(False)


def test_the_script_writes_what_can_be_loaded(exported: Path) -> None:
    """The small draft is a whole model, the others have the published names, and all are in 8 bits and have
    cards.
    """
    checked_architecture(open_checkpoint(exported / "draft"))
    for kind, shapes in (("eagle", eagle_shapes), ("medusa", medusa_shapes)):
        assert stored_shapes(exported / kind) == shapes(config_of(exported / kind))
    for kind in KINDS:
        assert_kept_as_stored(exported / kind)
        assert "| guess | kept |" in (exported / kind / "README.md").read_text()


def test_what_is_read_is_what_was_written_but_for_rounding(tmp_path: Path) -> None:
    """A weight of a matrix is at most half a step away, 127 of which make the largest of its group."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(96, 5))
    written = {name: parameter.clone() for name, parameter in module.state_dict().items()}
    export_packed(written, {"model_type": "llama"}, 1, tmp_path)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    read_packed(module, tmp_path)
    read = module.state_dict()
    errors = (read["0.weight"] - written["0.weight"]).abs()
    for group in (slice(64), slice(64, None)):
        largest = written["0.weight"][:, group].abs().max(dim=1, keepdim=True).values
        assert (errors[:, group] <= 0.51 * largest / 127).all()
    torch.testing.assert_close(read["0.bias"], written["0.bias"], atol=0, rtol=2**-11)


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(kind: str, target: Target) -> None:
    """After a few steps on one conversation, each student predicts it clearly better than at first."""
    torch.manual_seed(1)
    students: dict[str, Student] = {
        "draft": SmallDraft(target, TINY.small_draft),
        "eagle": Eagle(target, intermediate_size=32, num_kv_heads=1, num_passes=2),
        "medusa": Medusa(target, num_heads=2, num_layers=1),
    }
    student = students[kind]
    ids = target.tokenizer.encode(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>"
    ).ids
    batch = Batch(torch.tensor([ids]), torch.tensor([ids[1:]]), torch.ones(1, len(ids) - 1))
    observed = target.observe(batch)
    optimizers = Optimizers(student.module.parameters(), student.matrices, RATES)
    losses = []
    for step in range(40, 55):  # when the learning rate is high
        loss = student.loss(observed)
        torch.autograd.backward(loss)
        optimizers.step(step, 100)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_an_untrained_medusa_head_repeats_the_target(target: Target) -> None:
    """Its residual layers add nothing at first, and its matrix is the target's."""
    observed = target.observe(Batch(torch.tensor([[1, 5, 6, 7, 8]]), torch.zeros(1, 4), torch.ones(1, 4)))
    (first, second) = Medusa(target, num_heads=2, num_layers=1).guesses(observed, 3)
    drawn = observed.logits.argmax(-1)
    assert torch.equal(first, drawn[:, :-1])
    assert torch.equal(second, drawn[:, :-2])


def test_eagles_layer_is_a_llamas_without_its_first_norm(head: EagleHead) -> None:
    """Transformers' layer, with that norm taken out and the same weights, gives the same states."""
    config = SIZES.llama_config(64, 2, 0)
    config._attn_implementation = "eager"
    layer = LlamaDecoderLayer(config, layer_idx=0)
    layer.input_layernorm = nn.Identity()
    layer.load_state_dict(head.layers[0].state_dict())
    embeddings, hidden = torch.randn(2, 1, LENGTH, 32)
    fused = head.fc(torch.cat([embeddings, hidden], -1))
    causal = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]
    rotation = head._rotary(hidden, torch.arange(LENGTH)[None])
    expected = layer(fused, attention_mask=causal, position_embeddings=rotation)
    (guessed,) = head(embeddings, hidden, 1)
    torch.testing.assert_close(guessed, expected[0] if isinstance(expected, tuple) else expected)


def test_a_row_of_a_later_pass_is_a_draft_of_its_own_chain(head: EagleHead) -> None:
    """Each equals the last row of a first pass over the states that its chain has read: true ones, and then
    its own guesses.
    """
    embeddings, hidden = torch.randn(2, 1, LENGTH, 32)
    passes = head(embeddings, hidden, 3)
    for start in range(LENGTH - 2):
        read = hidden[:, : start + 1]
        for number in range(3):
            row = start + number
            (guessed,) = head(embeddings[:, : row + 1], read, 1)
            torch.testing.assert_close(passes[number][:, row], guessed[:, -1])
            read = torch.cat([read, guessed[:, -1:]], 1)


def test_a_guess_is_kept_if_all_before_it_are(target: Target) -> None:
    """A wrong second guess leaves the first one, and nothing behind it."""
    ids = torch.arange(10, 22)[None]
    batch = Batch(ids, ids[:, 1:], torch.tensor([[0.0] * 4 + [1.0] * 7]))
    assert shares_kept(Teller(wrong=5), target, [batch]) == [1, 1, 1]
    assert shares_kept(Teller(wrong=1), target, [batch]) == [1, 0, 0]


def test_guesses_are_asked_for_where_the_assistant_writes() -> None:
    """The drawn token and the guessed one are both the assistant's; guess 1 is of the second token behind."""
    ids, answers = torch.arange(6)[None], torch.tensor([[False, False, True, True, True]])
    observed = Observed(ids, answers, hidden=torch.arange(5.0)[None, :, None], logits=torch.zeros(1, 5, 7))
    expected = observed.expected(1)
    assert expected.ids.tolist() == [[3, 4, 5]]
    assert expected.asked.tolist() == [[False, False, True]]
    assert expected.hidden.flatten().tolist() == [2, 3, 4]
