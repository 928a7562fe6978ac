"""The trace: every field has the documented content and shape."""

import ast
import dataclasses
import inspect
import re

import numpy as np
import pytest

import rcnn
from rcnn import FasterRCNN, FasterRCNNConfig, Trace, boxes, nn, trace
from rcnn.fpn import BackboneWithFPN
from rcnn.nn import functional as F

FIELDS = [field.name for field in dataclasses.fields(Trace)]
WITH_TARGETS = ["gt_boxes", "gt_labels", "anchor_matches", "sampled_anchors", "sampled_rois", "sampled_labels"]


class Body(nn.Module):
    def __init__(self):
        self.first, self.second = nn.Conv2d(3, 6, 3, stride=4, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)

    def forward(self, x):
        fine = F.relu(self.first(x))
        return [fine, self.second(fine)]


@pytest.fixture(scope="module")
def model():
    rcnn.seed(0)
    config = FasterRCNNConfig(
        BackboneWithFPN(Body(), (6, 8), 5),
        5,
        4,
        True,
        (12, 24, 48),
        (0.5, 1.0),
        pool_size=(3, 2),
        hidden_dim=16,
        min_size=40,
        max_size=64,
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=20,
        rpn_nms_thresh=0.6,
        rpn_score_thresh=0.45,
        box_score_thresh=0.2,
        box_batch_size_per_image=16,
        canonical_size=32,
        canonical_level=3,
        sampling_ratio=0,
        aligned=True,
    )
    return FasterRCNN(config)


IMAGES = [
    np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8)
    for i, (h, w) in enumerate([(40, 60), (80, 96)])
]
TARGETS = [{"boxes": [[5, 5, 30, 30], [20, 10, 50, 35]], "labels": [1, 3]}, {"boxes": [], "labels": []}]


@pytest.fixture(scope="module")
def traced(model):
    return model.trace(IMAGES, TARGETS, np.random.default_rng(0))


def docstrings():
    """Return {field: the string below it}, read from the source."""
    body = next(node for node in ast.parse(inspect.getsource(trace)).body if getattr(node, "name", "") == "Trace").body
    return {
        field.target.id: below.value.value
        for field, below in zip(body, body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


def test_every_field_is_documented():
    assert list(docstrings()) == FIELDS


def test_shapes_are_as_documented(traced):
    """Each "(N, C, H_l, W_l)" in a docstring must match the array; a letter means the same number everywhere."""
    known = {"A": sum(len(level) for level in traced.anchors)}
    checked = set()
    for name, text in docstrings().items():
        documented = re.search(r"^(For each image,|For each image i,|For each level,)? ?\(([\w, ]+)\)", text)
        value = getattr(traced, name)
        if not documented or not isinstance(value if documented[1] is None else value[0], np.ndarray):
            continue
        for index, array in enumerate([value] if documented[1] is None else value):
            symbols = [symbol.strip() for symbol in documented[2].split(",") if symbol.strip()]
            assert array.ndim == len(symbols), name
            for symbol, side in zip(symbols, array.shape, strict=True):
                own = symbol in "hw" or symbol.endswith(("_l", "_i"))  # of this image or level alone
                key = (symbol, index) if own else symbol
                assert side == (int(symbol) if symbol.isdecimal() else known.setdefault(key, side)), (name, symbol)
        checked.add(name)
    assert checked == {
        "images",
        "batch",
        "features",
        "anchors",
        "objectness",
        "rpn_deltas",
        "candidates",
        "candidate_scores",
        "proposals",
        "proposal_scores",
        "rois",
        "roi_images",
        "roi_levels",
        "pooled",
        "class_logits",
        "box_deltas",
        "gt_boxes",
        "gt_labels",
        "anchor_matches",
        "sampled_rois",
        "sampled_labels",
    }
    assert (known["N"], known["C"], known["L"], known["ph"], known["pw"]) == (2, 5, 4, 3, 2)
    assert known["R"] == known["P_i", 0] + known["P_i", 1]


def test_sizes_and_settings(traced):
    assert traced.image_sizes == [(40, 60), (40, 48)]
    assert [p.shape[:2] for p in traced.images] == traced.image_sizes
    assert traced.batch.shape == (2, 3, 64, 64)
    assert [level.shape[2:] for level in traced.features] == [
        (16, 16),
        (8, 8),
        (4, 4),
    ]  # the last one is for the RPN only
    assert traced.roi_scales == [1 / 4, 1 / 8]
    assert set(traced.roi_levels.tolist()) <= {0, 1}
    assert (traced.output_size, traced.sampling_ratio, traced.aligned) == ((3, 2), 0, True)


def test_images_equal_the_input(traced):
    np.testing.assert_allclose(traced.images[0], IMAGES[0] / 255, atol=1e-6)


@pytest.mark.parametrize("image", [0, 1])
def test_counts_decrease_from_step_to_step(traced, image):
    counts = traced.counts(image)
    assert list(counts) == ["anchors", "candidates", "after NMS", "proposals", "RoIs", "detections"]
    assert counts["anchors"] == 2 * (16 * 16 + 8 * 8 + 4 * 4)
    assert counts["anchors"] > counts["candidates"] > counts["after NMS"] > counts["proposals"] > 0
    assert counts["proposals"] == counts["RoIs"] == 20
    assert counts["detections"] == len(traced.outputs[image]["scores"]) > 0


@pytest.mark.parametrize("image", [0, 1])
def test_each_stage_follows_from_the_previous_stage(traced, image):
    height, width = traced.image_sizes[image]
    candidates, scores = traced.candidates[image], traced.candidate_scores[image]
    assert (scores >= 0.45).all()
    assert (candidates >= 0).all()
    assert (candidates <= [width, height, width, height]).all()
    probabilities = F.sigmoid_of(np.concatenate([level[image] for level in traced.objectness]))
    assert set(scores.tolist()) <= set(probabilities.tolist())
    chosen = {(*box, score) for box, score in zip(candidates.tolist(), scores.tolist(), strict=True)}
    proposals = zip(traced.proposals[image].tolist(), traced.proposal_scores[image].tolist(), strict=True)
    assert {(*box, score) for box, score in proposals} <= chosen
    assert (np.diff(traced.proposal_scores[image]) <= 0).all()
    own = traced.roi_images == image
    np.testing.assert_array_equal(traced.rois[own], traced.proposals[image])
    found = traced.detections[image]
    assert set(found["scores"].tolist()) <= set(F.softmax_of(traced.class_logits[own])[:, 1:].ravel().tolist())
    assert (np.diff(found["scores"]) <= 0).all()
    assert (found["scores"] > 0.2).all()
    scale = np.array(IMAGES[image].shape[:2])[[1, 0, 1, 0]] / np.array(traced.image_sizes[image])[[1, 0, 1, 0]]
    np.testing.assert_allclose(traced.outputs[image]["boxes"], found["boxes"] * scale, rtol=1e-6)


def test_targets_are_matched_and_sampled(traced):
    np.testing.assert_array_equal(traced.gt_boxes[0], TARGETS[0]["boxes"])
    assert [labels.tolist() for labels in traced.gt_labels] == [[1, 3], []]
    for image, ((positive, negative), matches) in enumerate(
        zip(traced.sampled_anchors, traced.anchor_matches, strict=True)
    ):
        assert (matches[positive] >= 0).all()
        assert (matches[negative] == -1).all()
        assert len(positive) + len(negative) == 256
        assert (len(positive) > 0) == (len(traced.gt_boxes[image]) > 0)
    overlap = boxes.iou(traced.sampled_rois[0], traced.gt_boxes[0])
    expected = np.where(overlap.max(axis=1) >= 0.5, traced.gt_labels[0][overlap.argmax(axis=1)], 0)
    np.testing.assert_array_equal(traced.sampled_labels[0], expected)
    assert {1, 3} <= set(expected.tolist())  # the ground truth is among them
    assert not traced.sampled_labels[1].any()


def test_without_targets_the_other_fields_are_the_same(model, traced):
    plain = model.trace(IMAGES)
    assert FIELDS[-6:] == WITH_TARGETS
    assert all(getattr(plain, name) is None for name in WITH_TARGETS)
    np.testing.assert_array_equal(plain.class_logits, traced.class_logits)
    assert plain.counts() == traced.counts(0)


def test_samples_follow_the_generator(model, traced):
    again, other = (model.trace(IMAGES, TARGETS, np.random.default_rng(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(again.sampled_anchors[0][1], traced.sampled_anchors[0][1])
    assert (other.sampled_anchors[0][1] != traced.sampled_anchors[0][1]).any()


def test_every_stage_is_timed(traced):
    assert list(traced.times) == ["backbone", "anchors", "RPN head", "proposals", "RoIAlign", "head", "detections"]
    assert all(seconds >= 0 for seconds in traced.times.values())
