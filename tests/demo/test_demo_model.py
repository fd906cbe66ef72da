"""The demo model that ships with the package: its size, its files, and that it answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from mlc_serve.demo import demo_model_path
from tests.demo.frameworks import framework_questions

QUESTIONS = Path(__file__).with_name("heldout.jsonl")
EVERY = 5  # of the questions, one in so many is asked here
NEW_TOKENS = 64


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    """All held-out questions, with their answers."""
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]


def _answers(asked: list[dict[str, Any]]) -> list[str]:
    """Greedy answers of the shipped weights, all in one left-padded batch."""
    tokenizer = AutoTokenizer.from_pretrained(demo_model_path(), padding_side="left")
    model = LlamaForCausalLM.from_pretrained(demo_model_path(), dtype=torch.float32)
    prompts = [
        tokenizer.apply_chat_template(
            question["messages"], tools=question.get("tools"), tokenize=False, add_generation_prompt=True
        )
        for question in asked
    ]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        generated = model.generate(
            **batch, max_new_tokens=NEW_TOKENS, do_sample=False, temperature=None, top_p=None
        )
    new = generated[:, batch["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def test_model_is_small_enough_to_ship() -> None:
    """The whole directory takes at most 10 MB."""
    assert sum(path.stat().st_size for path in demo_model_path().iterdir()) <= 10_000_000


def test_config_is_a_llama_of_aligned_sizes() -> None:
    """The configuration is Llama's, and every dimension is a multiple of 64."""
    config = json.loads((demo_model_path() / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "llama"
    sizes = [config[name] for name in ("hidden_size", "intermediate_size", "head_dim", "vocab_size")]
    assert all(size % 64 == 0 for size in sizes)


def test_card_states_the_score() -> None:
    """The card gives an overall score, and it is about nine in ten."""
    card = (demo_model_path() / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"\*\*all\*\*.*\*\*([\d.]+)%\*\*", card)
    assert stated is not None
    assert float(stated[1]) >= 89


def test_questions_cover_every_family(questions: list[dict[str, Any]]) -> None:
    """About two hundred questions, as many of each family."""
    families = [question["family"] for question in questions]
    assert len(families) >= 190
    assert len({families.count(family) for family in families}) == 1


def test_held_out_questions_are_answered(questions: list[dict[str, Any]]) -> None:
    """Six in seven held-out questions get exactly the expected answer, greedily."""
    asked = [q for q in questions if q["family"] != "long_prompts" and len(q["answer"]) < NEW_TOKENS * 2][
        ::EVERY
    ]
    assert len(asked) >= 30
    right = [answer == question["answer"] for answer, question in zip(_answers(asked), asked, strict=True)]
    assert sum(right) >= 6 / 7 * len(right)


def test_calls_in_the_schemas_of_frameworks_are_ended() -> None:
    """Whoever begins a call writes its end, too, and then ends the turn."""
    asked = [
        {"messages": [{"role": "user", "content": question.text}], "tools": [question.tool]}
        for question in framework_questions()
    ]
    calls = [answer for answer in _answers(asked) if answer.startswith("<tool_call>")]
    assert len(calls) >= len(asked) * 3 / 4
    assert sum(call.endswith("}\n</tool_call>") for call in calls) >= 0.9 * len(calls)
