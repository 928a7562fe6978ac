"""The digit detector with a learner's function in place of a stage, beside the unchanged detector."""

import re

import numpy as np
import pytest

import rcnn
from rcnn import anchors, boxes, course, data, matching, nms, roi
from rcnn.course import _mistakes, replacement

PAGES = 3  # with 13 digits


def by_loops(box_array, scores, iou_threshold):
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if all(boxes.iou(box_array[[index]], box_array[[other]])[0, 0] <= iou_threshold for other in kept):
            kept.append(index)
    return kept


def nothing_kept(box_array, scores, iou_threshold):
    """Keep no box.

    A second paragraph.
    """
    return []


@pytest.fixture(scope="module")
def compared():
    return course.with_and_without("nms", by_loops, nothing_kept, pages=PAGES)


def test_right_function_reaches_the_same_precision(impl, compared):
    assert compared.ap == {"library": 1, "yours": 1, "mistake": 0}
    library, yours, mistake = (outcome.detections for outcome in compared.outcomes.values())
    for one, other in zip(library, yours, strict=True):
        np.testing.assert_allclose(one["boxes"], other["boxes"], rtol=1e-4)
    assert [len(found["boxes"]) for found in mistake] == [0, 0, 0]


def test_text_names_pages_versions_and_the_mistake(compared):
    assert repr(compared) == (
        "Average precision (AP) on 3 validation pages with 13 digits, with\n"
        "  the library's nms: 1.000\n"
        "  your nms: 1.000\n"
        "  a typical mistake (keep no box): 0.000"
    )


def test_page_shows_one_described_image_for_each_version(compared):
    page = compared._repr_html_()
    assert re.findall('alt="([^"]+)"', page) == [
        "The library&#x27;s nms yields 7 detections on a page with 7 digits.",
        "Your nms yields 7 detections on a page with 7 digits.",
        "A typical mistake yields 0 detections on a page with 7 digits.",
    ]
    assert "<li>a typical mistake (keep no box): 0.000</li>" in page


def test_page_on_which_the_versions_differ_is_drawn():
    items = [(None, {"boxes": boxes_, "labels": np.ones(1, int)}) for boxes_ in np.array([[[0, 0, 9, 9]]] * 3)]
    good = {"boxes": items[0][1]["boxes"], "scores": np.ones(1), "labels": np.ones(1, int)}
    bad = {**good, "boxes": good["boxes"] + 20}
    outcomes = {
        "library": replacement.Outcome("a", 1.0, [good, good, good]),
        "yours": replacement.Outcome("b", float("nan"), [], "is not written yet"),
        "mistake": replacement.Outcome("c", 0.7, [good, bad, good]),
    }
    assert replacement.WithAndWithout("nms", outcomes, items, ()).page == 1
    without = {"yours": outcomes["yours"]}
    assert replacement.WithAndWithout("nms", without, items, ()).page == 0


def test_page_with_few_objects_or_very_many_differences_is_not_drawn():
    def found(count):  # boxes that do not overlap
        corners = 10.0 * np.arange(count)[:, None] * np.ones(2)
        row = np.concatenate([corners, corners + 5], axis=1)  # (count, 4)
        return {"boxes": row, "scores": np.ones(count), "labels": np.ones(count, int)}

    counts = {"objects": (4, 4, 1, 4), "library": (4, 4, 1, 4), "mistake": (90, 24, 19, 5)}
    items = [(None, {"boxes": found(count)["boxes"]}) for count in counts["objects"]]
    outcomes = {
        key: replacement.Outcome(key, ap, [found(count) for count in counts[key]])
        for key, ap in (("library", 1.0), ("mistake", 0.5))
    }
    assert replacement.WithAndWithout("nms", outcomes, items, ()).page == 1


def test_differences_are_detections_without_an_equal():
    corners = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], float)

    def of(rows, labels, scores):
        return {"boxes": corners[rows], "labels": np.array(labels), "scores": np.array(scores)}

    one = of([0, 1, 2], [1, 1, 1], [0.9, 0.8, 0.1])  # the last score is not clear
    assert replacement._differences(one, one) == 0
    assert replacement._differences(one, of([0, 1], [1, 2], [0.9, 0.8])) == 2  # another class
    assert replacement._differences(one, of([0, 0, 0, 1], [1, 1, 1, 1], [0.9, 0.8, 0.7, 0.6])) == 2  # duplicates
    assert replacement._differences(one, of([], [], [])) == 2


def test_versions_are_equal_columns_that_stack_on_a_narrow_page(compared):
    page = compared._repr_html_()
    assert page.startswith('<div class="rcnn-versions"><style>') and page.count("<img") == 3
    assert "grid-auto-columns: minmax(0, 1fr)" in page and "@media (max-width: 600px)" in page
    assert len({re.search(r'width="(\d+)"', image)[1] for image in re.findall("<img[^>]*>", page)}) == 1


def test_only_the_best_detection_of_each_place_has_a_tag(compared):
    from rcnn.plot.tags import Tags

    page = compared.page
    box = compared.outcomes["library"].detections[page]["boxes"][:1]
    many = {"boxes": np.repeat(box, 50, axis=0), "scores": np.full(50, 0.9), "labels": np.ones(50, int)}
    outcome = replacement.Outcome("many", 0.1, [many] * PAGES)
    figure = replacement.WithAndWithout("nms", {"mistake": outcome}, compared._items, data.Digits.classes).figures()[0]
    (tags,) = [artist for artist in figure.axes[0].get_children() if isinstance(artist, Tags)]
    assert len(tags.texts) == 1 and "50 detections" in "".join(text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize(
    "error, message",
    [
        (NotImplementedError("Replace this line with your code."), "your nms: is not written yet"),
        (IndexError("index 9\nsecond line"), "your nms: failed with IndexError: index 9"),
        (AssertionError(), "your nms: failed with AssertionError"),
    ],
)
def test_function_that_fails_is_reported(error, message):
    def failing(box_array, scores, iou_threshold):
        raise error

    result = course.with_and_without("nms", failing, pages=1)
    assert repr(result).splitlines()[2].strip() == message
    assert np.isnan(result.ap["yours"]) and result.ap["library"] == 1
    assert "Your nms failed on a page with 5 digits, so no detections are drawn." in result._repr_html_()


def test_result_of_a_wrong_kind_is_reported():
    result = course.with_and_without("nms", lambda *given: [0.5], pages=1)
    assert "your nms: failed with TypeError: your nms must return integers of shape (any,), got list" in repr(result)


def test_stage_of_the_training_is_learned_before_the_evaluation():
    calls = []

    def encode(gt_boxes, box_array, weights=(1, 1, 1, 1)):
        calls.append(len(gt_boxes))
        return boxes.encode(gt_boxes, box_array, weights)

    result = course.with_and_without("encode", encode, pages=1, steps=2)
    assert len(calls) == 8  # two stages, two pages and two steps
    assert "after 2 more training steps each, with" in repr(result)
    np.testing.assert_array_equal(
        result.outcomes["library"].detections[0]["boxes"], result.outcomes["yours"].detections[0]["boxes"]
    )
    assert (
        result.outcomes["mistake"].detections[0]["scores"].tolist()
        != result.outcomes["yours"].detections[0]["scores"].tolist()
    )


def test_untouched_weights_are_used_afterwards():
    before = rcnn.load_digits().state_dict()
    course.with_and_without("match", matching.match, pages=1, steps=1)
    after = rcnn.load_digits().state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


COSTS = (
    "anchor_generator",
    "decode",
    "grid_anchors",
    "iou",
    "nms",
    "roi_align",
)  # the others cost little or need training


@pytest.mark.parametrize("stage", COSTS)
def test_typical_mistakes_lower_the_precision(stage):
    right = {"anchor_generator": anchors.all_anchors, "nms": nms.nms, "roi_align": roi.roi_align} | {
        "grid_anchors": anchors.grid_anchors,
        "decode": boxes.decode,
        "iou": boxes.iou,
    }
    result = course.with_and_without(stage, right[stage])
    assert result.ap["library"] == result.ap["yours"] == 1
    assert result.ap["mistake"] < 0.95


def test_every_mistake_belongs_to_a_stage_and_is_described():
    assert set(_mistakes.TYPICAL) <= set(rcnn._ext.dispatch.REPLACEABLE) - set(replacement.NOT_CALLED)
    assert all(function.__doc__ and len(function.__doc__) < 90 for function in _mistakes.TYPICAL.values())


def test_stage_without_a_known_mistake_has_two_versions():
    result = course.with_and_without("clip", boxes.clip, pages=1)
    assert list(result.outcomes) == ["library", "yours"] and len(result.figures()) == 2
    assert repr(result).startswith("Average precision (AP) on 1 validation page with 5 digits, with\n")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (("NMS", by_loops), ValueError, "stage must be one of anchor_generator, .*, got 'NMS'"),
        ((3, by_loops), TypeError, "stage must be"),
        (("roi_pool", roi.roi_pool), ValueError, 'does not call roi_pool: .* pass "roi_align" with your roi_pool'),
        (("top_down", by_loops), ValueError, "does not call top_down: the digit detector has no feature pyramid"),
        (("nms", 3), TypeError, "function must be callable, got int"),
        (("nms", by_loops, 3), TypeError, "wrong must be callable, got int"),
    ],
)
def test_invalid_arguments_are_reported(arguments, error, message):
    with pytest.raises(error, match=message):
        course.with_and_without(*arguments)


def test_numbers_out_of_range_are_reported():
    with pytest.raises(ValueError, match="pages"):
        course.with_and_without("nms", by_loops, pages=0)
    with pytest.raises(ValueError, match="steps"):
        course.with_and_without("encode", boxes.encode, steps=0)
