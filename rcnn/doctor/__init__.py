"""Where a trained detector breaks: a walk through its stages, each with the number that says so and the remedy.

    for verdict in doctor.examine(model, train_images, val_images):
        print(verdict.stage, verdict.number, verdict.trouble)

`rcnn doctor RUN` does this for a run that was saved in a folder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn.data import Dataset
from rcnn.doctor.evidence import gather
from rcnn.doctor.rules import Verdict, judge
from rcnn.model import FasterRCNN

__all__ = ["Verdict", "examine", "report"]

NUM_IMAGES = 100  # of either set
WIDTH, INDENT = 100, 17  # of the report, in letters


def examine(
    model: FasterRCNN,
    train: Dataset,
    val: Dataset | None = None,
    losses: ArrayLike = (),
    frozen: Sequence[str] = (),
    pretrained: Sequence[str] = (),
    num_images: int = NUM_IMAGES,
    progress: bool = True,
) -> list[Verdict]:
    """The verdicts on all stages of a detector, in the order in which an image meets them.

    Args:
        model: the detector, trained.
        train: what it was trained on; val: images that it has not seen, if there are any.
        losses: (S,) the total loss of every step of its training, as far as they are known.
        frozen: the names of the parameters that did not learn.
        pretrained: what the names of the parameters begin with that had been trained before, and so may be frozen:
            ("backbone.body",) of a ResNet that knows ImageNet.
        num_images: how many images of either set are walked through, at most.
        progress: whether to show a bar.

    Raises ValueError for an empty set, or one of another number of classes than the detector's.
    """
    if num_images < 1:
        raise ValueError(f"num_images must be at least 1, got {num_images}")
    for name, dataset in (("train", train), ("val", val)):
        if dataset is None:
            continue
        if len(dataset) == 0:
            raise ValueError(f"{name} is empty: there is nothing to examine")
        if len(dataset.classes) != model.config.num_classes:
            raise ValueError(
                f"the detector tells {model.config.num_classes} classes apart, {name} has {len(dataset.classes)}"
            )
    return judge(gather(model, train, val, np.asarray(losses, np.float64), frozen, pretrained, num_images, progress))


def report(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a text: each with its number, a trouble with its remedy, too, and which to begin with."""
    lines = []
    for verdict in verdicts:
        lines += _wrap(verdict.number, f"{'ok' if verdict.trouble is None else '!!':<3}{verdict.stage:<14}")
        if verdict.trouble is not None:
            lines += _wrap(verdict.trouble) + _wrap(f"remedy: {verdict.remedy}")
    troubles = [verdict for verdict in verdicts if verdict.trouble is not None]
    if not troubles:
        return "\n".join([*lines, "", "nothing is wrong"])
    first = troubles[0]
    closing = f"begin with the first: {first.stage}, {first.trouble}"
    closing += "; it may explain those after it" if len(troubles) > 1 else ""
    return "\n".join([*lines, "", *textwrap.wrap(closing, WIDTH)])


def _wrap(text: str, heading: str = "") -> list[str]:
    """The lines of a text beside its heading; a path is left whole, so that it can be copied."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{heading:<{INDENT}}",
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
