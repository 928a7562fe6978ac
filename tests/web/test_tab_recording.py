"""The player of the tab gives the recorded answers of the engine. It runs in Node, which comes with npm."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import record
from tab_engine import Engine

pytestmark = pytest.mark.slow

WEB = Path(__file__).parents[2] / "web"
STEPS = 20
RUN = """
import { readFileSync } from "node:fs";
import { play } from "./player.mjs";
globalThis.document = { baseURI: "http://here/" };
globalThis.fetch = async () => new Response(readFileSync(new URL("recording.bin", import.meta.url)));
const engine = play("./");
const ready = await engine.load(() => {});
const results = [ready];
for (const [command, ...given] of JSON.parse(readFileSync(0, "utf8"))) {
  const image = given[0] === "page" ? (await engine.page(0)).image : given[0];
  const args = command === "detect" ? [image, ready.recordedSettings[given[1]]] : given;
  results.push(await engine[command](...args).catch((error) => error.message));
}
console.log(JSON.stringify(results, (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value)));
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Return a function that asks the player a list of questions [command, argument, ...]; it returns the answers."""
    folder = tmp_path_factory.mktemp("player")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "STEPS", STEPS)
        content = record.record()
    assert len(content) < record.MOST_BYTES
    (folder / "recording.bin").write_bytes(content)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=WEB, check=True)
    out = f"--outfile={folder / 'player.mjs'}"
    bundle = ("esbuild", "tab/player.ts", "--bundle", "--format=esm", "--log-level=warning", out)
    subprocess.run(["npx", *bundle], cwd=WEB, check=True)
    (folder / "run.mjs").write_text(RUN)

    def ask(questions):
        text = json.dumps(questions)
        done = subprocess.run(["node", folder / "run.mjs"], input=text, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def array(message):
    """Return an array of the player's answer."""
    return np.array(message["data"]).reshape(message["shape"])


def close(found, expected, tolerance=2e-4):
    """Compare an array of a recording, whose large arrays have 2^12 different values."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.ptp(expected)))


def test_the_player_gives_the_answers_of_the_engine(played):
    engine = Engine()
    image, settings = engine.page(record.PAGE)["image"], record.variants(engine.ready()["defaults"])
    shown = engine.detect(image, settings[0])
    roi = int(shown["shown"][0])
    channel = int(shown["pooled"][0].max(axis=(1, 2)).argmax())
    questions = [
        ["detect", "page", 0],
        ["path", 0],
        ["anchor", int(shown["proposalAnchors"][7])],
        ["roi", 42],
        ["bin", roi, 2, 3, channel],
        ["score", roi, 4],
        *([["detect", "page", index] for index in range(len(settings))]),
    ]
    ready, found, path, anchor, region, of_bin, score, *others = played(questions)
    assert ready["recorded"] and ready["recordedPages"] == [record.PAGE] and ready["recordedSettings"] == settings
    for name in ("anchors", "labels", "detectionRois", "proposalAnchors", "shown"):
        np.testing.assert_array_equal(array(found[name]), shown[name], err_msg=name)
    for name in ("objectness", "proposals", "samples", "pooled", "classScores", "boxDeltas", "boxes", "scores"):
        close(array(found[name]), shown[name])
    close(array(found["levels"][0]["features"]), shown["levels"][0]["features"])
    commands = engine.commands
    expected = commands["path"](0)
    np.testing.assert_array_equal(array(path["pixels"]), expected["pixels"])
    assert path["anchor"]["box"] == expected["anchor"]["box"] and path["score"] == expected["score"]
    assert anchor["logit"] == commands["anchor"](int(shown["proposalAnchors"][7]))["logit"]
    close(array(region["pooled"]), commands["roi"](42)["pooled"])
    assert of_bin["arithmetic"] == commands["bin"](roi, 2, 3, channel)["arithmetic"]
    assert score["probability"] == commands["score"](roi, 4)["probability"]
    for one, answer in zip(settings, others, strict=True):
        expected = engine.detect(image, one)
        np.testing.assert_array_equal(array(answer["labels"]), expected["labels"])
        close(array(answer["boxes"]), expected["boxes"])
        close(array(answer["proposals"]), expected["proposals"])
        assert len(answer["shown"]["data"]) == answer["pooled"]["shape"][0] >= 1


def test_the_player_plays_the_training_and_the_faults(played):
    ready, start, *chunks, report = played(
        [["startTraining", 0], *[["trainSteps", 7]] * 3, ["breakIt", "large anchors"]]
    )
    engine = Engine()
    engine.start_training(record.SEED, STEPS)
    losses = np.concatenate([engine.train_steps(1)["losses"] for _ in range(STEPS)])
    assert start["steps"] == STEPS and [chunk["step"] for chunk in chunks] == [7, 14, 20]
    assert [chunk["done"] for chunk in chunks] == [False, False, True]
    close(np.concatenate([array(chunk["losses"]) for chunk in chunks]), losses)
    assert [chunk["preview"] and chunk["preview"]["step"] for chunk in chunks] == [None, 10, 20]
    assert [chunk["ap"] and chunk["ap"]["step"] for chunk in chunks] == [None, None, 20]
    assert report["fault"]["name"] == "large anchors" and "begin with anchors" in report["text"]
    assert report["page"]["image"]["shape"] == [128, 128, 3]


def test_the_player_says_what_it_cannot_answer(played):
    blank = {"shape": [128, 128], "data": [0] * 128**2}
    _, early, unknown, other, _, missing = played(
        [
            ["path", 0],
            ["page", 1],
            ["detect", blank, 0],
            ["detect", "page", 0],
            ["bin", 99, 0, 0, 63],
        ]
    )
    assert early == "there is no detection yet; call detect first"
    assert unknown == missing == "the recording has no answer to this question"
    assert other == "the recording has no answer for this image with these settings"
