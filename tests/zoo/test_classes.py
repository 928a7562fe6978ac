"""COCO's class names are indexed by the labels of the public detectors."""

import pytest

from rcnn.zoo.classes import COCO_NAMES


def test_ninety_numbers_for_eighty_classes():
    used = [name for name in COCO_NAMES[1:] if not name.startswith("unused")]
    assert len(COCO_NAMES) == 91 and len(used) == 80
    assert len(set(COCO_NAMES)) == 91  # so that names are unique
    unused = [label for label, name in enumerate(COCO_NAMES) if name == f"unused {label}"]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]


@pytest.mark.parametrize(
    "label, name",
    [
        (0, "background"),
        (1, "person"),
        (3, "car"),
        (11, "fire hydrant"),
        (13, "stop sign"),
        (18, "dog"),
        (25, "giraffe"),
        (44, "bottle"),
        (46, "wine glass"),
        (62, "chair"),
        (67, "dining table"),
        (72, "tv"),
        (82, "refrigerator"),
        (90, "toothbrush"),
    ],
)
def test_names_are_indexed_by_label(label, name):
    assert COCO_NAMES[label] == name
