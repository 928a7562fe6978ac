"""Average precision: cases worked out by hand, and comparison with plain loops on random images."""

import sys

import numpy as np
import pytest

from rcnn.boxes import iou
from rcnn.evaluate import average_precision, evaluate, evaluate_detections, precision_recall

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
ELSEWHERE = [80, 80, 90, 90]


def found(*rows):
    """Return detections of one image from (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "labels": np.array(labels, np.int64),
    }


def wanted(*rows, **extra):
    """Return a target from (box, label)."""
    boxes, labels = zip(*rows, strict=True) if rows else ((), ())
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int64), **extra}


# Right, wrong, right, wrong, right of three objects: precision 1, 1/2, 2/3, 1/2, 3/5 at recall 1/3, 1/3, 2/3, 2/3, 1.
# The best precision from there on is 1, 2/3, 2/3, 3/5, 3/5.
# 2007: recalls 0 .. 0.3 read 1, 0.4 .. 0.6 read 2/3, 0.7 .. 1 read 3/5: (4 + 3 * 2/3 + 4 * 3/5) / 11 = 8.4 / 11.
# 2012: a third of the recall each at 1, 2/3 and 3/5: 34/45.
RIGHT = [True, False, True, False, True]
AP_2007, AP_2012 = 8.4 / 11, 34 / 45


def test_precision_and_recall_by_hand():
    precision, recall = precision_recall(RIGHT, 3)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    assert np.isnan(precision_recall([False, False], 0)[1]).all()


@pytest.mark.parametrize(
    "recall, precision, ap_2007, ap_2012",
    [
        ([1 / 3, 1 / 3, 2 / 3, 2 / 3, 1], [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5], AP_2007, AP_2012),
        ([0.5, 1.0], [1.0, 1.0], 1.0, 1.0),
        ([0.3], [1.0], 4 / 11, 0.3),  # the recalls 0, 0.1, 0.2 and 0.3 itself are reached
        ([0.0, 0.5], [0.0, 0.5], 0.5 * 6 / 11, 0.25),  # a wrong one first: from recall 0, the better precision counts
        ([0.0], [0.0], 0.0, 0.0),
        ([], [], 0.0, 0.0),
        ([np.nan], [0.0], np.nan, np.nan),
    ],
)
def test_average_precision_by_hand(recall, precision, ap_2007, ap_2012):
    assert average_precision(recall, precision, "voc2007") == pytest.approx(ap_2007, nan_ok=True)
    assert average_precision(recall, precision, "voc2012") == pytest.approx(ap_2012, nan_ok=True)


@pytest.mark.parametrize("method, expected", [("voc2007", AP_2007), ("voc2012", AP_2012)])
def test_two_images_by_hand(method, expected):
    detections = [found((ELSEWHERE, 0.8, 1), (A, 0.9, 1), (B, 0.5, 1)), found((A, 0.7, 1), (ELSEWHERE, 0.6, 1))]
    result = evaluate_detections(detections, [wanted((A, 1), (B, 1)), wanted((A, 1))], 2, method=method)
    assert result.ap[1] == pytest.approx(expected)
    assert result.mean_ap == pytest.approx(expected)
    np.testing.assert_allclose(result.precision[1], [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(result.recall[1], [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    assert result.num_objects.tolist() == [0, 3]
    assert result.num_detections.tolist() == [0, 5]


def test_classes_without_objects_are_left_out_of_the_mean():
    # Class 1: its only detection is right, one of two objects found: 0.5. Class 2: the box of its object was
    # labelled as class 3: 0. Class 3: a detection, but no object: NaN. Class 4: neither.
    result = evaluate_detections([found((A, 0.9, 1), (B, 0.9, 3))], [wanted((A, 1), (C, 1), (B, 2))], 5)
    np.testing.assert_allclose(result.ap, [np.nan, 0.5, 0.0, np.nan, np.nan])
    assert result.mean_ap == pytest.approx(0.25)
    assert result.num_objects.tolist() == [0, 2, 1, 0, 0]
    assert result.num_detections.tolist() == [0, 1, 0, 1, 0]
    assert np.isnan(result.recall[3]).all() and result.precision[3].tolist() == [0.0]


def test_a_second_detection_is_wrong_even_if_it_overlaps_another_object():
    # Objects at x 0 .. 10 and 5 .. 15. Detections at 0 .. 10 and 2 .. 12: the latter has IoU 8/12 with the first object
    # and 7/13 with the second, so it matches the first, which is taken. Precision 1, 1/2; recall 1/2: AP 1/2.
    target = wanted((A, 1), ([5, 0, 15, 10], 1))
    result = evaluate_detections([found((A, 0.9, 1), ([2, 0, 12, 10], 0.8, 1))], [target], 2)
    assert result.ap[1] == pytest.approx(0.5)
    np.testing.assert_allclose(result.precision[1], [1, 0.5])


def test_the_higher_score_takes_the_object_not_the_better_box():
    # 0.9 has IoU 8/12 with A and is right, 0.8 fits A exactly but comes second: precision 1, 1/2.
    result = evaluate_detections([found((A, 0.8, 1), ([2, 0, 12, 10], 0.9, 1))], [wanted((A, 1))], 2)
    assert result.precision[1].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("box, ap", [([0, 0, 10, 5], 1.0), ([0, 0, 10, 4.99], 0.0)])
def test_an_iou_equal_to_the_threshold_matches(box, ap):
    assert evaluate_detections([found((box, 0.9, 1))], [wanted((A, 1))], 2, iou_threshold=0.5).ap[1] == ap


def test_equal_scores_keep_their_order():
    right, wrong, target = found((A, 0.5, 1)), found((ELSEWHERE, 0.5, 1)), wanted((A, 1))
    assert evaluate_detections([right, wrong], [target, wanted()], 2).ap[1] == 1.0
    assert evaluate_detections([wrong, right], [wanted(), target], 2).ap[1] == 0.5
    assert evaluate_detections([found((ELSEWHERE, 0.5, 1), (A, 0.5, 1))], [target], 2).ap[1] == 0.5


def test_difficult_objects_do_not_count():
    # B is difficult, so its two detections do not count. C's is wrong, A's comes last.
    # Precision 0, 1/2; recall 0, 1: AP 1/2.
    target = wanted((A, 1), (B, 1), difficult=np.array([False, True]))
    result = evaluate_detections([found((B, 0.9, 1), (B, 0.8, 1), (C, 0.7, 1), (A, 0.6, 1))], [target], 2)
    assert result.ap[1] == pytest.approx(0.5)
    assert (result.num_objects[1], result.num_detections[1]) == (1, 2)
    only_difficult = wanted((B, 1), difficult=np.array([True]))
    assert np.isnan(evaluate_detections([found((B, 0.9, 1))], [only_difficult], 2).mean_ap)


@pytest.mark.parametrize(
    "box, label, ap",
    [
        ([0, 0, 5, 5], 1, 1.0),  # wholly inside the crowd at A; the IoU is 1/4
        ([-5, 0, 5, 10], 1, 1.0),  # half inside
        ([-6, 0, 4, 10], 1, 0.5),  # less than half: wrong, and then B right
        ([0, 0, 5, 5], 2, 0.5),  # of another class: wrong, and then C right
    ],
)
def test_detections_in_a_crowd_of_their_class_do_not_count(box, label, ap):
    target = wanted((A, 1), (B, 1), (C, 2), crowd=np.array([True, False, False]))
    result = evaluate_detections([found((box, 0.9, label), (B, 0.8, 1), (C, 0.7, 2))], [target], 3)
    assert result.ap[label] == pytest.approx(ap)
    assert result.num_objects.tolist() == [0, 1, 1]


def test_an_object_precedes_the_crowd_around_it():
    # The detection equals the crowd's box, but matches the object with an IoU of 8/12.
    target = wanted((A, 1), ([2, 0, 12, 10], 1), crowd=np.array([True, False]))
    result = evaluate_detections([found((A, 0.9, 1))], [target], 2)
    assert (result.mean_ap, result.num_detections[1]) == (1.0, 1)


@pytest.mark.parametrize(
    "detections, targets, ap",
    [
        ([found()], [wanted((A, 1))], 0.0),
        ([found((A, 0.9, 1))], [wanted()], np.nan),
        ([found()], [wanted()], np.nan),
        ([], [], np.nan),
    ],
)
def test_no_detections_and_no_objects(detections, targets, ap):
    result = evaluate_detections(detections, targets, 2)
    np.testing.assert_array_equal(result.ap, [np.nan, ap])
    np.testing.assert_array_equal(result.mean_ap, ap)


def ap_by_loops(detections, targets, label, threshold, method):
    """Return the average precision by the rules of the development kit, one detection after the other."""
    boxes = [
        (float(s), page, b)
        for page, d in enumerate(detections)
        for b, s, k in zip(d["boxes"], d["scores"], d["labels"], strict=True)
        if k == label
    ]
    taken, points, right, total = set(), [], 0, 0
    objects = sum(int(((t["labels"] == label) & ~t["difficult"]).sum()) for t in targets)
    for _, page, box in sorted(boxes, key=lambda row: -row[0]):
        target = targets[page]
        rows = np.flatnonzero(target["labels"] == label)
        overlaps = iou([box], target["boxes"][rows])[0] if len(rows) else np.zeros(0)
        best = rows[overlaps.argmax()] if len(rows) and overlaps.max() >= threshold else None
        if best is not None and target["difficult"][best]:
            continue
        total += 1
        if best is not None and (page, best) not in taken:
            taken.add((page, best))
            right += 1
        points.append((right / objects, right / total))

    def best_precision(recall):
        return max((p for r, p in points if r >= recall), default=0.0)

    if method == "voc2007":
        return sum(best_precision(i / 10) for i in range(11)) / 11
    return sum(best_precision((i + 1) / objects) for i in range(objects)) / objects


@pytest.mark.parametrize("method", ["voc2007", "voc2012"])
@pytest.mark.parametrize("seed, threshold", [(0, 0.5), (1, 0.5), (2, 0.3), (3, 0.75)])
def test_random_images_agree_with_loops(seed, threshold, method):
    rng = np.random.default_rng(seed)
    targets, detections = [], []
    for _ in range(12):
        corner = rng.integers(0, 60, (6, 2))
        boxes = np.concatenate([corner, corner + rng.integers(12, 30, (6, 2))], axis=1).astype(np.float64)
        labels = rng.integers(1, 4, 6)
        targets.append({"boxes": boxes, "labels": labels, "difficult": rng.uniform(size=6) < 0.2})
        near = boxes[rng.integers(0, 6, 30)] + rng.integers(-4, 5, (30, 4))
        detections.append(
            {"boxes": near, "labels": np.tile(labels, 5), "scores": rng.integers(0, 40, 30) / 40}
        )  # with many ties
    result = evaluate_detections(detections, targets, 4, threshold, method)
    expected = [ap_by_loops(detections, targets, label, threshold, method) for label in (1, 2, 3)]
    assert min(expected) > 0 and max(expected) < 1
    np.testing.assert_allclose(result.ap[1:], expected)


class Images:
    """Five images, each with an object of class 1; the index is the value of its pixels."""

    classes = ("background", "thing")

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return np.full((8, 8, 3), i, np.uint8), wanted((A, 1))


class FindsOnEvenImages:
    def __init__(self):
        self.batches = []

    def predict(self, images):
        self.batches.append([int(image[0, 0, 0]) for image in images])
        return [found((A, 0.9, 1)) if number % 2 == 0 else found() for number in self.batches[-1]]


@pytest.mark.parametrize("progress", [True, False])
def test_evaluate_runs_the_model_in_batches(capsys, progress, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    model = FindsOnEvenImages()
    result = evaluate(model, Images(), batch_size=2, progress=progress)
    assert model.batches == [[0, 1], [2, 3], [4]]
    assert result.mean_ap == pytest.approx(3 / 5)
    assert ("5/5" in capsys.readouterr().err) == progress


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: evaluate_detections([found()], [], 2), "same length, got 1 and 0"),
        (lambda: evaluate_detections([], [], 2, method="coco"), "voc2007, voc2012, got 'coco'"),
        (lambda: evaluate_detections([], [], 2, iou_threshold=0), "iou_threshold .* got 0"),
        (
            lambda: evaluate_detections([found(), found((A, 0.5, 2))], [wanted()] * 2, 2),
            r"detections\[1\]\['labels'\]\[0\] must be in 1 \.\. 1 \(0 is the background\), got 2",
        ),
        (
            lambda: evaluate_detections([found()], [wanted((A, 0))], 2),
            r"targets\[0\]\['labels'\]\[0\] must be in .*, got 0",
        ),
        (
            lambda: evaluate_detections([found((A, np.nan, 1))], [wanted()], 2),
            r"detections\[0\]\['scores'\]\[0\] must be a number, got NaN",
        ),
        (
            lambda: evaluate_detections([found()], [wanted(([5, 5, 5, 9], 1))], 2),
            r"targets\[0\]\['boxes'\]\[0\].* x2 > x1",
        ),
        (
            lambda: evaluate_detections([found(([0, 0, np.inf, 1], 0.5, 1))], [wanted()], 2),
            r"detections\[0\]\['boxes'\]",
        ),
        (lambda: evaluate_detections([{"boxes": [], "scores": []}], [wanted()], 2), r"detections\[0\] lacks labels"),
        (lambda: evaluate_detections([found()], [wanted((A, 1), difficult=np.zeros(2))], 2), "difficult"),
        (lambda: average_precision([0.5, 0.2], [1, 1]), "recall must not decrease"),
        (lambda: average_precision([0.5], [1, 1]), r"shape \(D,\)"),
        (lambda: evaluate(FindsOnEvenImages(), Images(), batch_size=0), "batch_size must be an integer of at least 1"),
    ],
)
def test_error_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
