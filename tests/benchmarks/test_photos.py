"""The comparison of `rcnn detect` with a loop over torchvision, with rcnn alone and few photos."""

import json

import numpy as np
import photos
import pytest
from PIL import Image
from speed import record
from speed.agreement import Agreement


def test_photos_have_different_sizes_and_contents(tmp_path):
    photos.write_photos(tmp_path / "photos", 7)
    images = [Image.open(path) for path in sorted((tmp_path / "photos").iterdir())]
    assert [image.size for image in images] == [*photos.SIZES, *photos.SIZES[:2]]
    assert all(image.format == "JPEG" for image in images)
    assert len({image.resize((8, 8)).tobytes() for image in images}) == 7


def test_detections_of_both_programs_are_read(tmp_path):
    box = [1.0, 2.0, 3.0, 4.0]
    ours = [{"file": "0.jpg", "detections": [{"box": box, "score": 0.9, "label": 3}]}, {"detections": []}]
    theirs = [{"boxes": [box], "scores": [0.9], "labels": [3]}, {"boxes": [], "scores": [], "labels": []}]
    for name, content in (("ours", ours), ("theirs", theirs)):
        (tmp_path / name).write_text(json.dumps(content))
        one, none = photos.detections(tmp_path / name)
        assert {key: values.tolist() for key, values in one.items()} == theirs[0]
        assert none["boxes"].shape == (0, 4) and none["labels"].dtype == np.int64


def test_entries_have_the_speeds_and_their_ratio():
    found = photos.entries_of({"rcnn": 20.04, "torchvision": 5.0}, Agreement("equal", True), 2, "python x.py")
    assert {name: entry["value"] for name, entry in found.items()} == {"rcnn": 20.0, "torchvision": 5.0, "ratio": 4.01}
    assert found["ratio"]["threads"] == 2 and found["ratio"]["answers"] == "equal"


@pytest.mark.parametrize(("agree", "status"), [(True, 0), (False, 1)])
def test_the_status_is_1_if_the_detections_differ(tmp_path, monkeypatch, capsys, agree, status):
    one, none = [{"boxes": [[0, 0, 9, 9]], "scores": [0.9], "labels": [1]}], [{"boxes": [], "scores": [], "labels": []}]

    def measured(who, folder, threads, clock):
        (folder / who).mkdir(exist_ok=True)
        (folder / who / photos.FOUND).write_text(json.dumps(one if who == "rcnn" or agree else none))
        return {"rcnn": 0.5, "torchvision": 2.0}[who]

    monkeypatch.setattr(photos, "measured", measured)
    monkeypatch.setattr(photos, "PACKAGES", ())  # torch is not required
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.json")
    assert photos.main(["--photos", "1", "--threads", "1", "--results"]) == status
    printed = capsys.readouterr().out
    assert (
        "rcnn: 2.00 photos per second\ntorchvision: 0.50 photos per second\nratio: 4.00 (goal 3, aim 4: aim)" in printed
    )
    assert f"agreement: {int(agree)} of 1 detections" in printed
    assert record.RESULTS.exists() == agree
    if agree:
        assert record.read()["photos"]["ratio"]["command"] == "python benchmarks/photos.py --photos 1 --threads 1"


@pytest.mark.slow
def test_the_program_runs_with_four_photos(capsys):
    assert photos.main(["--photos", "4", "--rounds", "1", "--threads", "1", "--only", "rcnn", "--cpu-time"]) == 0
    assert capsys.readouterr().out.startswith("rcnn: ")


def test_cpu_time_is_for_one_thread(capsys):
    with pytest.raises(SystemExit):
        photos.main(["--cpu-time", "--threads", "2"])
    assert "--cpu-time requires --threads 1" in capsys.readouterr().err
