"""`rcnn convert`: a data set in another format, complete or not at all."""

import argparse
import errno
import os

import numpy as np
import pytest
from annotated import save_image, write

from rcnn import data
from rcnn.cli import convert as convert_command
from rcnn.cli import shared


def convert(*arguments):
    parser = argparse.ArgumentParser()
    convert_command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["convert", *map(str, arguments)])
    return options.run(options)


@pytest.mark.parametrize("kind", ["voc", "coco", "yolo", "csv"])
def test_pages_are_converted_twice(tmp_path, kind, capsys):
    (tmp_path / "first").mkdir()  # an empty folder is allowed
    assert convert("digits", f"{kind}:{tmp_path / 'first'}", "--train", 6, "--val", 3) == 0
    assert capsys.readouterr().out == f"{kind}:{tmp_path / 'first'}: 6 for train, 3 for val\n"
    assert convert(f"{kind}:{tmp_path / 'first'}", f"coco:{tmp_path / 'new' / 'second'}", "--val", 2) == 0
    for split, count, source_count in (("train", 6, 6), ("val", 2, 3)):
        source = data.Digits(source_count, split=split)
        pages = data.load(f"coco:{tmp_path / 'new' / 'second'}", split)
        assert len(pages) == count and pages.classes == source.classes
        for page, other in zip(pages, source, strict=False):
            np.testing.assert_array_equal(page[0], other[0])
            np.testing.assert_array_equal(page[1]["boxes"], other[1]["boxes"], strict=True)
            np.testing.assert_array_equal(page[1]["labels"], other[1]["labels"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "new"]


def test_split_can_be_skipped(tmp_path):
    convert("shapes", f"csv:{tmp_path / 'set'}", "--train", 0, "--val", 2)
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"val.csv", "classes.txt", "images"}


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            ("shapes", "masks:{}/new"),
            ValueError,
            "must be one of voc:PATH, coco:PATH, yolo:PATH, csv:PATH, got 'masks:",
        ),
        (("shapes", "{}/new"), ValueError, "TARGET must be one of"),
        (("shapes", "voc:"), ValueError, "got 'voc:'"),
        (("shapes", "voc:{}"), FileExistsError, "not empty"),
        (("shapes", "voc:{}/file"), NotADirectoryError, "file"),
        (("cats", "voc:{}/new"), ValueError, "'cats'"),
        (("shapes", "voc:{}/new", "--train", "-1"), ValueError, "--train must not be negative, got -1"),
        (("shapes", "voc:{}/new", "--train", "0", "--val", "0"), ValueError, "must not both be 0"),
    ],
)
def test_invalid_arguments_are_errors(tmp_path, arguments, error, message):
    (tmp_path / "file").write_text("text")
    with pytest.raises(error, match=message):
        convert(*(argument.format(tmp_path) for argument in arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_failed_conversion_leaves_no_files(tmp_path, monkeypatch, error):
    def fails(dataset, folder, split):
        data.write_csv(dataset, folder, split, progress=False)
        raise error

    monkeypatch.setitem(shared.WRITERS, "csv", fails)
    with pytest.raises(error):
        convert("shapes", f"csv:{tmp_path / 'set'}", "--train", 2, "--val", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def fails(dataset, folder, split):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setitem(shared.WRITERS, "csv", fails)
    with pytest.raises(PermissionError) as caught:
        convert("shapes", f"csv:{tmp_path / 'set'}", "--train", 2, "--val", 2)
    assert caught.value.filename == str(tmp_path / "set")


def test_a_test_split_is_converted(tmp_path, capsys):
    for split, count in (("train", 4), ("val", 3), ("test", 2)):
        data.write_yolo(data.Shapes(count), tmp_path / "set", split, progress=False)
    assert convert(tmp_path / "set", f"csv:{tmp_path / 'new'}") == 0
    assert capsys.readouterr().out == f"csv:{tmp_path / 'new'}: 4 for train, 3 for val, 2 for test\n"
    assert len(data.load(f"csv:{tmp_path / 'new'}", "test")) == 2


@pytest.mark.parametrize(
    "kind, lines",
    [
        ("coco", []),
        ("csv", []),
        ("voc", ["voc cannot mark objects as crowd; written as difficult: 1"]),
        (
            "yolo",
            [
                "yolo cannot mark objects as difficult; written as ordinary objects: 2",
                "yolo cannot mark objects as crowd; written as ordinary objects: 1",
            ],
        ),
    ],
)
def test_flags_that_a_format_cannot_store_are_counted(tmp_path, kind, lines, capsys):
    for name in "ab":
        save_image(tmp_path / f"{name}.png")
    rows = "a.png,1,2,3,4,cat,1,0\na.png,1,2,3,4,cat,1,1\nb.png,1,2,3,4,cat,0,0\n"
    write(tmp_path / "set.csv", f"image,x1,y1,x2,y2,label,difficult,crowd\n{rows}")
    convert(f"csv:{tmp_path / 'set.csv'}", f"{kind}:{tmp_path / 'new'}")
    assert capsys.readouterr().err.splitlines() == [f"rcnn: {line}" for line in lines]
