"""Train what drafts for the demo model, and measure how many of its guesses are kept.

    python scripts/train_demo_drafts.py --out DIR [--preset full] [--steps N] [--seed S] [--only KIND...]

The demo model stays as it is. A small draft model, an EAGLE head and Medusa heads learn from it in one run,
and are written to DIR/draft, DIR/eagle and DIR/medusa in 8 bits, each with its card.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from demo_training.acceptance import answered, shares_kept
from demo_training.batches import Batch
from demo_training.draft_card import Results, draft_card
from demo_training.draft_run import DraftRun
from demo_training.eagle import Eagle
from demo_training.evaluation import held_out_questions
from demo_training.medusa import Medusa
from demo_training.packed_weights import read_packed
from demo_training.preset import DRAFT_PRESETS, DraftPreset
from demo_training.small_draft import SmallDraft
from demo_training.student import Student
from demo_training.target import Target

DEMO_MODEL = Path(__file__).parent.parent / "mlc_serve" / "demo" / "model"
KINDS = ("draft", "eagle", "medusa")
LOSS_EVERY = 25  # steps
EXPORT_EVERY = 100  # steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line (or `arguments`), train, export and score."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    preset = DRAFT_PRESETS[options.preset]
    target = Target.load(options.model)
    run = DraftRun(target, _students(target, preset, options.only), preset, options.seed)
    train(run, options.steps or preset.num_steps, options.out)
    questions = answered(target, held_out_questions(preset.held_out_samples, options.seed))
    for name in run.students:
        _score(name, run, target, questions, preset, options.out / name)


def train(run: DraftRun, num_steps: int, out: Path) -> None:
    """Advance `run` to `num_steps`, and export it now and then."""
    began, sums = time.monotonic(), dict.fromkeys(run.students, 0.0)
    while run.step < num_steps:
        for name, loss in run.advance(num_steps).items():
            sums[name] += loss
        if run.step % LOSS_EVERY == 0:
            means = " ".join(f"{name} {total / LOSS_EVERY:.4f}" for name, total in sums.items())
            print(f"step {run.step} loss {means} {time.monotonic() - began:.0f} s", flush=True)
            sums = dict.fromkeys(run.students, 0.0)
        if run.step % EXPORT_EVERY == 0 or run.step == num_steps:
            for name, student in run.students.items():
                student.export(run.step, out / name)


def _students(target: Target, preset: DraftPreset, names: Sequence[str]) -> dict[str, Student]:
    students: dict[str, Student] = {}
    if "draft" in names:
        students["draft"] = SmallDraft(target, preset.small_draft)
    if "eagle" in names:
        students["eagle"] = Eagle(
            target, preset.eagle_intermediate_size, preset.eagle_num_kv_heads, preset.eagle_num_passes
        )
    if "medusa" in names:
        students["medusa"] = Medusa(target, preset.medusa_num_heads, preset.medusa_num_layers)
    return students


def _score(
    name: str, run: DraftRun, target: Target, questions: Sequence[Batch], preset: DraftPreset, directory: Path
) -> None:
    """Print which share of a student's guesses is kept, as it was written, and write its card."""
    student = run.students[name]
    read_packed(student.module, directory)
    shares = shares_kept(student, target, questions)
    print(f"{name} kept", " ".join(f"{share:.1%}" for share in shares), flush=True)
    results = Results(
        num_parameters=sum(parameter.numel() for parameter in student.module.parameters()),
        num_steps=run.step,
        num_questions=sum(len(batch.ids) for batch in questions),
        shares=shares,
    )
    (directory / "README.md").write_text(draft_card(name, results, preset), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write to")
    parser.add_argument("--model", type=Path, default=DEMO_MODEL, help="the model that is drafted for")
    parser.add_argument("--preset", choices=DRAFT_PRESETS, default="full", help="sizes of students and run")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the preset's)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and data")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, help="what to train")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser


if __name__ == "__main__":
    main()
