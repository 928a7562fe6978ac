"""Choice of the function that a call runs: a kernel, its reference, or a user's own function."""

import threading

import numpy as np
import pytest

import rcnn
from rcnn import anchors, boxes, fpn, matching, nms, nn, roi, roi_heads
from rcnn._ext import dispatch
from rcnn._ext.dispatch import compiled

BOXES = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
SCORES = np.array([0.5, 0.9, 0.7])


# ---------------------------------------------------------------- kernel or reference


@pytest.fixture
def double(monkeypatch):
    """Return a function with a reference and a "driver" that doubles its input; the driver declines an empty array."""

    def driver(values, *others):
        return 2 * values if values.size else NotImplemented

    monkeypatch.setattr("rcnn._ext.boxes.double", driver, raising=False)

    @compiled("boxes.double", (np.float32,), uses=("area",))
    def double(values, *others):
        """Return twice the values."""
        return "reference"

    return double


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("arguments", "is_kernel"),
    [
        ((ONE,), True),
        ((ONE, np.ones(1, np.int64), None, 3, "text"), True),
        ((ONE, [ONE, (ONE,)]), True),
        ((ONE.astype(np.float64),), False),
        ((ONE, ONE.astype(np.float64)), False),
        ((ONE, [ONE, (ONE.astype(np.float64),)]), False),
        ((ONE[:0],), False),  # declined
    ],
)
def test_the_driver_runs_if_the_kernel_supports_the_dtypes(impl, double, arguments, is_kernel):
    result = double(*arguments)
    assert (result != "reference") == (is_kernel and impl == "cython")


def test_the_reference_runs_if_a_part_of_the_kernel_is_replaced(impl, double):
    with rcnn.replace("area", boxes.area):
        assert double(ONE) == "reference"
    assert double.__doc__ == "Return twice the values." and double.__wrapped__(ONE) == "reference"


def test_every_driver_has_a_reference_with_the_same_arguments():
    """Every driver named by a decorator of a stage or layer exists."""
    import importlib
    import inspect
    import re
    from pathlib import Path

    names = []
    for path in Path(rcnn.__file__).parent.rglob("*.py"):
        found = re.findall(r'^@compiled\("(\w+)\.(\w+)"[^\n]*\)\ndef (\w+)\(', path.read_text("utf-8"), re.MULTILINE)
        module = ".".join(("rcnn", *path.relative_to(Path(rcnn.__file__).parent).with_suffix("").parts))
        names += [(module, *match) for match in found]
    assert len(names) > 20
    for module, driver_module, driver_name, name in names:
        reference = getattr(importlib.import_module(module), name)
        driver = getattr(importlib.import_module(f"rcnn._ext.{driver_module}"), driver_name)
        assert len(inspect.signature(driver).parameters) == len(inspect.signature(reference).parameters), name


# ---------------------------------------------------------------- replacements

FUNCTIONS = {
    name: getattr(module, name)
    for name, module in [
        *((name, boxes) for name in ("area", "clip", "decode", "encode", "iou", "remove_small")),
        *((name, nms) for name in ("batched_nms", "nms")),
        *((name, anchors) for name in ("cell_anchors", "grid_anchors")),
        *((name, matching) for name in ("match", "sample")),
        *((name, roi) for name in ("roi_align", "roi_align_backward", "roi_pool")),
        ("top_down", fpn),
    ]
}
FUNCTIONS["anchor_generator"] = anchors.all_anchors


def _roi_targets(proposals, gt_boxes, gt_labels, **options):
    """The library's RoI targets, in the form of the exercise."""
    targets = roi_heads.find_targets(proposals, gt_boxes, gt_labels, **options)
    return targets.rois, targets.labels, targets.deltas


FUNCTIONS["roi_targets"] = _roi_targets


def test_the_list_of_replaceable_functions_is_complete():
    assert set(FUNCTIONS) == set(dispatch.REPLACEABLE)
    assert all(name in rcnn.replace.__doc__ for name in FUNCTIONS)


@pytest.fixture(scope="module")
def model():
    return rcnn.load_digits()


@pytest.fixture(scope="module")
def page():
    return rcnn.data.Digits(1, split="val")[0]


# The functions that a detector calls. area and iou run inside NMS; cell_anchors runs only when a model is made.
CALLED = {
    "predict": (
        *("anchor_generator", "batched_nms", "clip", "decode", "grid_anchors", "nms", "remove_small", "roi_align"),
        *("iou", "area"),
    ),
    "get_loss": ("encode", "match", "sample", "iou", "roi_align_backward", "roi_targets"),
}


@pytest.mark.parametrize(("method", "name"), [(method, name) for method, names in CALLED.items() for name in names])
def test_the_whole_detector_runs_with_a_replacement(impl, model, page, method, name):
    image, target = page

    def run():
        if method == "predict":
            return model.predict([image])[0]
        losses = model.get_loss([image], [target], np.random.default_rng(0))
        losses["total_loss"].backward()
        return {key: loss.data for key, loss in losses.items()}

    wanted, calls = run(), []

    def spy(*arguments, **options):
        calls.append(name)
        return FUNCTIONS[name](*arguments, **options)

    with rcnn.replace(name, spy):
        found = run()
    assert calls
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-3)
    count = len(calls)
    run()
    assert len(calls) == count


def test_a_detector_uses_replaced_cell_anchors_only_inside_the_block(model, page):
    plain = model.trace([page[0]]).anchors[0]
    with rcnn.replace("cell_anchors", lambda sizes, ratios: FUNCTIONS["cell_anchors"](sizes, ratios) * 2):
        wide = model.trace([page[0]]).anchors[0]
        other = rcnn.faster_rcnn_small(("background", "a"))
    np.testing.assert_array_equal(wide[:, 2:] - wide[:, :2], 2 * (plain[:, 2:] - plain[:, :2]))
    np.testing.assert_array_equal(model.trace([page[0]]).anchors[0], plain)
    assert len(set(other.anchor_generator.cells[0][:, 2].tolist()) & set(model.anchor_generator.cells[0][:, 2])) > 0


def test_the_detections_are_those_of_the_replaced_function(model, page):
    with rcnn.replace("nms", lambda boxes, scores, iou_threshold: [int(scores.argmax())] if len(scores) else []):
        best = model.trace([page[0]])
    assert len(best.proposals[0]) == len(best.features)  # one of each level
    labels = best.outputs[0]["labels"]
    assert len(labels) == len(set(labels.tolist()))  # one of each class


def test_a_pyramid_uses_the_replaced_sum_with_the_gradient_of_the_library(impl):
    pyramid = fpn.FPN([2, 3], 4)
    levels = [nn.Tensor(np.ones((1, 2, 3, 5))), nn.Tensor(np.ones((1, 3, 2, 3)), requires_grad=True)]

    def run():
        finest = pyramid(levels)[0]
        levels[1].grad = None
        finest.sum().backward()
        return finest.data, levels[1].grad

    (plain, gradient), shapes = run(), []

    def spy(finer, coarser):
        shapes.append((finer.shape, coarser.shape))
        return fpn.top_down(finer, coarser)

    with rcnn.replace("top_down", spy):
        same, same_gradient = run()
    np.testing.assert_allclose(same, plain, rtol=1e-6)
    np.testing.assert_allclose(same_gradient, gradient, rtol=1e-6)
    assert shapes == [((1, 4, 3, 5), (1, 4, 2, 3))]
    with rcnn.replace("top_down", lambda finer, coarser: np.zeros_like(finer)):
        zero, same_gradient = run()
    bias = list(pyramid.layer_blocks[0].parameters())[-1].data
    np.testing.assert_allclose(zero, np.broadcast_to(bias[:, None, None], zero.shape), atol=1e-6)
    np.testing.assert_allclose(same_gradient, gradient, rtol=1e-6)


def test_the_anchor_generator_gets_its_settings_and_returns_a_list_of_levels():
    seen = []

    def spy(*arguments):
        seen.append(arguments)
        return anchors.all_anchors(*arguments)

    flat, nested = anchors.AnchorGenerator((8, 16), (1,), 0.5), anchors.AnchorGenerator(((8,), (16,)), ((1,), (2,)))
    with rcnn.replace("anchor_generator", spy):
        assert [level.shape for level in flat((32, 32), [(4, 4), (2, 2)])] == [(32, 4), (8, 4)]
        assert [level.shape for level in nested((32, 32), [(4, 4), (2, 2)])] == [(16, 4), (4, 4)]
    assert [(sizes, ratios, offset) for _, _, sizes, ratios, offset in seen] == [
        ([(8, 16), (8, 16)], (1,), 0.5),
        (((8,), (16,)), ((1,), (2,)), 0.0),
    ]
    with (
        rcnn.replace("anchor_generator", lambda *given: np.zeros((40, 4))),
        pytest.raises(TypeError, match="your anchor_generator must return 2 arrays, got an array of dtype float64"),
    ):
        flat((32, 32), [(4, 4), (2, 2)])


def test_roi_targets_gets_options_by_name_and_returns_three_arrays_of_equal_length():
    arguments = (BOXES, BOXES[:1], [1])

    def mine(proposals, gt_boxes, gt_labels, *, rng, batch_size, weights, **others):
        assert batch_size == 5 and sorted(others) == ["bg_iou_thresh", "fg_iou_thresh", "positive_fraction"]
        return proposals, [1, 0, 0], np.zeros((3, 4))

    with rcnn.replace("roi_targets", mine):
        targets = roi_heads.find_targets(*arguments, batch_size=5)
    assert isinstance(targets, roi_heads.RoITargets) and targets.labels.tolist() == [1, 0, 0]
    for result, message in (
        (
            (BOXES, [1, 0], np.zeros((3, 4))),
            r"your roi_targets must return three arrays of the same length, got \[3, 2",
        ),
        ((BOXES, [2, 0, 0], np.zeros((3, 4))), r"your roi_targets must return indices in 0 \.\. 1, got 2"),
    ):
        with (
            rcnn.replace("roi_targets", lambda *a, result=result, **b: result),
            pytest.raises(ValueError, match=message),
        ):
            roi_heads.find_targets(*arguments)
    with (
        rcnn.replace("roi_targets", lambda proposals, gt_boxes, gt_labels: None),
        pytest.raises(
            TypeError, match=r"your roi_targets must take the arguments \(proposals, gt_boxes, gt_labels, fg_"
        ),
    ):
        roi_heads.find_targets(*arguments, rng=np.random.default_rng(0))


def test_replacements_nest_and_end_with_their_blocks():
    with rcnn.replace("area", lambda boxes: np.full(len(boxes), 1.0)):
        with rcnn.replace("area", lambda boxes: np.full(len(boxes), 2.0)), rcnn.replace("clip", lambda b, size: b):
            assert boxes.area(BOXES).tolist() == [2, 2, 2]
            assert boxes.clip([[-1, 0, 2, 2]], (1, 1)).tolist() == [[-1, 0, 2, 2]]
        assert boxes.area(BOXES).tolist() == [1, 1, 1]
    assert boxes.area(BOXES).tolist() == [100, 100, 100]


def test_inside_the_replacement_the_name_refers_to_the_librarys_function():
    with rcnn.replace("area", lambda given: 2 * boxes.area(given)):
        assert boxes.area(BOXES).tolist() == [200, 200, 200]


def test_other_threads_are_not_affected():
    found = []
    with rcnn.replace("area", lambda given: np.zeros(len(given))):
        thread = threading.Thread(target=lambda: found.append(boxes.area(BOXES).tolist()))
        thread.start()
        thread.join()
    assert found == [[100, 100, 100]]


def test_results_are_converted_to_the_librarys_dtypes():
    single = BOXES.astype(np.float32)
    with rcnn.replace("iou", lambda a, b: [[1, 0, 0]] * 3):
        assert boxes.iou(single, single).dtype == np.float32
        assert boxes.iou(BOXES, BOXES).dtype == np.float64
    with rcnn.replace("nms", lambda *given: [1, 0]):
        assert nms.nms(BOXES, SCORES, 0.5).dtype == np.int64
    with rcnn.replace("nms", lambda *given: []):
        assert nms.nms(BOXES, SCORES, 0.5).tolist() == []


@pytest.mark.parametrize(
    ("name", "result", "error", "message"),
    [
        (
            "iou",
            None,
            TypeError,
            r"your iou must return real numbers of .* got None \(is `return` missing",
        ),
        ("iou", np.zeros((3, 2)), ValueError, r"your iou must return an array of shape \(3, 3\), got \(3, 2\)"),
        ("iou", np.zeros((3, 3), complex), TypeError, r"got an array of dtype complex128"),
        ("iou", [[1], [1, 2], [1]], TypeError, "your iou must return an array, but it returned rows of different"),
        ("nms", [0.0, 1.0], TypeError, r"your nms must return integers of shape \(any,\), got list"),
        ("nms", [[0, 1]], ValueError, r"your nms must return an array of shape \(any,\), got \(1, 2\)"),
        ("nms", [0, 3], ValueError, r"your nms must return indices in 0 \.\. 2, got 3"),
        ("nms", [1, 1], ValueError, "your nms must return distinct indices, got 1 more than once"),
        ("nms", np.array([True, False, True]), TypeError, "your nms must return integers"),
    ],
)
def test_an_invalid_result_is_reported_with_the_name_of_the_function(name, result, error, message):
    arguments = {"iou": (BOXES, BOXES), "nms": (BOXES, SCORES, 0.5)}[name]
    with rcnn.replace(name, lambda *given: result), pytest.raises(error, match=message):
        FUNCTIONS[name](*arguments)


def test_sample_must_return_two_arrays():
    labels = np.array([1, 0, 0])
    with rcnn.replace("sample", lambda *given: [0]), pytest.raises(TypeError, match="must return 2 arrays, got list"):
        matching.sample(labels, 2, 0.5, np.random.default_rng(0))
    with (
        rcnn.replace("sample", lambda *given: ([0], [9])),
        pytest.raises(ValueError, match="must return indices in .*, got 9"),
    ):
        matching.sample(labels, 2, 0.5, np.random.default_rng(0))


def test_the_function_gets_every_argument_by_position_and_read_only():
    seen = []

    def my_decode(deltas, boxes, weights):
        seen.append((deltas.flags.writeable, weights))
        return np.zeros_like(deltas)

    with rcnn.replace("decode", my_decode):
        boxes.decode(np.zeros((3, 4)), BOXES)
        boxes.decode(deltas=np.zeros((3, 4)), boxes=BOXES, weights=(1, 1, 1, 2))
    assert seen == [(False, (1, 1, 1, 1)), (False, (1, 1, 1, 2))]


def test_the_function_may_leave_out_trailing_defaults_but_nothing_else():
    with rcnn.replace("decode", lambda deltas, boxes: np.zeros_like(deltas)):
        assert not boxes.decode(np.zeros((3, 4)), BOXES).any()
        with pytest.raises(
            TypeError, match=r"your decode must take the arguments \(deltas, boxes, weights\), but it takes \(deltas"
        ):
            boxes.decode(np.zeros((3, 4)), BOXES, (1, 1, 1, 2))
    with rcnn.replace("iou", lambda boxes1: boxes1), pytest.raises(TypeError, match=r"arguments \(boxes1, boxes2\)"):
        boxes.iou(BOXES, BOXES)


def test_a_sample_of_the_wrong_kind_and_an_unsorted_nms_are_refused():
    labels = np.array([1, 0, -1])
    with (
        rcnn.replace("sample", lambda *given: ([1], [])),
        pytest.raises(ValueError, match="index 1, which is not allowed"),
    ):
        matching.sample(labels, 2, 0.5, np.random.default_rng(0))
    with rcnn.replace("nms", lambda *given: [0, 1]), pytest.raises(ValueError, match="in descending order of score"):
        nms.nms(BOXES, SCORES, 0.5)


def test_measures_always_use_the_librarys_own_functions():
    detections = [{"boxes": BOXES, "scores": SCORES, "labels": [1, 1, 1]}]
    targets = [{"boxes": BOXES, "labels": [1, 1, 1]}]
    with rcnn.replace("iou", lambda boxes1, boxes2: np.zeros((len(boxes1), len(boxes2)))):
        assert rcnn.evaluate.evaluate_detections(detections, targets, 2).mean_ap == 1


def test_an_error_in_the_function_names_its_source():
    def broken(boxes1, boxes2):
        return boxes1[99]

    with rcnn.replace("iou", broken), pytest.raises(IndexError) as caught:
        boxes.iou(BOXES, BOXES)
    assert caught.value.__notes__ == ["This was raised by the function that replaces iou."]
    assert boxes.iou(BOXES, BOXES).shape == (3, 3)


@pytest.mark.parametrize(
    ("name", "function", "error", "message"),
    [
        ("IoU", boxes.iou, ValueError, "name must be one of anchor_generator, area, batched_nms, .*, got 'IoU'"),
        ("iou", 3, TypeError, "function must be callable, got int"),
    ],
)
def test_replace_rejects_invalid_arguments(name, function, error, message):
    with pytest.raises(error, match=message), rcnn.replace(name, function):
        pass


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("match", lambda: matching.match([0.5], 0.7, 0.3), "iou must have shape"),
        ("roi_align", lambda: roi.roi_align([1.0], BOXES, [0, 0, 0], (2, 2)), "features must have four axes"),
        ("roi_align", lambda: roi.roi_align(np.zeros((1, 1, 4, 4)), BOXES, [0, 0, 0], 5), "output_size must be"),
        ("sample", lambda: matching.sample("x", 5, 0.5, None), "labels must contain integers"),
        ("iou", lambda: boxes.iou(5, BOXES), "boxes1 must have shape"),
    ],
)
def test_invalid_arguments_are_reported_as_without_a_replacement(name, call, message):
    with rcnn.replace(name, lambda *args: np.zeros(1)), pytest.raises((TypeError, ValueError), match=message):
        call()
