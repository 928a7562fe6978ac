"""`rcnn detect`: it writes annotated images and JSON for images of every format, and skips other files."""

import io
import json
import os
import sys
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image

import rcnn
from rcnn import cli, data, images
from rcnn.cli import demo, inputs, shared
from rcnn.cli.photos import Names, Photo, detect_groups
from rcnn.cli.process import INTERRUPTED

DIGITS = Path(rcnn.__file__).parent / "zoo" / "weights" / "digits.safetensors"
NAMES = ("background", "red", "blue")


class Finder:
    """Detector of red regions that records the thresholds of its calls."""

    def __init__(self, names=NAMES):
        self.config = SimpleNamespace(class_names=names)
        self.thresholds = []

    def predict(self, images, score_thresh=None):
        self.thresholds.append(score_thresh)
        return [self.find(image.astype(int)) for image in images]

    def find(self, image):
        rows, columns = np.nonzero(image[:, :, 0] - image[:, :, 1] > 99)
        boxes = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if len(rows) else np.zeros((0, 4))
        count = len(boxes)
        return {"boxes": np.array(boxes, np.float32), "scores": np.full(count, 0.87654), "labels": np.ones(count, int)}


@pytest.fixture
def finder(monkeypatch):
    """The detector that every `--weights` loads."""
    model = Finder()
    monkeypatch.setattr(shared, "load_detector", lambda weights: model)
    return model


@pytest.fixture
def photo(tmp_path):
    """A file with a red box at (16, 32, 48, 40) in 64 x 48 grey pixels."""
    return paint(tmp_path / "photo.png")


def paint(path, size=(64, 48), box=(16, 32, 48, 40), **options):
    image = Image.new("RGB", size, (90, 90, 90))
    image.paste((255, 0, 0), box)
    image.save(path, **options)
    return path


def detect(*arguments):
    return cli.main(["detect", *map(str, arguments), "--weights", "any"])


def detect_files(model, files, folder, score=None, batch=1, workers=0):
    """Yield each file with its outcome."""
    names = Names(folder, files)
    photos = [Photo(file, names.new(file.stem)) for file in files]
    groups = [photos[start : start + batch] for start in range(0, len(photos), batch)]
    for result in detect_groups(model, groups, score, workers):
        yield from result.outcomes


# ---------------------------------------------------------------------- output


def test_the_shipped_digits(tmp_path, capsys):
    image, _ = data.Digits(split="val")[demo.PAGE]
    page, report, out = tmp_path / "page.png", tmp_path / "found.json", tmp_path / "drawn"
    Image.fromarray(image).save(page)
    assert (
        cli.main(
            ["detect", str(page), "--weights", str(DIGITS), "--out", str(out), "--json", str(report), "--score", "0.5"]
        )
        == 0
    )
    (entry,) = json.loads(report.read_text())
    expected = rcnn.load_digits().predict([page], score_thresh=0.5)[0]
    assert entry["file"] == str(page) and entry["size"] == {"width": image.shape[1], "height": image.shape[0]}
    np.testing.assert_allclose([d["box"] for d in entry["detections"]], expected["boxes"], atol=0.006)
    np.testing.assert_allclose([d["score"] for d in entry["detections"]], expected["scores"], atol=6e-5)
    assert [d["label"] for d in entry["detections"]] == expected["labels"].tolist()
    assert all(d["name"] == str(d["label"] - 1) and d["score"] > 0.5 for d in entry["detections"])
    with Image.open(out / "page.png") as drawn:
        assert min(drawn.size) >= 400
    assert f"{page}: {len(expected['boxes'])} detected, drawing: {out / 'page.png'}" in capsys.readouterr().out


def test_a_real_photograph(tmp_path):
    """End to end on a JPEG of matplotlib; it shows no digits, but there may be false positives."""
    photograph = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    assert (
        cli.main(
            [
                "detect",
                str(photograph),
                "--weights",
                str(DIGITS),
                "--score",
                "0.05",
                "--out",
                str(tmp_path),
                "--json",
                str(tmp_path / "found.json"),
            ]
        )
        == 0
    )
    (entry,) = json.loads((tmp_path / "found.json").read_text())
    assert entry["size"] == {"width": 512, "height": 600}
    boxes = np.array([d["box"] for d in entry["detections"]])
    assert len(boxes) and (boxes >= 0).all() and (boxes[:, 2] <= 512).all() and (boxes[:, 3] <= 600).all()
    with Image.open(tmp_path / "grace_hopper.png") as drawn:
        assert drawn.width % 512 == 0 and drawn.height % 600 == 0


def test_json_has_file_drawing_size_and_detections(photo, finder, tmp_path):
    assert detect(photo, "--out", tmp_path / "a" / "b", "--json", tmp_path / "found.json", "--score", "0.25") == 0
    assert json.loads((tmp_path / "found.json").read_text()) == [
        {
            "file": str(photo),
            "drawing": str(tmp_path / "a" / "b" / "photo.png"),
            "size": {"width": 64, "height": 48},
            "detections": [{"box": [16.0, 32.0, 48.0, 40.0], "score": 0.8765, "label": 1, "name": "red"}],
        }
    ]
    assert finder.thresholds == [0.25]


def test_without_class_names_the_label_is_shown(photo, tmp_path):
    ((_, (entry, shown)),) = detect_files(Finder(names=None), [photo], tmp_path)
    assert entry["detections"] == shown == [{"box": [16.0, 32.0, 48.0, 40.0], "score": 0.8765, "label": 1}]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_in_the_pixels_of_the_upright_photo(tmp_path, finder, orientation):
    upright = Image.new("RGB", (64, 48), (90, 90, 90))
    upright.paste((255, 0, 0), (16, 32, 48, 40))
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if back is None else upright.transpose(back)
    stored.save(tmp_path / "photo.jpg", quality=95, subsampling=0, exif=exif)
    assert detect(tmp_path / "photo.jpg", "--out", tmp_path, "--json", tmp_path / "found.json") == 0
    (entry,) = json.loads((tmp_path / "found.json").read_text())
    assert entry["size"] == {"width": 64, "height": 48}
    np.testing.assert_allclose(entry["detections"][0]["box"], [16, 32, 48, 40], atol=1)
    with Image.open(tmp_path / "photo.png") as drawn:
        assert drawn.size == (512, 384)


def test_drawing_is_the_photo_with_its_detections(tmp_path, finder):
    photo = paint(tmp_path / "photo.png", (640, 480), (160, 320, 480, 400))
    assert detect(photo, "--out", tmp_path / "drawn") == 0
    given, drawn = images.read(photo), images.read(tmp_path / "drawn" / "photo.png")
    np.testing.assert_array_equal(drawn[330:390, 170:470], given[330:390, 170:470])
    np.testing.assert_array_equal(drawn[:290], given[:290])
    assert (drawn[360, 160] != given[360, 160]).any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_photo(tmp_path, finder, mode):
    name = "photo.tif" if mode == "CMYK" else "photo.png"
    (Image.new("I;16", (64, 48)) if mode == "I;16" else Image.new("RGB", (64, 48)).convert(mode)).save(tmp_path / name)
    assert detect(tmp_path / name, "--out", tmp_path / "drawn") == 0
    assert images.read(tmp_path / "drawn" / "photo.png").shape == (384, 512, 3)


# ---------------------------------------------------------------------- many files, some unreadable


def test_unreadable_files_are_reported_and_skipped(tmp_path, photo, finder, capsys, monkeypatch):
    bad = [tmp_path / name for name in ("text.png", "empty.jpg", "folder", "absent.png", "cut.png", "bomb.png")]
    bad[0].write_text("not an image")
    bad[1].write_bytes(b"")
    bad[2].mkdir()
    bad[4].write_bytes(photo.read_bytes()[:-30])
    Image.new("L", (99, 99)).save(bad[5])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48)
    last = paint(tmp_path / "last.webp")
    assert detect(*bad[:3], photo, *bad[3:], last, "--out", tmp_path / "drawn", "--json", "-") == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == len(bad)
    for line, path in zip(lines, [bad[2], *bad[:2], *bad[3:]], strict=True):  # the folder has no images
        assert line.startswith((f"rcnn: {path} ", f"rcnn: {path}: ")) and line.count(str(path)) == 1
    assert [entry["file"] for entry in json.loads(captured.out)] == [str(photo), str(last)]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["last.png", "photo.png"]


@pytest.mark.parametrize("error", [ValueError("odd"), MemoryError(), OSError("no space left")])
def test_error_of_detector_or_disk_is_reported_for_the_file(tmp_path, photo, finder, capsys, monkeypatch, error):
    other = paint(tmp_path / "other.png")
    find = finder.find

    def fails_once(image):
        monkeypatch.setattr(finder, "find", find)
        raise error

    monkeypatch.setattr(finder, "find", fails_once)
    assert detect(photo, other, "--out", tmp_path / "drawn") == 2
    captured = capsys.readouterr()
    assert captured.err == f"rcnn: {photo}: {str(error) or 'not enough memory'}\n"
    assert captured.out.startswith(f"{other}: 1 detected, drawing: {tmp_path / 'drawn' / 'other.png'}\n")


def test_no_drawing_replaces_another_or_a_photo(tmp_path, finder):
    (tmp_path / "a").mkdir()
    photos = [paint(tmp_path / name) for name in ("x.png", "a/x.png", "x.bmp", "X.tif", "y.jpg")]
    before = [path.read_bytes() for path in photos]
    again = tmp_path / "a" / ".." / "x.png"  # each file is read once
    assert detect(*photos, photos[0], again, "--out", tmp_path, "--json", tmp_path / "found.json") == 0
    drawn = [entry["drawing"] for entry in json.loads((tmp_path / "found.json").read_text())]
    assert [Path(path).name for path in drawn] == ["x-2.png", "x-3.png", "x-4.png", "X-5.png", "y.png"]
    assert [path.read_bytes() for path in photos] == before
    assert detect(photos[4], "--out", tmp_path) == 0  # a second run writes the same names again
    assert len(list(tmp_path.glob("y*.png"))) == 1


def test_only_one_photo_is_in_memory_at_a_time(tmp_path):
    class Watcher(Finder):
        seen: list[weakref.ref] = []

        def predict(self, images, score_thresh=None):
            assert not any(photo() is not None for photo in self.seen)
            self.seen.append(weakref.ref(images[0]))
            return super().predict(images, score_thresh)

    files = [paint(tmp_path / f"{number}.png") for number in range(3)]
    outcomes = [outcome for _, outcome in detect_files(Watcher(), [*files, tmp_path, files[0]], tmp_path)]
    assert [isinstance(outcome, tuple) for outcome in outcomes] == [True, True, True, False, True]
    assert len(Watcher.seen) == 4


@pytest.mark.parametrize("batch", [1, 2])
def test_threads_change_neither_the_outcomes_nor_their_order(tmp_path, album, finder, batch):
    for i in range(6):
        (tmp_path / f"{i}").mkdir()
    same = [paint(tmp_path / f"{i}" / "x.png") for i in range(6)]
    files = [album / "a.jpg", album / "notes.md", *same, tmp_path]
    outcomes = [list(detect_files(finder, files, tmp_path, 0.5, batch, workers=workers)) for workers in (0, 2)]
    assert outcomes[0] == outcomes[1] and [file for file, _ in outcomes[1]].count(album / "notes.md") == 1
    assert sum(isinstance(outcome, tuple) for _, outcome in outcomes[1]) == 7
    assert {path.name for path in tmp_path.glob("*.png")} == {"a.png", "x.png", *(f"x-{i}.png" for i in range(2, 7))}


def test_threads_keep_few_photos_in_memory(tmp_path):
    class Counter(Finder):
        photos: list[weakref.ref] = []
        most = 0

        def predict(self, images, score_thresh=None):
            self.photos.append(weakref.ref(images[0]))
            self.most = max(self.most, sum(photo() is not None for photo in self.photos))
            return super().predict(images, score_thresh)

    model = Counter()
    assert len(list(detect_files(model, [paint(tmp_path / f"{i}.png") for i in range(12)], tmp_path, workers=2))) == 12
    assert model.most <= 6  # two in the detector, one that waits, and two or three that are drawn


@pytest.mark.parametrize("threads", [1, 2])
def test_unusual_metadata_is_no_warning(tmp_path, finder, capsys, threads):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6"  # it ends too early
    files = [paint(tmp_path / f"{i}.png", exif=exif) for i in range(3)]
    with rcnn.set_num_threads(threads), warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert detect(*files, "--out", tmp_path / "drawn") == 0
    assert not any("EXIF" in str(warning.message) for warning in shown) and capsys.readouterr().err == ""


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_keeps_the_detections_so_far(tmp_path, photo, finder, capsys, monkeypatch, threads):
    def stop(image):
        raise KeyboardInterrupt

    blue = tmp_path / "blue.png"
    Image.new("RGB", (9, 9), "blue").save(blue)
    find = finder.find
    monkeypatch.setattr(finder, "find", lambda image: stop(image) if len(image) == 9 else find(image))
    with rcnn.set_num_threads(threads):
        assert detect(photo, blue, photo, "--out", tmp_path / "drawn", "--json", tmp_path / "found.json") == INTERRUPTED
    assert [entry["file"] for entry in json.loads((tmp_path / "found.json").read_text())] == [str(photo)]
    assert capsys.readouterr().err == "rcnn: interrupted\n"


@pytest.mark.parametrize("terminal, count, bar", [(True, 4, True), (True, 3, False), (False, 4, False)])
def test_many_photos_on_a_terminal_get_a_bar(tmp_path, photo, finder, capsys, monkeypatch, terminal, count, bar):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    photos = [paint(tmp_path / f"{number}.png") for number in range(count)]
    assert detect(*photos, "--out", tmp_path / "drawn") == 0
    captured = capsys.readouterr()
    assert (f"{count}/{count}" in captured.err) == bar
    assert captured.out.count(" detected, drawing: ") == count


def test_names_that_the_output_cannot_show(tmp_path, finder, monkeypatch):
    photo = paint(tmp_path / "\u2603.png")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert detect(photo, "--out", tmp_path / "drawn", "--json", tmp_path / "found.json") == 0
    out.flush()
    assert b"\\u2603.png: 1 detected" in out.buffer.getvalue()
    assert json.loads((tmp_path / "found.json").read_text())[0]["file"] == str(photo)


# ---------------------------------------------------------------------- inputs


def names_in(report):
    return [Path(entry["file"]).name for entry in json.loads(report.read_text())]


@pytest.fixture
def album(tmp_path, finder):
    """A folder with two images, a hidden file, a text file, and a subfolder with an image."""
    folder = tmp_path / "album"
    (folder / "older").mkdir(parents=True)
    for name in ("b.PNG", "a.jpg", "older/c.png"):
        paint(folder / name)
    (folder / "._a.jpg").write_bytes(b"of a Mac")
    (folder / "notes.md").write_text("notes")
    return folder


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("", ["a.jpg", "b.PNG"]),
        ("*.jpg", ["a.jpg"]),
        ("**/*.[pP][nN][gG]", ["b.PNG", "c.png"]),
        ("old*/**", ["c.png"]),
        ("../al*/**/**/older/*", ["c.png"]),
        ("**/older/**/*.png", ["c.png"]),
        ("older", ["c.png"]),
    ],
)
def test_folders_and_patterns(tmp_path, album, argument, expected):
    report = tmp_path / "found.json"
    assert detect(album / argument, "--out", tmp_path / "out", "--json", report) == 0
    assert names_in(report) == expected


def test_pattern_in_a_folder_with_links_to_itself(tmp_path, album):
    """With glob.glob, the number of paths grows exponentially."""
    for number in range(4):
        (album / f"loop{number}").symlink_to(".")
    (tmp_path / "elsewhere").mkdir()
    paint(tmp_path / "elsewhere" / "d.png")
    (album / "linked").symlink_to("../elsewhere")
    assert detect(album / "**" / "*.png", "--out", tmp_path / "out", "--json", tmp_path / "found.json") == 0
    assert names_in(tmp_path / "found.json") == ["d.png", "c.png"]


def test_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path, finder):
    photo = paint(tmp_path / "photo[1].png")
    assert detect(photo, "--out", tmp_path / "out", "--json", tmp_path / "found.json") == 0
    assert names_in(tmp_path / "found.json") == ["photo[1].png"]


def test_list_of_paths(tmp_path, album, monkeypatch):
    """A path is relative to the list's folder, or else to the current folder."""
    (album / "list.txt").write_text("a.jpg\n\n  album/older/c.png  \r\n" + str(album / "b.PNG"), encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path)
    assert detect(album / "list.txt", "--out", "out", "--json", "found.json") == 0
    assert names_in(tmp_path / "found.json") == ["a.jpg", "c.png", "b.PNG"]


@pytest.mark.parametrize("end", ["\n", "\0"])
def test_list_of_paths_from_standard_input(tmp_path, album, monkeypatch, end):
    listing = end.join(str(album / name) for name in ("b.PNG", "older/c.png"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listing.encode())))
    assert detect("-", "--out", tmp_path / "out", "--json", tmp_path / "found.json") == 0
    assert names_in(tmp_path / "found.json") == ["b.PNG", "c.png"]


@pytest.mark.parametrize("end", ["\n", "\0"])
def test_paths_in_lists_may_contain_other_separators(tmp_path, finder, monkeypatch, end):
    names = ["a\u2028b.png", "c\x0bd.png", *([" e\nf.png", "g.png\n"] if end == "\0" else [])]
    for name in names:
        paint(tmp_path / name, format="PNG")
    listing = "".join(f"{name}{end}" for name in names)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listing.encode())))
    assert detect("-", "--out", "out", "--json", "found.json") == 0
    assert names_in(tmp_path / "found.json") == names


def test_list_that_is_too_long_is_not_cut(tmp_path, album, capsys, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_LIST", 9)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\nb.png\n")))
    assert detect("-", album / "a.jpg", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == "rcnn: standard input must have at most 9 bytes\n"


def test_heic_photos_in_a_folder_are_reported(tmp_path, finder, capsys):
    for name in ("a.jpg", "a.HEIC", "b.HEIC"):  # a.jpg is the converted photo
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    paint(tmp_path / "a.jpg")
    assert detect(tmp_path, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"rcnn: {tmp_path / 'b.HEIC'} is a HEIC photo, which rcnn does not read; convert it to JPEG\n"
    )


def test_a_dark_16_bit_image_is_a_warning(tmp_path, finder, capsys):
    for name, most in (("a.png", 4095), ("b.png", 65535)):
        Image.fromarray(np.linspace(0, most, 40 * 60).astype(np.uint16).reshape(40, 60)).save(tmp_path / name)
    assert detect(tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out") == 0
    assert capsys.readouterr().err == (
        f"rcnn: warning: {tmp_path / 'a.png'}: a 16-bit image is almost black, because its values do not use all bits; "
        "multiply its values, for example by 16 if they have 12 bits\n"
    )


def test_other_images_in_a_folder_are_counted(album, capsys):
    for name in ("a.CR2", "d.CR2", "e.cr2", "f.svg"):  # a.jpg is the converted photo
        (album / name).write_bytes(b"no")
    assert detect(album, "--out", album.parent / "out") == 0
    assert capsys.readouterr().err == (
        f"rcnn: warning: {album}: 3 files were ignored, because rcnn cannot read .cr2, .svg; convert to PNG or JPEG\n"
    )


def test_drawings_are_not_mixed_with_the_images_of_a_folder(album, capsys):
    before = sorted(album.iterdir())
    assert detect(album, "--out", f"{album}/older/..") == 2
    assert "is a folder of images, and the next run would read the drawings as images" in capsys.readouterr().err
    assert sorted(album.iterdir()) == before


def test_arguments_that_name_no_images_are_reported(tmp_path, album, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    arguments = [tmp_path / "empty", tmp_path / "empty.txt", tmp_path / "*.tif", "-"]
    assert detect(*arguments, album / "a.jpg", "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    messages = (
        "contains no images; ",
        "empty.txt contains no paths of images",
        "*.tif: no file matches",
        "standard input contains no paths",
    )
    for line, message in zip(captured.err.splitlines(), messages, strict=True):
        assert message in line
    assert "a.jpg: 1 detected" in captured.out


def test_batches(tmp_path, album, capsys):
    class Recorder(Finder):
        sizes: list[int] = []

        def predict(self, images, score_thresh=None):
            self.sizes.append(len(images))
            if len(images) > 1 and any(len(image) == 9 for image in images):
                raise MemoryError
            return super().predict(images, score_thresh)

    small = paint(tmp_path / "small.png", size=(9, 9))
    files = [album / "a.jpg", album / "notes.md", album / "b.PNG", album / "older" / "c.png", small]
    outcomes = list(detect_files(Recorder(), files, tmp_path, batch=3))
    assert [file.name for file, _ in outcomes] == ["a.jpg", "notes.md", "b.PNG", "c.png", "small.png"]
    assert [isinstance(outcome, str) for _, outcome in outcomes] == [False, True, False, False, False]
    assert Recorder.sizes == [2, 2, 1, 1]  # a batch that fails is processed one by one


def test_very_large_image_is_allowed_by_the_option_that_the_error_names(tmp_path, photo, finder, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert detect(photo, "--out", tmp_path / "out") == 2
    assert "has 3,072 pixels" in (error := capsys.readouterr().err) and "add --max-pixels 3072 to" in error
    assert detect(photo, "--out", tmp_path / "out", "--max-pixels", 3072) == 0
    assert Image.MAX_IMAGE_PIXELS == 1000
    assert detect(photo, "--max-pixels", 0) == 2
    assert capsys.readouterr().err == "rcnn: --max-pixels must be at least 1, got 0\n"


# ---------------------------------------------------------------------- low scores, counts, annotations


class TwoScores(Finder):
    """Detector that reports each red region twice: as red with a high score, and as blue with a low score."""

    def find(self, image):
        found = super().find(image)
        low = {"boxes": found["boxes"], "scores": found["scores"] - 0.5, "labels": found["labels"] + 1}
        return {key: np.concatenate([found[key], low[key]]) for key in found}


@pytest.fixture
def unsure(monkeypatch):
    model = TwoScores()
    monkeypatch.setattr(shared, "load_detector", lambda weights: model)
    return model


def test_low_scores_are_only_in_the_json_file(tmp_path, unsure, capsys):
    photo = paint(tmp_path / "photo.png", (640, 480), (160, 320, 480, 400))
    assert detect(photo, "--out", tmp_path / "out", "--json", tmp_path / "found.json", "--csv", tmp_path / "t.csv") == 0
    (entry,) = json.loads((tmp_path / "found.json").read_text())
    assert [d["score"] for d in entry["detections"]] == [0.8765, 0.3765] and unsure.thresholds == [None]
    assert "photo.png: 1 detected" in capsys.readouterr().out
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 2
    usual = images.read(tmp_path / "out" / "photo.png")
    assert detect(photo, "--out", tmp_path / "out", "--score", 0.1) == 0
    assert "photo.png: 2 detected" in capsys.readouterr().out
    assert (images.read(tmp_path / "out" / "photo.png") != usual).any()


def test_classes_are_counted_at_the_end(tmp_path, unsure, capsys):
    photos = [paint(tmp_path / f"{number}.png") for number in range(2)]
    Image.new("RGB", (9, 9)).save(tmp_path / "none.png")
    assert detect(*photos, tmp_path / "none.png", "--score", 0.3, "--out", tmp_path / "out") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[3:]] == [
        ["detections", "above", "a", "score", "of", "0.3:"],
        ["class", "detections", "images"],
        ["red", "2", "2"],
        ["blue", "2", "2"],
        ["all", "4", "2", "of", "3"],
    ]
    assert detect(tmp_path / "none.png", "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "0", "0", "of", "1"]


def read_back(spec):
    """Return the image sizes, boxes and class names of a data set."""
    dataset = data.load(spec, None)
    items = [dataset[i] for i in range(len(dataset))]
    return [
        (image.shape[:2], target["boxes"].tolist(), [dataset.classes[label] for label in target["labels"]])
        for image, target in items
    ]


@pytest.fixture
def photos(tmp_path, finder):
    """Two images with the same name, one of them rotated by its EXIF orientation, and an image without objects."""
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    first = paint(folder / "a.png")
    turned = paint(folder / "b" / "a.png", exif=exif)
    Image.new("RGB", (20, 10)).save(folder / "c.png")
    return [first, turned, folder / "c.png"]


EXPECTED = [
    ((48, 64), [[16, 32, 48, 40]], ["red"]),
    ((64, 48), [[8, 16, 16, 48]], ["red"]),
    ((10, 20), [], []),
]


def test_voc_annotations_are_read_back(tmp_path, photos):
    assert detect(*photos, "--out", tmp_path / "out", "--voc", tmp_path / "set") == 0
    assert sorted(path.name for path in (tmp_path / "set" / "JPEGImages").iterdir()) == ["a-2.png", "a.png", "c.png"]
    found = read_back(f"voc:{tmp_path / 'set'}")
    assert sorted(found) == sorted(EXPECTED)


def test_csv_annotations_are_read_back(tmp_path, photos):
    assert detect(*photos, "--out", tmp_path / "out", "--csv", tmp_path / "photos" / "found.csv") == 0
    assert sorted(read_back(f"csv:{tmp_path / 'photos' / 'found.csv'}")) == sorted(EXPECTED)


@pytest.mark.parametrize("option", ["--csv", "--voc", "--yolo", "--labelme"])
def test_names_that_annotations_cannot_contain(tmp_path, finder, capsys, option):
    names = ["ctl\x01x", "x\ufffe", " lead", "sur\udcffx", "back\\slash", "line\u2028", "C:x"]
    for name in (*names, "a", "in side ä"):
        paint(tmp_path / f"{name}.png")
    target = tmp_path / ("found.csv" if option == "--csv" else "set")
    assert detect(tmp_path, "--out", tmp_path / "out", option, target) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(names) and all("annotations cannot contain this name; rename" in line for line in lines)
    assert len(read_back(f"{option[2:]}:{target}")) == 2
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert detect(tmp_path, "--out", tmp_path / "out") == 0


def test_yolo_annotations_are_fractions_of_the_upright_image(tmp_path, photos):
    assert detect(*photos, "--out", tmp_path / "out", "--yolo", tmp_path / "set") == 0
    labels = {path.name: path.read_text() for path in (tmp_path / "set" / "labels").iterdir()}
    assert labels == {
        "a.txt": "0 0.500000 0.750000 0.500000 0.166667\n",
        "a-2.txt": "0 0.250000 0.500000 0.166667 0.500000\n",
        "c.txt": "",
    }
    assert (tmp_path / "set" / "classes.txt").read_text() == "red\nblue\n"
    assert (tmp_path / "set" / "images" / "a.png").read_bytes() == photos[0].read_bytes()


def test_labelme_annotations_are_read_back(tmp_path, photos):
    assert detect(*photos, "--out", tmp_path / "out", "--labelme", tmp_path / "set") == 0
    names = ["a-2.json", "a-2.png", "a.json", "a.png", "c.json", "c.png"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == names
    assert sorted(read_back(f"labelme:{tmp_path / 'set'}")) == sorted(EXPECTED)
    sheet = json.loads((tmp_path / "set" / "a.json").read_text())
    assert (sheet["imagePath"], sheet["imageData"], sheet["imageHeight"], sheet["imageWidth"]) == (
        "a.png",
        None,
        48,
        64,
    )
    assert sheet["shapes"][0]["shape_type"] == "rectangle" and sheet["shapes"][0]["label"] == "red"


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--score", "nan"], "--score must be between 0 and 1, got nan"),
        (["--score", "-0.1"], "--score must be between 0 and 1, got -0.1"),
        (["--json", "nowhere/found.json"], "--json nowhere/found.json: folder nowhere not found"),
        (["--batch", "0"], "--batch must be at least 1, got 0"),
        (["--csv", "nowhere/found.csv"], "--csv nowhere/found.csv: folder nowhere not found"),
        (["--voc", "."], ". is not empty; choose a new folder"),
        (["--json", "."], "--json must name a file, got the folder ."),
        (["--json", "photo.png"], "--json must name a file that ends in .json, got photo.png"),
        (["--json", "a.safetensors"], "--json must name a file that ends in .json, got a.safetensors"),
        (["--csv", "found.json"], "--csv must name a file that ends in .csv, got found.json"),
        (["--csv", "-"], "--csv must name a file that ends in .csv, got -"),
        (["--labelme", "new", "--out", "new"], "--out must be outside the new folder new, got new"),
        (["--yolo", "new", "--out", "new/images"], "--out must be outside the new folder new, got new/images"),
    ],
)
def test_errors_are_raised_before_the_work(photo, finder, capsys, arguments, message):
    assert detect(photo, *arguments) == 2
    assert capsys.readouterr().err == f"rcnn: {message}\n"
    assert finder.thresholds == []


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_pipe_that_nobody_reads_is_noticed_before_the_work(tmp_path, photo, finder, capsys, option):
    os.mkfifo(tmp_path / "pipe")
    assert detect(photo, option, tmp_path / "pipe", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == f"rcnn: {tmp_path / 'pipe'}: no process reads from this pipe\n"
    assert finder.thresholds == []


def test_weights_are_passed_on_unchanged(photo, capsys, monkeypatch):
    requested = []

    def load(weights):
        requested.append(weights)
        raise OSError("offline")

    monkeypatch.setattr(shared, "load_detector", load)
    assert cli.main(["detect", str(photo), "--weights", "coco"]) == 2
    assert requested == ["coco"] and capsys.readouterr().err == "rcnn: offline\n"


def test_folder_of_a_run_means_its_best_weights(photo, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    assert cli.main(["detect", str(photo), "--weights", str(run)]) == 2
    assert "run is not the folder of a run: it contains neither best.safetensors nor" in capsys.readouterr().err
    (run / "data.pkl").write_bytes(b"")
    assert cli.main(["detect", str(photo), "--weights", str(run)]) == 2
    assert "run is an unpacked .pth file; pack it: zip -0 -r weights.pth run" in capsys.readouterr().err
    (run / "model.safetensors").write_text("no weights")
    (run / "best.safetensors").write_bytes(DIGITS.read_bytes())
    assert cli.main(["detect", str(photo), "--weights", str(run), "--out", str(tmp_path / "out")]) == 0
