"""Confusion and kinds of error: cases worked out by hand, and sums that hold for random images."""

import numpy as np
import pytest

from rcnn.evaluate import KINDS, confusion, error_kinds, evaluate_detections

# A box moved by x has an IoU of (10 - x) / (10 + x) with the one it was: by 2 it is 8/12, by 4 it is 6/14, by 8 it is
# 2/18, by 9 it is 1/19.
A, B, C = [0, 0, 10, 10], [30, 0, 40, 10], [60, 0, 70, 10]
ELSEWHERE = [80, 80, 90, 90]


def moved(box, x):
    return [box[0] + x, box[1], box[2] + x, box[3]]


def found(*rows):
    """Return detections of one image from (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "scores": np.array(scores, float),
        "labels": np.array(labels, int),
    }


def wanted(*rows, **flags):
    """Return a target from (box, label)."""
    boxes, labels = zip(*rows, strict=True) if rows else ((), ())
    return {"boxes": np.array(boxes, float).reshape(-1, 4), "labels": np.array(labels, int), **flags}


def random_images(seed, pages=12, num_classes=4):
    """Return detections and targets on a coarse grid, with many ties of boxes, scores and IoUs; some do not count."""
    rng = np.random.default_rng(seed)

    def boxes(count):
        corner = rng.integers(0, 5, (count, 2)) * 4
        return np.concatenate([corner, corner + rng.integers(1, 4, (count, 2)) * 4], axis=1).astype(float)

    detections, targets = [], []
    for _ in range(pages):
        d, g = rng.integers(0, 9), rng.integers(0, 5)
        detections.append(
            {"boxes": boxes(d), "scores": rng.integers(1, 9, d) / 8, "labels": rng.integers(1, num_classes, d)}
        )
        targets.append(
            {
                "boxes": boxes(g),
                "labels": rng.integers(1, num_classes, g),
                "difficult": rng.random(g) < 0.2,
                "crowd": rng.random(g) < 0.2,
            }
        )
    return detections, targets


# ---- confusion


def test_confusion_by_hand():
    # A (class 1) is predicted as 1, B (class 2) as 1, and C (class 2) is missed. A second detection of A, and one of
    # the background, take no object.
    detections = [found((A, 0.9, 1), (moved(B, 2), 0.8, 1), (moved(A, 2), 0.7, 2), (ELSEWHERE, 0.6, 3)), found()]
    targets = [wanted((A, 1), (B, 2), (C, 2)), wanted()]
    assert confusion(detections, targets, 4).tolist() == [[0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    "detections, predicted",
    [
        (found((A, 0.5, 1)), 0),  # not above the threshold
        (found((A, 0.51, 1)), 1),
        (found(([0, 0, 10, 5], 0.9, 1)), 1),  # an IoU of exactly 0.5
        (found(([0, 0, 10, 4.9], 0.9, 1)), 0),
        (found((A, 0.8, 1), (moved(A, 2), 0.9, 2)), 2),  # the higher score, not the better box or the right class
        (found((A, 0.9, 2), (A, 0.9, 1)), 2),  # ties keep the first
    ],
)
def test_the_detection_that_takes_an_object(detections, predicted):
    counts = confusion([detections], [wanted((A, 1))], 3)
    assert counts[1].argmax() == predicted and counts[1].sum() == 1


@pytest.mark.parametrize(
    "objects, taken",
    [
        ([(A, 1), (moved(A, 1), 2)], 1),  # the highest IoU
        ([(moved(A, 1), 2), (moved(A, -1), 1)], 2),  # for equal IoUs the one of its own class, which is 2 ...
        ([(moved(A, 1), 1), (moved(A, -1), 2)], 2),  # ... in any order
    ],
)
def test_the_object_that_is_taken(objects, taken):
    counts = confusion([found((A, 0.9, 2))], [wanted(*objects)], 3)
    assert counts[taken, 2] == 1 and counts[3 - taken, 0] == 1


def test_a_taken_object_is_not_taken_again():
    # Both detections overlap A most. The second takes the other object, whose IoU is 8/12.
    counts = confusion([found((A, 0.9, 1), (A, 0.8, 1))], [wanted((A, 1), (moved(A, 2), 1))], 2)
    assert counts.tolist() == [[0, 0], [0, 2]]


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_confusion_leaves_out_ignored_objects(flag):
    target = wanted((A, 1), (B, 1), **{flag: [True, False]})
    inside = [0, 0, 5, 5]  # wholly in A, with an IoU of 1/4: it fits a crowd, but not a single object
    counts = confusion([found((A, 0.9, 2), (B, 0.9, 1), (inside, 0.9, 1))], [target], 3)
    assert counts[1].tolist() == [0, 1, 0] and counts[2].sum() == 0
    assert counts[0].tolist() == [0, int(flag == "difficult"), 0]


def test_a_counted_object_precedes_an_ignored_one():
    target = wanted((A, 1), (moved(A, 2), 1), difficult=[True, False])
    assert confusion([found((A, 0.9, 1))], [target], 2).tolist() == [[0, 0], [0, 1]]


# ---- kinds


@pytest.mark.parametrize(
    "box, label, kind",
    [
        (A, 1, "right"),
        ([0, 0, 10, 5], 1, "right"),  # IoU 1/2
        (moved(A, 4), 1, "localisation"),
        ([0, 0, 10, 1], 1, "localisation"),  # IoU 1/10
        (moved(A, 9), 1, "background"),
        (moved(A, 2), 2, "class"),
        ([0, 0, 10, 5], 2, "class"),
        ([0, 0, 10, 1], 2, "both"),
        (moved(A, 4), 2, "both"),
        (moved(A, 9), 2, "background"),
        (ELSEWHERE, 2, "background"),
        ([35, 0, 45, 10], 1, "class"),  # 5/15 with class 1 at B, 7/13 with class 2 next to it
        ([29, 0, 35, 10], 2, "both"),  # 5/11 with class 1 at B, 1/15 with class 2 next to it
    ],
)
def test_kind_of_a_single_detection(box, label, kind):
    errors = error_kinds([found((box, 0.9, label))], [wanted((A, 1), (B, 1), ([38, 0, 48, 10], 2))], 3)
    assert errors.detections[KINDS.index(kind), label] == errors.detections.sum() == 1
    assert errors.examples[kind].tolist() == [[0, 0]]


def test_a_duplicate_may_overlap_an_object_of_another_class():
    errors = error_kinds([found((A, 0.8, 1), (A, 0.9, 1))], [wanted((A, 1), (A, 2))], 3)
    assert errors.examples["right"].tolist() == [[0, 1]]
    assert errors.examples["duplicate"].tolist() == [[0, 0]]
    assert errors.examples["missed"].tolist() == [[0, 1]]


def test_one_class_by_hand():
    # Objects A, B, C. By descending score: A found, B badly localised, background, A again.
    # Precision 1 at recall 1/3: AP 1/3.
    errors = error_kinds(
        [found((A, 0.9, 1), (moved(B, 4), 0.8, 1), (ELSEWHERE, 0.7, 1), (A, 0.6, 1))],
        [wanted((A, 1), (B, 1), (C, 1))],
        2,
    )
    assert dict(zip(KINDS, errors.detections[:, 1].tolist(), strict=True)) == {
        "right": 1,
        "localisation": 1,
        "class": 0,
        "both": 0,
        "duplicate": 1,
        "background": 1,
        "missed": 0,
    }
    assert dict(zip(KINDS, errors.objects[:, 1].tolist(), strict=True)) == {
        "right": 1,
        "localisation": 1,
        "class": 0,
        "both": 0,
        "duplicate": 0,
        "background": 0,
        "missed": 1,
    }
    assert errors.mean_ap == pytest.approx(1 / 3)
    assert errors.repaired == pytest.approx(
        {
            "localisation": 2 / 3,  # right, right, wrong, wrong of three
            "class": 1 / 3,
            "both": 1 / 3,
            "duplicate": 1 / 3,
            "background": 1 / 3,  # none before the last right one
            "missed": 1 / 2,
        }
    )  # right, wrong, wrong, wrong of two
    assert errors.examples["missed"].tolist() == [[0, 2]]


@pytest.mark.parametrize("first, kind", [((ELSEWHERE, 1), "background"), ((moved(B, 4), 1), "both")])
def test_a_removed_detection_no_longer_precedes_the_right_one(first, kind):
    # Wrong, right: AP 1/2. Without the first it is 1. Class 2 has 0, so the mean is 1/2.
    errors = error_kinds([found((first[0], 0.9, first[1]), (A, 0.8, 1))], [wanted((A, 1), (B, 2))], 3)
    assert errors.mean_ap == pytest.approx(1 / 4)
    better = {name: ap for name, ap in errors.repaired.items() if ap > 0.26}
    assert better == pytest.approx({kind: 1 / 2, "missed": 1 / 2})  # without class 2, the mean is that of class 1


def test_a_removed_duplicate():
    # Right, wrong, right of two: 1/2 + 1/2 * 2/3 = 5/6.
    errors = error_kinds([found((A, 0.9, 1), (A, 0.8, 1), (B, 0.7, 1))], [wanted((A, 1), (B, 1))], 2)
    assert errors.mean_ap == pytest.approx(5 / 6)
    assert errors.repaired["duplicate"] == pytest.approx(1)


def test_a_repaired_class_removes_lower_detections_of_the_object():
    # Class 1: A at 0.7 and C at 0.5 are right: 1. Class 2: A at 0.9 is wrong, B at 0.8 right: 1/2. Repaired, the first
    # is the one right detection of A and the one at 0.7 is gone: 1 and 1. (Were it wrong, class 1 would have 5/6.)
    errors = error_kinds(
        [found((A, 0.9, 2), (B, 0.8, 2), (A, 0.7, 1), (C, 0.5, 1))], [wanted((A, 1), (B, 2), (C, 1))], 3
    )
    assert errors.mean_ap == pytest.approx(3 / 4)
    assert errors.repaired["class"] == pytest.approx(1)
    assert errors.objects.sum(axis=1).tolist() == [3, 0, 0, 0, 0, 0, 0]  # A is found


def test_the_highest_score_decides_the_kind_of_a_lost_object():
    errors = error_kinds([found((moved(A, 4), 0.6, 1), (A, 0.7, 2))], [wanted((A, 1))], 3)
    assert errors.objects[:, 1].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert errors.detections.sum(axis=1).tolist() == [0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("box, label, kind", [(B, 2, "class"), (moved(B, 4), 1, "localisation")])
def test_an_error_belongs_to_the_object_that_it_overlaps(box, label, kind):
    errors = error_kinds([found(), found((box, 0.9, label))], [wanted((A, 1)), wanted((A, 1), (B, 1))], 3)
    assert errors.examples["missed"].tolist() == [[0, 0], [1, 0]]
    assert errors.objects[KINDS.index(kind), 1] == 1


def test_a_class_with_only_missed_objects_drops_out_of_the_repaired_mean():
    errors = error_kinds([found((A, 0.9, 1))], [wanted((A, 1), (B, 2))], 3)
    assert (errors.mean_ap, errors.repaired["missed"]) == (0.5, 1.0)


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_ignored_objects_have_no_kind(flag):
    errors = error_kinds([found((A, 0.9, 1), (B, 0.8, 1))], [wanted((A, 1), (B, 1), **{flag: [True, False]})], 2)
    assert errors.detections.sum() == errors.objects.sum() == 1
    assert errors.examples["right"].tolist() == [[0, 1]] and errors.mean_ap == 1


def test_an_error_of_an_ignored_object_is_repaired_by_removal():
    # Badly localised on the difficult A, then B right: AP 1/2, and 1 without the first.
    errors = error_kinds(
        [found((moved(A, 4), 0.9, 1), (B, 0.8, 1))], [wanted((A, 1), (B, 1), difficult=[True, False])], 2
    )
    assert (errors.mean_ap, errors.repaired["localisation"]) == pytest.approx((0.5, 1.0))
    assert errors.objects.sum(axis=1).tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_a_crowd_is_not_confused_with_a_class():
    errors = error_kinds([found((A, 0.9, 2))], [wanted((A, 1), crowd=[True])], 3)
    assert errors.examples["background"].tolist() == [[0, 0]]


def test_examples_are_by_descending_score_with_their_indices():
    errors = error_kinds(
        [found((ELSEWHERE, 0.2, 1)), found((A, 0.3, 1), (ELSEWHERE, 0.9, 1))], [wanted(), wanted((A, 1), (B, 1))], 2
    )
    assert errors.examples["background"].tolist() == [[1, 1], [0, 0]]
    assert errors.examples["right"].tolist() == [[1, 0]]
    assert errors.examples["missed"].tolist() == [[1, 1]]


def test_no_detections_and_no_objects():
    errors = error_kinds([found()], [wanted()], 3)
    assert errors.detections.sum() == errors.objects.sum() == 0 and np.isnan(errors.mean_ap)
    assert confusion([found()], [wanted()], 3).sum() == confusion([], [], 3).sum() == 0


@pytest.mark.parametrize("seed", range(20))
def test_sums(seed):
    detections, targets = random_images(seed)
    result, errors = evaluate_detections(detections, targets, 4), error_kinds(detections, targets, 4)
    right = np.array([round(p[-1] * len(p)) if len(p) else 0 for p in result.precision])
    assert errors.mean_ap == result.mean_ap
    np.testing.assert_array_equal(errors.detections.sum(axis=0), result.num_detections)
    np.testing.assert_array_equal(errors.detections[KINDS.index("right")], right)
    np.testing.assert_array_equal(errors.objects.sum(axis=0), result.num_objects)
    np.testing.assert_array_equal(errors.objects[KINDS.index("right")], right)
    assert set(errors.repaired) == set(KINDS[1:])
    assert all(ap >= errors.mean_ap - 1e-12 for ap in errors.repaired.values())
    for kind, counts, objects in zip(KINDS, errors.detections, errors.objects, strict=True):
        examples = errors.examples[kind]
        assert len(examples) == (objects if kind == "missed" else counts).sum()
        source = targets if kind == "missed" else detections
        labels = [source[page]["labels"][i] for page, i in examples]
        np.testing.assert_array_equal(np.bincount(labels, minlength=4), objects if kind == "missed" else counts)

    counts = confusion(detections, targets, 4)
    predicted = sum(np.bincount(page["labels"][page["scores"] > 0.5], minlength=4) for page in detections)
    np.testing.assert_array_equal(counts[1:].sum(axis=1), result.num_objects[1:])
    assert counts[0, 0] == 0 and (counts.sum(axis=0)[1:] <= predicted[1:]).all()
    plain = [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
    np.testing.assert_array_equal(confusion(detections, plain, 4).sum(axis=0)[1:], predicted[1:])


def test_text_has_every_kind_and_its_cost():
    text = str(error_kinds([found((moved(A, 4), 0.8, 1))], [wanted((A, 1))], 2)).splitlines()
    assert [line.split()[0] for line in text[1:8]] == list(KINDS)
    assert text[2].split() == ["localisation", "1", "1", "1.000", "+1.000"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"iou_threshold": 0}, "iou_threshold"),
        ({"iou_threshold": 1.5}, "iou_threshold"),
        ({"background_iou": 0.5}, "background_iou"),
        ({"background_iou": 0}, "background_iou"),
        ({"method": "voc"}, "method"),
    ],
)
def test_errors_of_options(options, message):
    with pytest.raises(ValueError, match=message):
        error_kinds([], [], 2, **options)


def test_errors_of_inputs():
    with pytest.raises(ValueError, match=r"targets\[0\]\['labels'\]\[0\] must be in .*, got 3"):
        confusion([found()], [wanted((A, 3))], 3)
    with pytest.raises(ValueError, match="iou_threshold"):
        confusion([], [], 2, iou_threshold=0)
