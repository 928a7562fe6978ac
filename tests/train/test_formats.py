"""Training on a data set in any format gives the same weights, bit for bit, as on the pages that it was made from."""

import json

import numpy as np
import pytest

import rcnn
from rcnn import data, train
from rcnn.images import as_png

PAGES = data.Digits(6)


def write_labelme(dataset, folder, split, progress):
    """Write one JSON file per image, as labelme does, and the list of the classes."""
    (folder / split).mkdir(parents=True)
    for i, (image, target) in enumerate(dataset):
        shapes = [
            {"label": dataset.classes[label], "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle"}
            for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"], strict=True)
        ]
        (folder / split / f"{i}.png").write_bytes(as_png(image))
        (folder / split / f"{i}.json").write_text(json.dumps({"shapes": shapes, "imagePath": f"{i}.png"}))
    (folder / "classes.txt").write_text("\n".join(dataset.classes[1:]))


WRITERS = {
    "voc": data.write_voc,
    "coco": data.write_coco,
    "yolo": data.write_yolo,
    "csv": data.write_csv,
    "labelme": write_labelme,
}


def trained(dataset):
    """Return the weights after two steps of training."""
    rcnn.seed(0)
    model = rcnn.faster_rcnn_small(dataset.classes)
    train.fit(model, dataset, train.Recipe(steps=2, batch_size=2), progress=False)
    return model.state_dict()


@pytest.fixture(scope="module")
def expected():
    return trained(PAGES)


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_converted_set_trains_to_the_same_weights(tmp_path, expected, kind):
    WRITERS[kind](PAGES, tmp_path, "train", progress=False)
    WRITERS[kind](data.Digits(2, split="val"), tmp_path, "val", progress=False)
    weights = trained(data.load(f"{kind}:{tmp_path}", "train"))
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(array, expected[name]) for name, array in weights.items())
