"""Data sets that break the `Dataset` protocol: every function that reads a data set names the item and the value."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rcnn
from rcnn import data, doctor, evaluate, train
from rcnn.data.protocol import annotation_of, check_areas
from rcnn.zoo.detectors import faster_rcnn_small

CLASSES = ("background", "cat")
IMAGE = np.zeros((64, 64, 3), np.uint8)
TARGET = {"boxes": np.array([[8.0, 8, 40, 40]]), "labels": np.array([1])}


class Listed(list[Any]):
    """A data set that is a list of items."""

    def __init__(self, *items: Any, classes: Any = CLASSES) -> None:
        super().__init__(items)
        self.classes = classes


@pytest.fixture(scope="module")
def model() -> rcnn.FasterRCNN:
    return faster_rcnn_small(CLASSES, min_size=64, max_size=64)


READERS: dict[str, Callable[[rcnn.FasterRCNN, Any, Path], Any]] = {
    "evaluate": lambda model, dataset, _: evaluate.evaluate(model, dataset, progress=False),
    "recall_by_stage": lambda model, dataset, _: evaluate.recall_by_stage(model, dataset, progress=False),
    "predictions": lambda model, dataset, _: evaluate.predictions(model, dataset, progress=False),
    "examine": lambda model, dataset, _: doctor.examine(model, dataset, progress=False),
    "fit": lambda model, dataset, _: train.fit(model, dataset, train.Recipe(steps=1), progress=False),
    "fit val": lambda model, dataset, _: train.fit(
        model, Listed((IMAGE, TARGET)), train.Recipe(steps=1), val=dataset, progress=False
    ),
    "validate": lambda model, dataset, _: train.loop.validate(model, dataset),
    "write_voc": lambda _, dataset, folder: data.write_voc(dataset, folder, "train", progress=False),
    "write_coco": lambda _, dataset, folder: data.write_coco(dataset, folder, "train", progress=False),
    "write_csv": lambda _, dataset, folder: data.write_csv(dataset, folder, "train", progress=False),
    "write_yolo": lambda _, dataset, folder: data.write_yolo(dataset, folder, "train", progress=False),
    "data.validate": lambda _, dataset, __: data.validate(dataset, progress=False),
}
ITEMS = {
    "None": None,
    "one": (IMAGE,),
    "three": (IMAGE, TARGET, 3),
    "no target": (IMAGE, None),
    "no boxes": (IMAGE, {}),
    "text labels": (IMAGE, {**TARGET, "labels": ["a"]}),
    "text boxes": (IMAGE, {**TARGET, "boxes": [["a"] * 4]}),
    "no image": (None, TARGET),
}


def refused(function: Callable[[], Any]) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


# `predictions` returns the targets unchecked, and `data.validate` reports malformed items.
@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("predictions", "data.validate")])
@pytest.mark.parametrize("item", ITEMS)
def test_a_malformed_item_is_named(model: rcnn.FasterRCNN, reader: str, item: str, tmp_path: Path) -> None:
    message = refused(lambda: READERS[reader](model, Listed((IMAGE, TARGET), ITEMS[item]), tmp_path))
    assert any(name in message for name in ("[1]", "image 1")), message


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "dataset", [None, 3, range(3), {0: (IMAGE, TARGET)}, iter(())], ids=lambda value: type(value).__name__
)
def test_an_object_that_is_not_a_data_set_is_refused(
    model: rcnn.FasterRCNN, reader: str, dataset: Any, tmp_path: Path
) -> None:
    if dataset is None and reader == "fit val":
        return  # means no validation
    assert " must be a data set with `classes`, a length" in refused(lambda: READERS[reader](model, dataset, tmp_path))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("classes", [None, 5, "ab", ("background", 3), {"background": 0, "cat": 1}], ids=repr)
def test_class_names_must_be_a_sequence_of_strings(
    model: rcnn.FasterRCNN, reader: str, classes: Any, tmp_path: Path
) -> None:
    message = refused(lambda: READERS[reader](model, Listed((IMAGE, TARGET), classes=classes), tmp_path))
    assert ".classes" in message and " must be a " in message


def test_the_items_are_reported_by_validate() -> None:
    report = data.validate(Listed((IMAGE, TARGET), *ITEMS.values()), progress=False)
    assert {problem.kind: problem.count for problem in report.problems}["malformed-item"] == len(ITEMS)


@pytest.mark.parametrize("stated", [None, (3,), ((64, 64), None), ("ab", TARGET), ((0, 64), TARGET)], ids=repr)
def test_a_malformed_annotation_is_named(stated: Any) -> None:
    class Annotated(Listed):
        def annotation(self, index: int) -> Any:
            del index
            return stated

    assert "dataset.annotation(0)" in refused(lambda: annotation_of(Annotated((IMAGE, TARGET)), 0))


@pytest.mark.parametrize("areas", [[1.0, 2.0], [-1.0], [np.nan], ["a"], None], ids=repr)
def test_areas_are_checked(areas: Sequence[Any], tmp_path: Path) -> None:
    target = {**TARGET, "areas": areas}
    assert "target['areas']" in refused(lambda: check_areas(target, TARGET["boxes"], "target"))
    assert "image 0['areas']" in refused(lambda: data.write_coco(Listed((IMAGE, target)), tmp_path, "train"))
