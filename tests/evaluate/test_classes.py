"""The classes of a detector and of a data set, matched by name in any order."""

import numpy as np
import pytest

from rcnn.evaluate import match_classes, rename

BOXES = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], np.float32)


@pytest.mark.parametrize(
    "detector, dataset, labels",
    [
        (("background", "cat", "dog"), ("background", "cat", "dog"), [0, 1, 2]),
        (("background", "cat", "dog"), ("background", "dog", "cat"), [0, 2, 1]),
        (("__none__", "cow", "dog", "cat"), ("background", "cat", "dog"), [0, 0, 2, 1]),
        (
            ("background", "background", "dog"),
            ("background", "dog"),
            [0, 0, 1],
        ),  # an object class with the background's name does not count
        (3, ("background", "dog", "cat"), [0, 1, 2]),
    ],
)
def test_labels(detector, dataset, labels):
    assert match_classes(detector, dataset).tolist() == labels


@pytest.mark.parametrize(
    "detector, message",
    [
        (
            ("background", "cat"),
            "does not know these classes of the data set: dog, cow; its 2 classes are background, cat",
        ),
        (
            ("dog", "cow", "cat"),
            "does not know these classes of the data set: dog;",
        ),  # here the name dog is the detector's background
        (tuple(f"class number {i}" for i in range(20)), "class number 4 and 15 more"),
        (3, "has 3 classes without names, but the data set has 4 classes;"),
    ],
)
def test_a_detector_without_a_class_of_the_data_set(detector, message):
    with pytest.raises(ValueError, match=message):
        match_classes(detector, ("background", "cat", "dog", "cow"))


def test_detections_are_renamed_and_those_of_other_classes_dropped():
    detections = [
        {"boxes": BOXES, "scores": np.array([0.9, 0.8, 0.7]), "labels": np.array([1, 3, 2])},
        {"boxes": [], "scores": [], "labels": []},
    ]
    first, second = rename(detections, np.array([0, 2, 1, 0]))
    np.testing.assert_array_equal(first["boxes"], BOXES[[0, 2]])
    assert first["boxes"].dtype == np.float32
    assert (first["scores"].tolist(), first["labels"].tolist()) == ([0.9, 0.7], [2, 1])
    assert (second["boxes"].shape, second["labels"].shape) == ((0, 4), (0,))
    assert detections[0]["labels"].tolist() == [1, 3, 2]  # the input is unchanged
