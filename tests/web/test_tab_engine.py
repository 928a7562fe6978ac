"""The engine of the tab answers with rcnn's own numbers, in the form that web/tab/protocol.ts defines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tab_engine import Engine, arithmetic, pack, training, unpack
from tab_engine.stages import Detection, Settings

import rcnn
from rcnn import boxes, data, doctor, roi, train
from rcnn.checks import diagnosis
from rcnn.plot import style

WEB = Path(__file__).parents[2] / "web"


@pytest.fixture(scope="module")
def engine():
    return Engine()


@pytest.fixture(scope="module")
def settings(engine):
    return Settings.of(engine.digits)


def message(settings, **changes):
    return {**settings.as_message(), **changes}


@pytest.fixture(scope="module", params=["align", "pool"])
def detection(request, engine, settings):
    """Return a detection with RoIAlign or RoIPool on page 3."""
    engine.detect(engine.page(3)["image"], message(settings, pooling=request.param))
    return engine.detection


@pytest.mark.parametrize("index", range(6))
def test_an_overview_is_the_trace_of_the_detector(engine, settings, index):
    image = engine.page(index)["image"]
    overview, trace = engine.detect(image, message(settings)), engine.digits.trace([image])
    assert overview["size"] == [128, 128] and list(overview["times"])[-1] == "total"
    (level,) = overview["levels"]
    assert level["stride"] == [8, 8] and level["anchorsPerCell"] == 6 and level["firstAnchor"] == 0
    expected = {
        "anchors": trace.anchors[0],
        "objectness": trace.objectness[0][0],
        "anchorDeltas": trace.rpn_deltas[0][0],
        "proposals": trace.proposals[0],
        "proposalScores": trace.proposal_scores[0],
        "pooled": trace.pooled[overview["shown"]],
        "classLogits": trace.class_logits,
        "boxDeltas": trace.box_deltas,
        **trace.outputs[0],
    }
    for name, array in {"features": trace.features[0][0], **expected}.items():
        np.testing.assert_array_equal({**level, **overview}[name], array, err_msg=name)
    np.testing.assert_allclose(overview["classScores"].sum(axis=1), 1, rtol=1e-5)
    assert overview["counts"] == {"candidates": len(trace.candidates[0]), "afterNms": trace.num_after_nms[0]}


@pytest.mark.parametrize("index", range(6))
def test_every_result_leads_back_to_its_origin(engine, settings, index):
    o = engine.detect(engine.page(index)["image"], message(settings))
    origins = o["proposalAnchors"]
    moved = boxes.clip(boxes.decode(o["anchorDeltas"][origins], o["anchors"][origins]), (128, 128))
    np.testing.assert_array_equal(moved, o["proposals"])
    rois, labels = o["detectionRois"], o["labels"]
    np.testing.assert_array_equal(o["classScores"][rois, labels], o["scores"])
    found = boxes.decode(o["boxDeltas"][rois, labels], o["proposals"][rois], (10, 10, 5, 5))
    np.testing.assert_array_equal(boxes.clip(found, (128, 128)), o["boxes"])
    assert len(set(o["shown"].tolist())) == len(o["shown"]) and set(rois) <= set(o["shown"])


def test_settings_change_what_they_name(engine, settings):
    image = engine.page(1)["image"]
    few = engine.detect(image, message(settings, proposals=7))
    assert len(few["proposals"]) == 7
    strict = engine.detect(image, message(settings, scoreThreshold=0.9))
    np.testing.assert_array_equal(strict["boxes"], engine.digits.predict([image], score_thresh=0.9)[0]["boxes"])
    loose = engine.detect(image, message(settings, nmsThreshold=1.0))
    np.testing.assert_array_equal(loose["boxes"], engine.digits.predict([image], nms_thresh=1.0)[0]["boxes"])
    none = engine.detect(image, message(settings, proposalNmsThreshold=1.0))["counts"]
    assert none["afterNms"] == none["candidates"]
    large = engine.detect(image, message(settings, anchorSizes=[20, 30, 50]))
    assert large["anchors"][2].tolist() == [-25, -25, 25, 25] and large["anchorShapes"][4].tolist() == [30, 1.7]
    pooled = engine.detect(image, message(settings, pooling="pool"))
    features, rois = pooled["levels"][0]["features"][None], pooled["proposals"][pooled["shown"]]
    expected = roi.roi_pool(features, rois, np.zeros(len(rois), int), (5, 5), 1 / 8)
    np.testing.assert_array_equal(pooled["pooled"], expected)
    assert "RoIPool" in pooled["times"] and "RoIAlign" not in pooled["times"]
    np.testing.assert_array_equal(engine.detect(image, message(settings))["anchors"][2], [-20, -20, 20, 20])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scoreThreshold": 2}, "score_thresh must be"),
        ({"proposals": 0}, "post_nms_top_n must be"),
        ({"pooling": "mean"}, 'pooling must be "align" or "pool"'),
        ({"anchorSizes": [14, 24]}, "anchor_sizes must have 3 numbers"),
        ({"anchorRatios": [1.0, 99]}, "anchorRatios must be in [0.1, 10]"),
        ({"anchorSizes": ["large"]}, "the settings are incomplete or have a wrong type"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(engine, settings, changes, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        engine.detect(engine.page(0)["image"], message(settings, **changes))
    assert "\n" not in str(caught.value)


def test_wrong_questions_are_refused(engine):
    for command, args, text in (
        ("draw", "[]", "command must be one of"),
        ("page", "[100]", "page must be an integer in 0 .. 99"),
        ("detect", '[{"$array": 0, "shape": [3]}, {}]', "the image must be an array"),
        ("detect", '[{"$array": 0, "shape": [1, 3]}, {}]', "the image must have shape (128, 128, 3)"),
        ("detect", '[{"$array": 0, "shape": [4]}, {}]', "an array of 3 bytes cannot have the shape"),
        ("breakIt", '["rust"]', "fault must be one of sound"),
        ("startTraining", "[-1]", "seed must be"),
        ("startTraining", "[0, 4000]", "steps must be in 1 .. 3000"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            engine.call(command, args, [b"abc"])
    for command, args in (("path", "[0]"), ("trainSteps", "[1]")):
        with pytest.raises(ValueError, match="there is no"):
            Engine().call(command, args)


# ---------------------------------------------------------------------- arithmetic


def test_every_bin_is_the_mean_or_the_maximum_of_what_is_shown(detection):
    rng = np.random.default_rng(0)
    pooled = detection.second.pooled.data
    is_align = detection.settings.pooling == "align"
    for _ in range(200):
        index, channel, row, column = (int(rng.integers(size)) for size in pooled.shape)
        answer = arithmetic.bin_of(detection, index, row, column, channel)
        values = [one["value"] for one in answer["samples"] or answer["cells"]]
        result = np.mean(values) if is_align else max(values, default=0)
        np.testing.assert_allclose(result, pooled[index, channel, row, column], rtol=1e-4, atol=1e-4)
        assert answer["arithmetic"]["result"] == pooled[index, channel, row, column]
        shown = detection.samples(np.array([index]))[0, row, column]
        if is_align:
            points = [(one["x"], one["y"]) for one in answer["samples"]]
            np.testing.assert_allclose(points, shown, rtol=1e-5)
            assert all(abs(sum(near["weight"] for near in one["neighbours"]) - 1) < 1e-6 for one in answer["samples"])
            x1, y1, x2, y2 = answer["box"]
            assert all(x1 < x < x2 and y1 < y < y2 for x, y in points)
        else:
            np.testing.assert_allclose(answer["box"], shown[0])
            if answer["cells"]:
                first, last = answer["cells"][0], answer["cells"][-1]
                corners = [first["column"] - 0.5, first["row"] - 0.5, last["column"] + 0.5, last["row"] + 0.5]
                np.testing.assert_allclose(answer["box"], np.array(corners) * 8)


def test_bins_fill_the_roi(engine, settings):
    engine.detect(engine.page(0)["image"], message(settings))
    regions = engine.detection.proposals
    (wide,) = np.flatnonzero((regions[:, 2:] - regions[:, :2] > 20).all(axis=1))[:1]
    first, last = (arithmetic.bin_of(engine.detection, int(wide), k, k, 0)["box"] for k in (0, 4))
    np.testing.assert_allclose([*first[:2], *last[2:]], regions[wide], rtol=1e-4)


def test_arithmetic_gives_the_numbers_of_the_overview(detection):
    rng = np.random.default_rng(1)
    for index in rng.integers(len(detection.anchors), size=40).tolist():
        anchor = arithmetic.anchor(detection, index)
        np.testing.assert_allclose(anchor["arithmetic"]["logit"]["result"], detection.logits[index], atol=1e-4)
        products = anchor["arithmetic"]["logit"]["products"]
        np.testing.assert_allclose(
            products["a"] @ products["b"] + products["offset"], detection.logits[index], atol=1e-4
        )
        decoded = boxes.decode(detection.deltas[index : index + 1], detection.anchors[index : index + 1])[0]
        assert [one["result"] for one in anchor["arithmetic"]["box"]] == decoded.tolist() == anchor["decoded"]
        cell = arithmetic.cell(detection, 0, anchor["row"], anchor["column"])
        assert index in cell["anchors"]
        channel, feature = cell["feature"]["channel"], cell["feature"]["arithmetic"]
        assert feature["result"] == cell["features"][channel] == cell["features"].max()
        check_feature(feature)
    for index in (0, 5, 11):
        for label in range(11):
            score = arithmetic.score(detection, index, label)
            logit = detection.second.class_logits.data[index, label]
            np.testing.assert_allclose(score["logit"]["result"], logit, atol=1e-4)
            np.testing.assert_allclose(score["probability"]["result"], detection.class_scores[index, label], rtol=1e-4)
            decoded = detection.decoded([index], label)[0].tolist()
            assert [one["result"] for one in score["box"]] == decoded


def check_feature(feature):
    """Compute a feature again, from the numbers that are shown."""
    given = {one["name"]: one["value"] for one in feature["inputs"]}
    convolved = float(np.sum(feature["products"]["a"] * feature["products"]["b"], dtype=np.float64))
    normalised = (convolved - given["mean"]) / given["deviation"] * given["scale"] + given["shift"]
    np.testing.assert_allclose(max(0, normalised + given["input of the block"]), feature["result"], atol=1e-3)


def test_the_steps_of_a_box_give_its_result(engine, settings):
    engine.detect(engine.page(0)["image"], message(settings))
    for one in arithmetic.path(engine.detection, 0)["anchor"]["arithmetic"]["box"]:
        assert one["steps"][-1].endswith(f"= {one['result']:.4g}")
        centre, side = (float(step.split(" = ")[-1]) for step in one["steps"][:2])
        sign = -1 if one["title"][1] == "1" else 1
        assert abs(centre + sign * side / 2 - one["result"]) < 0.1


def test_a_receptive_field_holds_all_pixels_that_matter_and_no_others(engine, settings):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (128, 128, 3), np.uint8)

    def look(picture):
        detection = Detection(engine.digits, picture, settings)
        return detection.features[:, 8, 8], arithmetic.hidden_layer(detection)[:, 8, 8]

    detection, before = Detection(engine.digits, image, settings), look(image)
    cell = arithmetic.cell(detection, 0, 8, 8)
    assert cell["receptiveField"] == [17, 17, 112, 112] and cell["rpnReceptiveField"] == [9, 9, 120, 120]
    for layer, name in enumerate(("receptiveField", "rpnReceptiveField")):
        x1, y1, x2, y2 = cell[name]
        outside = image.copy()
        outside[:y1], outside[y2:], outside[:, :x1], outside[:, x2:] = 0, 255, 255, 0
        np.testing.assert_allclose(look(outside)[layer], before[layer], rtol=0, atol=1e-5)
        for edge in (np.s_[:, x1], np.s_[:, x2 - 1], np.s_[y1], np.s_[y2 - 1]):
            inside = image.copy()
            inside[edge] = 255 - inside[edge]
            assert np.abs(look(inside)[layer] - before[layer]).max() > 1e-4


def test_every_anchor_has_one_fate(detection):
    fates = [arithmetic.fate(detection, index) for index in range(len(detection.anchors))]
    by_kind = {kind: [i for i, fate in enumerate(fates) if fate["kind"] == kind] for kind in
               ("proposal", "suppressed", "not among the best", "not a candidate")}  # fmt: skip
    first = detection.first.proposals[0]
    assert sum(map(len, by_kind.values())) == len(fates)
    assert sorted(fates[i]["proposal"] for i in by_kind["proposal"]) == list(range(len(detection.proposals)))
    assert len(by_kind["not a candidate"]) == len(fates) - len(first.candidates)
    assert len(by_kind["suppressed"]) == len(first.candidates) - first.num_after_nms
    assert all(0.7 < fates[i]["iou"] <= 1 and fates[fates[i]["by"]]["kind"] in ("proposal", "not among the best")
               for i in by_kind["suppressed"])  # fmt: skip
    assert all(fates[i]["rank"] >= 400 for i in by_kind["not a candidate"])


def test_a_path_leads_from_a_detection_to_its_pixels(detection):
    path = arithmetic.path(detection, 1)
    region = path["roi"]["index"]
    assert path["anchor"]["fate"] == {"kind": "proposal", "proposal": region} and path["proposal"]["index"] == region
    assert path["classScores"].argmax() == path["label"] and path["scores"]["label"] == path["label"]
    assert path["bin"]["arithmetic"]["result"] == path["roi"]["pooled"].max()
    x1, y1, x2, y2 = path["cell"]["rpnReceptiveField"]
    np.testing.assert_array_equal(path["pixels"], detection.image[y1:y2, x1:x2])
    assert path["box"] == detection.found["boxes"][1].tolist()


# ---------------------------------------------------------------------- training and faults


def test_training_in_chunks_is_a_training_of_rcnn(engine, settings):
    recipe = train.RECIPES["shapes"].replace(steps=3, seed=5)
    rcnn.seed(5)
    model = rcnn.faster_rcnn_small(data.Shapes.classes)
    pages, val = data.Shapes(training.PAGES), data.Shapes(training.VAL_PAGES, split="val")
    run = train.fit(model, pages, recipe, val=val, progress=False, workers=0)
    start = engine.start_training(5, steps=3)
    assert start["steps"] == 3 and start["lossNames"] == list(training.LOSSES) and start["preview"]["step"] == 0
    chunks = []
    while not chunks or not chunks[-1]["done"]:
        chunks.append(engine.train_steps(2))
        engine.detect(engine.page(0)["image"], message(settings), "trained")  # must not change the training
    losses = np.concatenate([chunk["losses"] for chunk in chunks])  # (3, 5)
    expected = np.array([run.history[name] for name in training.LOSSES]).T
    np.testing.assert_array_equal(losses, expected)
    np.testing.assert_allclose(
        np.concatenate([chunk["learningRates"] for chunk in chunks]), [recipe.lr_at(step) for step in range(3)]
    )
    assert chunks[-1]["ap"] == {"step": 3, "ap50": run.validation["ap50"][-1]}
    (preview,) = [chunk["preview"] for chunk in chunks if chunk["preview"]]
    trace = model.trace([start["page"]["image"]])
    assert preview["step"] == 3
    np.testing.assert_array_equal(preview["proposals"], trace.proposals[0][: training.SHOWN])
    np.testing.assert_array_equal(preview["boxes"], trace.outputs[0]["boxes"])
    overlap = boxes.iou(trace.proposals[0], start["page"]["boxes"]).max(axis=0)
    assert preview["recall"] == (overlap >= 0.5).mean()
    assert engine.train_steps(1)["done"] and len(engine.train_steps(1)["losses"]) == 0


@pytest.mark.parametrize("fault", ["sound", "large anchors", "labels from 0"])
def test_the_doctor_reports_a_planted_fault(engine, fault):
    answer = engine.call("breakIt", json.dumps([fault]))
    report, arrays = json.loads(answer[0]), answer[1]
    model, pages = diagnosis.PLANTED[fault](np.random.default_rng(13))
    assert report["text"] == doctor.report(doctor.examine(model, pages, progress=False))
    troubles = [one["stage"] for one in report["verdicts"] if one["trouble"]]
    assert troubles[:1] == {"sound": [], "large anchors": ["anchors"], "labels from 0": ["data"]}[fault]
    image = arrays[report["page"]["image"]["$array"]]
    np.testing.assert_array_equal(image.reshape(128, 128, 3), pages[2][0])
    found = model.predict([pages[2][0]], score_thresh=0.5)[0]["boxes"]
    np.testing.assert_array_equal(arrays[report["boxes"]["$array"]], found.ravel())


def test_every_fault_has_a_description(engine):
    assert [one["name"] for one in engine.ready()["faults"]] == list(diagnosis.NAMES)


ABSENT = ("PIL", "matplotlib", "safetensors", "yaml", "fcntl", "ssl")  # not in the browser
IN_A_BROWSER = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT}))  # an import of None raises ImportError
from tab_engine import Engine
engine = Engine()
engine.detect(engine.page(0)["image"], engine.ready()["defaults"])
engine.commands["path"](0)
engine.start_training(0, 1)
engine.train_steps(2)
print(engine.commands["breakIt"]("swapped axes")["text"].splitlines()[-1])
"""


def test_the_engine_needs_no_package_that_is_absent_in_a_browser():
    path = os.pathsep.join([str(WEB / "tab"), str(WEB.parent)])
    command = [sys.executable, "-c", IN_A_BROWSER]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("begin with data: x and y of the boxes are swapped")


# ---------------------------------------------------------------------- messages


def test_arrays_keep_their_place_in_a_message():
    arrays = []
    value = {"a": np.arange(6.0).reshape(2, 3), "b": [1, np.array([True]).astype(np.uint8)], "c": np.arange(3)}
    packed = pack(value, arrays)
    assert packed == {
        "a": {"$array": 0, "shape": [2, 3]},
        "b": [1, {"$array": 1, "shape": [1]}],
        "c": {"$array": 2, "shape": [3]},
    }
    assert [array.dtype for array in arrays] == [np.float32, np.uint8, np.int32]
    (image,) = unpack([{"$array": 0, "shape": [1, 2]}], [b"ab"])
    assert image.tolist() == [[97, 98]]


def interfaces():
    """Return the names of the fields of each interface in protocol.ts."""
    text = re.sub(r"/\*\*.*?\*/", "", (WEB / "tab" / "protocol.ts").read_text(), flags=re.DOTALL)
    blocks = re.findall(r"export interface (\w+)(?:<\w+>)? \{\n(.*?)\n\}", text, re.DOTALL)
    return {name: set(re.findall(r"^  (\w+)\??:", body, re.MULTILINE)) for name, body in blocks}


def test_answers_have_the_fields_of_the_protocol(engine, settings):
    fields = interfaces()
    page = engine.page(0)
    overview = engine.detect(page["image"], message(settings))
    path = arithmetic.path(engine.detection, 0)
    start = engine.start_training(0, steps=20)
    diagnosed = engine.commands["breakIt"]("sound")
    only_of_the_worker = {"recorded", "milliseconds", "recordedSettings", "recordedPages"}
    for name, answer in {
        "Settings": message(settings),
        "Page": page,
        "Overview": overview,
        "Level": overview["levels"][0],
        "Path": path,
        "Cell": path["cell"],
        "Anchor": path["anchor"],
        "Roi": path["roi"],
        "Bin": path["bin"],
        "Sample": path["bin"]["samples"][0],
        "Score": path["scores"],
        "Arithmetic": path["scores"]["logit"],
        "Term": path["scores"]["logit"]["inputs"][0],
        "TrainingStart": start,
        "Preview": start["preview"],
        "TrainingChunk": engine.train_steps(1),
        "Diagnosis": diagnosed,
        "Verdict": diagnosed["verdicts"][0],
        "Fault": diagnosed["fault"],
        "Ready": {**engine.ready(), **dict.fromkeys(only_of_the_worker)},
    }.items():
        assert set(answer) == fields[name], name


def test_classes_have_the_colours_of_the_plots():
    colors = (WEB / "tab" / "ui" / "colors.ts").read_text().partition("CLASS_COLORS = [")[2].partition("]")[0]
    assert re.findall('"(#[0-9A-F]{6})"', colors) == list(style.CLASS_COLORS)
