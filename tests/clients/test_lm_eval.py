"""The command of lm-evaluation-harness with a server of the demo model, and a task of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# The harness's limits for things that are downloaded: nothing is.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
QUESTIONS = [
    {"question": "What is the capital of France?", "choices": ["Paris", "Oslo"], "answer": 0},
    {"question": "What is the capital of Norway?", "choices": ["Paris", "Oslo"], "answer": 1},
]
CHOICE = """\
task: capitals
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
test_split: test
output_type: multiple_choice
doc_to_text: "<|im_start|>user\\n{{{{question}}}}<|im_end|>\\n<|im_start|>assistant\\nThe capital is"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
"""
WRITING = """\
task: writing
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 8
metric_list:
  - metric: exact_match
"""


def evaluate(directory: Path, task: str, definition: str, kind: str, **arguments: Any) -> dict[str, Any]:
    """The results of a task, as the harness writes them."""
    questions = directory / "questions.jsonl"
    questions.write_text("".join(json.dumps(entry) + "\n" for entry in QUESTIONS), encoding="utf-8")
    (directory / f"{task}.yaml").write_text(definition.format(questions=questions), encoding="utf-8")
    given = ",".join(f"{name}={value}" for name, value in arguments.items())
    command = [sys.executable, "-m", "lm_eval", "run", "--model", kind, "--model_args", given]
    command += ["--tasks", task, "--include_path", str(directory), "--output_path", str(directory / "out")]
    if kind == "local-chat-completions":
        command += ["--apply_chat_template"]
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(directory / "home"), "OPENAI_API_KEY": "any"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    (file,) = (directory / "out").rglob("results*.json")
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["results"][task]
    return results


@pytest.mark.client("lm-eval", "local-completions, loglikelihood, with the server's tokenizer")
def test_likelihoods(tmp_path: Path, demo_url: str) -> None:
    """A task of multiple choice is scored by the likelihoods of its choices."""
    results = evaluate(
        tmp_path,
        "capitals",
        CHOICE,
        "local-completions",
        model="demo",
        base_url=f"{demo_url}/completions",
        tokenizer_backend="remote",
    )
    assert 0 <= results["acc,none"] <= 1


@pytest.mark.client("lm-eval", "local-chat-completions, generate_until")
def test_generation(tmp_path: Path, demo_url: str) -> None:
    """A task of generation is scored by the replies."""
    results = evaluate(
        tmp_path,
        "writing",
        WRITING,
        "local-chat-completions",
        model="demo",
        base_url=f"{demo_url}/chat/completions",
    )
    assert 0 <= results["exact_match,none"] <= 1
