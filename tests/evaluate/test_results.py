"""COCO result files: their content, and the numbers that pycocotools computes from them."""

import contextlib
import io
import json

import numpy as np
import pytest
from coco_measure import annotations, difference, draw, peer
from hypothesis import given
from hypothesis import strategies as st

from rcnn.evaluate import evaluate_coco, read_results, results_json

CATEGORY_IDS = (0, 7, 90)
PAGE = {"boxes": [[1.5, 2, 11.5, 22], [0, 0, 4, 4]], "scores": [0.25, 0.5], "labels": [2, 1]}
EMPTY = {"boxes": [], "scores": [], "labels": []}
ENTRIES = [
    {"image_id": "b.png", "category_id": 90, "bbox": [1.5, 2.0, 10.0, 20.0], "score": 0.25},
    {"image_id": "b.png", "category_id": 7, "bbox": [0.0, 0.0, 4.0, 4.0], "score": 0.5},
]


def written(path, entries):
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries), encoding="utf-8")
    return path


def same(page, other):
    return all(np.array_equal(page[key], other[key]) for key in ("boxes", "scores", "labels"))


def test_entries_have_the_ids_of_the_annotations():
    assert json.loads(results_json([EMPTY, PAGE], [np.int64(3), "b.png"], CATEGORY_IDS)) == ENTRIES
    assert json.loads(results_json([EMPTY], [3], CATEGORY_IDS)) == []


def test_reading_sorts_the_entries_by_image(tmp_path):
    other = {"image_id": 3, "category_id": 7, "bbox": [1, 1, 2, 2], "score": 1, "segmentation": []}
    path = written(tmp_path / "results.json", [ENTRIES[0], other, ENTRIES[1]])
    first, second, third = read_results(path, [3, "b.png", 4], CATEGORY_IDS)
    assert same(first, {"boxes": [[1, 1, 3, 3]], "scores": [1], "labels": [1]})
    assert same(second, PAGE)
    assert third["boxes"].shape == (0, 4) and third["scores"].shape == third["labels"].shape == (0,)
    assert second["labels"].dtype == third["labels"].dtype == np.int64


@given(
    st.lists(
        st.lists(
            st.tuples(*[st.floats(0, 1000, width=32)] * 4, st.floats(0, 1, width=32), st.integers(1, 2)), max_size=4
        ),
        max_size=4,
    )
)
def test_a_written_file_is_read_back_bit_for_bit(tmp_path_factory, pages):
    # Sides of float32 boxes are exact in float64 unless a corner is tiny, which the rounding to 1/16 pixel excludes.
    detections = []
    for rows in pages:
        table = np.array(rows, np.float32).reshape(-1, 6)
        detections.append(
            {"boxes": np.round(table[:, :4] * 16) / 16, "scores": table[:, 4], "labels": table[:, 5].astype(np.int64)}
        )
    path = written(
        tmp_path_factory.mktemp("results") / "results.json", results_json(detections, range(len(pages)), CATEGORY_IDS)
    )
    again = read_results(path, range(len(pages)), CATEGORY_IDS)
    assert len(again) == len(detections) and all(same(*pair) for pair in zip(again, detections, strict=True))


def test_pycocotools_computes_the_same_numbers_from_the_file(tmp_path):
    detections, targets = draw(20, 30, 4, np.random.default_rng(0))
    truth = annotations(targets, 5)
    path = written(tmp_path / "results.json", results_json(detections, range(1, 21), range(5)))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = peer(truth, truth.loadRes(str(path)))
    assert difference(evaluate_coco(detections, targets, 5), theirs) < 1e-9
    assert difference(evaluate_coco(read_results(path, range(1, 21), range(5)), targets, 5), theirs) < 1e-9


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([PAGE], [1, 2], CATEGORY_IDS), "same length, got 1 and 2"),
        (([PAGE, EMPTY], [1, 1], CATEGORY_IDS), "image_ids must be unique, but 1 occurs more than once"),
        (([PAGE], [1], (0, 7, 7)), "category_ids.* must be unique, but 7 occurs more than once"),
        (([PAGE], [1], (0, 7)), r"detections\[0\]\['labels'\]\[0\] must be in 1 \.\. 1 \(0 is the background\), got 2"),
        (
            ([PAGE | {"scores": [0.5, np.inf]}], [4], CATEGORY_IDS),
            "image 4: the score of detection 1 must be finite, got inf",
        ),
    ],
)
def test_errors_of_writing(arguments, message):
    with pytest.raises(ValueError, match=message):
        results_json(*arguments)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[{", r"results.json is not JSON"),
        ("[" * 100_000, "results.json is not JSON"),
        ({"annotations": []}, "results.json must contain a list of detections, got dict"),
        ([ENTRIES[0], 7], "results.json, entry 1: 'image_id' is missing from 7"),
        ([ENTRIES[0] | {"image_id": 5}], "entry 0: image_id must be one of the ids in the annotations, got 5"),
        ([ENTRIES[0] | {"image_id": ["b.png"]}], "entry 0: image_id must be one of the ids in the annotations"),
        (
            [ENTRIES[0] | {"category_id": 0}],
            "entry 0: category_id must be one of the ids in the annotations, got 0",
        ),  # the background has no id
        ([ENTRIES[0] | {"bbox": [1, 2, 3]}], r"entry 0: bbox must be 4 finite numbers, got \[1, 2, 3\]"),
        ([ENTRIES[0] | {"bbox": [1, 2, 3, "4"]}], "entry 0: bbox must be 4 finite numbers"),
        ([ENTRIES[0] | {"bbox": 1}], "entry 0: bbox must be 4 finite numbers, got 1"),
        ([ENTRIES[0] | {"bbox": [1, 2, 3, 10**400]}], "entry 0: bbox must be 4 finite numbers"),
        ([ENTRIES[0] | {"score": float("nan")}], "entry 0: score must be 1 finite number, got nan"),
        ([ENTRIES[0] | {"score": None}], "entry 0: score must be 1 finite number, got None"),
        ([{key: ENTRIES[0][key] for key in ("image_id", "category_id", "bbox")}], "entry 0: 'score' is missing from"),
    ],
)
def test_errors_of_reading(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_results(written(tmp_path / "results.json", content), ["b.png"], CATEGORY_IDS)


def test_bytes_that_are_not_text_are_an_error(tmp_path):
    (tmp_path / "results.json").write_bytes(b"\xff\xfe[]")
    with pytest.raises(ValueError, match="results.json is not JSON"):
        read_results(tmp_path / "results.json", [1], CATEGORY_IDS)
    with pytest.raises(OSError, match="missing.json"):
        read_results(tmp_path / "missing.json", [1], CATEGORY_IDS)
