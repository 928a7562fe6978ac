"""`rcnn detect` on videos: frames, the video of drawings, and files that are damaged, cut off or no videos."""

import csv
import json
import struct
import sys
import wave
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from rcnn import cli
from rcnn.cli import detect as command
from rcnn.cli import shared
from rcnn.cli.process import INTERRUPTED
from rcnn.cli.video import Reader, Writer, is_video, upright

SIZE = (320, 240)  # width and height
RATE = 10


class Finder:
    """Detector of one red region."""

    def __init__(self):
        self.config = SimpleNamespace(class_names=("background", "red"))
        self.calls = []

    def predict(self, images, score_thresh=None):
        self.calls.append((len(images), score_thresh))
        return [self.find(image.astype(int)) for image in images]

    def find(self, image):
        rows, columns = np.nonzero(image[:, :, 0] - image[:, :, 1] > 99)
        boxes = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if len(rows) else np.zeros((0, 4))
        count = len(boxes)
        return {"boxes": np.array(boxes, np.float32), "scores": np.full(count, 0.9), "labels": np.ones(count, int)}


@pytest.fixture
def finder(monkeypatch):
    model = Finder()
    monkeypatch.setattr(shared, "load_detector", lambda weights: model)
    return model


def film(path, frames=5, codec="mpeg4", **options):
    """Write a video in which a red box of 80 x 60 pixels moves to the right by 10 pixels in each frame."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(frames):
            image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
            left = 10 * number % 200
            image[100:160, left : left + 80] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path):
    """Return the frames of a video as arrays, and its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], stream.average_rate


def detect(*arguments):
    return cli.main(["detect", *map(str, arguments), "--weights", "any"])


def entries(tmp_path):
    return json.loads((tmp_path / "found.json").read_text())


def outputs(tmp_path):
    return ["--out", tmp_path / "out", "--json", tmp_path / "found.json"]


# ---------------------------------------------------------------------- output


def test_every_frame_is_detected_and_drawn(tmp_path, finder, capsys):
    path = film(tmp_path / "film.mp4")
    assert detect(path, *outputs(tmp_path), "--batch", 2) == 0
    found = entries(tmp_path)
    assert [(entry["frame"], entry["time"]) for entry in found] == [(k, k / RATE) for k in range(5)]
    assert {(entry["file"], entry["drawing"]) for entry in found} == {(str(path), str(tmp_path / "out" / "film.mp4"))}
    assert all(entry["size"] == {"width": 320, "height": 240} for entry in found)
    for entry in found:
        left = 10 * entry["frame"]
        np.testing.assert_allclose(entry["detections"][0]["box"], [left, 100, left + 80, 160], atol=3)
    assert finder.calls == [(2, None), (2, None), (1, None)]
    drawn, rate = read(tmp_path / "out" / "film.mp4")
    assert len(drawn) == 5 and rate == RATE and {frame.shape for frame in drawn} == {(480, 640, 3)}
    given, _ = read(path)
    assert abs(drawn[2][400:].astype(int) - given[2][200:].repeat(2, 0).repeat(2, 1)).mean() < 9
    assert abs(drawn[2][180:340, 20:240].astype(int) - given[2][90:170, 10:120].repeat(2, 0).repeat(2, 1)).mean() > 9
    text = capsys.readouterr().out
    assert f"{path}: 5 detected in 5 frames, video: {tmp_path / 'out' / 'film.mp4'}" in text
    assert "class        detections  frames" in text and "all                   5       5 of 5" in text


def test_every_nth_frame(tmp_path, finder):
    assert detect(film(tmp_path / "film.mp4", 7), *outputs(tmp_path), "--every", 3) == 0
    assert [entry["frame"] for entry in entries(tmp_path)] == [0, 3, 6]
    drawn, rate = read(tmp_path / "out" / "film.mp4")
    assert len(drawn) == 3 and rate == Fraction(RATE, 3)


def test_tables_and_folders_contain_frames_and_images(tmp_path, finder, capsys):
    path = film(tmp_path / "film.mp4", 3)
    Image.new("RGB", SIZE, (90, 90, 90)).save(tmp_path / "photo.png")
    options = ["--csv", tmp_path / "found.csv", "--voc", tmp_path / "voc", "--yolo", tmp_path / "yolo", "--every", 2]
    assert detect(path, tmp_path / "photo.png", *outputs(tmp_path), *options) == 0
    with (tmp_path / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["frame"], row["time"], row["label"]) for row in rows] == [
        ("photo.png", "", "", ""),
        ("film.mp4", "0", "0.0", "red"),
        ("film.mp4", "2", "0.2", "red"),
    ]
    for folder in (tmp_path / "voc" / "JPEGImages", tmp_path / "yolo" / "images"):
        assert sorted(file.name for file in folder.iterdir()) == ["film-000000.png", "film-000002.png", "photo.png"]
    assert (tmp_path / "yolo" / "labels" / "film-000002.txt").read_text().startswith("0 ")
    assert "detections  images" in capsys.readouterr().out


def test_a_drawing_never_replaces_a_video(tmp_path, finder):
    path = film(tmp_path / "film.mp4", 2)
    before = path.read_bytes()
    other = film(tmp_path / "film.avi", 2)
    assert detect(path, other, "--out", tmp_path) == 0
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"film.mp4", "film.avi", "film-2.mp4", "film-3.mp4"}


def test_ctrl_c_keeps_the_frames_so_far(tmp_path, finder, monkeypatch):
    find, calls = finder.find, []

    def stopping(image):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return find(image)

    monkeypatch.setattr(finder, "find", stopping)
    assert detect(film(tmp_path / "film.mp4"), *outputs(tmp_path)) == INTERRUPTED
    assert len(entries(tmp_path)) == len(read(tmp_path / "out" / "film.mp4")[0]) == 3


def test_frames_are_not_kept_in_memory(tmp_path):
    alive = []
    with Reader(film(tmp_path / "film.mp4", 40)) as frames:
        for frame in frames.frames():
            alive.append(sys.getrefcount(frame.image))
    assert len(alive) == 40 and max(alive) <= 3


# ---------------------------------------------------------------------- damaged files, and no videos


def test_a_missing_package_is_one_line(tmp_path, finder, monkeypatch, capsys):
    path = film(tmp_path / "film.mp4", 2)
    monkeypatch.setitem(sys.modules, "av", None)
    assert detect(path, *outputs(tmp_path)) == 2
    expected = f"rcnn: {path}: videos require the package av, which is not installed; run: pip install 'rcnn[video]'\n"
    assert capsys.readouterr().err == expected


def test_files_that_are_no_videos_are_reported_and_the_others_are_used(tmp_path, finder, capsys):
    sound, text, empty, absent = (tmp_path / f"{name}.mp4" for name in ("sound", "text", "empty", "absent"))
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    text.write_text("This is not a video.")
    empty.touch()
    (tmp_path / "folder.mp4").mkdir()
    good = film(tmp_path / "film.mp4", 1)
    assert detect(sound, text, empty, absent, good, *outputs(tmp_path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"rcnn: {sound} has no video stream",
        f"rcnn: {text} cannot be read as a video: invalid data found when processing input",
        f"rcnn: {empty} cannot be read as a video: invalid data found when processing input",
        f"rcnn: {absent}: file not found",
    ]
    assert [entry["file"] for entry in entries(tmp_path)] == [str(good)]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("film.mp4", "mpeg4", {"movflags": "faststart"}),  # with its table of contents at the start
        ("film.mkv", "mpeg4", {}),
        ("film.mpg", "mpeg2video", {}),
    ],
)
def test_the_frames_of_a_cut_video_are_used(tmp_path, finder, capsys, name, codec, options):
    path = film(tmp_path / name, 60, codec, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    status = detect(path, *outputs(tmp_path))
    found, lines = entries(tmp_path), capsys.readouterr().err.splitlines()
    assert 20 < len(found) < 60
    assert [entry["frame"] for entry in found] == list(range(len(found)))
    assert len(read(tmp_path / "out" / "film.mp4")[0]) == len(found)
    if name != "film.mpg":  # such a file does not state its duration
        assert status == 2 and len(lines) == 1 and lines[0].startswith(f"rcnn: {path} is ")
        assert "seconds" in lines[0]


def test_a_cut_video_without_its_table_of_contents_is_one_line(tmp_path, finder, capsys):
    path = film(tmp_path / "film.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert detect(path, *outputs(tmp_path)) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert entries(tmp_path) == [] and list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("option", [["--every", "0"], ["--batch", "0"]])
def test_numbers_are_checked(tmp_path, finder, option, capsys):
    assert detect(tmp_path / "film.mp4", *option) == 2
    assert capsys.readouterr().err == f"rcnn: {option[0]} must be at least 1, got 0\n"


# ---------------------------------------------------------------------- reader and writer


@pytest.mark.parametrize("name", ["a.mp4", "B.MOV", "c.d.webm", "e.mkv"])
def test_names_of_videos(name):
    assert is_video(Path(name)) and not is_video(Path(name + ".jpg"))


@pytest.mark.parametrize("rotation", [0, 90, -90, 180, 270, -180])
def test_frames_are_turned_upright(rotation):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    expected = np.asarray(Image.fromarray(image).rotate(rotation, expand=True))
    np.testing.assert_array_equal(upright(image, rotation), expected)


def test_a_video_of_a_phone_is_turned_upright(tmp_path):
    """The header of its track says to turn the frames by 90 degrees, clockwise."""
    path = film(tmp_path / "film.mp4", 1)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # after 10 words: flags, times, track, duration, and what is not needed here
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, SIZE[1] << 16, 0, 1 << 30)
    path.write_bytes(content)
    with Reader(path) as frames:
        (frame,) = frames.frames()
    assert frame.image.shape == (320, 240, 3)
    (box,) = Finder().find(frame.image.astype(int))["boxes"]
    np.testing.assert_allclose(box, [80, 0, 140, 80], atol=3)


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (48, 64)])
def test_a_written_video_has_even_sides(tmp_path, size):
    images = [np.full((*size, 3), value, np.uint8) for value in (50, 200)]
    with Writer(tmp_path / "film.mp4", Fraction(30000, 1001)) as film:
        for image in [*images, np.full((90, 70, 3), 120, np.uint8)]:
            film.add(image)
    frames, rate = read(tmp_path / "film.mp4")
    assert rate == Fraction(30000, 1001)
    assert {frame.shape for frame in frames} == {(max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2), 3)}
    np.testing.assert_allclose([frame.mean() for frame in frames], [50, 200, 120], atol=4)
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_nothing_is_written_without_frames(tmp_path):
    with Writer(tmp_path / "film.mp4", Fraction(25)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_bar_counts_frames(tmp_path, finder, monkeypatch):
    made = []

    def bar(items, **options):
        made.append(options)
        return items

    monkeypatch.setattr(command, "tqdm", bar)
    assert detect(film(tmp_path / "film.mp4", 7), "--out", tmp_path / "out", "--every", 3) == 0
    assert (made[-1]["unit"], made[-1]["total"], made[-1]["disable"]) == ("frame", 3, None)


def test_frames_have_no_more_pixels_than_images(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4")
    with Reader(tmp_path / "a.mp4") as reader:
        height, width = next(reader.frames()).image.shape[:2]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", height * width)
    with Reader(tmp_path / "a.mp4") as reader:
        assert len(list(reader.frames())) == 5 and reader.problem is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", height * width - 1)
    with pytest.raises(ValueError, match=f"frames of {height * width:,} pixels, .* --max-pixels"):
        Reader(tmp_path / "a.mp4")
