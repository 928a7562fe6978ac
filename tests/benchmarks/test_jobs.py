"""The comparison of `rcnn detect` in one process and in two, with few photos."""

import jobs
import pytest
from speed import record


def test_times_and_ratio_are_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.json")
    assert jobs.main(["--photos", "2", "--rounds", "1", "--results"]) == 0
    found = record.read(tmp_path / "results.json")["jobs"]
    assert set(found) == {"photos", "seconds_1", "seconds_2", "ratio"} and found["photos"]["value"] == 2
    assert found["seconds_1"]["value"] > 0 and "joblib" in found["ratio"]["machine"]
    assert "the JSON files are equal" in capsys.readouterr().out


def test_the_status_is_1_if_the_answers_differ(tmp_path, monkeypatch, capsys):
    def measured(folder, count):
        (folder / f"{count}.json").write_text(str(count))
        return {1: 3.0, 2: 2.0}[count]

    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(jobs, "measured", measured)
    assert jobs.main(["--photos", "2", "--results"]) == 1
    assert "3.0 s, with two processes 2.0 s, ratio 1.50\nthe JSON files differ" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        record.read(tmp_path / "results.json")
