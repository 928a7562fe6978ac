"""The detector in a tab, in Chromium: it detects as this build does, and it trains.

The tests need npm, Chromium (or the browser in CHROMIUM), what `.ci/wasm-wheel` needs, and the two wheels of
tests/test_wasm.py: RCNN_PYODIDE_NUMPY is the path of NumPy's, and RCNN_WASM_WHEEL that of rcnn's, if it exists already.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import record
from tab_engine import Engine

pytestmark = pytest.mark.proof

WEB = Path(__file__).parents[2] / "web"
PAGES, STEPS = 6, 50
NUMBERS = ("levels", "objectness", "anchorDeltas", "proposalScores", "classLogits", "boxDeltas", "scores", "samples")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the tab."""
    folder = tmp_path_factory.mktemp("tab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "STEPS", 10)
        recording = folder / "recording.bin"
        recording.write_bytes(record.record())
    wheel = ["--wheel", os.environ["RCNN_WASM_WHEEL"]] if "RCNN_WASM_WHEEL" in os.environ else []
    numpy = ["--numpy", os.environ["RCNN_PYODIDE_NUMPY"]]
    command = [sys.executable, WEB / "tab" / "build.py", "--out", folder / "site", "--recording", recording]
    subprocess.run([*command, *numpy, *wheel], check=True)
    return folder / "site"


def ask(site, folder, questions, kind="engine"):
    """Return the answers of the engine in Chromium; the first answer is that of `load`."""
    (folder / "questions.json").write_text(json.dumps(questions))
    command = ["node", WEB / "tests" / "engine.mjs", site, folder / "questions.json", folder / "answers.json", kind]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "answers.json").read_text())


def array(message):
    """Return an array of an answer."""
    return np.array(message["data"]).reshape(message["shape"])


def test_it_detects_as_this_build_does_and_trains(site, tmp_path):
    engine = Engine()
    settings = engine.ready()["defaults"]
    images = [engine.page(index)["image"] for index in range(PAGES)]
    questions = [["detect", {"page": index}, settings] for index in range(PAGES)]
    for changes in ({"pooling": "pool"}, {"anchorSizes": [12, 24, 48]}, {"proposals": 20}):
        questions.append(["detect", {"page": 0}, {**settings, **changes}])
    questions += [
        ["detect", {"page": 0}, settings],
        ["path", 0],
        ["detect", {"page": 0}, {**settings, "scoreThreshold": 2}],
        ["breakIt", "large anchors"],
        ["startTraining", 0, 60],
        *[["trainSteps", 1] for _ in range(STEPS)],
    ]
    loaded, *answers, crowd, order = ask(site, tmp_path, questions)
    progress = loaded["result"]["progress"]
    fractions = [one["fraction"] for one in progress]
    assert fractions == sorted(fractions) and 0.69 < fractions[-1] <= 1
    assert all(one["bytes"] <= one["total"] for one in progress)
    largest = 0.0
    for (command, place, given), answer in zip(questions, answers[: PAGES + 4], strict=False):
        assert command == "detect"
        found, expected = answer["result"], engine.detect(images[place["page"]], given)
        for name in ("labels", "detectionRois", "proposalAnchors", "anchors"):
            np.testing.assert_array_equal(array(found[name]), expected[name], err_msg=name)
        for name in ("boxes", "proposals"):
            np.testing.assert_allclose(array(found[name]), expected[name], rtol=0, atol=1e-4, err_msg=name)
            largest = max(largest, np.abs(array(found[name]) - expected[name]).max())
        for name in NUMBERS:
            one, other = found[name], expected[name]
            if name == "levels":
                one, other = one[0]["features"], other[0]["features"]
            np.testing.assert_allclose(array(one), other, rtol=0, atol=1e-4 * max(1, np.abs(other).max()), err_msg=name)
    path, refused, report, start, *chunks = (answer for answer in answers[PAGES + 4 :])
    engine.detect(images[0], settings)
    expected = engine.commands["path"](0)
    assert path["result"]["anchor"]["fate"] == expected["anchor"]["fate"]
    np.testing.assert_array_equal(array(path["result"]["pixels"]), expected["pixels"])
    assert refused["error"].startswith("score_thresh must be") and "\n" not in refused["error"]
    assert report["result"]["text"] == engine.commands["breakIt"]("large anchors")["text"]
    losses = np.concatenate([array(chunk["result"]["losses"]) for chunk in chunks])
    assert losses.shape == (STEPS, 5) and np.isfinite(losses).all()
    assert losses[-10:, 4].mean() < 0.8 * losses[:10, 4].mean(), losses[:, 4]
    engine.start_training(0, 60)
    np.testing.assert_allclose(losses[0], engine.train_steps(1)["losses"][0], rtol=1e-3)
    assert start["result"]["steps"] == 60
    assert crowd["result"][1:] == ["a newer detection was asked for", "fulfilled"]
    assert order["result"].index(2) < order["result"].index(1)  # the detection comes before the second training step
    times = sorted(answer["milliseconds"] for answer in answers[:PAGES])
    steps = sorted(chunk["milliseconds"] for chunk in chunks)
    print(
        f"largest difference of a box: {largest:.1e} pixels; ready after "
        f"{loaded['result']['ready']['milliseconds'] / 1e3:.1f} s; a detection takes {times[0]:.0f} to {times[-1]:.0f} "
        f"ms, a training step {steps[0]:.0f} to {steps[-1]:.0f} ms; losses {losses[0, 4]:.2f} to {losses[-1, 4]:.2f}"
    )


def test_the_recorded_walk_needs_no_python(site, tmp_path):
    engine = Engine()
    settings = engine.ready()["defaults"]
    questions = [["detect", {"page": 0}, settings], ["path", 0], ["detect", {"page": 0}, {**settings, "proposals": 77}]]
    loaded, found, path, other = ask(site, tmp_path, questions, "recording")
    assert loaded["result"]["ready"]["recorded"]
    expected = engine.detect(engine.page(0)["image"], settings)
    np.testing.assert_allclose(array(found["result"]["boxes"]), expected["boxes"], atol=0.01)
    assert path["result"]["label"] == expected["labels"][0]
    assert other["error"] == "the recording has no answer for this image with these settings"


def test_a_damaged_wheel_of_numpy_is_refused(site, tmp_path):
    damaged = tmp_path / "site"
    shutil.copytree(site, damaged)
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest["numpy"]["sha256"] = hashlib.sha256((damaged / manifest["numpy"]["url"]).read_bytes()).hexdigest()
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    assert "ready" in ask(damaged, tmp_path, [["startTraining", 0]])[0]["result"]
    with (damaged / manifest["numpy"]["url"]).open("ab") as wheel:
        wheel.write(b"\0")
    (answer,) = ask(damaged, tmp_path, [])
    assert "numpy" in answer["error"] and "the file is damaged (its SHA-256 is" in answer["error"]
