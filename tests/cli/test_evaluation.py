"""`rcnn eval`: its output and files, with the shipped detector."""

import argparse
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import rcnn
from rcnn import data, evaluate
from rcnn.cli import evaluation as eval_command
from rcnn.train import plan

DIGITS = Path(rcnn.__file__).parent / "zoo" / "weights" / "digits.safetensors"
PAGES = 6


def run(*arguments):
    """Return the exit status of `rcnn eval` with these arguments."""
    parser = argparse.ArgumentParser()
    eval_command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["eval", *map(str, arguments)])
    return options.run(options)


def table(text):
    """Return the words of each line up to the line of the mean."""
    lines = [line.split() for line in text.splitlines()]
    return lines[: [line[:1] for line in lines].index(["mean"]) + 1]


@pytest.fixture(scope="module")
def measured():
    """Detections and targets of the detector on the pages."""
    return evaluate.predictions(rcnn.load_digits(), data.Digits(PAGES, split="val"), progress=False)


@pytest.fixture
def load(monkeypatch):
    """A function that replaces every data set by its argument."""

    def replace(dataset):
        monkeypatch.setattr(eval_command.data, "load", lambda name, split, n, options: dataset)

    return replace


class Renamed:
    """Digit pages with their classes in another order, or without objects of some classes."""

    def __init__(self, classes):
        self.pages, self.classes = data.Digits(PAGES, split="val"), ("background", *classes)

    def __len__(self):
        return len(self.pages)

    def __getitem__(self, i):
        image, target = self.pages[i]
        names = np.array(self.pages.classes)[target["labels"]]
        known = np.isin(names, self.classes)
        labels = np.array([self.classes.index(name) for name in names[known]], np.int64)
        return image, {"boxes": target["boxes"][known], "labels": labels}


def test_average_precision_of_every_class_is_printed(capsys, measured):
    assert run("digits", "--weights", DIGITS, "--images", PAGES) == 0
    result = evaluate.evaluate_detections(*measured, 11)
    header, *rows, mean = table(capsys.readouterr().out)
    assert header == ["class", "objects", "detections", "AP50"]
    assert rows == [
        [
            str(digit),
            str(result.num_objects[digit + 1]),
            str(result.num_detections[digit + 1]),
            "-" if np.isnan(result.ap[digit + 1]) else f"{result.ap[digit + 1]:.3f}",
        ]
        for digit in range(10)
    ]
    assert mean == ["mean", str(result.num_objects.sum()), str(result.num_detections.sum()), f"{result.mean_ap:.3f}"]


def test_options_select_the_split_and_the_number_of_images(tmp_path, monkeypatch):
    calls = []

    def load(*arguments, options):
        calls.append((*arguments, options))
        return data.Digits(1)

    monkeypatch.setattr(eval_command.data, "load", load)
    toml = tmp_path / "run.toml"
    plan.write(toml, plan.Plan("voc:/a", "csv:/b", {"on_error": "skip"}, val_images=7))
    for arguments in (
        ["digits"],
        ["shapes", "--images", 3],
        ["voc:a"],
        ["voc:a", "--split", "test"],
        [toml],
        [toml, "--images", 2],
        [toml, "--split", "train"],
    ):
        run(*arguments, "--weights", DIGITS)
    assert calls == [
        ("digits", "val", 200, None),
        ("shapes", "val", 3, None),
        ("voc:a", "val", None, None),
        ("voc:a", "test", None, None),
        ("csv:/b", "val", 7, {"on_error": "skip"}),
        ("csv:/b", "val", 2, {"on_error": "skip"}),
        ("voc:/a", "train", None, {"on_error": "skip"}),
    ]


@pytest.mark.parametrize("measure, ap", [("voc", "0.500"), ("voc2007", "0.545")])
def test_voc2007_takes_precision_at_eleven_recalls(capsys, monkeypatch, measure, ap):
    # One object of two is found: an area of 1/2, or a precision of 1 at the recalls 0, 0.1, ..., 0.5, six of eleven.
    target = {"boxes": np.array([[0, 0, 10, 10], [20, 0, 30, 10]]), "labels": np.array([1, 1])}
    found = {"boxes": target["boxes"][:1], "scores": np.ones(1), "labels": np.ones(1, int)}
    monkeypatch.setattr(eval_command.evaluate, "predictions", lambda model, pages, batch, progress: ([found], [target]))
    assert run("digits", "--weights", DIGITS, "--measure", measure) == 0
    assert table(capsys.readouterr().out)[-1] == ["mean", "2", "1", ap]


def test_coco_prints_its_twelve_numbers(capsys, measured):
    assert run("digits", "--weights", DIGITS, "--images", PAGES, "--measure", "coco") == 0
    out = capsys.readouterr().out
    result = evaluate.evaluate_coco(*measured, 11)
    header, *_, mean = table(out)
    assert header == ["class", "objects", "detections", "AP", "AP50"]
    assert mean[-2:] == [f"{result.numbers['AP']:.3f}", f"{result.numbers['AP50']:.3f}"]
    printed = dict(line.split() for line in out.splitlines()[-12:])
    assert printed == {name: "-" if np.isnan(value) else f"{value:.3f}" for name, value in result.numbers.items()}


def test_classes_in_another_order_are_matched_by_name(capsys, measured, load):
    result = evaluate.evaluate_detections(*measured, 11)
    load(Renamed("3910245867"))
    assert run("digits", "--weights", DIGITS) == 0
    _, *rows, _ = table(capsys.readouterr().out)
    assert [row[0] for row in rows] == list("3910245867")
    for name, _, found, ap in rows:
        assert found == str(result.num_detections[int(name) + 1])
        expected = result.ap[int(name) + 1]
        assert ap == ("-" if np.isnan(expected) else f"{expected:.3f}")


def test_detections_of_other_classes_are_skipped_and_counted(capsys, measured, load):
    load(Renamed("73"))
    assert run("digits", "--weights", DIGITS, "--errors") == 0
    out = capsys.readouterr().out
    found = np.bincount(np.concatenate([page["labels"] for page in measured[0]]), minlength=11)
    assert [row[:3:2] for row in table(out)[1:3]] == [["7", str(found[8])], ["3", str(found[4])]]
    stages = evaluate.recall_by_stage(
        rcnn.load_digits(), Renamed("73"), progress=False, labels=np.array([0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0])
    )
    assert str(stages) in out and stages.recall()[-1] > 0
    assert f"skipped {found.sum() - found[8] - found[4]} detections of classes that digits does not have" in out


def test_errors_and_stages_are_printed(capsys, measured):
    assert run("digits", "--weights", DIGITS, "--images", PAGES, "--errors") == 0
    out = capsys.readouterr().out
    assert str(evaluate.error_kinds(*measured, 11)) in out
    assert str(evaluate.recall_by_stage(rcnn.load_digits(), data.Digits(PAGES, split="val"), progress=False)) in out
    confusion = evaluate.confusion(*measured, 11)
    named = re.search(r"confused classes, for detections with a score above 0.5: (.*)", out)[1]
    inner = confusion[1:, 1:] * (1 - np.eye(10, dtype=int))
    assert sum(map(int, re.findall(r"\((\d+)\)", named))) == min(inner.sum(), 6) and inner.max() <= 1


def test_confusions_start_with_the_most_frequent():
    counts = np.array([[0, 9, 9], [9, 9, 2], [9, 5, 9]])
    assert eval_command._confusions(counts, ("background", "cat", "dog")) == "dog as cat (5), cat as dog (2)"
    assert eval_command._confusions(np.diag([0, 4]), ("background", "cat")) == "none"


def test_plots(tmp_path, capsys):
    assert run("digits", "--weights", DIGITS, "--images", PAGES, "--plots", tmp_path / "new" / "plots") == 0
    file = tmp_path / "new" / "plots" / "evaluation.png"
    assert f"figure: {file}" in capsys.readouterr().out
    with Image.open(file) as image:
        assert min(image.size) > 600


def test_json_contains_the_detections(tmp_path, measured):
    file = tmp_path / "results.json"
    assert run("digits", "--weights", DIGITS, "--images", PAGES, "--json", file) == 0
    entries = json.loads(file.read_text())
    detections = measured[0]
    assert len(entries) == sum(len(page["labels"]) for page in detections)
    x1, y1, x2, y2 = map(float, detections[0]["boxes"][0])
    assert entries[0] == {
        "image_id": 0,
        "category_id": int(detections[0]["labels"][0]),
        "bbox": pytest.approx([x1, y1, x2 - x1, y2 - y1]),
        "score": pytest.approx(float(detections[0]["scores"][0])),
    }


def test_json_has_the_ids_of_the_annotations(tmp_path, load, measured):
    pages = Renamed("9876543210")
    pages.records = [SimpleNamespace(image_id=100 + i) for i in range(PAGES)]
    pages.category_ids = (0, *range(90, 0, -9))
    load(pages)
    assert run("digits", "--weights", DIGITS, "--json", tmp_path / "results.json") == 0
    entries = json.loads((tmp_path / "results.json").read_text())
    expected = [(100 + i, int(label - 1) * 9 + 9) for i, page in enumerate(measured[0]) for label in page["labels"]]
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == expected


@pytest.mark.parametrize("others", [["--errors", "--measure", "coco"], []])
def test_the_detector_sees_every_image_once(monkeypatch, others):
    seen = []
    features = rcnn.FasterRCNN.features

    def spy(self, batch):
        seen.append(len(batch.images))
        return features(self, batch)

    monkeypatch.setattr(rcnn.FasterRCNN, "features", spy)
    assert run("digits", "--weights", DIGITS, "--images", PAGES, *others) == 0
    assert sum(seen) == PAGES


def test_folder_of_a_run_means_its_best_weights(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"it contains neither best\.safetensors nor model"):
        run("digits", "--weights", tmp_path, "--images", 1)
    shutil.copy(DIGITS, tmp_path / "model.safetensors")
    assert run("digits", "--weights", tmp_path, "--images", 1) == 0
    (tmp_path / "model.safetensors").write_text("no weights")
    shutil.copy(DIGITS, tmp_path / "best.safetensors")
    assert run("digits", "--weights", tmp_path, "--images", 1) == 0
    first, second = re.findall(r"^mean.*$", capsys.readouterr().out, re.MULTILINE)
    assert first == second


def test_detector_without_class_names_must_have_the_same_number(tmp_path, capsys):
    weights = tmp_path / "nameless.safetensors"
    model = rcnn.load_digits()
    object.__setattr__(model.config, "class_names", None)
    rcnn.save(weights, model)
    assert run("digits", "--weights", weights, "--images", 1) == 0
    with pytest.raises(ValueError, match="11 classes without names, but the data set has 5"):
        run("shapes", "--weights", weights, "--images", 1)


def test_files_of_the_data_set_are_not_replaced(tmp_path):
    data.write_coco(data.Digits(2, split="val"), tmp_path, "val", progress=False)
    (file,) = tmp_path.rglob("*.json")
    before = file.read_bytes()
    for source in (tmp_path, file):
        with pytest.raises(FileExistsError, match="--json .* would replace a file of the data set coco:"):
            run(f"coco:{source}", "--weights", DIGITS, "--json", file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            ["shapes", "--weights", DIGITS],
            ValueError,
            "does not know these classes of the data set: circle, .*; its 11 classes are",
        ),
        (["digits", "--weights", "nowhere.safetensors"], OSError, "nowhere.safetensors"),
        (["digits", "--weights", DIGITS, "--images", "0"], ValueError, "--images must be at least 1"),
        (
            ["digits", "--weights", DIGITS, "--json", "nowhere/a.json"],
            OSError,
            "--json .*: folder nowhere not found",
        ),
        (["digits", "--weights", DIGITS, "--json", "."], OSError, "--json must name a file"),
    ],
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match=message):
        run(*arguments)
