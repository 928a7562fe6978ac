import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rcnn
from rcnn import boxes

TWO = np.array([[0, 0, 10, 20], [5, 10, 15, 40]], np.float32)


# ---------------------------------------------------------------- IoU


def test_iou_by_hand(impl):
    # Intersection 5 x 10 = 50; areas 200 and 300; union 450.
    np.testing.assert_allclose(boxes.iou(TWO, TWO), [[1, 50 / 450], [50 / 450, 1]], rtol=1e-7)


def test_share_inside() -> None:
    shares = boxes.share_inside([[0, 0, 4, 2], [1, 1, 1, 5]], [[-9, -9, 9, 9], [1, 0, 9, 1], [4, 0, 8, 2]])
    np.testing.assert_array_equal(shares, [[1, 3 / 8, 0], [0, 0, 0]])
    assert boxes.share_inside([], [[0, 0, 1, 1]]).shape == (0, 1)
    with pytest.raises(ValueError, match="regions must have shape"):
        boxes.share_inside([[0, 0, 1, 1]], [1, 2])


@pytest.mark.parametrize("case", ["iou", "iou_edge"])
def test_iou_is_bit_identical_to_torchvision(impl, golden, case):
    g = golden("boxes")
    first = g.get(f"{case}/boxes1", g.get(f"{case}/boxes"))
    second = g.get(f"{case}/boxes2", g.get(f"{case}/boxes"))
    np.testing.assert_array_equal(boxes.iou(first, second), g[f"{case}/iou"])


def test_iou_of_boxes_without_area_is_zero(impl):
    point = [[4, 4, 4, 4]]
    np.testing.assert_array_equal(boxes.iou(point, [*point, [0, 0, 8, 8]]), [[0, 0]])


def test_iou_of_boxes_that_touch_is_zero(impl):
    assert boxes.iou([[0, 0, 10, 10]], [[10, 0, 20, 10]]) == 0


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_iou_without_boxes(impl, n, m):
    assert boxes.iou(np.zeros((n, 4)), np.zeros((m, 4))).shape == (n, m)
    assert boxes.iou([], []).shape == (0, 0)


@pytest.mark.parametrize(
    ("given_dtype", "dtype"),
    [("f2", "f4"), ("f4", "f4"), (">f4", "f4"), ("f8", "f8"), (">f8", "f8"), ("i4", "f8"), ("u1", "f8")],
)
def test_iou_accepts_every_numeric_dtype(impl, given_dtype, dtype):
    answer = boxes.iou(TWO.astype(given_dtype), TWO.astype(given_dtype))
    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, boxes.iou(TWO.astype(dtype), TWO.astype(dtype)))


def test_iou_accepts_strides_read_only_arrays_and_lists(impl):
    expected = boxes.iou(TWO, TWO)
    wide = np.repeat(np.repeat(TWO, 2, axis=0), 3, axis=1)[::2, ::3]
    frozen = TWO.copy()
    frozen.flags.writeable = False
    for form in (wide, np.asfortranarray(TWO), frozen):
        np.testing.assert_array_equal(boxes.iou(form, form), expected)
    np.testing.assert_allclose(boxes.iou(TWO.tolist(), TWO.tolist()), expected, rtol=1e-6)


def test_iou_of_mixed_precision_is_float64(impl):
    assert boxes.iou(TWO, TWO.astype(np.float64)).dtype == np.float64


coordinates = st.floats(-100, 100, width=32)
boxes_float32 = hnp.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(4)), elements=coordinates)


@settings(deadline=None)
@given(boxes_float32, boxes_float32)
def test_iou_kernel_and_reference_agree_to_the_bit(first, second):
    with rcnn.use_backend("numpy"):
        expected = boxes.iou(first, second)
    with rcnn.use_backend("cython"):
        np.testing.assert_array_equal(boxes.iou(first, second), expected)


def test_iou_does_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (3000, 2))
    many = np.concatenate([corner, corner + rng.uniform(1, 50, (3000, 2))], axis=1).astype(np.float32)
    with rcnn.use_backend("cython"):
        with rcnn.set_num_threads(1):
            expected = boxes.iou(many, many[:700])
        with rcnn.set_num_threads(3):
            np.testing.assert_array_equal(boxes.iou(many, many[:700]), expected)


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ([[1, 2, 3]], ValueError, r"boxes1 must have shape \(N, 4\), got \(1, 3\)"),
        ([1, 2, 3, 4], ValueError, r"boxes1 .* got \(4,\); pass one box as \[box\]"),
        ([[1, 2, 3, 4], [1, 2]], ValueError, "boxes1 .* rows differ in length"),
        ([["a", "b", "c", "d"]], TypeError, "boxes1 must contain real numbers"),
        (np.zeros((1, 4), complex), TypeError, "boxes1 must contain real numbers, got ndarray of dtype complex128"),
        (None, TypeError, "boxes1 must contain real numbers, got NoneType"),
    ],
)
def test_iou_reports_invalid_input(argument, error, message):
    with pytest.raises(error, match=message):
        boxes.iou(argument, TWO)


# ---------------------------------------------------------------- formats, area, clipping


@pytest.mark.parametrize(
    ("box_format", "values"), [("xyxy", [5, 10, 15, 40]), ("xywh", [5, 10, 10, 30]), ("cxcywh", [10, 25, 10, 30])]
)
def test_convert_by_hand(box_format, values):
    for target, expected in (("xyxy", [5, 10, 15, 40]), ("xywh", [5, 10, 10, 30]), ("cxcywh", [10, 25, 10, 30])):
        np.testing.assert_array_equal(boxes.convert([values], box_format, target), [expected])


def test_convert_returns_a_new_array():
    same = boxes.convert(TWO, "xyxy", "xyxy")
    assert not np.shares_memory(same, TWO)


def test_convert_rejects_an_unknown_format():
    with pytest.raises(ValueError, match="target must be one of xyxy, xywh, cxcywh, got 'yxyx'"):
        boxes.convert(TWO, "xyxy", "yxyx")


def test_area_by_hand():
    np.testing.assert_array_equal(boxes.area(TWO), [200, 300])
    assert boxes.area([]).shape == (0,)


def test_clip_matches_torchvision(golden):
    g = golden("boxes")
    np.testing.assert_array_equal(boxes.clip(g["clip/boxes"], g["clip/size"]), g["clip/clipped"])


def test_clip_takes_boxes_per_class():
    # size is (height, width): x is cut at 10, y at 20.
    many = np.array([[[-1, -1, 30, 30], [2, 2, 3, 3]]], np.float32)
    np.testing.assert_array_equal(boxes.clip(many, (20, 10)), [[[0, 0, 10, 20], [2, 2, 3, 3]]])
    assert boxes.clip([], (20, 10)).shape == (0, 4)
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 4\)"):
        boxes.clip([[1, 2]], (20, 10))


def test_remove_small_matches_torchvision(golden):
    g = golden("boxes")
    keep = boxes.remove_small(g["small/boxes"], g["small/min_size"])
    np.testing.assert_array_equal(keep, g["small/keep"])
    assert keep.dtype == np.int64


def test_remove_small_keeps_a_side_of_exactly_that_size():
    np.testing.assert_array_equal(boxes.remove_small([[0, 0, 2, 2], [0, 0, 1.9, 5], [0, 0, 5, 3]], 2), [0, 2])


# ---------------------------------------------------------------- deltas


def test_encode_by_hand():
    # Centre (5, 10) to (10, 25), sides (10, 20) to (10, 30): dx = 5/10, dy = 15/20, dw = log 1, dh = log 1.5.
    expected = [[0.5, 0.75, 0, math.log(1.5)]]
    np.testing.assert_allclose(boxes.encode(TWO[1:], TWO[:1]), expected, rtol=1e-6)
    np.testing.assert_allclose(
        boxes.encode(TWO[1:], TWO[:1], (10, 10, 5, 5)), np.multiply(expected, [10, 10, 5, 5]), rtol=1e-6
    )


@pytest.mark.parametrize("case", ["coder1", "coder10"])
def test_encode_and_decode_match_torchvision(golden, case):
    g = {key.split("/")[1]: value for key, value in golden("boxes").items() if key.startswith(f"{case}/")}
    encoded = boxes.encode(g["gt"], g["proposals"], g["weights"])
    decoded = boxes.decode(g["deltas"].reshape(50, 3, 4), g["proposals"], g["weights"])
    for answer, expected in ((encoded, g["encoded"]), (decoded, g["decoded"])):
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@given(st.floats(-200, 200), st.floats(-200, 200), st.floats(1, 60), st.floats(1, 60))
def test_decode_inverts_encode(x, y, width, height):
    wanted = np.array([[x, y, x + width, y + height]])
    deltas = boxes.encode(wanted, [[0, 0, 20, 10]], (10, 10, 5, 5))
    np.testing.assert_allclose(boxes.decode(deltas, [[0, 0, 20, 10]], (10, 10, 5, 5)), wanted, atol=1e-9)


def test_decode_caps_dw_and_dh():
    # A side of 16 may grow to 1000 and no further.
    np.testing.assert_allclose(boxes.decode([[0, 0, 100, 100]], [[0, 0, 16, 16]]), [[-492, -492, 508, 508]], rtol=1e-12)


def test_deltas_of_no_boxes():
    assert boxes.encode([], []).shape == (0, 4)
    assert boxes.decode([], []).shape == (0, 4)
    assert boxes.decode(np.zeros((0, 3, 4)), []).shape == (0, 3, 4)


def test_deltas_report_invalid_input():
    with pytest.raises(
        ValueError, match=r"gt_boxes\[1\] is \[3.0, 0.0, 3.0, 9.0\]; encode requires finite coordinates with x2 > x1"
    ):
        boxes.encode([[0, 0, 1, 1], [3, 0, 3, 9]], [[0, 0, 1, 1], [0, 0, 1, 1]])
    with pytest.raises(ValueError, match="the same length, got 1 and 2"):
        boxes.encode(TWO[:1], TWO)
    with pytest.raises(ValueError, match=r"deltas must have shape \(2, 4\) or \(2, L, 4\) for 2 boxes, got \(1, 4\)"):
        boxes.decode([[0, 0, 0, 0]], TWO)
    with pytest.raises(ValueError, match="weights must be four positive numbers"):
        boxes.decode(np.zeros((2, 4)), TWO, (1, 1, 1, 0))
