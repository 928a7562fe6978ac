"""The explorers of the book compute the same numbers as rcnn. They run in Node, which comes with npm."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rcnn import anchors, boxes, evaluate, nms, roi

pytestmark = pytest.mark.slow

WEB = Path(__file__).parents[2] / "web"
CASES = 300
RUN = """
import { readFileSync } from "node:fs";
import * as geometry from "./geometry.mjs";
const calls = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(calls.map(([name, ...values]) => geometry[name](...values))));
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Return a function that runs a list of calls [name, argument, ...] and returns their results."""
    folder = tmp_path_factory.mktemp("explorers")
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=WEB, check=True)
    out = f"--outfile={folder / 'geometry.mjs'}"
    subprocess.run(
        ["npx", "esbuild", "src/geometry.ts", "--format=esm", "--log-level=warning", out], cwd=WEB, check=True
    )
    (folder / "run.mjs").write_text(RUN)

    def run(calls):
        text = json.dumps(calls)
        done = subprocess.run(["node", folder / "run.mjs"], input=text, text=True, capture_output=True, check=True)
        return json.loads(done.stdout)

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def drawn_boxes(rng, count, most=100.0):
    """Return boxes (count, 4), some with whole coordinates, so that ties and touching boxes occur."""
    corners = rng.uniform(0, most, (count, 2))
    found = np.concatenate([corners, corners + rng.uniform(0, most / 2, (count, 2))], axis=1)
    return np.where(rng.random((count, 1)) < 0.5, np.round(found), found)


def test_types_are_right(node):
    subprocess.run(["npm", "run", "--silent", "check"], cwd=WEB, check=True)


def test_iou(node, rng):
    pairs = drawn_boxes(rng, 2 * CASES, 30.0).reshape(CASES, 2, 4)
    found = node([["iou", *pair] for pair in pairs.tolist()])
    expected = [boxes.iou(one[None], other[None])[0, 0] for one, other in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
    assert 0 < np.count_nonzero(found) < CASES
    assert node([["iou", [1, 1, 1, 1], [1, 1, 1, 1]]]) == [0]


def test_suppression(node, rng):
    calls, expected = [], []
    for _ in range(CASES):
        found, scores = drawn_boxes(rng, 12, 40.0), np.round(rng.random(12), 1)
        threshold = float(np.round(rng.random(), 1))
        order = np.argsort(-scores, kind="stable")
        calls += [["descending", scores.tolist()], ["suppress", found[order].tolist(), threshold]]
        expected += [order.tolist(), [int(np.flatnonzero(order == i)[0]) for i in nms.nms(found, scores, threshold)]]
    assert node(calls) == expected


def test_states_of_a_suppression(node):
    ranked = [[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [31, 0, 41, 10], [60, 0, 70, 10]]
    assert node([["states", ranked, 0.5, steps] for steps in (0, 1, 2, 9)]) == [
        ["waiting"] * 5,
        ["kept now", "removed now", "waiting", "waiting", "waiting"],
        ["kept before", "removed before", "kept now", "removed now", "waiting"],
        ["kept before", "removed before", "kept before", "removed before", "kept now"],
    ]


def test_anchors(node, rng):
    calls, expected = [], []
    for _ in range(60):
        sizes, ratios = rng.uniform(6, 60, 3), rng.uniform(0.5, 2, 2)
        stride, (target,) = int(rng.choice([4, 8, 16])), drawn_boxes(rng, 1)
        cell = anchors.cell_anchors(sizes, ratios)
        grid = anchors.grid_anchors(cell, (-(-128 // stride), -(-100 // stride)), (stride, stride))
        calls += [
            ["cellAnchors", sizes.tolist(), ratios.tolist()],
            ["bestAnchor", target.tolist(), cell.tolist(), [128, 100], stride],
        ]
        overlaps = boxes.iou(grid, target[None])[:, 0]
        expected += [cell, (grid[overlaps.argmax()], overlaps.max())]
    found = node(calls)
    for cell, wanted in zip(found[::2], expected[::2], strict=True):
        assert cell == wanted.tolist()
    for best, (box, overlap) in zip(found[1::2], expected[1::2], strict=True):
        np.testing.assert_allclose(best["iou"], overlap, rtol=1e-12)
        assert overlap == 0 or best["box"] == box.tolist()


def test_pooling(node, rng):
    calls, expected = [], []
    for _ in range(CASES):
        feature_map = rng.random((7, 8))
        corners = rng.uniform(-1, 6, 2)
        box = np.concatenate([corners, corners + rng.uniform(0, 5, 2)])
        if rng.random() < 0.5:
            box = np.round(2 * box) / 2  # halves, which are rounded away from zero
        bins, samples, aligned = int(rng.integers(1, 4)), int(rng.choice([1, 2, 4])), bool(rng.random() < 0.5)
        maps, rois, image = feature_map[None, None], box[None], np.zeros(1, int)
        calls += [
            ["roiPool", feature_map.tolist(), box.tolist(), bins],
            ["roiAlign", feature_map.tolist(), box.tolist(), bins, samples, aligned],
        ]
        expected += [
            roi.roi_pool(maps, rois, image, (bins, bins))[0, 0],
            roi.roi_align(maps, rois, image, (bins, bins), 1.0, samples, aligned)[0, 0],
        ]
    for found, wanted in zip(node(calls), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_precision_and_recall(node, rng):
    lists = [(rng.random(rng.integers(1, 30)) < 0.6).tolist() for _ in range(CASES)]
    found = node([["precisionRecall", correct, 30] for correct in lists])
    for points, correct in zip(found, lists, strict=True):
        precision, recall = evaluate.precision_recall(np.array(correct), 30)
        np.testing.assert_allclose([point["precision"] for point in points], precision, rtol=1e-14)
        np.testing.assert_allclose([point["recall"] for point in points], recall, rtol=1e-14)
