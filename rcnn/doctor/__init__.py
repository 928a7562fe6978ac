"""Where a trained detector breaks: a walk through its stages, each with the number that says so and the remedy.

    for verdict in doctor.examine(model, train_pages, val_pages):
        print(verdict.stage, verdict.number, verdict.trouble)

`rcnn doctor RUN` does this for a run that was saved in a folder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn.data import Dataset
from rcnn.doctor.evidence import gather
from rcnn.doctor.rules import Verdict, judge
from rcnn.model import FasterRCNN

__all__ = ["Verdict", "examine", "report"]

PAGES = 100  # of either set


def examine(model: FasterRCNN, train: Dataset, val: Dataset | None = None, losses: ArrayLike = (),
            frozen: Sequence[str] = (), pretrained: bool = False, pages: int = PAGES,
            progress: bool = True) -> list[Verdict]:
    """The verdicts on all stages of a detector, in the order in which an image meets them.

    Args:
        model: the detector, trained.
        train: what it was trained on; val: pictures that it has not seen, if there are any.
        losses: (S,) the total loss of every step of its training, as far as they are known.
        frozen: the names of the parameters that did not learn.
        pretrained: whether the backbone began with weights that had been trained, so that it may be frozen.
        pages: how many pictures of either set are walked through, at most.
        progress: whether to show a bar.

    Raises ValueError for an empty set, or one of another number of classes than the detector's.
    """
    if pages < 1:
        raise ValueError(f"pages must be at least 1, got {pages}")
    for name, dataset in (("train", train), ("val", val)):
        if dataset is None:
            continue
        if len(dataset) == 0:
            raise ValueError(f"{name} is empty: there is nothing to examine")
        if len(dataset.classes) != model.config.num_classes:
            raise ValueError(f"the detector tells {model.config.num_classes} classes apart, {name} has "
                             f"{len(dataset.classes)}")
    return judge(gather(model, train, val, np.asarray(losses, np.float64), frozen, pretrained, pages, progress))


def report(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a text: a line for each, and under a trouble what to do about it; the first one above all."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{'ok' if verdict.trouble is None else '!!':<3}{verdict.stage:<14}{verdict.number}")
        if verdict.trouble is not None:
            lines += [f"{'':<17}{verdict.trouble}", f"{'':<17}remedy: {verdict.remedy}"]
    troubles = [verdict for verdict in verdicts if verdict.trouble is not None]
    if not troubles:
        return "\n".join([*lines, "", "nothing is wrong"])
    first = troubles[0]
    closing = f"begin with the first: {first.stage}, {first.trouble}"
    return "\n".join([*lines, "", closing + ("; it may explain those after it" if len(troubles) > 1 else "")])
