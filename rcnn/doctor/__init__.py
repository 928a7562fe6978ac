"""Diagnosis of a trained detector: the stage that fails, the measurement that shows it, and the remedy.

    for verdict in doctor.examine(model, train_images, val_images):
        print(verdict.stage, verdict.number, verdict.trouble)

`rcnn doctor RUN` examines the detector in a run folder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn._validate import FLAG, MOST_SEQUENCE, STRING, as_float_array, check_sequence, integer, shown
from rcnn.data import Dataset
from rcnn.data.protocol import check_dataset
from rcnn.doctor.evidence import gather
from rcnn.doctor.rules import Verdict, judge
from rcnn.model import FasterRCNN

__all__ = ["Verdict", "examine", "report"]

NUM_IMAGES = 100  # number of images from each data set
WIDTH, INDENT = 88, 19  # width and indent of the report, in characters


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
    """Return the verdicts on all stages of a detector, in the order in which an image passes through them.

    Parameters
    ----------
    model : FasterRCNN
        The trained detector.
    train : Dataset
        Images on which the detector was trained.
    val : Dataset, optional
        Images that were not used for training.
    losses : (S,) array_like, optional
        Total loss of each of S training steps.
    frozen : sequence of str, optional
        Names of the parameters that were frozen.
    pretrained : sequence of str, optional
        Name prefixes of the parameters that were pretrained and may therefore be frozen. For a ResNet with ImageNet
        weights, this is ("backbone.body",).
    num_images : int, optional
        Largest number of images that the detector processes from each data set, from 1 to 2^20.
    progress : bool, optional
        If True, show a progress bar.

    Returns
    -------
    list of Verdict
        The verdicts.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, if an item of a data set has the wrong form, if a data set is empty, if its number of
        classes differs from that of the detector, or if the detector computes NaN or infinity.
    """
    if not isinstance(model, FasterRCNN):
        raise TypeError(f"model must be a FasterRCNN, got {shown(model)}")
    num_images = integer(1, MOST_SEQUENCE).check("num_images", num_images)
    progress = FLAG.check("progress", progress)
    steps = as_float_array(losses, "losses")
    if steps.ndim != 1:
        raise ValueError(f"losses must have shape (S,), with one loss per step, got {steps.shape}")
    for name, names in (("frozen", frozen), ("pretrained", pretrained)):
        check_sequence(names, name)
        for index, parameter in enumerate(names):
            STRING.check(f"{name}[{index}]", parameter)
    for name, dataset in (("train", train), ("val", val)):
        if dataset is None and name == "val":
            continue
        check_dataset(dataset, name)
        assert dataset is not None
        if len(dataset) == 0:
            raise ValueError(f"{name} is empty; pass a data set with images")
        if len(dataset.classes) != model.config.num_classes:
            raise ValueError(
                f"{name} must have as many classes as the detector ({model.config.num_classes}), "
                f"got {len(dataset.classes)}"
            )
    return judge(gather(model, train, val, steps.astype(np.float64), frozen, pretrained, num_images, progress))


def report(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as text.

    Parameters
    ----------
    verdicts : sequence of Verdict
        The verdicts, from `examine`.

    Returns
    -------
    str
        Each verdict with its measurement, the remedy for everything that is wrong, and the stage to fix first.
    """
    check_sequence(verdicts, "verdicts")
    lines = []
    for index, verdict in enumerate(verdicts):
        if not isinstance(verdict, Verdict):
            raise TypeError(f"verdicts[{index}] must be a Verdict, got {shown(verdict)}")
        lines += _wrap(verdict.number, f"{'ok' if verdict.trouble is None else '!!':<3}{verdict.stage}")
        if verdict.trouble is not None:
            lines += _wrap(verdict.trouble) + _wrap(f"remedy: {verdict.remedy}")
    troubles = [verdict for verdict in verdicts if verdict.trouble is not None]
    if not troubles:
        return "\n".join([*lines, "", "nothing is wrong"])
    first = troubles[0]
    closing = f"begin with {first.stage}: {first.trouble}"
    closing += "; this may explain the other problems" if len(troubles) > 1 else ""
    return "\n".join([*lines, "", *textwrap.wrap(closing, WIDTH)])


def _wrap(text: str, heading: str = "") -> list[str]:
    """Wrap text next to its heading and return the lines. Paths are not broken, so that they can be copied."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{heading:<{INDENT}}",
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
