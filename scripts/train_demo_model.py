"""Train the demo model on generated text, score it on held-out questions and export it.

    python scripts/train_demo_model.py --out DIR [--preset full] [--steps N] [--seed S]
                                        [--resume | --start MODEL]

The model is written to DIR as a Hugging Face model directory, and the run's checkpoint to DIR.checkpoint,
next to it. A run starts from scratch, from its checkpoint, or from MODEL, which an earlier run exported.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from demo_training.evaluation import held_out_questions, judge, scores, share_right
from demo_training.export import export_model, run_from_exported, score_exported
from demo_training.preset import PRESETS, Preset
from demo_training.questions import write_questions
from demo_training.run import Run

LOSS_EVERY = 25  # steps
QUESTIONS_PER_FAMILY = 9  # in the file of questions


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line (or `arguments`), train, export and score."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    preset = PRESETS[options.preset]
    num_steps = options.steps or preset.num_steps
    checkpoint = options.out.with_name(options.out.name + ".checkpoint")
    run = _run(options, preset, checkpoint)
    train(run, num_steps, checkpoint, options.out)
    export_model(run, options.out)
    if options.questions:
        write_questions(held_out_questions(QUESTIONS_PER_FAMILY, run.seed), options.questions)
    print(
        f"held out, exported model: {score_exported(options.out, run, preset.final_samples):.1%}", flush=True
    )


def train(run: Run, num_steps: int, checkpoint: Path, out: Path) -> None:
    """Advance `run` to `num_steps`. Every few minutes, save, score and export it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    began, losses = time.monotonic(), []
    while run.step < num_steps:
        losses.append(run.advance(num_steps))
        if run.step % LOSS_EVERY == 0 or run.step == num_steps:
            print(
                f"step {run.step} loss {sum(losses) / len(losses):.4f} {time.monotonic() - began:.0f} s",
                flush=True,
            )
            losses = []
        if run.step % run.preset.checkpoint_every == 0 or run.step == num_steps:
            run.save(checkpoint)
            export_model(run, out)
            print(_progress(run, run.preset), flush=True)


def _run(options: argparse.Namespace, preset: Preset, checkpoint: Path) -> Run:
    if options.resume:
        return Run.load(checkpoint, preset)
    if options.start:
        return run_from_exported(options.start, preset, options.seed)
    return Run.fresh(preset, options.seed)


def _progress(run: Run, preset: Preset) -> str:
    verdicts = judge(run.model, run.tokenizer, held_out_questions(preset.evaluation_samples, run.seed))
    by_family = " ".join(f"{family} {share:.0%}" for family, share in sorted(scores(verdicts).items()))
    return f"step {run.step} held out {share_right(verdicts):.1%}: {by_family}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--preset", choices=PRESETS, default="full", help="sizes of model and run")
    parser.add_argument("--steps", type=int, help="optimizer steps in all (default: the preset's)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and data")
    beginning = parser.add_mutually_exclusive_group()
    beginning.add_argument("--resume", action="store_true", help="go on from DIR.checkpoint")
    beginning.add_argument(
        "--start", type=Path, metavar="MODEL", help="go on from an exported model, with new optimizers"
    )
    parser.add_argument(
        "--questions", type=Path, help="also write held-out questions and answers as JSON lines"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser


if __name__ == "__main__":
    main()
