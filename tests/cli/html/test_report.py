"""The report of a run: its sections, and what is left out of a run that was stopped or has no validation."""

import dataclasses
import html as standard_html
import re
import shutil

import numpy as np
import pytest

import rcnn
from rcnn import data, train
from rcnn.cli import html
from rcnn.doctor import Verdict
from rcnn.train import plan, run_folder
from rcnn.train.plan import Plan

HOSTILE = "</td><script>alert(1)</script>\"'"
PAGES = data.Shapes(4, size=(64, 64))
VERDICTS = [Verdict("data", "no errors"), Verdict("anchors", "9 %", "anchors & objects differ", f"change {HOSTILE}")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run of two steps with validation."""
    folder = tmp_path_factory.mktemp("runs") / "a b"
    rcnn.seed(0)
    model = rcnn.faster_rcnn_small(PAGES.classes, min_size=64, max_size=64)
    recipe = train.Recipe(steps=2, batch_size=1, val_every=1)
    train.fit(model, PAGES, recipe, folder, data.Shapes(2, split="val", size=(64, 64)), progress=False)
    plan.write(folder / run_folder.PLAN, Plan("shapes", "shapes", recipe=recipe))
    (folder / run_folder.CURVES).write_bytes(b"PNG")
    return folder


@pytest.fixture(scope="module")
def measured(folder):
    """The detections of the run's detector, together with a perfect detection of one object."""
    found = html.measure(rcnn.load(folder / run_folder.BEST), PAGES, "test", progress=False)
    image, target = PAGES[0]
    perfect = {"boxes": target["boxes"], "labels": target["labels"], "scores": target["boxes"][:, 0] * 0 + 0.99}
    return dataclasses.replace(found, detections=[perfect, *found.detections[1:]])


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def write(folder, *arguments):
    path = html.write_report(run_folder.open_run(folder), *arguments)
    assert path == folder / "report.html"
    return path.read_text("ascii")


def test_sections_of_a_finished_run(folder, measured):
    page = write(folder, measured, VERDICTS)
    assert headings(page) == [
        "Result on test (4 images)",
        "Curves",
        "Kinds of error",
        "Images with the most errors",
        "Images with the fewest errors",
        "What the doctor says",
        "Next",
    ]
    assert f"<strong>{measured.result.mean_ap:.3f}</strong>" in page and "was stopped" not in page
    for name in PAGES.classes[1:]:
        assert f"<td>{name}</td>" in page
    assert page.count("<figure>") == 4 and "image 0; errors: 0" in page
    text = standard_html.unescape(page)
    assert f"rcnn detect PHOTO.jpg --weights '{folder}'" in text and "--split test" in text
    assert "Begin with anchors: anchors & objects differ." in text
    assert "<script" not in page and 'src="data:image/png' in page


def test_boxes_are_fractions_of_their_image(folder, measured):
    page = write(folder, measured)
    (x1, y1, x2, y2) = PAGES[0][1]["boxes"][0]
    style = f"left: {100 * x1 / 64:.2f}%; top: {100 * y1 / 64:.2f}%; width: {100 * (x2 - x1) / 64:.2f}%"
    assert page.count(style) == 2  # the object and its detection


def test_a_stopped_run_says_how_to_continue(folder, tmp_path):
    stopped = shutil.copytree(folder, tmp_path / "run")
    saved = run_folder.open_run(stopped)
    saved = dataclasses.replace(saved, recipe=saved.recipe.replace(steps=9))
    page = html.write_report(saved).read_text("ascii")
    assert headings(page) == ["Curves", "Next"]
    assert "stopped after step 2 of 9" in page and f"rcnn train --resume {stopped}" in page


@pytest.mark.parametrize(
    ("split", "words"),
    [("val", "were chosen on the same images"), ("train", "trained on these images"), ("test", "best AP50 on val")],
)
def test_the_result_says_how_much_it_is_worth(folder, measured, split, words):
    assert words in write(folder, dataclasses.replace(measured, split=split))


def test_a_run_without_plan_and_validation(folder, measured, tmp_path):
    run = shutil.copytree(folder, tmp_path / "run")
    for name in (run_folder.PLAN, run_folder.CURVES, run_folder.BEST):
        (run / name).unlink()
    page = write(run, dataclasses.replace(measured, split="train"))
    assert "weights after step 2." in page and "Curves" not in headings(page) and "rcnn view" not in page


def test_names_of_classes_do_not_become_html(folder, measured, tmp_path):
    class Renamed:
        classes = ("background", HOSTILE, *PAGES.classes[2:])

        def __len__(self):
            return len(PAGES)

        def __getitem__(self, index):
            return PAGES[index]

    page = write(folder, dataclasses.replace(measured, dataset=Renamed()), VERDICTS)
    assert "<script" not in page and standard_html.escape(HOSTILE) in page


def test_images_without_objects(folder):
    class Empty:
        classes = PAGES.classes

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return PAGES[0][0], {"boxes": PAGES[0][1]["boxes"][:0], "labels": PAGES[0][1]["labels"][:0]}

    nothing = {"boxes": PAGES[0][1]["boxes"][:0], "scores": np.zeros(0), "labels": PAGES[0][1]["labels"][:0]}
    page = write(folder, html.Measured("test", Empty(), [nothing], [Empty()[0][1]]))
    assert "Mean AP50: <strong>&#8211;</strong>" in page and "Result on test (1 image)" in page
