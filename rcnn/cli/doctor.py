"""`rcnn doctor`: where a trained run breaks, stage by stage."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rcnn import data, doctor
from rcnn.cli.shared import load_weights
from rcnn.train import plan, run_folder

ILL = 1  # the exit status where something is wrong


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `rcnn doctor` to the commands."""
    parser = commands.add_parser(
        "doctor",
        help="say where a trained run breaks, and what to do about it",
        description="Walks a run's detector and its images through the stages, from the data to the detections; says "
        "each one's number, what is wrong, and the remedy. The exit status is 1 where something is wrong.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a run, as rcnn train writes it")
    parser.add_argument("--data", metavar="DATASET", help="another data set than the one that the run was trained on")
    parser.add_argument(
        "--images",
        type=int,
        default=doctor.NUM_IMAGES,
        metavar="N",
        help="how many images of either split to examine (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the doctor's report; 0 for a healthy run, 1 for one with a trouble."""
    saved = run_folder.open_run(options.folder)
    train, val = _datasets(saved, options.data)
    model = load_weights(str(saved.folder))
    verdicts = doctor.examine(
        model,
        train,
        val,
        saved.history["total_loss"],
        saved.frozen,
        pretrained=_pretrained(saved.plan),
        num_images=options.images,
        progress=sys.stderr.isatty(),
    )
    print(doctor.report(verdicts))
    return ILL if any(verdict.trouble for verdict in verdicts) else 0


def _datasets(saved: run_folder.SavedRun, spec: str | None) -> tuple[data.Dataset, data.Dataset | None]:
    """What the run was trained and validated on, or the splits of another data set."""
    if spec is not None:
        return data.load(spec, "train"), data.load(spec, "val")
    if saved.plan is None:
        raise FileNotFoundError(
            f"{saved.folder} holds no {run_folder.PLAN} that says what it was trained on; name "
            "the data set: --data DATASET"
        )
    return saved.plan.load_train(), saved.plan.load_val()


def _pretrained(described: plan.Plan | None) -> tuple[str, ...]:
    """What the names of the parameters begin with that had been trained before; the classes are always new."""
    if described is None:
        return ()
    if described.weights is not None:
        return ("backbone", "rpn", "roi_heads.box_head")
    return () if described.weights_backbone is None else ("backbone.body",)
