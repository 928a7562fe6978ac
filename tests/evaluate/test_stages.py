"""Recall by stage, for a detector with known boxes and for a real detector."""

from types import SimpleNamespace

import numpy as np
import pytest

import rcnn
from rcnn import data
from rcnn.evaluate import StageRecall, join_stages, predictions, recall_by_stage, trace_dataset

STAGES = ("anchors", "best 1 proposals", "best 2 proposals", "detections", "of the right class")
ANCHORS, BEST, _, _, NAMED = range(5)


class Images:
    """Two images of different sizes; the second has a difficult object and a crowd."""

    classes = ("background", "cat", "dog")
    images = ((8, 16), (20, 10))  # height, width
    targets = (
        {"boxes": np.array([[0, 0, 4, 4], [8, 0, 16, 8]], np.float32), "labels": np.array([1, 2])},
        {
            "boxes": np.array([[0, 0, 10, 10], [0, 0, 5, 20], [0, 0, 10, 20]], np.float32),
            "labels": np.array([1, 1, 2]),
            "difficult": np.array([False, True, False]),
            "crowd": np.array([False, False, True]),
            "areas": np.array([81.0, 9.0, 9.0]),
        },
    )

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return np.full((*self.images[i], 3), i, np.uint8), self.targets[i]


class Detector:
    """Fixed boxes for the two images. In the batch, the first image is twice as large, the second twice as wide."""

    image_sizes = ((16, 32), (20, 20))
    anchors = ([[0, 0, 8, 8]], [[0, 0, 20, 10], [16, 0, 32, 12]])  # two levels, for all images; 3/4 of the dog
    proposals = ([[16, 0, 32, 16], [0, 0, 8, 8]], [[0, 0, 20, 6]])  # in pixels of the batch
    outputs = (
        {"boxes": [[0, 0, 4, 4], [8, 0, 16, 8]], "scores": [0.9, 0.8], "labels": [1, 1]},
        {"boxes": [], "scores": [], "labels": []},
    )  # in the pixels of each image

    def trace(self, images):
        indices = [int(image[0, 0, 0]) for image in images]
        return SimpleNamespace(
            anchors=[np.array(level, np.float32) for level in self.anchors],
            image_sizes=[self.image_sizes[i] for i in indices],
            proposals=[np.array(self.proposals[i], np.float32) for i in indices],
            outputs=[{name: np.array(values) for name, values in self.outputs[i].items()} for i in indices],
        )


@pytest.fixture(params=[1, 2])
def result(request):
    return recall_by_stage(Detector(), Images(), ks=(1, 2), batch_size=request.param, progress=False)


def test_best_iou_of_every_stage_by_hand(result):
    assert result.stages == STAGES
    assert result.best_iou == pytest.approx(
        np.array(
            [
                [1, 0, 1, 1, 1],  # the first cat: an anchor fits, and the second proposal
                [3 / 4, 1, 1, 1, 0],  # the dog is found, and labelled as a cat
                [1, 3 / 5, 3 / 5, 0, 0],  # the second cat: one proposal, no detection
            ]
        )
    )
    assert result.labels.tolist() == [1, 2, 1]
    assert result.sides == pytest.approx([4, 8, 9])  # the last from the area in the target
    assert result.most_proposals == 2


def test_counts_and_shares(result):
    assert result.reached().tolist() == [3, 2, 3, 2, 1]
    assert result.recall() == pytest.approx([1, 2 / 3, 1, 2 / 3, 1 / 3])
    assert result.reached(0.75).tolist() == [3, 1, 2, 2, 1]  # an IoU equal to the threshold counts
    assert result.reached(0.76).tolist() == [2, 1, 2, 2, 1]
    assert result.reached(of=result.labels == 1).tolist() == [2, 1, 2, 1, 1]
    # Of the thresholds 0.5, 0.55, ..., 0.95 the dog's anchor (3/4) reaches six, the second cat's proposal (3/5) three.
    assert result.average_recall()[[ANCHORS, BEST]] == pytest.approx([(10 + 6 + 10) / 30, (0 + 10 + 3) / 30])


def test_the_averaged_thresholds_end_at_0_95():
    found = StageRecall(("detections",), np.array([[0.92], [0.96], [0.49]]), np.ones(3, int), np.ones(3), 1)
    assert found.average_recall() == pytest.approx([(9 + 10 + 0) / 30])


def test_another_threshold():
    result = recall_by_stage(Detector(), Images(), ks=(1,), iou_threshold=0.75, progress=False)
    assert result.reached().tolist() == [3, 1, 2, 1]
    assert "IoU 0.75" in str(result)


def test_sizes_are_thirds(result):
    groups = result.by_size()
    assert {name: group.tolist() for name, group in groups.items()} == {
        "small": [True, False, False],
        "medium": [False, True, False],
        "large": [False, False, True],
    }
    assert result.recall(of=groups["medium"])[NAMED] == 0
    same = StageRecall(STAGES, np.ones((2, 5)), np.ones(2, int), np.full(2, 7.0), 3)
    assert [group.sum() for group in same.by_size().values()] == [0, 0, 2]
    assert np.isnan(same.recall(of=same.by_size()["small"])).all()


def test_text_has_a_line_for_each_stage(result):
    lines = str(result).splitlines()
    assert lines[1].startswith("anchors") and lines[1].split()[1:4] == ["3", "1.000", "1.000"]
    assert lines[5].startswith("of the right class") and lines[5].split()[4:6] == ["1", "0.333"]
    assert "3 objects" in lines[6] and "more than 2 proposals" in lines[6]


def test_the_detectors_labels_are_mapped():
    swapped = recall_by_stage(Detector(), Images(), ks=(1,), progress=False, labels=np.array([0, 2, 1]))
    assert swapped.best_iou[:, -1].tolist() == [0, 1, 0]
    unknown = recall_by_stage(Detector(), Images(), ks=(1,), progress=False, labels=np.array([0, 0, 2]))
    assert unknown.best_iou[:, -2:].tolist() == [[1, 0], [1, 0], [0, 0]]  # the stage of detections ignores labels


def test_no_objects():
    class Empty(Images):
        def __len__(self):
            return 0

    result = recall_by_stage(Detector(), Empty(), progress=False)
    assert result.best_iou.shape == (0, 6) and result.most_proposals == 0
    with np.errstate(all="raise"):
        assert np.isnan(result.recall()).all() and result.reached().tolist() == [0] * 6
        assert "0 objects" in str(result)


@pytest.mark.parametrize("ks", [(), (0, 10), (10, 10), (100, 10)])
def test_errors_of_numbers_of_proposals(ks):
    with pytest.raises(ValueError, match="^ks must "):
        recall_by_stage(Detector(), Images(), ks=ks)


def test_errors_of_targets():
    class Wrong(Images):
        targets = (Images.targets[0], {"boxes": np.array([[0, 0, 4, 4]]), "labels": np.array([3])})

    with pytest.raises(ValueError, match=r"target of dataset\[1\]\['labels'\]\[0\] must be in .*, got 3"):
        recall_by_stage(Detector(), Wrong(), batch_size=1, progress=False)


def test_a_real_detector_in_one_pass():
    model, pages = rcnn.load_digits(), data.Digits(4, split="val")
    result, detections, targets = trace_dataset(model, pages, ks=(5, 1000), progress=False)
    expected, expected_targets = predictions(model, pages, progress=False)
    for ours, theirs in zip(detections + targets, expected + expected_targets, strict=True):
        assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert result.most_proposals <= model.config.rpn_post_nms_top_n_test
    _, few, many, found, named = result.best_iou.T
    assert (few <= many).all() and (named <= found).all() and (few < many).any()
    assert result.recall(0.5)[-1] > 0.9


def test_parts_of_a_data_set_are_joined():
    model, pages = rcnn.load_digits(), data.Digits(5, split="val")
    whole = recall_by_stage(model, pages, ks=(5,), batch_size=1, progress=False)

    class Part:
        classes = pages.classes

        def __init__(self, *indices):
            self.indices = indices

        def __len__(self):
            return len(self.indices)

        def __getitem__(self, index):
            return pages[self.indices[index]]

    parts = [recall_by_stage(model, Part(*part), (5,), batch_size=1, progress=False) for part in ((0, 1, 2), (3, 4))]
    joined = join_stages(parts)
    for name in ("best_iou", "labels", "sides"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert str(joined) == str(whole) and joined.most_proposals == whole.most_proposals
    with pytest.raises(ValueError, match="at least one result, got none"):
        join_stages([])
    other = recall_by_stage(model, Part(0), (6,), batch_size=1, progress=False)
    with pytest.raises(ValueError, match=r"same stages and threshold, got .*best 6 .* in parts\[1\]"):
        join_stages([whole, other])
