"""Compare the COCO evaluation of rcnn with that of pycocotools, in one process.

    python benchmarks/coco_measure.py [--repeats 5]

Both libraries evaluate the same random detections. The script first compares their precision and recall. Then it times
the two libraries alternately, and prints the median times and their ratio. Only the evaluation is timed: rcnn starts
from arrays, and pycocotools starts from loaded annotations. The script requires rcnn and pycocotools.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from speed import machine, record

from rcnn.boxes import area, convert
from rcnn.evaluate import CocoEvaluation, evaluate_coco

PerImage = Mapping[str, np.ndarray]  # the detections or the target of one image
CASES = ((200, 100, 80), (200, 100, 1), (2000, 10, 80), (2000, 10, 1))  # (images, detections per image, classes)


def annotations(targets: Sequence[PerImage], num_classes: int) -> COCO:
    """Return the targets as a pycocotools data set; image i has the id i + 1, and the category id is the label."""
    objects = []
    for i, target in enumerate(targets):
        areas = target.get("areas", area(target["boxes"]))
        crowd = target.get("crowd", np.zeros(len(areas)))
        objects += [
            {"image_id": i + 1, "category_id": int(label), "bbox": box, "area": float(size), "iscrowd": int(c)}
            for box, label, size, c in zip(sides(target), target["labels"], areas, crowd, strict=True)
        ]
    return indexed(
        {
            "images": [{"id": i + 1} for i in range(len(targets))],
            "categories": [{"id": label} for label in range(1, num_classes)],
            "annotations": [{"id": k + 1, **entry} for k, entry in enumerate(objects)],
        }
    )


def results(detections: Sequence[PerImage], truth: COCO) -> COCO:
    """Return the detections as pycocotools results for `truth`, a data set from `annotations`."""
    entries = [
        {"image_id": i + 1, "category_id": int(label), "bbox": box, "score": float(score)}
        for i, detected in enumerate(detections)
        for box, label, score in zip(sides(detected), detected["labels"], detected["scores"], strict=True)
    ]
    if not entries:  # `loadRes` rejects an empty list
        return indexed({**truth.dataset, "annotations": []})
    with contextlib.redirect_stdout(io.StringIO()):
        return truth.loadRes(entries)


def peer(truth: COCO, found: COCO, evaluation: type[COCOeval] = COCOeval) -> COCOeval:
    """Return the evaluation of the results `found` by pycocotools, and discard the text that it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        result = evaluation(truth, found, "bbox")
        result.evaluate()
        result.accumulate()
    return result


def difference(own: CocoEvaluation, theirs: COCOeval) -> float:
    """Return the largest difference between any precision, recall or metric; NaN counts as -1, as in pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        theirs.summarize()
    pairs = (
        (own.precision[:, :, 1:], theirs.eval["precision"]),
        (own.recall[:, 1:], theirs.eval["recall"]),
        (np.array(list(own.numbers.values())), theirs.stats),
    )
    return max(float(np.abs(np.where(np.isnan(a), -1, a) - b).max(initial=0)) for a, b in pairs)


def sides(entry: PerImage) -> list[list[float]]:
    """Return the boxes in the format of COCO, (x, y, width, height)."""
    return convert(np.asarray(entry["boxes"], np.float64).reshape(-1, 4), "xyxy", "xywh").tolist()


def indexed(dataset: dict[str, object]) -> COCO:
    """Return `dataset` as an indexed `COCO` object."""
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def draw(images: int, detections: int, classes: int, rng: np.random.Generator) -> tuple[list[PerImage], list[PerImage]]:
    """Return random (detections, targets) for a number of images; each is a list with one dict for each image.

    An image has about seven objects, some of which are crowds. The detections are boxes near the objects.
    """
    found: list[PerImage] = []
    wanted: list[PerImage] = []
    for _ in range(images):
        num_objects = rng.integers(1, 14)
        corners, extent = rng.uniform(0, 500, (num_objects, 2)), np.exp(rng.uniform(2, 5.5, (num_objects, 2)))
        boxes = np.concatenate([corners, corners + extent], axis=1)
        labels = rng.integers(1, classes + 1, num_objects)
        of = rng.integers(0, num_objects, detections)
        scattered = boxes[of] + 0.12 * rng.normal(size=(detections, 4)) * np.tile(extent[of], 2)
        mistaken = rng.uniform(size=detections) < 0.2
        wanted.append({"boxes": boxes, "labels": labels, "crowd": rng.uniform(size=num_objects) < 0.05})
        found.append(
            {
                "boxes": scattered,
                "scores": rng.integers(0, 1000, detections) / 1000,
                "labels": np.where(mistaken, rng.integers(1, classes + 1, detections), labels[of]),
            }
        )
    return found, wanted


def seconds(call: Callable[..., object], *arguments: object) -> float:
    """Return the time of one call in seconds."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="number of timed calls for each library (default: 5)")
    parser.add_argument("--results", action="store_true", help="write the result ranges to docs/results.json")
    options = parser.parse_args()
    measured = []  # (seconds, ratio, difference) for each case
    print(f"{'images':>8} {'boxes':>5} {'classes':>7} {'rcnn':>9} {'pycocotools':>12} {'ratio':>6} {'difference':>11}")
    for images, each, classes in CASES:
        detections, targets = draw(images, each, classes, np.random.default_rng(0))
        truth = annotations(targets, classes + 1)
        found = results(detections, truth)
        apart = difference(evaluate_coco(detections, targets, classes + 1), peer(truth, found))
        times = [
            (seconds(evaluate_coco, detections, targets, classes + 1), seconds(peer, truth, found))
            for _ in range(options.repeats)
        ]
        own, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        measured.append((own, own / theirs, apart))
        print(f"{images:8d} {each:5d} {classes:7d} {own:7.3f} s {theirs:10.3f} s {own / theirs:6.3f} {apart:11.1e}")
    if options.results:
        seconds_, ratios, differences = zip(*measured, strict=True)
        command = "python benchmarks/coco_measure.py"
        entries = {
            "seconds": record.entry([round(f(seconds_), 2) for f in (min, max)], "s", command),
            "ratio": record.entry([round(f(ratios), 2) for f in (min, max)], "of the time of pycocotools", command),
            "difference": record.entry(float(f"{max(differences):.0e}"), "largest difference", command),
        }
        record.update("coco", entries, machine.line())


if __name__ == "__main__":
    main()
