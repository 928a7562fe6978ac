import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rcnn
from rcnn.roi import (
    assign_levels,
    level_scales,
    multiscale_roi_align,
    multiscale_roi_align_backward,
    roi_align,
    roi_align_backward,
    roi_levels,
    roi_pool,
    roi_pool_backward,
)

COLUMNS = np.tile(np.arange(8.0), (8, 1))[None, None]  # (1, 1, 8, 8), each pixel holds its column
ONES = np.ones((1, 1, 4, 4))

ALIGN_CASES = [  # spatial_scale, output_size, sampling_ratio, aligned
    (scale, size, sampling, aligned)
    for scale in (0.125, 1.0)
    for size in ((7, 7), (3, 5))
    for sampling in (2, 0, 3)
    for aligned in (False, True)
    if not (scale == 1.0 and (size == (3, 5) or sampling == 3))
]


def cosines(shape, dtype=np.float32):
    """Return the upstream gradient of the golden files."""
    return np.cos(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape).astype(dtype)


def assert_close(answer, expected, tolerance):
    """Assert that no value is wrong by more than `tolerance` times the largest expected value."""
    assert answer.shape == expected.shape
    assert answer.dtype == expected.dtype
    np.testing.assert_allclose(answer, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.fixture
def case(golden):
    """Return features and RoIs of the golden file: two images, RoIs of all shapes."""
    g = golden("roi")
    rois = g["roi/rois"]
    return g["roi/features"], rois[:, 1:], rois[:, 0].astype(np.int64)


# ---------------------------------------------------------------- RoIAlign


@pytest.mark.parametrize(("scale", "size", "sampling", "aligned"), ALIGN_CASES)
def test_roi_align_matches_torchvision(impl, golden, case, scale, size, sampling, aligned):
    features, rois, images = case
    g, name = golden("roi"), f"roi_align_{scale}_{size[0]}x{size[1]}_{sampling}_{int(aligned)}"
    out = roi_align(features, rois, images, size, scale, sampling, aligned)
    assert_close(out, g[f"{name}/out"], 1e-6 if impl == "cython" else 2e-6)
    grad = roi_align_backward(cosines(out.shape), rois, images, features.shape, scale, sampling, aligned)
    assert_close(grad, g[f"{name}/grad"], 1e-5)


@pytest.mark.parametrize(
    ("aligned", "expected"),
    [
        (False, [2, 4]),  # bins 1 .. 3 and 3 .. 5: the average of the samples is the middle
        (True, [1.5, 3.5]),  # half a pixel to the left
    ],
)
@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
def test_roi_align_by_hand(impl, sampling, aligned, expected):
    out = roi_align(COLUMNS, [[1, 1, 5, 5]], [0], (2, 2), 1.0, sampling, aligned)
    np.testing.assert_allclose(out, [[[expected, expected]]], rtol=1e-12)


def test_spatial_scale_shrinks_rois(impl):
    out = roi_align(COLUMNS, [[4, 4, 20, 20]], [0], (1, 2), 0.25)
    np.testing.assert_allclose(out, [[[[2, 4]]]], rtol=1e-12)


@pytest.mark.parametrize(
    ("roi", "sampling", "expected"),
    [
        ([-3, 0, 1, 4], 4, 0.5),  # columns -2.5, -1.5, -0.5, 0.5: two are more than a pixel outside
        ([-2, 0, 0, 2], 1, 1.0),  # column -1, just a pixel outside, counts in full
        ([3, 0, 5, 2], 1, 1.0),  # column 4, the right border
        ([4, 0, 6, 2], 1, 0.0),  # column 5
        ([90, 90, 99, 99], 2, 0.0),
    ],
)
def test_samples_outside(impl, roi, sampling, expected):
    np.testing.assert_allclose(roi_align(ONES, [roi], [0], (1, 1), 1.0, sampling), [[[[expected]]]], rtol=1e-12)


def test_a_roi_with_swapped_corners(impl):
    # Not aligned, it counts as one pixel wide and high, from its first corner. Aligned and adaptive, it has no samples.
    np.testing.assert_allclose(roi_align(COLUMNS, [[5, 5, 1, 1]], [0], (1, 1)), [[[[5.5]]]], rtol=1e-12)
    np.testing.assert_array_equal(roi_align(COLUMNS, [[5, 5, 1, 1]], [0], (1, 1), 1.0, 0, True), [[[[0]]]])


def test_each_roi_reads_its_own_image(impl):
    features = np.arange(3.0)[:, None, None, None] * np.ones((3, 2, 4, 4))
    out = roi_align(features, [[0, 0, 2, 2]] * 3, [2, 0, 1], (1, 1))
    np.testing.assert_array_equal(out[:, 0, 0, 0], [2, 0, 1])
    grad = roi_align_backward(np.ones((3, 2, 1, 1)), [[0, 0, 2, 2]] * 3, [2, 2, 1], (3, 2, 4, 4))
    np.testing.assert_allclose(grad.sum(axis=(1, 2, 3)), [0, 2, 4], rtol=1e-12)  # 1 for each RoI and channel


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_roi_align_kernel_and_reference_agree(data):
    coordinate = st.floats(-30, 30, width=32)
    rois = np.array(data.draw(st.lists(st.tuples(*[coordinate] * 4), max_size=4)), np.float64).reshape(-1, 4)
    size = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    samples = data.draw(st.sampled_from([0, 1, 2, 3, 40]))
    options = (data.draw(st.sampled_from([0.25, 1.0, 1.3])), samples, data.draw(st.booleans()))
    features = np.random.default_rng(0).normal(size=(1, 3, 9, 1 + data.draw(st.integers(0, 8))))
    images = np.zeros(len(rois), np.int64)
    answers = []
    for backend in ("numpy", "cython"):
        with rcnn.use_backend(backend):
            out = roi_align(features, rois, images, size, *options)
            upstream = cosines(out.shape, np.float64)
            answers.append((out, roi_align_backward(upstream, rois, images, features.shape, *options)))
    np.testing.assert_allclose(answers[1][0], answers[0][0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(answers[1][1], answers[0][1], rtol=0, atol=1e-12)


def test_each_roi_is_pooled_from_its_level(impl):
    finer = np.repeat(np.repeat(COLUMNS, 2, axis=2), 2, axis=3) * 10
    rois, images = [[0, 0, 3, 3], [3, 0, 6, 3], [0, 0, 3, 3]], [0, 0, 0]
    pooled = multiscale_roi_align([finer, COLUMNS], rois, images, [1, 1, 0], (3, 3), [2.0, 1.0])
    np.testing.assert_allclose(pooled[:2, 0, 0], [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]], rtol=1e-12)
    np.testing.assert_array_equal(pooled[2:], roi_align(finer, rois[2:], [0], (3, 3), 2.0))


def test_each_level_has_its_own_gradient(impl):
    finer = np.repeat(np.repeat(COLUMNS, 2, axis=2), 2, axis=3)
    rois, images, levels = np.array([[0.0, 0, 3, 3], [3, 0, 6, 3], [1, 1, 4, 3]]), np.zeros(3, int), np.array([1, 1, 0])
    grad = cosines((3, 1, 2, 3), np.float64)
    shapes = [finer.shape, COLUMNS.shape, COLUMNS.shape]
    found = multiscale_roi_align_backward(grad, rois, images, levels, shapes, [2.0, 1.0, 1.0])
    assert found[2] is None
    for level, scale in enumerate((2.0, 1.0)):
        own = levels == level
        np.testing.assert_array_equal(
            found[level], roi_align_backward(grad[own], rois[own], images[own], shapes[level], scale)
        )


def test_error_of_a_roi_too_far_away_for_its_level_names_its_row(impl):
    """2^19 pixels are allowed at a scale of 1, but not at 4."""
    near, far = [0, 0, 3, 3], [0, 0, 2**19, 3]
    given = [COLUMNS, COLUMNS], [near, far, near, far], [0] * 4
    multiscale_roi_align(*given, [0, 0, 1, 0], (2, 2), [1.0, 4.0])
    with pytest.raises(
        ValueError,
        match=r"rois\[3\] must have coordinates of at most 262144 pixels, because spatial_scales\[1\] is 4; got",
    ):
        multiscale_roi_align(*given, [0, 0, 1, 1], (2, 2), [1.0, 4.0])


def test_the_gradient_of_several_levels_checks_each_of_their_shapes(impl):
    given = np.ones((1, 1, 2, 2)), [[0, 0, 3, 3]], [0], [0]
    with pytest.raises(ValueError, match="grad must have shape"):
        multiscale_roi_align_backward(*given, [(1, 1, 4, 4), (1, 9, 4, 4)], [1.0, 1.0])
    with pytest.raises(ValueError, match="every level must have the same number of images"):
        multiscale_roi_align_backward(*given, [(1, 1, 4, 4), (2, 1, 4, 4)], [1.0, 1.0])
    with pytest.raises(ValueError, match="spatial_scales must have 0 numbers"):
        multiscale_roi_align_backward(*given, [], [1.0])


@pytest.mark.parametrize(
    ("features", "levels", "scales", "message"),
    [
        ([COLUMNS], [1], [1.0], r"levels\[0\] must be in 0 \.\. 0 \(number of levels: 1\), got 1"),
        ([COLUMNS], [-1], [1.0], r"levels\[0\] must be .* got -1"),
        ([COLUMNS], [0, 0], [1.0], r"levels must have shape \(1,\), got \(2,\)"),
        ([COLUMNS], [0], [1.0, 0.5], "spatial_scales must have 1 numbers, one per level, got 2"),
        ([COLUMNS, COLUMNS[:, :0]], [0], [1.0, 1.0], r"features\[1\] has 1 images and 0 channels"),
        ([], [0], [], "features must be a sequence of 1 to 64 maps"),
        ([COLUMNS, np.zeros((2, 1, 3, 6))], [0], [1.0, 1.0], r"features\[1\] has 2 images and 1 channels"),
    ],
)
def test_invalid_levels_are_reported(impl, features, levels, scales, message):
    with pytest.raises(ValueError, match=message):
        multiscale_roi_align(features, [[0, 0, 3, 3]], [0], levels, (3, 3), scales)


def test_pixels_outside_a_bin_have_no_effect(impl):
    features = COLUMNS.copy()
    features[0, 0, 0, 0] = np.nan
    assert not roi_align(features, [[100, 100, 120, 120]], [0], (2, 2)).any()


# ---------------------------------------------------------------- RoIPool


def test_roi_pool_does_not_hide_nan(impl):
    features = COLUMNS.copy()
    features[0, 0, 3, 3] = np.nan
    pooled = roi_pool(features, [[1, 1, 6, 6], [0, 4, 7, 7]], [0, 0], (1, 1))
    np.testing.assert_array_equal(pooled.ravel(), [np.nan, 7])


def test_roi_pool_matches_torchvision(impl, golden, case):
    features, rois, images = case
    out = roi_pool(features, rois, images, (7, 7), 0.125)
    np.testing.assert_array_equal(out, golden("roi")["roi_pool_0.125_7x7/out"])
    grad = roi_pool_backward(cosines(out.shape), features, rois, images, 0.125)
    assert_close(grad, golden("roi")["roi_pool_0.125_7x7/grad"], 1e-5)


SIXTEEN = np.arange(16.0).reshape(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("roi", "size", "expected"),
    [
        ([0.5, 0, 1.5, 1], (1, 1), [[6]]),  # halves away from zero: columns 1 .. 2, rows 0 .. 1
        ([-1.5, -1.5, 0.5, 0.5], (1, 1), [[5]]),  # columns and rows -2 .. 1
        ([0, 0, 2, 0], (1, 2), [[1, 2]]),  # three columns in two bins share the middle one
        ([1, 1, 1, 1], (2, 2), [[5, 5], [5, 5]]),  # more bins than pixels
        ([-9, -9, -5, -5], (1, 2), [[0, 0]]),  # outside
        ([3, 3, 0, 0], (1, 1), [[15]]),  # corners swapped: the single pixel of its first corner
    ],
)
def test_roi_pool_by_hand(impl, roi, size, expected):
    np.testing.assert_array_equal(roi_pool(SIXTEEN, [roi], [0], size), [[expected]])


def test_roi_pool_finds_the_maximum_of_negative_numbers(impl):
    np.testing.assert_array_equal(roi_pool(SIXTEEN - 99, [[0, 0, 1, 1]], [0], (1, 1)), [[[[-94]]]])


def test_roi_pool_backward_goes_to_the_first_maximum(impl):
    features = np.zeros((1, 1, 2, 3))
    features[0, 0, 1] = [7, 0, 7]
    grad = roi_pool_backward([[[[2.0]]], [[[3.0]]]], features, [[0, 0, 2, 1], [2, 0, 2, 1]], [0, 0])
    np.testing.assert_array_equal(grad, [[[[0, 0, 0], [2, 0, 3]]]])


# ---------------------------------------------------------------- both


@pytest.mark.parametrize(("scale", "sampling", "aligned"), [(0.125, 2, False), (0.125, 0, True), (0.5, 3, False)])
def test_roi_align_backward_is_the_adjoint(impl, case, scale, sampling, aligned):
    features, rois, images = case[0].astype(np.float64), case[1], case[2]
    out = roi_align(features, rois, images, (3, 4), scale, sampling, aligned)
    upstream = cosines(out.shape, np.float64)
    grad = roi_align_backward(upstream, rois, images, features.shape, scale, sampling, aligned)
    assert out.dtype == grad.dtype == np.float64
    np.testing.assert_allclose((out * upstream).sum(), (features * grad).sum(), rtol=1e-11)


def test_roi_pool_backward_is_the_adjoint(impl, case):
    features, rois, images = case[0].astype(np.float64), case[1], case[2]
    out = roi_pool(features, rois, images, (3, 4), 0.125)
    upstream = cosines(out.shape, np.float64)
    grad = roi_pool_backward(upstream, features, rois, images, 0.125)
    np.testing.assert_allclose((out * upstream).sum(), (features * grad).sum(), rtol=1e-11)


def test_memory_is_channels_last(impl, case):
    features, rois, images = case
    out = roi_align(features, rois, images, (2, 2))
    for array in (
        out,
        roi_align_backward(out, rois, images, features.shape),
        roi_pool(features, rois, images, (2, 2)),
        roi_pool_backward(out, features, rois, images),
    ):
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous


def forms(array):
    """Return the same numbers in other layouts: channels last, channels first, strided, read-only, big-endian."""
    frozen = array.copy()
    frozen.flags.writeable = False
    last = np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return last, np.ascontiguousarray(array), np.repeat(array, 2, axis=3)[..., ::2], frozen, array.astype(">f4")


def test_every_layout_gives_the_same_result(impl, case):
    features, rois, images = case
    out = roi_align(features, rois, images, (3, 3), 0.125)
    upstream = cosines(out.shape)
    grad = roi_align_backward(upstream, rois, images, features.shape, 0.125)
    pooled = roi_pool(features, rois, images, (3, 3), 0.125)
    pool_grad = roi_pool_backward(upstream, features, rois, images, 0.125)
    for f, u in zip(forms(features), forms(upstream), strict=True):
        np.testing.assert_array_equal(roi_align(f, rois.tolist(), images.tolist(), [3, 3], 0.125), out)
        np.testing.assert_array_equal(roi_align_backward(u, rois, images, features.shape, 0.125), grad)
        np.testing.assert_array_equal(roi_pool(f, rois, images.astype(np.int32), (3, 3), 0.125), pooled)
        np.testing.assert_array_equal(roi_pool_backward(u, f, rois, images, 0.125), pool_grad)


def test_no_rois(impl):
    assert roi_align(np.ones((2, 3, 4, 5)), [], [], (7, 6)).shape == (0, 3, 7, 6)
    assert roi_pool(np.ones((2, 3, 4, 5)), [], [], (7, 6)).shape == (0, 3, 7, 6)
    upstream, nothing = np.ones((0, 3, 7, 6)), np.zeros((2, 3, 4, 5))
    np.testing.assert_array_equal(roi_align_backward(upstream, [], [], (2, 3, 4, 5)), nothing)
    np.testing.assert_array_equal(roi_pool_backward(upstream, np.ones((2, 3, 4, 5)), [], []), nothing)
    for shape in ((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)):
        upstream = np.ones((0, shape[1], 7, 6))
        assert roi_align_backward(upstream, [], [], shape).shape == shape


def test_a_single_row_of_features(impl):
    grad = roi_align_backward([[[[4.0, 8.0]]]], [[0, 0, 2, 1]], [0], (1, 1, 1, 3))
    np.testing.assert_allclose(grad, [[[[2, 6, 4]]]], rtol=1e-12)  # samples at columns 1/4, 3/4, 5/4 and 7/4


def test_results_are_bit_identical_for_any_number_of_threads():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(2, 40, 30, 30)).astype(np.float32)  # 40 channels: uneven shares
    corner = rng.uniform(-5, 25, (120, 2))
    rois = np.concatenate([corner, corner + rng.uniform(1, 20, (120, 2))], axis=1).astype(np.float32)
    images = rng.integers(0, 2, 120)
    answers = []
    for threads in (1, 2, 3):
        with rcnn.use_backend("cython"), rcnn.set_num_threads(threads):
            out = roi_align(features, rois, images, (7, 7))
            answers.append(
                [
                    out,
                    roi_align_backward(out, rois, images, features.shape),
                    roi_pool(features, rois, images, (7, 7)),
                    roi_pool_backward(out, features, rois, images),
                ]
            )
    for other in answers[1:]:
        for answer, expected in zip(other, answers[0], strict=True):
            np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"roi_images": [0, 2]}, ValueError, r"roi_images\[1\] must be in 0 \.\. 1 \(number of images: 2\), got 2"),
        ({"roi_images": [-1, 0]}, ValueError, r"roi_images\[0\] must be .* got -1"),
        ({"roi_images": [0]}, ValueError, r"roi_images must have shape \(2,\), got \(1,\)"),
        ({"roi_images": [0.0, 1.0]}, TypeError, "roi_images must contain integers"),
        ({"rois": [[0, 0, 1, 1], [0, 0, np.nan, 1]]}, ValueError, r"rois\[1\] must be finite, got .*nan"),
        ({"rois": [[0, 0, np.inf, 1], [0, 0, 1, 1]]}, ValueError, r"rois\[0\] must be finite, got .*inf"),
        ({"rois": [[0, 0, 1, 1], [0, 0, 1e30, 1]]}, ValueError, r"rois\[1\] must have coordinates of at most"),
        ({"rois": [[0, 0, 1], [0, 0, 1]]}, ValueError, r"rois must have shape \(N, 4\)"),
        ({"features": np.ones((0, 3, 4, 4))}, ValueError, "rois must be empty, .* no image; got 2 RoIs"),
        ({"features": np.ones((3, 4, 4))}, ValueError, "features must have four axes"),
        ({"features": np.ones((2, 3, 0, 4))}, ValueError, "must have at least one pixel, got 0 x 4"),
        (
            {"output_size": (7, 0)},
            ValueError,
            r"output_size must be two integers of at least 1 and at most 1024.*got \(7, 0\)",
        ),
        ({"output_size": 7}, ValueError, "output_size"),
        ({"spatial_scale": 0}, ValueError, r"spatial_scale must be a number in \[1e-06, 1e\+06\], got 0"),
    ],
)
def test_invalid_arguments_are_reported(impl, changes, error, message):
    arguments = {"features": np.ones((2, 3, 4, 4)), "rois": [[0, 0, 1, 1]] * 2, "roi_images": [0, 1]}
    for stage in (roi_align, roi_pool):
        with pytest.raises(error, match=message):
            stage(**{**arguments, "output_size": (2, 2), **changes})


def test_invalid_settings_and_gradients_are_reported(impl):
    with pytest.raises(ValueError, match="sampling_ratio must be an integer of at least 0 and at most 128, got -1"):
        roi_align(ONES, [[0, 0, 1, 1]], [0], (2, 2), 1.0, -1)
    with pytest.raises(ValueError, match=r"grad must have shape \(1, 3, height, width\).* got \(2, 3, 2, 2\)"):
        roi_align_backward(np.ones((2, 3, 2, 2)), [[0, 0, 1, 1]], [0], (1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"grad must have shape \(1, 1, height, width\).* got \(1, 3, 2, 2\)"):
        roi_pool_backward(np.ones((1, 3, 2, 2)), ONES, [[0, 0, 1, 1]], [0])
    with pytest.raises(ValueError, match="features_shape must have"):
        roi_align_backward(np.ones((1, 3, 2, 2)), [[0, 0, 1, 1]], [0], (3, 4, 4))


# ---------------------------------------------------------------- levels


@pytest.mark.parametrize(
    ("side", "level"), [(224, 4), (112, 3), (111.99, 2), (447, 4), (448, 5), (9000, 5), (1, 2), (0, 2), (-3, 2)]
)
def test_assign_levels_by_hand(side, level):
    answer = assign_levels(np.array([[3, 5, 3 + side, 5 + abs(side)]], np.float32), 2, 5)
    np.testing.assert_array_equal(answer, [level])
    assert answer.dtype == np.int64


def test_assign_levels_matches_torchvision(golden):
    g = golden("roi")
    np.testing.assert_array_equal(assign_levels(g["multiscale/boxes"], 2, 5) - 2, g["multiscale/levels"])


def test_the_canonical_size_can_be_smaller():
    np.testing.assert_array_equal(assign_levels([[0, 0, 32, 32], [0, 0, 16, 16]], 2, 5, 32, 3), [3, 2])
    assert assign_levels([], 2, 5).shape == (0,)


def test_pooling_over_levels_matches_torchvision(impl, golden):
    g = golden("roi")
    boxes, expected = g["multiscale/boxes"], g["multiscale/out"]
    levels = assign_levels(boxes, 2, 5)
    out = np.empty_like(expected)
    for level in range(2, 6):
        rows = np.flatnonzero(levels == level)
        feature = g[f"multiscale/feature{level - 2}"]
        out[rows] = roi_align(feature, boxes[rows], np.zeros(len(rows), int), (7, 7), 0.5**level)
    assert_close(out, expected, 2e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0, 0, 1, 1]], 5, 2), "min_level must be at most max_level, got 5 and 2"),
        (([[0, 0, 1, 1]], 2, 5, 0), r"canonical_size must be a number in \[1e-06, 1e\+06\], got 0"),
    ],
)
def test_assign_levels_reports_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        assign_levels(*arguments)


# ---------------------------------------------------------------------- scales and levels


@pytest.mark.parametrize(
    "heights, padded, scales",
    [
        ([200, 100, 50, 25], 800, [1 / 4, 1 / 8, 1 / 16, 1 / 32]),
        ([13], 800, [1 / 64]),  # 12.5 rows rounded up: still a stride of 64
        ([61], 800, [61 / 800]),  # 1/16 would be 50 rows, 1/8 would be 100
        ([53], 160, [53 / 160]),  # 1/4 would be 40
        ([7, 3], 96, [1 / 16, 1 / 32]),  # 6 rows, and 7 is within a row of it
        ([1], 32, [1 / 32]),
        ([32], 32, [1.0]),
        ([64], 32, [2.0]),
    ],
)
def test_scales_are_powers_of_two_if_these_predict_the_height(heights, padded, scales):
    assert level_scales(heights, padded) == scales


def test_levels_match_torchvision(golden):
    case = golden("roi")
    scales = level_scales([case[f"multiscale/feature{i}"].shape[2] for i in range(4)], int(case["multiscale/image"][0]))
    assert scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    levels = roi_levels(case["multiscale/boxes"], scales)
    np.testing.assert_array_equal(levels, case["multiscale/levels"])
    assert set(levels.tolist()) == {0, 1, 2, 3}


def square(side):
    return [0.0, 0.0, side, side]


@pytest.mark.parametrize(
    "scales, canonical, sides, expected",
    [
        ([1 / 4, 1 / 8, 1 / 16, 1 / 32], (224, 4), [20, 111, 112, 223, 224, 447, 448, 5000], [0, 0, 1, 1, 2, 2, 3, 3]),
        ([1 / 4, 1 / 8], (32, 3), [15, 16, 31, 32, 500], [0, 0, 0, 1, 1]),
        ([1 / 16], (224, 4), [1, 224, 5000], [0, 0, 0]),
        ([61 / 800], (224, 4), [1, 224, 5000], [0, 0, 0]),
    ],
)
def test_large_rois_are_pooled_from_coarse_levels(scales, canonical, sides, expected):
    options = {"canonical_size": canonical[0], "canonical_level": canonical[1]}
    rois = np.array([square(side) for side in sides])
    assert roi_levels(rois, scales, **options).tolist() == expected
    assert roi_levels(np.zeros((0, 4)), scales, **options).shape == (0,)


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_ratio": 10**10}, "sampling_ratio must be an integer of at least 0 and at most 128"),
        ({"output_size": (10**6, 1)}, "output_size must be two integers of at least 1 and at most 1024"),
        ({"rois": [[0, 0, 9, 9]] * 2000, "roi_images": [0] * 2000, "output_size": (1024, 1024)}, "must be smaller"),
        ({"spatial_scale": 1e-300}, "spatial_scale must be a number in"),
    ],
)
def test_numbers_that_decide_an_allocation_or_a_loop_are_bounded(changes, message, impl):
    arguments = {"features": COLUMNS, "rois": [[0, 0, 4, 4]], "roi_images": [0], "output_size": (2, 2), **changes}
    with pytest.raises(ValueError, match=message):
        roi_align(**arguments)


EMPTY_MAPS = [((0, 0, 2, 2), (1, 0, 4, 4)), ((0, 3, 2, 2), (0, 3, 4, 4)), ((0, 3, 2, 2), (1, 3, 0, 4))]


@pytest.mark.parametrize(("grad", "features"), EMPTY_MAPS)
def test_gradients_of_empty_arrays_are_zero(grad, features, impl):
    for dtype in (np.float32, np.float64):
        upstream, maps = np.zeros(grad, dtype), np.zeros(features, dtype)
        np.testing.assert_array_equal(roi_pool_backward(upstream, maps, [], []), maps)
        np.testing.assert_array_equal(roi_align_backward(upstream, [], [], features), maps)


def test_a_gradient_without_bins_is_refused(impl):
    with pytest.raises(ValueError, match=r"grad must have 1 to 1024 bins along each axis, got \(0, 1\)"):
        roi_align_backward(np.zeros((1, 1, 0, 1)), [[0, 0, 9, 9]], [0], (1, 1, 4, 4))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_reach_only_the_bins_that_read_them(value, impl):
    maps = np.zeros((1, 1, 8, 8), np.float32)
    maps[0, 0, 6, 6] = value
    pooled = roi_align(maps, [[0, 0, 8, 8]], [0], (2, 2), sampling_ratio=3)
    np.testing.assert_array_equal(pooled, [[[[0, 0], [0, value]]]])
    grad = np.zeros((1, 1, 2, 2), np.float32)
    grad[0, 0, 1, 1] = value
    found = roi_align_backward(grad, [[0, 0, 8, 8]], [0], maps.shape, sampling_ratio=3)
    assert not np.isfinite(found[0, 0, 5:, 5:]).any() and not found[0, 0, :4].any() and not found[0, 0, :, :4].any()
