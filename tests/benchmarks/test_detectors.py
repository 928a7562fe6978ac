"""The table and the picture of the detectors. Only the tests in test_torchvision.py require torch."""

import dataclasses
import io
import time

import detectors
import numpy as np
import pages
import pytest
from speed import record, rows, timing
from speed.agreement import Agreement
from speed.rows import Contest, Settings
from speed.timing import Contestant


def known(ap, stages, **times):
    value, *_ = times.values()
    return {"value": value, "ap": ap, "stages": stages, "threads": 1, "times": times}


ENTRIES = {
    "large": known(46.7, "two", rcnn=900.0, torchvision=2500.0),
    "small": known(22.8, "two", rcnn=40.1, torchvision=170.0),
    "ssd": known(25.1, "one", **{"ONNX Runtime": 61.0, "torchvision": 95.0}),
}


def test_table_is_in_order_of_precision():
    assert pages.detectors({"detectors": ENTRIES}).splitlines() == [
        "| detector | stages | AP | rcnn, ms | ONNX Runtime, ms | torchvision, ms |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| small | two | 22.8 | 40.1 |  | 170 |",
        "| ssd | one | 25.1 |  | 61 | 95 |",
        "| large | two | 46.7 | 900 |  | 2500 |",
    ]


def test_picture_shows_every_time():
    (ax,) = detectors.draw(ENTRIES).axes
    drawn = {points.get_label(): points.get_offsets().tolist() for points in ax.collections}
    assert drawn == {
        "rcnn": [[900, 46.7], [40.1, 22.8]],
        "ONNX Runtime": [[61, 25.1]],
        "torchvision": [[2500, 46.7], [170, 22.8], [95, 25.1]],
    }
    assert ax.get_xscale() == "log" and "1 thread" in ax.get_xlabel()


@pytest.mark.parametrize("entries", [ENTRIES, record.read()["detectors"]], ids=["known", "recorded"])
def test_names_in_the_picture_are_complete_and_do_not_overlap(entries):
    figure = detectors.draw(entries)
    (ax,) = figure.axes
    figure.savefig(io.BytesIO())  # computes the layout
    names = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert set(names) == set(entries)
    assert all(ax.bbox.containsx(box.x0) and ax.bbox.containsx(box.x1) for box in names.values())
    boxes = list(names.values())
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_public_detectors_run_on_a_photo_with_their_own_settings(tmp_path):
    settings = Settings(frozenset(), 1, 0.0, 1, tmp_path)
    one = detectors.DETECTORS[0]
    result = rows.run(rows.Row(one.name, one.name, one.contest), settings)
    entry = detectors.entry(one, result)
    assert (entry["ap"], entry["stages"], entry["library"], entry["threads"]) == (22.8, "two", "rcnn", 1)
    assert entry["times"] == {"rcnn": entry["value"]} and entry["unit"] == "ms"
    assert entry["command"] == "python benchmarks/detectors.py --threads 1"
    for _, network in detectors.NETWORKS.values():
        assert network.image == (480, 640) and network.settings(network.image) == {}


@pytest.mark.parametrize("holds", [True, False])
def test_results_are_written_only_if_the_libraries_agree(monkeypatch, tmp_path, capsys, holds):
    def contest(settings):
        contestants = [Contestant(name, lambda _: np.zeros(1)) for name in ("rcnn", "torchvision")]
        return Contest(contestants, lambda: {"torchvision": Agreement("some", holds)})

    written = {}
    one = dataclasses.replace(detectors.DETECTORS[0], contest=contest)
    monkeypatch.setattr(detectors, "DETECTORS", [one])
    monkeypatch.setattr(detectors, "PEERS", ())  # torch is not required
    monkeypatch.setattr(rows, "installed", lambda: ["torchvision"])
    monkeypatch.setattr(rows, "threads_of_all", lambda settings: rows.ExitStack())
    monkeypatch.setattr(detectors.record, "update", lambda section, entries, machine: written.update(entries))
    plot = tmp_path / "detectors.png"
    assert detectors.main(["--quick", "--threads", "1", "--results", "--plot", str(plot)]) == (0 if holds else 1)
    assert plot.read_bytes().startswith(b"\x89PNG") and (list(written) == [one.name]) == holds
    assert f"{one.name}: some" in capsys.readouterr().err


def test_cpu_time_is_that_of_this_process(monkeypatch, capsys):
    slept = Contestant("a", lambda _: time.sleep(0.3))
    assert timing.seconds(slept, "process_time") < 0.1
    monkeypatch.setattr(rows, "installed", lambda: ["torchvision"])
    with pytest.raises(SystemExit):
        detectors.main(["--cpu-time", "--threads", "2"])
    assert "--cpu-time requires --threads 1" in capsys.readouterr().err


def test_missing_torch_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(rows, "installed", list)
    with pytest.raises(SystemExit):
        detectors.main(["--threads", "1"])
    assert "requires torch and torchvision" in capsys.readouterr().err
