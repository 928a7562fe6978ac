"""Images with their boxes: kinds, names and reduced copies."""

import io

import numpy as np
import pytest
from annotated import record, save_image
from PIL import Image

from rcnn import data, evaluate
from rcnn.cli.html import entries


class Street:
    """One image with four objects: the third is a crowd, and the fourth is difficult."""

    classes = ("background", "car", "bus")
    boxes = np.array([[0, 0, 20, 20], [30, 0, 50, 20], [0, 30, 50, 60], [60, 30, 80, 50]], np.float32)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if index:
            raise IndexError(index)
        flags = {"crowd": np.array([0, 0, 1, 0], bool), "difficult": np.array([0, 0, 0, 1], bool)}
        return np.zeros((60, 80, 3), np.uint8), {"boxes": self.boxes, "labels": np.array([1, 2, 1, 1]), **flags}


FOUND = {  # right; a duplicate; the difficult object; background
    "boxes": Street.boxes[[0, 0, 3]].tolist() + [[52, 22, 58, 28]],
    "scores": np.array([0.9, 0.8, 0.7, 0.6]),
    "labels": np.array([1, 1, 1, 2]),
}


def test_every_box_has_its_kind():
    street = Street()
    found = {**FOUND, "boxes": np.array(FOUND["boxes"])}
    errors = evaluate.error_kinds([found], [street[0][1]], 3)
    (entry,) = entries.make_entries(street, [0], [found], errors)
    assert [box.kind for box in entry.objects] == ["found", "missed", "ignored", "ignored"]
    assert [box.kind for box in entry.detections] == ["right", "duplicate", "ignored", "background"]
    assert [box.wrong for box in entry.detections] == [False, True, False, True]
    assert entry.errors == 3 == entries.count_errors(errors, 1)[0]
    assert entry.size == (60, 80) and entry.detections[0].corners == (0, 0, 20, 20)


def test_without_a_detector_no_object_is_judged():
    (entry,) = entries.make_entries(Street(), [0])
    assert [box.kind for box in entry.objects] == ["object", "object", "ignored", "ignored"]
    assert entry.detections == () and entry.errors == 0


def test_names_are_relative_to_the_common_folder(tmp_path):
    paths = [save_image(tmp_path / name) for name in ("a/x.png", "a/b/y.png")]
    records = [record(path, names=("cat",)) for path in paths]
    images = data.AnnotatedImages(data.Annotations(("background", "cat"), records, []))
    assert entries.image_names(images) == ["x.png", "b/y.png"]
    assert entries.image_names(data.Shapes(2)) == ["image 0", "image 1"]


@pytest.mark.parametrize(
    ("shape", "reduced"), [((30, 40), (30, 40)), ((900, 1600), (450, 800)), ((5000, 1), (800, 1)), ((1, 1), (1, 1))]
)
def test_large_images_are_reduced(shape, reduced):
    with Image.open(io.BytesIO(entries.as_jpeg(np.zeros((*shape, 3), np.uint8)))) as image:
        assert image.format == "JPEG" and image.size == reduced[::-1]


def test_float_images_are_scaled():
    with Image.open(io.BytesIO(entries.as_jpeg(np.ones((8, 8, 3))))) as image:
        assert np.asarray(image).min() >= 250


def test_first_images_end_where_they_should():
    pages = entries.FirstImages(data.Shapes(5), 2)
    assert len(pages) == 2 and len(list(pages)) == 2 and pages.classes == data.Shapes.classes
    with pytest.raises(IndexError):
        pages[2]
