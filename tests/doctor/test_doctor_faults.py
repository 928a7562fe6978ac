"""Detectors trained with a fault: the doctor names each fault, and finds no trouble in a good detector."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rcnn
from rcnn import data, doctor, train
from rcnn.train.run_folder import frozen_names
from rcnn.zoo.detectors import faster_rcnn_small

TRAIN, VAL = data.Shapes(600, split="train"), data.Shapes(60, split="val")
FEW_STEPS = 150  # enough to reveal a fault
Target = dict[str, np.ndarray]


class Mistaken:
    """A data set with a mistake in its targets; `mistake` maps (data set, index) to a target."""

    def __init__(self, dataset: data.Dataset, mistake: Callable[[data.Dataset, int], Target]) -> None:
        self.dataset, self.mistake, self.classes = dataset, mistake, dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Target]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.dataset[index][0], self.mistake(self.dataset, index)


def swapped(dataset: data.Dataset, index: int) -> Target:
    target = dataset[index][1]
    return {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}


def shuffled(dataset: data.Dataset, index: int) -> Target:
    return dataset[(index + 1) % len(dataset)][1]


def from_0(dataset: data.Dataset, index: int) -> Target:
    target = dataset[index][1]
    return {**target, "labels": target["labels"] - 1}


def troubles(
    recipe: train.Recipe, mistake: Callable[[data.Dataset, int], Target] | None = None, **config: Any
) -> dict[str, str]:
    """Return the doctor's troubles with a detector trained with a mistake: the sentence and stage of each."""
    learned, others = (TRAIN, VAL) if mistake is None else (Mistaken(TRAIN, mistake), Mistaken(VAL, mistake))
    rcnn.seed(0)
    model = faster_rcnn_small(TRAIN.classes, **config)
    history = train.fit(model, learned, recipe, progress=False).history
    verdicts = doctor.examine(model, learned, others, history["total_loss"], frozen_names(model), progress=False)
    return {verdict.trouble: verdict.stage for verdict in verdicts if verdict.trouble is not None}


@pytest.mark.slow
def test_a_good_run_has_no_trouble_and_labels_from_0_are_found() -> None:
    rcnn.seed(1)
    model = faster_rcnn_small(TRAIN.classes)
    history = train.fit(model, data.Shapes(split="train"), train.RECIPES["shapes"], progress=False).history
    verdicts = doctor.examine(model, TRAIN, VAL, history["total_loss"], progress=False)
    assert [verdict.trouble for verdict in verdicts if verdict.trouble] == []
    assert {"anchors", "proposals", "detections", "classes", "new images"} <= {verdict.stage for verdict in verdicts}

    verdicts = doctor.examine(model, Mistaken(TRAIN, from_0), Mistaken(VAL, from_0), progress=False)
    found = [verdict.trouble for verdict in verdicts if verdict.trouble]
    assert found[0] == "an object has the label 0, which is the background"
    assert "the labels are shifted by one" in found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "trouble", "stage"),
    [
        ({"mistake": swapped}, "x and y of the boxes are swapped", "data"),
        ({"mistake": shuffled}, "the boxes of an image belong to another image", "data"),
        ({"anchor_sizes": (56, 96, 160)}, "the anchors do not cover the objects", "anchors"),
        (
            {"image_mean": (123.7, 116.3, 103.5), "image_std": (58.4, 57.1, 57.4)},
            "the pixels are not normalised",
            "normalisation",
        ),
        ({"image_std": (1 / 255,) * 3}, "the pixels are not normalised", "normalisation"),
        (
            {"recipe": train.Recipe(steps=FEW_STEPS, freeze=("roi_heads",))},
            "roi_heads.box_head, roi_heads.box_predictor cannot learn",
            "learning",
        ),
        (
            {"recipe": train.Recipe(steps=FEW_STEPS, lr=1e-7)},
            "the loss barely falls: the learning rate is too low or too high",
            "learning",
        ),
    ],
    ids=[
        "swapped",
        "shuffled",
        "large anchors",
        "mean and deviation for 0 .. 255",
        "deviation for 0 .. 255",
        "frozen head",
        "low learning rate",
    ],
)
def test_each_fault_is_named_first(fault: dict[str, Any], trouble: str, stage: str) -> None:
    found = troubles(**{"recipe": train.Recipe(steps=FEW_STEPS), **fault})
    assert next(iter(found.items())) == (trouble, stage)
