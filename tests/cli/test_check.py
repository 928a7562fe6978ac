"""`rcnn check`: its output, files and exit status."""

import argparse
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from rcnn import cli, data
from rcnn.cli import check as check_command
from rcnn.data.report import Counts, Example, Problem, Report


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A VOC folder with 24 training pages and 12 validation pages of shapes."""
    folder = tmp_path_factory.mktemp("voc") / "shapes"
    for split, n in (("train", 24), ("val", 12)):
        data.write_voc(data.Shapes(n, split=split), folder, split, progress=False)
    return folder


@pytest.fixture
def folder(written, tmp_path, monkeypatch):
    """A copy of the folder `written` that a test may change. It is in the current folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(written, tmp_path / "shapes")


def edit(path, pattern, replacement):
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    path.write_text(changed)


def test_data_set_without_faults(folder, tmp_path, capsys):
    assert cli.main(["check", f"voc:{folder}"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^class +train +val$", out, re.MULTILINE) and re.search(r"^images +24 +12$", out, re.MULTILINE)
    counts = [
        sum((target["labels"] == 1).sum() for _, target in (pages[i] for i in range(len(pages))))
        for pages in (data.Shapes(24), data.Shapes(12, split="val"))
    ]
    assert re.search(rf"^circle +{counts[0]} +{counts[1]}$", out, re.MULTILINE)
    assert "train: no problems found" in out and "val: no problems found" in out
    assert out.endswith("16 images with their boxes: rcnn-check.png\ntraining may start\n")
    with Image.open(tmp_path / "rcnn-check.png") as sheet:
        assert min(sheet.size) >= 1000


def test_every_fault_is_listed_though_the_data_set_cannot_be_loaded(folder, tmp_path, capsys):
    sheets = folder / "Annotations"
    (sheets / "train_000002.xml").write_text("<annotation>")
    (folder / "JPEGImages" / "train_000005.png").unlink()
    edit(sheets / "train_000007.xml", "<xmax>.*?<", "<xmax>300<")
    edit(sheets / "val_000001.xml", "<name>.*?<", "<name>cat<")
    with pytest.raises(ValueError, match="train_000002.xml"):
        data.load(f"voc:{folder}", "train")
    sheet = tmp_path / "sheet.png"
    assert cli.main(["check", f"voc:{folder}", "--sheet", str(sheet), "--json", str(tmp_path / "report.json")]) == 1
    out = capsys.readouterr().out
    for kind in ("unreadable-annotation", "missing-image", "box-outside", "unknown-class"):
        assert len(re.findall(rf"^ +1  error: .*\({kind}\)$", out, re.MULTILINE)) == 1
    assert "train: 3 errors, 0 warnings" in out and "val: 1 error, 0 warnings" in out
    assert "train_000007.png (Annotations/train_000007.xml), box 0: (" in out
    assert out.endswith(f"{sheet}\ntraining must not start\n") and sheet.is_file()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] is False and report["shared"] == []
    assert [p["kind"] for p in report["splits"]["train"]["problems"]] == [
        "unreadable-annotation",
        "missing-image",
        "box-outside",
    ]
    assert report["splits"]["val"]["counts"]["images"] == 12


def test_one_split_and_json_to_standard_output(folder, capsys):
    edit(folder / "Annotations" / "val_000001.xml", "<xmax>.*?<", "<xmax>300<")
    assert cli.main(["check", f"voc:{folder}", "--split", "train", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and list(report["splits"]) == ["train"]
    assert cli.main(["check", f"voc:{folder}", "--split", "val"]) == 1
    assert "train" not in capsys.readouterr().out.split("shapes")[0].split("training")[0]


def test_both_means_train_and_val(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "set")
    shutil.copy(tmp_path / "set/ImageSets/Main/val.txt", tmp_path / "set/ImageSets/Main/test.txt")
    for arguments, splits in ([], ["train", "val", "test"]), (["--split", "both"], ["train", "val"]):
        cli.main(["check", f"voc:{tmp_path / 'set'}", "--json", "-", *arguments])
        assert list(json.loads(capsys.readouterr().out)["splits"]) == splits


def test_image_in_both_splits_is_a_warning(folder, capsys):
    for place, suffix in (("JPEGImages", "png"), ("Annotations", "xml")):
        shutil.copy(folder / place / f"train_000003.{suffix}", folder / place / f"val_000004.{suffix}")
    edit(folder / "Annotations" / "val_000004.xml", "<filename>.*?<", "<filename>val_000004.png<")
    assert cli.main(["check", f"voc:{folder}"]) == 0
    out = capsys.readouterr().out
    assert "train and val: 0 errors, 1 warning" in out and "(shared-image)" in out
    assert "val_000004.png (Annotations/val_000004.xml): same as train_000003.png (" in out


def test_unreadable_annotation_of_unknown_split_is_reported_once(written, tmp_path, monkeypatch, capsys):
    """Without lists, val is held out at random, so the split of a broken annotation is unknown."""
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(written, tmp_path / "shapes")
    shutil.rmtree(folder / "ImageSets")
    (folder / "Annotations" / "train_000002.xml").write_text("<annotation>")
    assert cli.main(["check", f"voc:{folder}"]) == 1
    out = capsys.readouterr().out
    assert out.count("unreadable-annotation") == 1 and "train: 1 error" in out and "val: no problems found" in out


def test_plan_names_the_data_sets_and_reader_options(folder, tmp_path, capsys):
    (folder / "JPEGImages" / "train_000005.png").unlink()
    file = tmp_path / "run.toml"
    file.write_text('[data]\ntrain = "voc:shapes"\n')
    assert cli.main(["check", str(file)]) == 1
    out = capsys.readouterr().out
    assert "missing-image" in out and not re.search("^val", out, re.MULTILINE)
    file.write_text(
        '[data]\ntrain = "voc:shapes"\nval = "voc:shapes"\ntrain_images = 10\noptions = {on_error = "skip"}\n'
    )
    assert cli.main(["check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "left-out" in out and re.search(r"^images +9 +12$", out, re.MULTILINE)
    file.write_text('[data]\ntrain = "voc:shapes"\noptions = {first_pixel = 0}\n')
    assert cli.main(["check", str(file), "--split", "val"]) == 2
    assert "defines no data set for val; add the key val to its section" in capsys.readouterr().err


def test_any_existing_split_can_be_checked(folder, tmp_path, capsys):
    lists = folder / "ImageSets" / "Main"
    (lists / "test.txt").write_text((lists / "val.txt").read_text())
    plan = tmp_path / "run.toml"
    plan.write_text(f'[data]\ntrain = "voc:{folder}"\nval_images = 1\n')
    for source in (f"voc:{folder}", str(plan)):
        assert cli.main(["check", source, "--split", "test"]) == 0
        out = capsys.readouterr().out
        assert re.search(r"^images +12$", out, re.MULTILINE) and "test: no problems found" in out
    assert cli.main(["check", "shapes", "--split", "test"]) == 2
    assert "split must be one of train, val, got 'test'" in capsys.readouterr().err


def test_the_split_test_is_checked_and_compared_with_the_others(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_command, "_write_sheet", lambda *_: "no drawing")
    data.write_voc(data.Shapes(2), folder, "test", progress=False)  # the first two images of train
    edit(folder / "Annotations" / "test_000001.xml", "<xmax>.*?<", "<xmax>300<")
    plan = tmp_path / "run.toml"
    plan.write_text(f'[data]\ntrain = "voc:{folder}"\nval = "voc:{folder}"\ntrain_images = 1\n')
    for source, shared in ((f"voc:{folder}", 2), (str(plan), 1)):
        assert cli.main(["check", source, "--json", "report.json"]) == 1
        out = capsys.readouterr().out
        assert re.search(r"^class +train +val +test$", out, re.MULTILINE)
        assert "test: 1 error, 0 warnings" in out and "(box-outside)" in out
        assert re.search(rf"train and test: 0 errors, 1 warning\n +{shared}  warning: an image is in two splits", out)
        assert "test_000000.png (Annotations/test_000000.xml): same as train_000000.png (" in out
        assert out.endswith("training may start, but not an evaluation on test, which has errors\n")
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["ok"] is False and list(report["splits"]) == ["train", "val", "test"]
        assert [(each["splits"], each["kind"]) for each in report["shared"]] == [(["train", "test"], "shared-image")]


def test_a_test_split_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    for split in ("train", "val", "test"):
        data.write_yolo(data.Shapes(2, split="train" if split == "test" else split), tmp_path, split, progress=False)
    for image in (tmp_path / "images" / "test").iterdir():
        image.write_bytes(b"no")
    _, reports, _ = check_command.examine(f"yolo:{tmp_path}", on_error="skip")
    assert [(name, report.counts.images) for name, report in reports.items()] == [("train", 2), ("val", 2), ("test", 0)]
    assert [problem.kind for problem in reports["test"].problems] == ["no-images", "unreadable-annotation"]
    assert "no valid image is left" in reports["test"].problems[1].examples[0].detail
    with pytest.raises(ValueError, match="no valid image is left"):
        check_command.examine(f"yolo:{tmp_path}", "test", on_error="skip")


def test_drawn_sets_are_checked_in_part(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_command, "PAGES", {"train": 30, "val": 20})
    assert cli.main(["check", "shapes", "--sheet", str(tmp_path / "a.png")]) == 0
    assert re.search(r"^images +30 +20$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["voc:nowhere"], "nowhere"),
        (["cats"], "'cats'"),
        (["shapes", "--sheet", "nowhere/a.png"], "--sheet nowhere/a.png: folder nowhere not found"),
        (["shapes", "--sheet", "."], "--sheet must name a file, got the folder ."),
        (["shapes", "--sheet", "a.pdf"], "--sheet must name a file that ends in .png, got a.pdf"),
        (["shapes", "--json", "nowhere/a.json"], "--json nowhere/a.json: folder nowhere not found"),
        (["shapes", "--json", "a.png"], "--json must name a file that ends in .json, got a.png"),
        (["no.toml"], "rcnn: no.toml: file not found\n"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "option", "target"),
    [
        ("voc", "--sheet", "JPEGImages/train_000000.png"),
        ("coco", "--json", "annotations/instances_train.json"),
        ("plan", "--sheet", "JPEGImages/train_000000.png"),
    ],
)
def test_files_of_the_data_set_are_not_replaced(folder, spec, option, target, capsys):
    if spec == "coco":
        shutil.rmtree(folder)
        data.write_coco(data.Shapes(2), folder, "train", progress=False)
    if spec == "plan":
        (folder / "run.toml").write_text(f'[data]\ntrain = "voc:{folder}"\n')
    file = next(folder.rglob(target.rpartition("/")[2]))
    before = file.read_bytes()
    source = folder / "run.toml" if spec == "plan" else f"{spec}:{folder}"
    assert cli.main(["check", str(source), "--split", "train", option, str(file)]) == 2
    assert f"{option} {file} would replace a file of the data set {'voc' if spec == 'plan' else spec}:{folder}; " in (
        capsys.readouterr().err
    )
    assert file.read_bytes() == before


def report_of(images, *columns):
    """Return a report on `images` images with one problem for each column, a list of the images that have it."""
    problems = [Problem("box-outside", len(column), tuple(Example("here", i) for i in column)) for column in columns]
    return Report(Counts(images, 0, 0, 0, {}), tuple(problems), {})


def test_sheet_shows_each_problem_first_and_then_images_of_the_whole_set():
    clean = {"train": report_of(60), "val": report_of(20)}
    assert check_command.choose(clean, 5) == [("train", 0), ("train", 19), ("train", 39), ("train", 59), ("val", 19)]
    assert check_command.choose({"val": report_of(3)}) == [("val", 0), ("val", 1), ("val", 2)]
    wrong = {"train": report_of(60, [5, 6, 7], [50, 5, None]), "val": report_of(20, [9])}
    assert check_command.choose(wrong, 6)[:5] == [("train", 5), ("train", 50), ("val", 9), ("train", 6), ("train", 7)]
    assert len(set(check_command.choose(wrong))) == 16
    assert check_command.choose({"train": report_of(0)}) == []


def test_unreadable_image_has_its_own_tile(folder, monkeypatch):
    """The captions state the problems of the first images, which are drawn first."""
    from rcnn import plot

    (folder / "JPEGImages" / "train_000005.png").write_bytes(b"no")
    edit(folder / "Annotations" / "train_000007.xml", "<xmax>.*?<", "<xmax>300<")
    seen = {}

    def spy(images, boxes_list, labels_list, class_names, captions):
        seen.update(images=images, boxes_list=boxes_list, captions=captions, class_names=class_names)
        return plot.figure(1, 1)

    monkeypatch.setattr(plot, "contact_sheet", spy)
    assert cli.main(["check", f"voc:{folder}"]) == 1
    assert seen["images"][0] is None and seen["class_names"] == data.Shapes.classes
    assert seen["captions"][0] == "train, train_000005.png\nunreadable-image"
    assert seen["captions"][1] == "train, train_000007.png\nbox-outside"
    np.testing.assert_allclose(seen["boxes_list"][1][0, 2], 300)
    assert re.fullmatch(r"train, train_000000.png\n\d objects", seen["captions"][2])


def test_sheet_shows_training_images_after_the_changes_of_the_plan(folder, tmp_path, monkeypatch, capsys):
    from rcnn import plot

    (folder / "JPEGImages" / "train_000000.png").write_bytes(b"no")  # skipped
    seen = {}

    def spy(images, boxes_list, labels_list, class_names, captions):
        seen.update(images=images, boxes_list=boxes_list, captions=captions)
        return plot.figure(1, 1)

    monkeypatch.setattr(plot, "contact_sheet", spy)
    toml = tmp_path / "run.toml"
    toml.write_text(f'[data]\ntrain = "voc:{folder}"\n[recipe]\nflip = 1\nscale_jitter = [0.5, 0.5]\n')
    assert cli.main(["check", str(toml), "--augmented"]) == 1
    assert "augmented training images: rcnn-check.png\n" in capsys.readouterr().out
    image, target = data.VOC(folder, "train", on_error="skip")[0]
    np.testing.assert_allclose(seen["images"][0] * 255, image[:, ::-1], rtol=1e-5)
    np.testing.assert_array_equal(seen["boxes_list"][0][:, 0], image.shape[1] - target["boxes"][:, 2])
    assert seen["captions"][0] == "train, train_000001.png\nscaled by 0.50"
    assert cli.main(["check", f"voc:{folder}", "--augmented", "--split", "val"]) == 2
    assert "--augmented draws training images, but --split is val" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["set", "coco", "yolo"])
def test_the_format_of_a_folder_is_found_and_printed(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    data.write_yolo(data.Shapes(6), name, "train", progress=False)
    assert cli.main(["check", name]) == 0
    assert capsys.readouterr().err == f"rcnn: {name} is read as yolo:{name}\n"
    assert len(data.load(name, "train")) == 5
    assert cli.main(["check", name, "--fix", "voc"]) == 0 and (tmp_path / "voc" / "repairs.txt").is_file()


@pytest.mark.parametrize("kind, out", [("voc", "fixed"), ("coco", "coco:fixed")])
def test_a_repaired_copy_is_written(folder, capsys, kind, out):
    annotations = folder / "Annotations"
    edit(annotations / "train_000004.xml", r"<xmax>[^<]*", "<xmax>300")
    edit(annotations / "train_000007.xml", r"<xmax>[^<]*", "<xmax>0")
    (annotations / "val_000003.xml").write_text("")
    data.write_voc(data.Shapes(2), folder, "test", progress=False)
    assert cli.main(["check", f"voc:{folder}", "--fix", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = "24 for train, 11 for val, 2 for test; boxes cut: 1; objects and images left out: 2"
    assert re.fullmatch(rf"{kind}:.*fixed: {counts}; all repairs: .*repairs.txt", lines[-1])
    repairs = (folder.parent / "fixed" / "repairs.txt").read_text().splitlines()
    assert lines[-4:-1] == repairs and [line.split(":")[0] for line in repairs] == ["cut", "left out", "left out"]
    assert "train_000004.xml" in repairs[0] and "train_000007.xml" in repairs[1] and "val_000003.xml" in repairs[2]
    capsys.readouterr()
    assert cli.main(["check", f"{kind}:{folder.parent / 'fixed'}"]) == 0
    fixed, whole = data.load(f"{kind}:fixed", "train"), data.Shapes(24)
    assert fixed[4][1]["boxes"][0][2] == 128 and len(fixed[7][1]["boxes"]) == len(whole[7][1]["boxes"]) - 1
    assert (fixed[9][1]["boxes"] == whole[9][1]["boxes"]).all()


def test_the_folder_of_the_copy_must_be_free(folder, tmp_path):
    with pytest.raises(FileExistsError, match="is not empty"):
        check_command.run(
            argparse.Namespace(
                dataset=f"voc:{folder}", sheet=tmp_path / "a.png", json=None, fix=str(folder), augmented=False
            )
        )
