import numpy as np
import pytest

import rcnn
from rcnn.boxes import iou
from rcnn.nms import batched_nms, descending_order, nms, soft_nms, suppress

# IoU of neighbours: 8 / 12 = 0.667; of the first and the third: 6 / 14 = 0.43.
ROW = np.array([[0, 0, 10, 1], [2, 0, 12, 1], [4, 0, 14, 1]], np.float32)


@pytest.mark.parametrize(
    ("scores", "threshold", "keep"),
    [
        ([0.9, 0.8, 0.7], 0.5, [0, 2]),  # the first removes the second, which no longer removes the third
        ([0.8, 0.9, 0.7], 0.5, [1]),  # the second removes both
        ([0.7, 0.8, 0.9], 0.4, [2]),
        ([0.7, 0.8, 0.9], 0.7, [2, 1, 0]),
        ([0.5, 0.5, 0.5], 0.5, [0, 2]),  # ties keep the first
        ([0.1, 0.2, 0.3], 1, [2, 1, 0]),
    ],
)
def test_nms_by_hand(impl, scores, threshold, keep):
    answer = nms(ROW, scores, threshold)
    np.testing.assert_array_equal(answer, keep)
    assert answer.dtype == np.int64


@pytest.mark.parametrize("case", ["nms0", "nms1", "nms2", "nms3", "nms_threshold"])
def test_nms_matches_torchvision(impl, golden, case):
    g = golden("boxes")
    keep = nms(g[f"{case}/boxes"], g[f"{case}/scores"], g[f"{case}/iou_threshold"])
    np.testing.assert_array_equal(keep, g[f"{case}/keep"])


def test_batched_nms_matches_torchvision(impl, golden):
    g = {key.split("/")[1]: value for key, value in golden("boxes").items() if key.startswith("batched_nms/")}
    keep = batched_nms(g["boxes"], g["scores"], g["idxs"], g["iou_threshold"])
    np.testing.assert_array_equal(keep, g["keep"])


def test_a_box_is_removed_only_if_its_iou_is_above_the_threshold(impl):
    # The intersection is half of the larger box: the IoU is 0.5, exactly.
    halves = [[0, 0, 4, 4], [0, 0, 4, 2]]
    np.testing.assert_array_equal(nms(halves, [0.9, 0.8], 0.5), [0, 1])
    np.testing.assert_array_equal(nms(halves, [0.9, 0.8], np.nextafter(0.5, 0)), [0])


def test_an_iou_at_the_threshold_is_decided_to_the_bit(impl):
    rng = np.random.default_rng(3)
    for dtype in (np.float32, np.float64):
        corner = rng.uniform(0, 1, (200, 2, 2))
        pairs = np.concatenate([corner, corner + rng.uniform(1, 3, (200, 2, 2))], axis=2).astype(dtype)  # (200, 2, 4)
        for pair in pairs:
            overlap = float(iou(pair[:1], pair[1:])[0, 0])
            assert len(nms(pair, [0.9, 0.8], overlap)) == 2
            assert len(nms(pair, [0.9, 0.8], np.nextafter(overlap, 0))) == 1


@pytest.mark.parametrize("count", [63, 64, 65, 129])
def test_every_kept_box_can_remove_others(impl, count):
    # Boxes in a row that do not overlap, then a copy of each, then one more box.
    row = np.arange(count)[:, None] * [20.0, 0, 20, 0] + [0.0, 0, 10, 10]
    boxes = np.concatenate([row, row, [[10, 0, 20, 10]]])
    scores = np.arange(len(boxes))[::-1]
    np.testing.assert_array_equal(nms(boxes, scores, 0.5), [*range(count), 2 * count])


def test_descending_order_of_special_values():
    """The kernel's order is that of a stable sort: NaN of either sign comes last, and -0 equals 0."""
    special = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 3e38, 1, -0.0], np.float32)
    scores = np.concatenate([special, np.random.default_rng(0).integers(-9, 9, 300).astype(np.float32), special])
    with rcnn.use_backend("cython"):
        np.testing.assert_array_equal(descending_order(scores), np.argsort(-scores, kind="stable"))


def test_groups_do_not_affect_each_other(impl):
    same = np.tile(ROW[:1], (4, 1))
    np.testing.assert_array_equal(batched_nms(same, [0.1, 0.4, 0.3, 0.4], [7, -2, 7, 2**62], 0.5), [1, 3, 2])
    extremes = [-(2**63), 2**63 - 1, -(2**63), 7]
    np.testing.assert_array_equal(batched_nms(same, [0.1, 0.4, 0.3, 0.4], extremes, 0.5), [1, 3, 2])
    np.testing.assert_array_equal(batched_nms(same, [0.1, 0.4, 0.3, 0.4], [3, 3, 2**16 + 3, 3], 0.5), [1, 2])


def test_groups_far_from_the_origin_lose_no_precision(impl):
    # A float32 at 2**20 has steps of 1/8. Moving the second group beyond the first, to 2**21 and steps of 1/4, would
    # round 0.875 and 1.125 both to 1, and the IoU of 0.125 / 1.125 = 0.11 to 0.
    far = np.float32(2**20) + np.array([[0, 0, 1, 1], [0.875, 0, 1.125, 1]], np.float32)
    both = np.concatenate([far, far])
    np.testing.assert_array_equal(batched_nms(both, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1], 0.1), [0, 2])


def test_empty_input_gives_empty_output(impl):
    for keep in (nms([], [], 0.5), batched_nms(np.zeros((0, 4), np.float32), [], [], 0.5)):
        assert keep.shape == (0,)
        assert keep.dtype == np.int64


def test_boxes_without_area_stay(impl):
    points = [[3, 3, 3, 3], [3, 3, 3, 3], [0, 0, 10, 10]]
    np.testing.assert_array_equal(nms(points, [0.3, 0.2, 0.1], 0), [0, 1, 2])


def test_nms_accepts_every_layout_and_dtype(impl):
    frozen = ROW.copy()
    frozen.flags.writeable = False
    strided = np.repeat(ROW, 2, axis=0)[::2]
    for boxes in (frozen, strided, ROW.tolist(), *(ROW.astype(dtype) for dtype in ("f2", ">f4", "f8", "i8"))):
        np.testing.assert_array_equal(nms(boxes, np.array([9, 8, 7]), 0.5), [0, 2])


def test_kernel_and_reference_agree_on_crowds():
    rng = np.random.default_rng(5)
    for count in (2, 30, 400):
        corner = rng.integers(0, 40, (count, 2))
        boxes = np.concatenate([corner, corner + rng.integers(0, 20, (count, 2))], axis=1)
        scores, groups = rng.integers(0, 10, count) / 10, rng.integers(0, 4, count)  # many ties
        for dtype in (np.float32, np.float64):
            for threshold in (0.0, 0.3, 0.5, 1.0):
                with rcnn.use_backend("numpy"):
                    expected = batched_nms(boxes.astype(dtype), scores, groups, threshold)
                with rcnn.use_backend("cython"):
                    np.testing.assert_array_equal(batched_nms(boxes.astype(dtype), scores, groups, threshold), expected)


def test_groups_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 300, (9000, 2))
    boxes = np.concatenate([corner, corner + 60], axis=1).astype(np.float32)
    scores, groups = rng.uniform(size=9000), rng.integers(0, 6, 9000)
    with rcnn.use_backend("cython"):
        with rcnn.set_num_threads(1):
            expected = batched_nms(boxes, scores, groups, 0.5)
        with rcnn.set_num_threads(3):
            np.testing.assert_array_equal(batched_nms(boxes, scores, groups, 0.5), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0, 0, 1]], [1], [0], 0.5), ValueError, r"boxes must have shape \(N, 4\)"),
        (
            (ROW, [1, 2], [0, 0, 0], 0.5),
            ValueError,
            r"scores must have shape \(3,\), with one score per box, got \(2,\)",
        ),
        ((ROW, [1, 2, 3], [0, 0], 0.5), ValueError, r"groups must have shape \(3,\), got \(2,\)"),
        ((ROW, [1, 2, 3], [0.0, 0.0, 1.0], 0.5), TypeError, "groups must contain integers"),
        ((ROW, [1, 2, 3], [0, 0, 0], 1.5), ValueError, r"iou_threshold must be a number in \[0, 1\], got 1.5"),
        ((ROW, [1, 2, 3], [0, 0, 0], float("nan")), ValueError, "iou_threshold"),
    ],
)
def test_nms_reports_invalid_input(arguments, error, message):
    with pytest.raises(error, match=message):
        batched_nms(*arguments)


# ---------------------------------------------------------------------- soft NMS

OVERLAPS = (8 / 12, 6 / 14)  # the IoUs of neighbours in ROW, and of the first and the third


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        # The first lowers both; then the third, which is now better, lowers the second.
        (0.3, [0.9, 0.7 * (1 - OVERLAPS[1]), 0.8 * (1 - OVERLAPS[0]) ** 2]),
        (0.5, [0.9, 0.7, 0.8 * (1 - OVERLAPS[0]) ** 2]),
        (0.7, [0.9, 0.7, 0.8]),
    ],
)
def test_linear_soft_nms_by_hand(impl, threshold, expected):
    keep, scores = soft_nms(ROW, [0.9, 0.8, 0.7], threshold, method="linear")
    order = [0, 1, 2] if threshold == 0.7 else [0, 2, 1]
    assert keep.tolist() == order and keep.dtype == np.int64
    np.testing.assert_allclose(scores, np.array(expected)[[0, 2, 1] if threshold == 0.7 else [0, 1, 2]], rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_gaussian_soft_nms_by_hand(impl, sigma):
    near, far = np.exp(-np.square(OVERLAPS) / sigma)
    keep, scores = soft_nms(ROW, [0.9, 0.3, 0.7], sigma=sigma)
    assert keep.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.9, 0.7 * far, 0.3 * near * near], rtol=1e-6)


def test_soft_nms_drops_scores_that_are_not_above_the_threshold(impl):
    keep, scores = soft_nms(ROW, [0.5, np.nan, 0.9], score_thresh=0.5)
    assert keep.tolist() == [2] and scores.tolist() == [0.9]
    assert soft_nms(np.repeat(ROW[:1], 3, axis=0), [0.4, 0.5, 0.5], method="linear")[0].tolist() == [1]
    keep, scores = soft_nms([], [])
    assert keep.shape == scores.shape == (0,)


def test_soft_nms_keeps_the_input(impl):
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    new = soft_nms(ROW, scores)[1]
    assert new.dtype == np.float32 and scores.tolist() == np.float32([0.9, 0.8, 0.7]).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_soft_nms_is_the_loop_of_the_paper(impl, seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (40, 2))
    boxes, scores = np.concatenate([corner, corner + rng.uniform(5, 30, (40, 2))], axis=1), rng.uniform(size=40)
    kept, left, current = [], list(range(40)), scores.copy()
    while left:
        best = max(left, key=lambda i: current[i])
        left.remove(best)
        kept.append(best)
        for i in left:
            overlap = iou(boxes[[best]], boxes[[i]])[0, 0]
            current[i] *= 1 - overlap if overlap > 0.3 else 1
    found, new = soft_nms(boxes, scores, method="linear", score_thresh=0.0)
    assert found.tolist() == kept
    np.testing.assert_allclose(new, current[kept])


def test_suppression_within_classes_or_across_them(impl):
    scores, labels = [0.9, 0.8, 0.7], [1, 2, 1]
    for options, expected in (
        ({}, [0, 1, 2]),
        ({"class_agnostic": True}, [0, 2]),
        ({"soft_nms": "linear"}, [0, 1, 2]),
        ({"soft_nms": "linear", "class_agnostic": True}, [0, 2, 1]),
        ({"soft_nms": "linear", "class_agnostic": True, "score_thresh": 0.5}, [0, 2]),
        ({"soft_nms": "linear", "class_agnostic": True, "top_k": 1}, [0]),
    ):
        keep, new = suppress(ROW, scores, labels, **options)
        assert keep.tolist() == expected, options
        assert len(new) == len(keep) and (np.diff(new) <= 0).all()
    assert suppress(ROW, scores, labels)[1].tolist() == scores


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "hard"}, "method must be one of linear, gaussian, got 'hard'"),
        ({"sigma": 0}, "sigma must be a number above 0, got 0"),
        ({"score_thresh": 2}, r"score_thresh must be a number in \[0, 1\], got 2"),
    ],
)
def test_soft_nms_reports_invalid_input(options, message):
    with pytest.raises(ValueError, match=message):
        soft_nms(ROW, [1, 2, 3], **options)
