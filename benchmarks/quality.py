"""What quantization costs in quality: each scheme is compared with float32 on held-out questions and answers.

    python -m benchmarks.quality [MODEL] [--quantization q8f32_1 q4f16_1] [--opt O0 O3] [--questions 100]

Without MODEL the demo model is measured, which was trained on such questions. All figures are about the
tokens of the answers. Each is predicted from the question and from the answer up to it:

perplexity       of the answers' tokens; `rise_pct` says by how many percent it is above float32's
mean_error       mean absolute difference of logprobs from float32's, over the whole vocabulary; the largest
                 one is `max_error`
same_greedy_pct  percentage of positions with the same likeliest token as in float32
kl               Kullback-Leibler divergence from float32, in nats, the mean over positions
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, print_report
from mlc_serve.config import EngineConfig, OptimizationLevel
from mlc_serve.demo import demo_model_path
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.frontend.chat_prompt import chat_prompt_ids
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.quantization.scheme import SCHEMES
from mlc_serve.runtime.runner import TVMBackend

QUESTIONS = Path(__file__).parent.parent / "tests" / "demo" / "heldout.jsonl"
REFERENCE = "q0f32"

Logprobs = NDArray[np.float32]


@dataclass(frozen=True)
class Exercise:
    """A prompt and its right answer, as token ids."""

    prompt: list[int]
    answer: list[int]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default=str(demo_model_path()), help="directory, or org/name")
    parser.add_argument("--quantization", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("--opt", nargs="+", choices=get_args(OptimizationLevel), default=[None])
    parser.add_argument("--questions", type=int, help="how many; float32's logprobs of all stay in memory")
    options = parser.parse_args()
    rows = compare(options.model, options.quantization, options.opt, options.questions)
    print_report("quality", {"model": Path(options.model).name, "reference": REFERENCE}, rows)


def compare(
    model: str, schemes: Sequence[str], levels: Sequence[OptimizationLevel | None], num_questions: int | None
) -> list[Row]:
    """A row for each scheme at each optimization level. The first `num_questions` are asked, or all."""
    reference = load(model, REFERENCE, None)
    exercises = read_exercises(reference, num_questions)
    targets = np.concatenate([exercise.answer for exercise in exercises])
    expected = logprobs_of(reference, exercises)
    rows: list[Row] = []
    for scheme in schemes:
        for level in levels:
            loaded = load(model, scheme, level)
            figures = differences(expected, logprobs_of(loaded, exercises), targets)
            size = loaded.info.param_bytes / 1e6
            rows.append({"quantization": scheme, "opt": level or "default", "weights_mb": size, **figures})
    return rows


def load(model: str, quantization: str, opt: OptimizationLevel | None) -> LoadedModel:
    """A model on the CPU, for one sequence at a time."""
    config = EngineConfig(model=model, quantization=quantization, opt=opt, max_num_sequence=1, verbose=False)
    return load_model(config, "cpu", print)


def read_exercises(model: LoadedModel, count: int | None) -> list[Exercise]:
    """The held-out questions, rendered with the chat template of the model."""
    if model.chat_template is None:
        raise SystemExit(f"{model.name} has no chat template to ask questions in")

    def exercise(question: dict[str, Any]) -> Exercise:
        fields = {name: question[name] for name in ("messages", "tools") if name in question}
        prompt = chat_prompt_ids(ChatCompletionRequest.model_validate(fields), model)
        return Exercise(prompt, model.tokenizer.encode(question["answer"], add_special_tokens=False))

    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    return [exercise(json.loads(line)) for line in lines[:count]]


def logprobs_of(model: LoadedModel, exercises: Sequence[Exercise]) -> Logprobs:
    """The logprobs from which each token of the answers would be drawn, in order: `(tokens, vocab)`."""
    backend = model.backend
    if not isinstance(backend, TVMBackend):
        raise TypeError(f"{model.name} has no logits to look at")
    chunk = min(model.limits.prefill_chunk_size, model.info.max_batch_size)
    logits = [answer_logits(backend, exercise, chunk) for exercise in exercises]
    return log_softmax(np.concatenate(logits))


def answer_logits(backend: TVMBackend, exercise: Exercise, chunk: int) -> NDArray[np.float32]:
    """The logits for an answer, `(len(answer), vocab)`, computed in passes of at most `chunk` tokens."""
    ids, num_before = exercise.prompt + exercise.answer[:-1], len(exercise.prompt) - 1
    backend.state.add_sequence(0)
    logits = []
    for start in range(0, len(ids), chunk):
        step = SequenceStep(0, ids[start : start + chunk])
        rows = range(max(num_before - start, 0), len(step.token_ids))
        logits.append(backend.forward([step], list(rows)).copy())
    backend.state.remove_sequence(0)
    return np.concatenate(logits)


def log_softmax(logits: NDArray[np.float32]) -> Logprobs:
    """Turn logits into logprobs, row by row."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def differences(expected: Logprobs, found: Logprobs, targets: NDArray[Any]) -> dict[str, float]:
    """The figures in a row of the table. Both arguments are logprobs of shape `(positions, vocab)`."""
    errors = abs(found - expected)
    before, now = (perplexity(logprobs, targets) for logprobs in (expected, found))
    return {
        "perplexity": now,
        "rise_pct": 100 * (now / before - 1),
        "mean_error": float(errors.mean()),
        "max_error": float(errors.max()),
        "same_greedy_pct": 100 * float((expected.argmax(axis=1) == found.argmax(axis=1)).mean()),
        "kl": float((np.exp(expected) * (expected - found)).sum(axis=1).mean()),
    }


def perplexity(logprobs: Logprobs, targets: NDArray[Any]) -> float:
    """The inverse of the geometric mean of the probabilities of the tokens."""
    return float(np.exp(-logprobs[np.arange(len(targets)), targets].mean(dtype=np.float64)))


if __name__ == "__main__":
    main()
