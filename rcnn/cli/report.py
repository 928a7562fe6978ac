"""The report at the end of `rcnn train`: it evaluates the detector, and asks the doctor."""

from __future__ import annotations

import sys
from pathlib import Path

from rcnn import data, doctor
from rcnn.cli import html
from rcnn.cli.doctor import pretrained
from rcnn.cli.process import message, say, tell
from rcnn.cli.shared import load_weights
from rcnn.data.splits import TEST, TRAIN, VAL
from rcnn.train import run_folder
from rcnn.train.run_folder import SavedRun

MAX_TRAIN_IMAGES = 100  # to evaluate if there are no other images
DOCTOR_IMAGES = 50  # of each split


def write_stopped(folder: Path) -> None:
    """Write the report of a run whose detector has not been evaluated."""
    html.write_report(run_folder.open_run(folder))


def write(folder: Path, train: data.Dataset, val: data.Dataset | None) -> None:
    """Evaluate the detector of a run on the test, val or training images, write the report and print the result."""
    saved = run_folder.open_run(folder)
    model, progress = load_weights(str(folder)), sys.stderr.isatty()
    dataset, split = _images(saved, train, val)
    measured = html.measure(model, dataset, split, progress)
    verdicts = doctor.examine(
        model,
        train,
        val,
        saved.history["total_loss"],
        saved.frozen,
        pretrained(saved.plan),
        DOCTOR_IMAGES,
        progress,
    )
    path = html.write_report(saved, measured, verdicts)
    count, troubles = len(dataset), [verdict for verdict in verdicts if verdict.trouble is not None]
    say(f"AP50 on {split} ({count} image{'s' * (count != 1)}): {measured.result.mean_ap:.3f}")
    if troubles:
        say(f"the doctor says: {troubles[0].stage}: {troubles[0].trouble}; for details: rcnn doctor {folder}")
    say(f"report: {path}")


def _images(saved: SavedRun, train: data.Dataset, val: data.Dataset | None) -> tuple[data.Dataset, str]:
    """Return the images to evaluate, and the name of their split."""
    if saved.plan is not None and TEST in getattr(train, "splits", ()):
        try:
            options = {**saved.plan.options, "on_error": "skip"}
            test = data.load(saved.plan.train, TEST, options=options)
            if tuple(test.classes) == tuple(train.classes):
                if skipped := getattr(test, "skipped", ()):
                    tell(
                        f"warning: {TEST}: {len(skipped)} skipped; the first is {skipped[0].source}: "
                        f"{skipped[0].reason}; for details: rcnn check {saved.plan.train} --split {TEST}"
                    )
                return test, TEST
            tell(f"the split {TEST} is not used, because its classes differ from those of {TRAIN}")
        except (OSError, ValueError) as error:
            tell(f"the split {TEST} is not used: {message(error)}")
    return (html.FirstImages(train, MAX_TRAIN_IMAGES), TRAIN) if val is None else (val, VAL)
