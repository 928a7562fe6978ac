"""Options of `rcnn detect` and `rcnn eval` for suppression and views reach the detector."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rcnn import cli, data, load_digits
from rcnn.cli import evaluation, shared
from rcnn.views import detect_in_tiles


class Recorder:
    """The digit detector, which records the sizes of its images and its options."""

    def __init__(self):
        self.model, self.calls = load_digits(), []
        self.config = self.model.config

    def predict(self, images, **options):
        self.calls.append(([np.shape(image)[:2] for image in images], options))
        return self.model.predict(images, **options)

    def trace(self, *arguments):
        return self.model.trace(*arguments)


@pytest.fixture
def model(monkeypatch):
    model = Recorder()
    monkeypatch.setattr(shared, "load_detector", lambda weights: model)
    return model


@pytest.fixture
def page(tmp_path):
    """A file with two pages of digits beside each other, 128 x 256 pixels."""
    pages = [data.Digits(split="val")[index][0] for index in (0, 1)]
    Image.fromarray(np.concatenate(pages, axis=1)).save(tmp_path / "page.png")
    return tmp_path / "page.png"


def detect(page, *options):
    """Run `rcnn detect` on a page, and return its exit status and the detections."""
    file = page.parent / "found.json"
    arguments = ["detect", page, "--weights", "any", "--out", page.parent / "out", "--json", file, *options]
    status = cli.main([str(argument) for argument in arguments])
    return status, json.loads(file.read_text())[0]["detections"] if status == 0 else []


OPTIONS = {
    ("--nms-thresh", "0.4"): {"nms_thresh": 0.4},
    ("--class-agnostic",): {"class_agnostic": True},
    ("--soft-nms", "linear"): {"soft_nms": "linear"},
    ("--flip",): {"flip": True},
    ("--scales", "0.5,1,2"): {"scales": (0.5, 1.0, 2.0)},
}


@pytest.mark.parametrize(("arguments", "expected"), OPTIONS.items(), ids=lambda value: next(iter(value)))
def test_an_option_of_detect_reaches_predict(page, model, arguments, expected):
    assert detect(page, *arguments)[0] == 0
    assert [options for _, options in model.calls] == [{"score_thresh": None, **expected}]


def test_without_options_detect_calls_the_model_itself(page, model):
    assert detect(page)[0] == 0
    assert model.calls == [([(128, 256)], {"score_thresh": None})]


@pytest.mark.parametrize("batch", [1, 2])
def test_tiles_of_detect(page, model, batch):
    status, found = detect(page, "--tiles", "128", "--overlap", "0.5", "--score", "0.3", "--batch", str(batch))
    assert status == 0
    sizes = [sizes for sizes, _ in model.calls]
    assert sizes == [[(128, 256)], *([[(128, 128)]] * 3 if batch == 1 else [[(128, 128)] * 2, [(128, 128)]])]
    image = np.asarray(Image.open(page))
    expected = detect_in_tiles(lambda views: load_digits().predict(views, score_thresh=0.3), image, 128, 64)
    np.testing.assert_allclose([one["box"] for one in found], expected["boxes"], atol=0.02)


def test_tiles_and_the_other_options_combine(page, model):
    assert detect(page, "--tiles", "150", "--class-agnostic", "--flip", "--nms-thresh", "0.3")[0] == 0
    expected = {"score_thresh": None, "nms_thresh": 0.3, "class_agnostic": True, "flip": True}
    assert all(options == expected for _, options in model.calls)
    assert [sizes for sizes, _ in model.calls] == [[(128, 256)], [(128, 150)], [(128, 150)]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "0.2"], "rcnn: --overlap requires --tiles"),
        (["--tiles", "20"], "rcnn: tile must be an integer of at least 32"),
        (["--tiles", "100", "--overlap", "60"], "rcnn: overlap must be at most half of the tile, 50 pixels, got 60"),
        (["--nms-thresh", "2"], "rcnn: --nms-thresh must be a number in [0, 1], got 2.0"),
    ],
)
def test_invalid_options_are_one_line(page, model, options, message, capsys):
    assert detect(page, *options)[0] == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("scales", ["", "a", "1,-1", "1,,2"])
def test_invalid_scales_are_wrong_usage(page, model, scales, capsys):
    with pytest.raises(SystemExit, match="2"):
        detect(page, "--scales", scales)
    assert "argument --scales: must be positive numbers such as 0.75,1,1.5" in capsys.readouterr().err


def test_eval_measures_with_the_options(model, capsys):
    arguments = ["eval", "digits", "--weights", "any", "--images", "3"]
    assert cli.main([*arguments, "--flip", "--tiles", "100"]) == 0
    assert {frozenset(options) for _, options in model.calls} == {frozenset({"score_thresh", "flip"})}
    assert {(100, 100), (128, 128)} == {size for sizes, _ in model.calls for size in sizes}
    assert "mean" in capsys.readouterr().out


def test_eval_explains_whose_recall_by_stage_it_prints(model, capsys):
    arguments = ["eval", "digits", "--weights", "any", "--images", "3", "--errors"]
    sentence = "The recall by stage is that of a single view"
    assert cli.main(arguments) == 0 and not model.calls
    assert sentence not in capsys.readouterr().out
    assert cli.main([*arguments, "--class-agnostic"]) == 0 and model.calls
    assert sentence in capsys.readouterr().out


def test_eval_without_options_evaluates_the_model_itself(monkeypatch):
    used = []
    monkeypatch.setattr(evaluation, "load_weights", lambda source: SimpleNamespace(config=load_digits().config))
    monkeypatch.setattr(evaluation.evaluate, "predictions", lambda model, *rest: used.append(model) or ([], []))
    assert cli.main(["eval", "digits", "--weights", "any", "--images", "1"]) == 0
    assert isinstance(used[0], SimpleNamespace)
