"""Tests of the doctor's measurements and rules. Trained faults are in test_doctor_faults."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import rcnn
from rcnn import data, doctor
from rcnn.cli.doctor import pretrained
from rcnn.data.report import WHOLE, Example, Problem
from rcnn.doctor import evidence as measured
from rcnn.doctor.evidence import Evidence, Moments, Objects, gather, spread, usable
from rcnn.doctor.rules import judge
from rcnn.train.plan import Plan
from rcnn.zoo.detectors import faster_rcnn_small

PAGES = data.Shapes(8, seed=3)


def objects(
    n: int = 100,
    anchors: float = 0.6,
    proposals: float = 0.8,
    detections: float = 0.9,
    predicted: Sequence[int] | None = None,
    positive: int = 8,
) -> Objects:
    labels = np.arange(n) % 3 + 1
    return Objects(
        labels,
        np.full(n, anchors),
        np.full(n, proposals),
        np.full(n, detections),
        labels if predicted is None else np.asarray(predicted),
        np.tile([positive, 128 - positive], (20, 1)),
    )


HEALTHY = Evidence(
    problems=(),
    pixel_mean=np.zeros(3),
    pixel_std=np.ones(3),
    drift=0.1,
    train=objects(),
    val=objects(),
    losses=np.linspace(2, 0.4, 600),
    frozen=(),
    pretrained=(),
    parameters={"backbone.stem": 4, "rpn.head": 6, "roi_heads.box_head": 4},
    class_names=("background", "a", "b", "c"),
)


HALF_RIGHT = objects(predicted=np.where(np.arange(100) % 2, np.arange(100) % 3 + 1, 0))  # the others are missed
BARELY_FALLS = "the loss barely falls: the learning rate is too low or too high"


def troubles(**changes: object) -> list[str]:
    return [v.trouble for v in judge(dataclasses.replace(HEALTHY, **changes)) if v.trouble is not None]


def test_healthy_run_has_no_trouble() -> None:
    assert troubles() == []
    assert [v.stage for v in judge(HEALTHY)] == [
        "data",
        "normalisation",
        "normalisation",
        "anchors",
        "anchors",
        "learning",
        "learning",
        "proposals",
        "detections",
        "classes",
        "new images",
    ]


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"pixel_std": np.full(3, 0.004)}, "the pixels are not normalised"),
        ({"pixel_std": np.full(3, 60.0)}, "the pixels are not normalised"),
        ({"pixel_mean": np.array([0, 5.0, 0])}, "the pixels are not normalised"),
        ({"drift": 2.0, "train": HALF_RIGHT}, "the pixels are not normalised as in training"),
        ({"train": objects(anchors=0.4)}, "the anchors do not cover the objects"),  # though the RPN finds them
        ({"frozen": [f"roi_heads.box_head.{i}" for i in range(4)]}, "roi_heads.box_head cannot learn"),
        ({"frozen": [f"backbone.stem.{i}" for i in range(4)]}, "backbone.stem cannot learn"),
        ({"losses": np.linspace(2, 1.9, 600), "train": HALF_RIGHT}, BARELY_FALLS),
        (
            {"losses": np.r_[np.linspace(2, 1.2, 60), np.linspace(1.2, 1, 540)], "train": HALF_RIGHT},
            BARELY_FALLS,
        ),  # later
        (
            {"losses": np.concatenate([np.linspace(2, 0.4, 300), np.full(300, 1.0)])},
            "the loss rose again: the learning rate is too high",
        ),
        ({"losses": np.append(np.linspace(2, 0.4, 600), np.nan)}, "the loss is not finite"),
        ({"train": objects(proposals=0.4)}, "the RPN's recall is low"),
        ({"train": objects(detections=0.4)}, "the head loses objects"),
        (
            {"train": objects(predicted=[*np.arange(70) % 3 + 1, *np.ones(30, int)]), "val": None},
            "the head confuses classes",
        ),
        ({"train": objects(predicted=np.arange(100) % 3), "val": None}, "the labels are shifted by one"),
        ({"train": objects(predicted=np.arange(100) % 3 + 2), "val": None}, "the labels are shifted by one"),
        ({"val": objects(predicted=np.zeros(100, int))}, "the detector does not generalise to new images"),
    ],
)
def test_each_trouble_is_named(changes: dict[str, object], trouble: str) -> None:
    assert troubles(**changes) == [trouble]


@pytest.mark.parametrize(
    "changes",
    [
        {"frozen": ["roi_heads.box_head.0"]},  # one of four
        {"frozen": [f"backbone.stem.{i}" for i in range(4)], "pretrained": ["backbone"]},
        {"drift": 2.0},  # a good detector whose pretrained ResNet saw other images
        {"losses": np.linspace(0.5, 0.45, 600)},  # a good detector in late training
        {"losses": np.random.default_rng(20).lognormal(np.linspace(0.7, -0.7, 100), 0.5)},  # batches of one image
        {"pixel_std": np.array([0.5, 0, 0])},  # a red image
        {"train": objects(positive=1)},  # one small object per image, and the RPN finds it
        {"drift": None},
        {"val": None},
        {"losses": np.zeros(0)},
        {"losses": np.full(99, 2.0)},  # a pretrained detector that is good after a few steps
        {"train": objects(n=5, anchors=0.1, proposals=0.1, detections=0.1), "val": None},  # too few objects
        {"train": objects(predicted=[2, 2, 3] + (np.arange(3, 100) % 3 + 1).tolist())},  # one confused
    ],
)
def test_harmless_measurements_are_no_trouble(changes: dict[str, object]) -> None:
    assert troubles(**changes) == []


@pytest.mark.parametrize(
    ("problem", "number"),
    [
        (
            Problem("background-label", 1_200, (Example("image 0", 0, 6, "(1, 2, 3, 4)"), Example("image 1", 1, 0))),
            "found 1,200 times, for example image 0, box 6: (1, 2, 3, 4)",
        ),
        (Problem("unused-class", 1, (Example("'cat'", detail="label 3"),)), "found once: 'cat': label 3"),
        (Problem("few-examples", 2, ()), "found 2 times"),
        (Problem("swapped-axes", 107, (Example(WHOLE, detail="7 boxes fit"),)), "in the whole data set, 7 boxes fit"),
        (Problem("no-objects", 1, (Example(WHOLE),)), "found in the whole data set"),
    ],
)
def test_a_problem_of_the_data_has_a_number_or_a_measurement(problem: Problem, number: str) -> None:
    verdict = judge(dataclasses.replace(HEALTHY, problems=(problem,)))[0]
    assert (verdict.number, verdict.trouble) == (number, problem.sentence)


def test_later_stages_are_not_judged_after_too_few_steps() -> None:
    unseen = objects(proposals=0.1, detections=0.1, predicted=np.zeros(100, int))
    few = dataclasses.replace(HEALTHY, losses=np.full(40, 2.0), train=unseen, val=unseen)
    verdicts = judge(few)
    assert [verdict.trouble for verdict in verdicts if verdict.trouble] == ["too few steps to judge"]
    assert verdicts[-1].stage == "learning" and verdicts[-1].number == "the detector was trained for 40 steps"
    assert troubles(losses=np.full(99, 2.0), train=HALF_RIGHT) == ["too few steps to judge"]


def test_few_positives_and_poor_anchors_are_a_trouble_only_if_the_rpn_finds_little() -> None:
    found = dataclasses.replace(objects(positive=1), anchors=np.linspace(0.3, 0.8, 100))  # 60 of 100
    assert troubles(train=found) == []
    missed = dataclasses.replace(found, proposals=np.repeat([0.8, 0.2], [80, 20]))
    assert troubles(train=missed) == [
        "the anchors do not cover the objects",
        "there are few positive anchors per image",
        "the RPN's recall is low",
    ]


def test_a_head_that_predicts_one_class_is_not_reported_as_shifted_labels() -> None:
    labels = np.repeat([1, 2], [60, 40])
    everything_2 = dataclasses.replace(objects(), labels=labels, predicted=np.full(100, 2))
    assert troubles(train=everything_2, val=None) == ["the head confuses classes"]


def test_too_few_objects_are_reported() -> None:
    assert [v.number for v in judge(dataclasses.replace(HEALTHY, train=objects(n=5))) if v.stage == "anchors"] == [
        "5 objects are too few to judge this and later stages"
    ]


def test_a_problem_of_the_data_comes_first() -> None:
    wrong = Wrong(PAGES, lambda target: {**target, "labels": target["labels"] - 1})
    verdicts = judge(dataclasses.replace(HEALTHY, problems=data.validate(wrong, progress=False).problems))
    assert verdicts[0].stage == "data" and verdicts[0].trouble and "label" in verdicts[0].trouble


def test_report_names_the_trouble_to_fix_first() -> None:
    text = doctor.report(judge(dataclasses.replace(HEALTHY, pixel_std=np.full(3, 60.0), train=objects(proposals=0.1))))
    first = "begin with normalisation: the pixels are not normalised; this may explain the other problems"
    assert " ".join(text.split()).endswith(first)
    assert text.count("!!") == text.count("remedy: ") == 2
    assert max(map(len, text.splitlines())) <= 88  # as wide as code on a page of the book
    assert "!! normalisation   the normalised" in text  # the longest name of a stage does not touch its measurement
    assert doctor.report(judge(HEALTHY)).endswith("\n\nnothing is wrong")


# ---------------------------------------------------------------------- measurements


class Wrong:
    """A data set with changed targets."""

    def __init__(self, dataset: data.Dataset, change: object) -> None:
        self.dataset, self.change, self.classes = dataset, change, dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        image, target = self.dataset[index]
        return image, self.change(target)


def test_evidence_of_the_shipped_detector() -> None:
    """The detector reads digits well, so the numbers are predictable."""
    pages = data.Digits(6, split="val")
    model = rcnn.load_digits()
    found = gather(model, pages, pages, np.zeros(0), (), (), 6, progress=False)
    wanted = np.concatenate([target["labels"] for _, target in pages])
    np.testing.assert_array_equal(found.train.labels, wanted)
    assert (found.train.predicted == wanted).mean() > 0.95
    assert found.train.share("anchors") >= 0.7 and found.train.share("proposals") > 0.95
    assert found.train.share("detections", 0.75) > 0.8
    assert found.train.sampled.shape == (6, 2) and (found.train.sampled.sum(axis=1) == 128).all()
    assert found.drift is not None and found.drift < 0.2
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in pages]) / 255  # pages are 128 pixels already
    np.testing.assert_allclose(found.pixel_mean, (pixels.mean(axis=0) - 0.5) / 0.25, rtol=1e-4)
    np.testing.assert_allclose(found.pixel_std, pixels.std(axis=0) / 0.25, rtol=1e-4)
    assert found.parameters["roi_heads.box_head"] == 4
    assert "forward" not in vars(measured._first_norm(model.backbone))


def test_normalisation_that_differs_from_training_causes_drift() -> None:
    model = rcnn.load_digits()
    inverted = Wrong(data.Digits(3, split="val"), lambda target: target)
    inverted.__class__ = type(
        "Inverted", (Wrong,), {"__getitem__": lambda self, i: (255 - self.dataset[i][0], self.dataset[i][1])}
    )
    assert (gather(model, inverted, None, np.zeros(0), (), (), 3, progress=False).drift or 0) > 1


def test_an_untrained_norm_layer_has_no_drift() -> None:
    model = faster_rcnn_small(PAGES.classes)
    assert gather(model, PAGES, None, np.zeros(0), (), (), 2, progress=False).drift is None


def test_sample_is_spread_over_the_set() -> None:
    assert spread(8, 3) == [0, 4, 7]
    assert spread(8, 100) == list(range(8))
    assert spread(30, 6, run=2) == [0, 1, 14, 15, 28, 29]


def test_unusable_objects_do_not_count() -> None:
    boxes = [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3], [4, 0, 4, 9], [0, np.nan, 5, 5], [0, 0, 6, 6], [0, 0, 7, 7]]
    target = {
        "boxes": np.array(boxes),
        "labels": np.array([1, 2, 3, 1, 1, 0, 4]),
        "difficult": np.eye(7, dtype=bool)[0],
        "crowd": np.eye(7, dtype=bool)[2],
    }
    left = usable(target, num_classes=4)
    np.testing.assert_array_equal(left["boxes"], [[0, 0, 2, 2]])
    np.testing.assert_array_equal(left["labels"], [2])


def test_an_unreadable_image_is_a_problem_and_not_an_error() -> None:
    class Torn(data.Shapes):
        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            if index == 1:
                raise OSError("page 1 is torn")
            return super().__getitem__(index)

    verdicts = doctor.examine(faster_rcnn_small(PAGES.classes), Torn(4, seed=3), progress=False)
    assert verdicts[0].stage == "data" and "page 1 is torn" in verdicts[0].number


def test_only_the_data_are_judged_if_no_image_can_be_read() -> None:
    class Torn(data.Digits):
        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            raise OSError(f"page {index} is torn")

    verdicts = doctor.examine(rcnn.load_digits(), Torn(4, seed=3), progress=False)
    assert {v.stage for v in verdicts if v.trouble} == {"data"} and "nan" not in doctor.report(verdicts)


def test_only_some_images_of_a_large_set_are_read() -> None:
    asked = []

    class Watched(data.Shapes):
        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            asked.append(index)
            return super().__getitem__(index)

    doctor.examine(faster_rcnn_small(PAGES.classes), Watched(100, seed=3), num_images=1, progress=False)
    assert len(asked) == 1 + 8 and max(asked) < 100  # one image is traced, a run of annotations is checked


@pytest.mark.parametrize(
    ("described", "prefixes"),
    [
        (None, ()),
        (Plan("shapes"), ()),
        (Plan("shapes", kind="resnet18", weights_backbone="imagenet"), ("backbone.body",)),
        (Plan("shapes", kind="resnet50", weights="coco"), ("backbone", "rpn", "roi_heads.box_head")),
    ],
)
def test_pretrained_prefixes_of_a_run(described: Plan | None, prefixes: tuple[str, ...]) -> None:
    assert pretrained(described) == prefixes


def test_a_problem_of_a_folder_is_named_by_its_file(tmp_path: Path) -> None:
    data.write_csv(data.Shapes(6, seed=3), tmp_path, "train", progress=False)
    table = tmp_path / "train.csv"
    table.write_text(table.read_text().replace("circle", "disc"))
    folder = data.CSV(tmp_path, "train", progress=False)
    first = doctor.examine(faster_rcnn_small(PAGES.classes), folder, progress=False)[0]
    assert first.trouble == "an object's class is not among the classes"
    assert "train_00000" in first.number and "'disc'" in first.number


def test_moments_of_several_arrays() -> None:
    values = np.random.default_rng(0).normal(3, 2, (2, 30, 7))
    moments = Moments(2)
    assert np.isnan(moments.mean).all() and np.isnan(moments.std).all()
    for part in (values[:, :10], values[:, 10:]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, values.mean(axis=(1, 2)))
    np.testing.assert_allclose(moments.std, values.std(axis=(1, 2)))


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (data.Shapes(0), None, "train is empty"),
        (PAGES, data.Shapes(0), "val is empty"),
        (PAGES, data.Digits(2), r"val must have as many classes as the detector \(5\), got 11"),
    ],
)
def test_invalid_sets_are_errors(train: data.Dataset, val: data.Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        doctor.examine(faster_rcnn_small(PAGES.classes), train, val, progress=False)
