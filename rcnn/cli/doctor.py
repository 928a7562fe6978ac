"""The command `rcnn doctor`, which reports on each stage of a trained detector."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rcnn import data, doctor
from rcnn.cli.process import say
from rcnn.cli.shared import add_max_pixels, known_format, load_weights
from rcnn.train import plan, run_folder

PROBLEM = 1  # exit status if a stage has a problem


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn doctor` to the commands."""
    parser = commands.add_parser(
        "doctor",
        help="find the stage in which a trained detector fails, and suggest what to change",
        description="Examine a trained detector stage by stage, from the data to the detections. For each stage, print "
        "a measurement and, if there is a problem, what to change. The exit status is 1 if there is a problem.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder that rcnn train has written")
    parser.add_argument("--data", metavar="DATASET", help="data set to use (default: the data set of the run)")
    parser.add_argument(
        "--images",
        type=int,
        default=doctor.NUM_IMAGES,
        metavar="N",
        help="number of images to examine in each split (default: %(default)s)",
    )
    add_max_pixels(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine the detector and print the report; return 0, or 1 if there is a problem."""
    saved = run_folder.open_run(options.folder)
    train, val = _datasets(saved, options.data and known_format(options.data))
    model = load_weights(str(saved.folder))
    verdicts = doctor.examine(
        model,
        train,
        val,
        saved.history["total_loss"],
        saved.frozen,
        pretrained=pretrained(saved.plan),
        num_images=options.images,
        progress=sys.stderr.isatty(),
    )
    say(doctor.report(verdicts))
    return PROBLEM if any(verdict.trouble for verdict in verdicts) else 0


def _datasets(saved: run_folder.SavedRun, spec: str | None) -> tuple[data.Dataset, data.Dataset | None]:
    """Return the training and validation data of the run, or of another data set."""
    if spec is not None:
        return data.load(spec, "train"), data.load(spec, "val")
    if saved.plan is None:
        raise FileNotFoundError(
            f"{run_folder.PLAN} not found in {saved.folder}; add the data set of the run: --data DATASET"
        )
    return saved.plan.load_train(), saved.plan.load_val()


def pretrained(described: plan.Plan | None) -> tuple[str, ...]:
    """Return the name prefixes of the pretrained parameters, without the last layers, which depend on the classes."""
    if described is None:
        return ()
    if described.weights is not None:
        return ("backbone", "rpn", "roi_heads.box_head")
    return () if described.weights_backbone is None else ("backbone.body",)
