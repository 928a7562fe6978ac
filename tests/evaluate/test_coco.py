"""COCO's metrics: cases worked out by hand, and comparison with pycocotools on random images with many ties."""

import numpy as np
import pytest
from coco_measure import annotations, difference, draw, peer, results
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from rcnn.evaluate import evaluate_coco

A, B = [0, 0, 10, 10], [20, 0, 30, 10]
ELSEWHERE = [80, 80, 90, 90]
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def found(*rows):
    """Return detections of one image from (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
        "scores": np.array(scores, np.float64),
        "labels": np.array(labels, np.int64),
    }


def wanted(*rows, **extra):
    """Return a target from (box, label)."""
    boxes, labels = zip(*rows, strict=True) if rows else ((), ())
    return {
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        **{key: np.array(value) for key, value in extra.items()},
    }


def check(numbers, **expected):
    np.testing.assert_allclose([numbers[name] for name in expected], list(expected.values()), atol=1e-12)


def test_one_object_and_a_box_that_partly_fits_it():
    # IoU 77/100 reaches the thresholds 0.5 to 0.75, six of ten, and there precision and recall are 1.
    result = evaluate_coco([found(([0, 0, 10, 7.7], 0.9, 1))], [wanted((A, 1))], 2)
    check(
        result.numbers,
        AP=0.6,
        AP50=1,
        AP75=1,
        APs=0.6,
        APm=np.nan,
        APl=np.nan,
        AR1=0.6,
        AR10=0.6,
        AR100=0.6,
        ARs=0.6,
        ARm=np.nan,
        ARl=np.nan,
    )
    assert list(result.numbers) == NAMES
    np.testing.assert_allclose(result.ap, [np.nan, 0.6])
    np.testing.assert_allclose(result.ap50, [np.nan, 1])
    assert result.precision.shape == (10, 101, 2, 4, 3) and result.recall.shape == (10, 2, 4, 3)


def test_a_wrong_detection_between_two_right_ones():
    # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: the recalls 0 to 0.5 read 1, the other fifty 2/3.
    result = evaluate_coco([found((A, 0.9, 1), (ELSEWHERE, 0.8, 1), (B, 0.7, 1))], [wanted((A, 1), (B, 1))], 2)
    check(result.numbers, AP=(51 + 50 * 2 / 3) / 101, AR1=0.5, AR10=1)
    assert (result.num_objects.tolist(), result.num_detections.tolist()) == ([0, 2], [0, 3])


def test_beyond_the_highest_recall_the_precision_is_0():
    # One of three objects is found: the recalls 0 to 0.33 read 1, the other 67 read 0.
    result = evaluate_coco([found((A, 0.9, 1)), found()], [wanted((A, 1), (B, 1)), wanted((A, 1))], 2)
    check(result.numbers, AP=34 / 101, AR100=1 / 3)


def test_a_detection_takes_another_object_if_its_best_one_is_taken():
    # Objects at x 0 .. 10 and 2 .. 12. The second detection fits the first object best, which is taken. Its IoU with
    # the other is 2/3: right at 0.5, 0.55, 0.6 and 0.65, else wrong.
    target = wanted((A, 1), ([2, 0, 12, 10], 1))
    result = evaluate_coco([found((A, 0.9, 1), (A, 0.8, 1))], [target], 2)
    np.testing.assert_allclose(result.recall[:, 1, 0, 2], [1] * 4 + [0.5] * 6)


@pytest.mark.parametrize("later, recall", [([4, 0, 14, 10], 0.5), (A, 1)])
def test_equal_ious_keep_the_last_object(later, recall):
    # The first detection has IoU 8/12 with both; the second fits the object at x 4 .. 14 alone, if that is still free.
    objects = sorted([A, [4, 0, 14, 10]], key=lambda box: box == later)
    result = evaluate_coco(
        [found(([2, 0, 12, 10], 0.9, 1), ([4, 0, 14, 10], 0.8, 1))], [wanted(*[(box, 1) for box in objects])], 2
    )
    assert result.recall[0, 1, 0, 2] == recall


def test_a_class_without_objects_is_left_out_of_the_mean():
    # Class 1 is found with IoU 0.52. Class 2, a large object, is not. Class 3 has only detections, class 4 has neither.
    target = wanted((A, 1), ([0, 0, 100, 100], 2))
    result = evaluate_coco([found(([0, 0, 5.2, 10], 0.9, 1), (A, 0.9, 3))], [target], 5)
    np.testing.assert_allclose(result.ap, [np.nan, 0.1, 0, np.nan, np.nan])
    np.testing.assert_allclose(result.ap50, [np.nan, 1, 0, np.nan, np.nan])
    check(result.numbers, AP=0.05, AP50=0.5, AP75=0, APs=0.1, APl=0, AR100=0.05)
    assert result.num_detections.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("kind", ["crowd", "difficult", None])
def test_ignored_objects_may_be_found_many_times(kind):
    # Two detections of B come before that of A. If B does not count they vanish, and A is found with precision 1;
    # if it does, one of them is right, one is wrong, and A makes it two of three: 1 up to recall 0.5, then 2/3.
    target = wanted((A, 1), (B, 1), **({kind: [False, True]} if kind else {}))
    result = evaluate_coco([found((B, 0.9, 1), (B, 0.8, 1), (A, 0.7, 1))], [target], 2)
    check(result.numbers, AP=1 if kind else (51 + 50 * 2 / 3) / 101, AR1=0 if kind else 0.5)
    assert result.num_objects[1] == (1 if kind else 2)


@pytest.mark.parametrize("kind, ap", [("crowd", 1.0), ("difficult", 0.5)])
def test_a_part_matches_a_crowd_but_not_a_difficult_object(kind, ap):
    part = [20, 0, 24, 10]  # IoU 0.4 with B, and wholly inside
    result = evaluate_coco([found((part, 0.9, 1), (A, 0.8, 1))], [wanted((A, 1), (B, 1), **{kind: [False, True]})], 2)
    check(result.numbers, AP=ap)


def test_a_counted_object_precedes_a_better_ignored_one():
    # The detection is the difficult object's box; its IoU with the other is 9/11, so at 0.85, 0.9, 0.95 it is ignored.
    target = wanted((A, 1), ([1, 0, 11, 10], 1), difficult=[False, True])
    result = evaluate_coco([found(([1, 0, 11, 10], 0.9, 1))], [target], 2)
    np.testing.assert_allclose(result.recall[:, 1, 0, 2], [1] * 7 + [0] * 3)


@pytest.mark.parametrize(
    "side, area, ranges",
    [(31, None, "s"), (32, None, "sm"), (33, None, "m"), (96, None, "ml"), (97, None, "l"), (97, 1000.0, "s")],
)
def test_area_ranges_include_their_ends_and_use_the_given_area(side, area, ranges):
    target = wanted(([0, 0, side, side], 1), **({"areas": [area]} if area else {}))
    result = evaluate_coco([found(([0, 0, side, side], 0.9, 1))], [target], 2)
    assert "".join(k for k in "sml" if result.numbers[f"AR{k}"] == 1) == ranges
    assert "".join(k for k in "sml" if not np.isnan(result.numbers[f"AP{k}"])) == ranges


def test_a_wrong_detection_counts_only_in_its_own_area_range():
    # A large wrong box lowers the result for the large object after it, but not for the small one.
    large = [100, 100, 300, 300]
    result = evaluate_coco(
        [found(([400, 0, 600, 200], 0.9, 1), (large, 0.8, 1), (A, 0.7, 1))], [wanted((A, 1), (large, 1))], 2
    )
    check(result.numbers, APs=1, APl=0.5)


def test_only_the_best_hundred_detections_of_a_class_in_an_image_are_used():
    wrong = [(ELSEWHERE, 0.9, 1)] * 99
    others = [(ELSEWHERE, 0.99, 2)] * 50  # another class has its own hundred
    target = wanted((A, 1), (B, 1))
    result = evaluate_coco([found((A, 0.5, 1), (B, 0.4, 1), *wrong, *others)], [target], 3)
    check(result.numbers, AR1=0, AR10=0, AR100=0.5, AP50=0.01 * 51 / 101)
    assert result.num_detections.tolist() == [0, 101, 50]


@pytest.mark.parametrize(
    "detections, targets, ap",
    [
        ([found()], [wanted((A, 1))], 0.0),
        ([found((A, 0.9, 1))], [wanted()], np.nan),
        ([], [], np.nan),
        ([found((A, 0.9, 1))], [wanted((A, 1), crowd=[True])], np.nan),
    ],
)
def test_no_detections_and_no_objects(detections, targets, ap):
    numbers = evaluate_coco(detections, targets, 2).numbers
    check(numbers, AP=ap, AP50=ap, AR1=ap, ARs=ap, APl=np.nan)


def agrees(detections, targets, num_classes):
    truth = annotations(targets, num_classes)
    theirs = peer(truth, results(detections, truth))
    return difference(evaluate_coco(detections, targets, num_classes), theirs) < 1e-9


# Few sides make IoUs that are equal to each other and to thresholds, and areas of just 32 x 32 and 96 x 96.
spans = st.sampled_from([(0, 96), (0, 80), (16, 96), (0, 112), (16, 112), (0, 48), (0, 32), (8, 40)])
boxes = st.tuples(spans, spans).map(lambda axes: [axes[0][0], axes[1][0], axes[0][1], axes[1][1]])
any_boxes = boxes | st.sampled_from(
    [[16, 0, 16, 96], [0, 0, 0, 0], [200, 0, 240, 40]]
)  # without area, or far from every object
few_scores = st.sampled_from([0.25, 0.5, 0.75])
labels = st.sampled_from([1, 1, 1, 2, 3])
areas = st.sampled_from([0.0, 700.0, 1024.0, 5000.0, 9216.0, 20000.0, 2e10])
pages = st.tuples(
    st.lists(st.tuples(any_boxes, few_scores, labels), max_size=14).map(lambda rows: found(*rows)),
    st.lists(st.tuples(boxes, labels, st.booleans(), areas), max_size=6),
)


def target_of(rows, flag, with_areas):
    extra = {flag: [row[2] for row in rows]} | ({"areas": [row[3] for row in rows]} if with_areas else {})
    return wanted(*[row[:2] for row in rows], **extra)


@settings(max_examples=150, deadline=None)
@given(st.lists(pages, min_size=1, max_size=4), st.booleans())
def test_agrees_with_pycocotools_on_ties(drawn, with_areas):
    # Label 4 has neither objects nor detections.
    assert agrees([page for page, _ in drawn], [target_of(rows, "crowd", with_areas) for _, rows in drawn], 5)


class DifficultEvaluation(COCOeval):
    """pycocotools with difficult objects as crowds, which differ only in their IoU."""

    def computeIoU(self, image, category):
        objects = self._gts[image, category]
        marks = [entry["iscrowd"] for entry in objects]
        for entry in objects:
            entry["iscrowd"] = 0
        overlaps = super().computeIoU(image, category)
        for entry, mark in zip(objects, marks, strict=True):
            entry["iscrowd"] = mark
        return overlaps


@settings(max_examples=60, deadline=None)
@given(st.lists(pages, min_size=1, max_size=3))
def test_difficult_objects_are_crowds_with_an_ordinary_iou(drawn):
    detections, targets = [page for page, _ in drawn], [target_of(rows, "difficult", False) for _, rows in drawn]
    truth = annotations([target | {"crowd": target["difficult"]} for target in targets], 4)
    theirs = peer(truth, results(detections, truth), DifficultEvaluation)
    assert difference(evaluate_coco(detections, targets, 4), theirs) < 1e-9


@pytest.mark.parametrize("images, each, classes, seed", [(30, 40, 5, 0), (3, 250, 1, 1), (40, 6, 20, 2)])
def test_agrees_with_pycocotools_on_random_images(images, each, classes, seed):
    detections, targets = draw(images, each, classes, np.random.default_rng(seed))
    assert agrees(detections, targets, classes + 1)


@pytest.mark.parametrize(
    "box, target",
    [
        ([0.4, 0.1, 1.3, 0.3], [0.3, 0.1, 0.9, 0.3]),
        ([0.1, 0.3, 0.3, 0.9], [0.1, 0.4, 0.4, 1.0]),
        ([0.2, 0.2, 0.9, 1.4], [0.3, 0.1, 0.9, 1.1]),
        ([0.1, 0.3, 1.0, 0.9], [0.2, 0.2, 0.8, 0.9]),
    ],
)
def test_agrees_with_pycocotools_to_the_last_bit(box, target):
    # The IoU is 0.5 or 0.6 but for rounding, which depends on whether the right end is x2 or x1 + (x2 - x1).
    assert agrees([found((box, 0.5, 1))], [wanted((target, 1))], 2)


def test_agrees_with_pycocotools_at_every_recall():
    # A hundred objects, found in turn with some wrong ones between: the recall reaches each hundredth exactly.
    detections, targets = [], []
    for score in np.random.default_rng(5).permutation(200):
        targets += [wanted((A, 1))] if score % 2 else [wanted()]
        detections.append(found((A, score / 200, 1)))
    assert agrees(detections, targets, 2)


def test_float32_boxes_and_scores_agree_too():
    detections, targets = draw(10, 30, 3, np.random.default_rng(4))
    single = [page | {key: page[key].astype(np.float32) for key in ("boxes", "scores")} for page in detections]
    assert agrees(single, [target | {"boxes": target["boxes"].astype(np.float32)} for target in targets], 4)


@pytest.mark.parametrize(
    "extra, message",
    [
        ({"crowd": np.zeros(2)}, r"targets\[1\]\['crowd'\] must have shape \(1,\), .*got \(2,\)"),
        ({"areas": np.zeros(2)}, r"targets\[1\]\['areas'\] must have shape \(1,\), got \(2,\)"),
        ({"areas": [-1.0]}, r"targets\[1\]\['areas'\]\[0\] must be finite and at least 0, got -1.0"),
        ({"areas": [np.nan]}, r"targets\[1\]\['areas'\]\[0\] must be finite and at least 0, got nan"),
    ],
)
def test_error_messages(extra, message):
    with pytest.raises(ValueError, match=message):
        evaluate_coco([found(), found()], [wanted(), wanted((A, 1), **extra)], 2)
