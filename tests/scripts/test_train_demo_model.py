"""The training script, on a model and a run small enough for a test."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from demo_corpus.chat import CHAT_TEMPLATE, Encoder, expected_answer, render
from demo_corpus.mixture import FAMILIES, held_out_samples, training_sample
from demo_corpus.sample import assistant, is_held_out, single_turn, system, user
from demo_training.evaluation import Verdict, scores
from demo_training.export import export_model, run_from_exported
from demo_training.preset import PRESETS
from demo_training.run import Run
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from train_demo_model import main
from transformers import AutoTokenizer, LlamaForCausalLM

TINY = dataclasses.replace(PRESETS["tiny"], samples_per_step=4)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL_TEXT = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that one whole tiny run of the script wrote."""
    out = tmp_path_factory.mktemp("demo") / "model"
    main(["--out", str(out), "--preset", "tiny", "--questions", str(out.with_name("questions.jsonl"))])
    return out


def _call(arguments: dict[str, str] | str) -> dict[str, Any]:
    return {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def _weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in run.model.state_dict().items()}


def test_training_lowers_the_loss() -> None:
    """After a few steps the loss is clearly lower than at the first."""
    run = Run.fresh(TINY, seed=1)
    losses = [run.advance(30) for _ in range(30)]
    assert losses[0] > sum(losses[-3:]) / 3 + 0.1


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    """A run saved half-way and taken up again ends with exactly the weights of one that was never stopped."""
    whole, first_half = Run.fresh(TINY, seed=3), Run.fresh(TINY, seed=3)
    for _ in range(6):
        whole.advance(6)
    for _ in range(3):
        first_half.advance(6)
    first_half.save(tmp_path / "checkpoint")
    resumed = Run.load(tmp_path / "checkpoint", TINY)
    for _ in range(3):
        resumed.advance(6)
    assert resumed.step == whole.step
    torch.testing.assert_close(_weights(resumed), _weights(whole), rtol=0, atol=0)


def test_a_run_goes_on_from_an_exported_model(exported: Path, tmp_path: Path) -> None:
    """With its tokenizer, its float16 weights and its step; what is exported next tells the new step."""
    run = run_from_exported(exported, PRESETS["tiny"], seed=9)
    assert run.step == PRESETS["tiny"].num_steps
    with safe_open(exported / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    weights = _weights(run)
    torch.testing.assert_close(weights.pop("lm_head.weight"), stored["model.embed_tokens.weight"])
    torch.testing.assert_close(weights, stored, rtol=0, atol=0)
    run.advance(run.step + 2)
    export_model(run, tmp_path)
    assert run_from_exported(tmp_path, PRESETS["tiny"], seed=9).step == run.step


def test_a_model_that_does_not_tell_its_step_is_refused(tmp_path: Path) -> None:
    """A learning rate that falls towards the run's end needs it."""
    save_file({"model.embed_tokens.weight": torch.zeros(4, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="does not say how many steps"):
        run_from_exported(tmp_path, PRESETS["tiny"], seed=9)


def test_seed_decides_the_data() -> None:
    """The same seed draws the same conversations, another seed draws others."""
    drawn = [[training_sample(Random(seed)).messages for _ in range(20)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_held_out_questions_are_never_trained_on() -> None:
    """No held-out single question turns up in training, alone or inside a longer conversation."""
    rng = Random(7)
    held_out = {
        s.question for name in ("addition", "capitals", "spelling") for s in held_out_samples(rng, name, 30)
    }
    trained = [training_sample(rng) for _ in range(3000)]
    assert not any(is_held_out(sample.key) for sample in trained)
    asked = {m["content"] for sample in trained for m in sample.messages if m["role"] == "user"}
    assert not asked & held_out


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_both_splits(family: str) -> None:
    """Each family yields samples to train on and to hold out, all ending in an answer of the assistant's."""
    samples = held_out_samples(Random(5), family, 3)
    samples += [
        s for s in (FAMILIES[family][0](Random(seed)) for seed in range(40)) if not is_held_out(s.key)
    ]
    assert len(samples) > 3
    assert all(sample.messages[-1]["role"] == "assistant" and expected_answer(sample) for sample in samples)


def test_only_what_the_assistant_writes_is_learnt(exported: Path) -> None:
    """The learnt tokens of a two-turn conversation are its two answers with their ends, and nothing else."""
    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    sample = single_turn("any", "any", "How are you?", "Fine.")
    sample = dataclasses.replace(sample, messages=(*sample.messages, user("<b>"), assistant("Well 12.")))
    lesson = Encoder(tokenizer).lesson(sample)
    learnt = [token for token, learn in zip(lesson.ids, lesson.learnt, strict=True) if learn]
    assert tokenizer.decode(learnt, skip_special_tokens=False) == "Fine.<|im_end|>Well 12.<|im_end|>"


def test_template_without_system_or_tools_opens_with_the_user() -> None:
    """No system block is made up."""
    assert render([user("Hi")], answer_next=True) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_template_lists_tools_after_the_system_prompt() -> None:
    """Tools come as JSON lines in the one system block, below the caller's own text."""
    text = render([system("Be brief."), user("Hi")], [WEATHER])
    assert text.startswith("<|im_start|>system\nBe brief.\n\n")
    assert f"<tools>\n{json.dumps(WEATHER)}\n</tools>" in text
    assert text.count("<|im_start|>system") == 1


@pytest.mark.parametrize("arguments", [{"city": "Paris"}, '{"city": "Paris"}'], ids=["dict", "text"])
def test_template_renders_calls(arguments: dict[str, str] | str) -> None:
    """A call without text reads the same whether its arguments are an object or JSON text."""
    messages = [user("Hi"), {"role": "assistant", "content": None, "tool_calls": [_call(arguments)]}]
    assert render(messages).endswith(f"<|im_start|>assistant\n{CALL_TEXT}<|im_end|>\n")


def test_template_renders_text_before_calls() -> None:
    """An assistant may speak and call twice in one turn."""
    calls = [_call({"city": "Paris"}), _call({"city": "Paris"})]
    text = render([user("Hi"), {"role": "assistant", "content": "Sure.", "tool_calls": calls}])
    assert text.endswith(f"<|im_start|>assistant\nSure.\n{CALL_TEXT}\n{CALL_TEXT}<|im_end|>\n")


def test_template_gathers_tool_results_into_one_user_turn() -> None:
    """Results that follow one another share a turn."""
    text = render([user("Hi"), {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}])
    turn = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    assert text.endswith(f"<|im_start|>user\n{turn}<|im_end|>\n")


def test_template_reads_content_given_in_parts() -> None:
    """Text parts of a message are joined."""
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert render([{"role": "user", "content": parts}]) == "<|im_start|>user\nHello<|im_end|>\n"


def test_template_runs_in_a_plain_sandbox() -> None:
    """Jinja's own sandbox and `tojson` are enough to render it."""
    template = ImmutableSandboxedEnvironment().from_string(CHAT_TEMPLATE)
    text = template.render(messages=[user("Hi")], tools=[WEATHER], add_generation_prompt=True)
    assert '"get_weather"' in text
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_exported_weights_load_in_transformers(exported: Path) -> None:
    """Every tensor of the exported float16 checkpoint finds its place in a LlamaForCausalLM."""
    model, report = LlamaForCausalLM.from_pretrained(exported, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == torch.float16
    assert model.config.tie_word_embeddings


def test_exported_tokenizer_renders_and_encodes(exported: Path) -> None:
    """AutoTokenizer has the template, single digits, special turn marks, and call marks that it keeps."""
    tokenizer = AutoTokenizer.from_pretrained(exported)
    messages = [user("Weather?")]
    text = tokenizer.apply_chat_template(
        messages, tools=[WEATHER], tokenize=False, add_generation_prompt=True
    )
    assert text == render(messages, [WEATHER], answer_next=True)
    assert len(tokenizer.encode("12345")) == 5
    ids = tokenizer.encode("<|im_start|>é 猫<tool_call></tool_call><|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "é 猫<tool_call></tool_call>"
    assert tokenizer.eos_token == "<|im_end|>"


def test_script_writes_card_and_questions(exported: Path) -> None:
    """The card names every family, and the questions are requests with their answers."""
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert all(f"| {family} |" in card for family in FAMILIES)
    lines = exported.with_name("questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    assert {question["family"] for question in questions} == set(FAMILIES)
    calls = [m["tool_calls"][0] for q in questions for m in q["messages"] if "tool_calls" in m]
    assert all(isinstance(call["function"]["arguments"], str) for call in calls)


def test_answers_count_only_letter_by_letter() -> None:
    """An answer with other letters is wrong; white space around it does not matter."""
    sample = single_turn("sums", "key", "1 + 1", "1 + 1 = 2")
    verdicts = [Verdict(sample, text) for text in (" 1 + 1 = 2\n", "1 + 1 = 3", "2")]
    assert scores(verdicts) == {"sums": 1 / 3}
