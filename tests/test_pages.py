"""The numbers of README and docs are those of docs/results.json, and benchmarks/pages.py writes them."""

import json
import math
import re
from pathlib import Path

import accuracy
import numpy as np
import pages
import prediction
import pytest
import run
import setup_cost
from speed import record, report
from speed.agreement import Agreement
from speed.rows import Result

import rcnn
from rcnn._ext import conv

ROOT = Path(__file__).parents[1]
RESULTS = record.read()
PAGES = pages.pages()
SOURCES = sorted((ROOT / "rcnn" / "course" / "src").glob("*.py"))

# A measured number in prose, outside of the marked text: a number and one of these units.
MEASURED = re.compile(
    r"(?<![\w.])\d[\d.,]* ?(?:ms|GFLOP/s|GB/s|MiB|s|seconds|minutes|times (?:as|faster|slower|less|more))\b"
)
NOT_MEASURED = {  # what the pattern finds and is no measurement
    "teaching": ["90 s", "120 s", "180 s", "300 s"],  # the limits of the notebooks, compared with them below
    "your_own_images": ["8 MiB"],  # a limit, compared with the code in tests/data/test_special_files.py
    "scaling": ["4 MiB"],  # the size of a bucket, compared with the code in tests/benchmarks/test_scaling.py
    "speed": ["4 times as", "2.25 times as"],  # multiplications and sizes that follow from the shapes
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_quotes_the_numbers_of_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert text == pages.render(text, RESULTS), "run: python benchmarks/pages.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_quotes_no_other_measurement(page):
    prose = re.sub(r"^```.*?^```", "", pages.BLOCK.sub("", page.read_text(encoding="utf-8")), flags=re.M | re.S)
    found = [match[0] for match in MEASURED.finditer(prose)]
    assert [text for text in found if text not in NOT_MEASURED.get(page.stem, [])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_line_begins_with_a_marked_number(page):
    """Markdown ends a paragraph at a line that begins with a comment."""
    for line in page.read_text(encoding="utf-8").splitlines():
        assert not re.match(r"\s*(?:[-*] )?<!-- results.*<!-- /results -->", line), line


def test_every_entry_has_its_value_unit_command_and_machine():
    for section, entries in RESULTS.items():
        for name, entry in entries.items():
            assert entry["command"] and entry["machine"], f"{section}.{name}"
            if "rows" in entry:
                assert {len(row) for row in entry["rows"]} == {len(entry["columns"])}, f"{section}.{name}"
            else:
                assert entry["unit"] and entry["value"] is not None, f"{section}.{name}"


def test_every_section_is_quoted():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    words = {word.split(".")[0] for _, marked, _, _ in pages.BLOCK.findall(text) for word in marked.split()}
    assert set(RESULTS) <= words


def test_the_commands_of_the_results_exist():
    commands = {entry["command"] for entries in RESULTS.values() for entry in entries.values()}
    for command in commands:
        script = re.match(r"python (\S+\.py)", command)
        assert script is None or (ROOT / script[1]).exists(), command


def test_the_times_of_the_notebooks_are_their_limits():
    limits = {
        path.name[:2]: int(re.search(r"^#     seconds: (\d+)$", path.read_text("utf-8"), re.M)[1]) for path in SOURCES
    }
    text = " ".join((ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").split())
    long = {number: seconds for number, seconds in limits.items() if seconds > 60}
    stated = re.search(r"at most a minute, except for (.*?)\. We", text)[1]
    groups = re.findall(r"([\d, and]+) \((\d+) s\)", stated)
    assert {number: int(seconds) for names, seconds in groups for number in re.findall(r"\d\d", names)} == long
    assert len(SOURCES) == 16  # "sixteen notebooks"


def test_the_effects_of_suppression_and_views_are_those_of_the_tables():
    """The sentences below the two tables of docs/accuracy.md."""
    (digits, bccd), changes = (measured_effects(name) for name in ("digits", "bccd")), []
    for ap50, ap in (digits, bccd):
        assert ap50["--scales 0.8,1,1.25"] > 0
        changes += [(ap50[f"--soft-nms {method}"], ap[f"--soft-nms {method}"]) for method in ("linear", "gaussian")]
    assert max(abs(ap50) for ap50, _ in changes) == pytest.approx(0.005)
    assert (min(ap for _, ap in changes), max(ap for _, ap in changes)) == pytest.approx((0.005, 0.016))
    assert digits[0]["--class-agnostic"] < -0.01 and digits[0]["--flip"] < -0.01 and bccd[1]["--flip"] > 0.01
    runs = RESULTS["accuracy"]["digits"]["value"]
    assert 0.002 < max(runs) - min(runs) < 0.01  # "several thousandths"


def test_the_effects_of_the_augmentations_are_those_of_the_tables():
    """The sentences below the tables of docs/accuracy.md."""
    digits = {row[0].strip("`"): float(row[-1]) for row in RESULTS["augmentation"]["digits"]["rows"]}
    drops = {change: digits["none"] - value for change, value in digits.items()}
    assert min(drops["flip = 0.5"], drops["vertical_flip = 0.5"]) > 0.1
    assert all(
        drops[change] > 0.015 for change in ("scale_jitter = [1, 1]", "crop = 0.2", "translate = 0.1", "rotate = 10")
    )
    assert abs(drops["colour_jitter = 0.2"]) < 0.002
    low, high = RESULTS["accuracy"]["bccd"]["val"]
    assert high - low == pytest.approx(0.01, abs=0.002)
    bccd = {row[0].strip("`"): float(row[-1]) for row in RESULTS["augmentation"]["bccd"]["rows"]}
    assert low < bccd["none"] < high


def test_the_advice_on_detectors_follows_from_their_table():
    """The list and the paragraphs below the table of detectors in docs/speed.md."""
    found = RESULTS["detectors"]
    names = ("mobilenet_v3_large_320_fpn", "mobilenet_v3_large_fpn", "resnet50_fpn", "resnet50_fpn_v2")
    two = [found[f"Faster R-CNN {name}"] for name in names]
    lite, vgg = found["ssdlite320_mobilenet_v3_large"], found["ssd300_vgg16"]
    for one in ([entry["ap"] for entry in two], [entry["value"] for entry in two]):
        assert one == sorted(one)
    assert two[2]["ap"] - two[1]["ap"] == pytest.approx(4.2) and two[1]["value"] < two[2]["value"] / 2
    assert lite["ap"] < two[0]["ap"] < vgg["ap"] < lite["ap"] + 5
    assert two[0]["ap"] - lite["ap"] == pytest.approx(1.5)
    assert lite["value"] < two[0]["value"] < vgg["value"]
    assert all(entry["value"] < entry["times"]["torchvision"] for entry in found.values())


def measured_effects(name):
    """Return the changes of AP50 and of AP, by option, in a table of docs/accuracy.md."""
    (_, *plain), *rows = RESULTS["prediction"][name]["rows"]
    return [{row[0].strip("`"): float(row[column]) - float(plain[column - 1]) for row in rows} for column in (1, 2)]


# ---------------------------------------------------------------- pages.py


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A page and its results in a folder of their own."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("It takes <!-- results: value course.all -->1<!-- /results --> s.\n")
    (tmp_path / "CONTRIBUTING.md").write_text("Nothing is marked here.\n")
    path = tmp_path / "docs" / "results.json"
    record.update("course", {"all": record.entry(1234, "s", "sleep 1234")}, "an abacus", path)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages.record, "read", lambda: json.loads(path.read_text()))
    return tmp_path


def test_the_command_writes_and_checks(site, capsys):
    readme = site / "README.md"
    assert pages.main(["--check"]) == 1
    assert capsys.readouterr().out == "README.md: differs from docs/results.json\n"
    assert pages.main([]) == 0 and "1,234<!-- /results --> s." in readme.read_text()
    assert pages.main(["--check"]) == 0
    readme.write_text(readme.read_text().replace("1,234", "1,235"))
    assert pages.main(["--check"]) == 1


def test_results_are_merged_by_name(tmp_path):
    path = tmp_path / "results.json"
    record.update("a", {"x": record.entry(1, "s", "x"), "y": record.entry(2, "s", "y")}, "old", path)
    record.update("a", {"y": record.entry(3, "s", "y")}, "new", path)
    found = record.read(path)["a"]
    assert (found["x"]["value"], found["x"]["machine"], found["y"]["value"], found["y"]["machine"]) == (
        1,
        "old",
        3,
        "new",
    )


def test_a_markdown_table_is_kept_and_rows_can_be_chosen():
    markdown = "| work | ms |\n| --- | ---: |\n| a b | 1 |\n| c | 2 |"
    results = {"s": {"t": record.table(markdown, "command")}}
    assert pages.rows(results, "s", "t") == markdown
    assert pages.rows(results, "s", "t", "a") == "| work | ms |\n| --- | ---: |\n| a b | 1 |"
    with pytest.raises(ValueError, match="no row of s.t begins with 'b'"):
        pages.rows(results, "s", "t", "b")


def test_a_run_of_the_benchmark_becomes_entries_and_tables():
    results = [
        Result(
            "r", "work", "work", 2, {"rcnn": [0.001], "p": [0.0025]}, {"p": Agreement("equal", True)}, flop=2 * 10**9
        ),
        Result("m", "peak", "memory", 2, {"rcnn": [2.0**20], "p": [4 * 2.0**20]}),
        Result("s1", "1x1", "shapes", 2, {"rcnn": [0.001], "p": [0.003]}, times=3),
        Result("s2", "3x3", "shapes", 2, {"rcnn": [0.002], "p": [0.001]}),
    ]
    found = report.entries(results)
    assert found["convolutions"] == {"p": record.entry(2.0, "ratio", "python benchmarks/run.py --only shape")}
    lines = pages.speed(found).splitlines()
    assert lines[2] == "| work, 2000 GFLOP/s | 2 | 1 | p | 2.5 | 2.50 | equal |"
    assert pages.memory(found).splitlines()[2] == "| peak | 1 | p | 4 | 0.25 |"
    assert list(report.entries(results[:1], "one_thread")) == ["one_thread"]


def test_the_benchmark_writes_its_medians(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run, "QUICK_BUDGET", 0.0)
    monkeypatch.setattr(run, "QUICK_ROUNDS", 1)
    assert run.main(["--quick", "--peers", "--threads", "1", "--only", "nms-1000", "--results", "one_thread"]) == 0
    entry = record.read()["one_thread"]["nms-1000"]
    assert entry["unit"] == "ms" and entry["value"] > 0 and entry["threads"] == 1 and entry["peers"] == {}
    assert "Python" in entry["machine"]


@pytest.mark.parametrize(("value", "text"), [(1297, "1,297"), (0.985, "0.985"), (2e-16, "2e-16"), (2.0, "2")])
def test_numbers_in_prose(value, text):
    assert pages.figure(value) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([4], "row 4"),
        ([1, 3], "rows 1 and 3"),
        ([1, 2, 3], "rows 1 to 3"),
        ([1, 2, 3, 5], "rows 1 to 3 and 5"),
        ([1, 3, 4, 6, 7, 8], "rows 1, 3, 4 and 6 to 8"),
    ],
)
def test_words_for_rows(numbers, text):
    assert pages._rows_text(numbers) == text


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (90, "90 s"), (100, "2 min"), (600, "10 min")])
def test_durations(seconds, text):
    assert pages.duration(seconds) == text


def test_mobilenet_is_better_on_photographs_within_ten_minutes():
    """The page about your own images recommends it, and quotes 5 and 10 minutes."""
    small, mobilenet = RESULTS["accuracy"]["bccd"], RESULTS["accuracy"]["bccd_mobilenet"]
    assert mobilenet["mean"] > small["mean"] + 0.005  # more than the standard error of a mean
    assert max(small["seconds"]) <= 330 and max(mobilenet["seconds"]) <= 600
    resnet = RESULTS["accuracy"]["bccd_resnet18"]
    assert resnet["mean"] < small["mean"] and min(resnet["seconds"]) > max(mobilenet["seconds"])


# ---------------------------------------------------------------- the other scripts that write results


def test_the_requirements_of_a_setup_are_those_of_pyproject():
    core, everything = (
        {text.partition(">=")[0] for text in setup_cost.requirements(target)} for target in (".", ".[all]")
    )
    assert {"numpy", "cython"} <= core and not core & {"pytest", "scikit-learn"}
    assert {"pytest", "jupyterlab", "scikit-learn"} <= everything and core <= everything


def test_the_options_of_prediction_are_measured_by_rcnn_eval(tmp_path, monkeypatch, capsys):
    calls = []

    def evaluate(folder, *words):
        calls.append(" ".join(words))
        return f"class  objects\n\nAP    0.{len(calls)}00\nAP50  0.{len(calls)}50\n"

    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(accuracy, "rcnn", evaluate)
    prediction.main(["--data", "cells", "--weights", "w", "--results"])
    assert calls[0] == "eval cells --split val --weights w --measure coco"
    assert calls[-1] == calls[0] + " --flip --scales 0.8,1,1.25"
    entry = record.read()["prediction"]["digits"]
    assert entry["command"] == "python benchmarks/prediction.py --data cells --weights w"
    assert entry["rows"][:2] == [["none", "0.150", "0.100"], ["`--class-agnostic`", "0.250", "0.200"]]


def test_the_mean_is_read_from_the_table_of_rcnn_eval():
    assert accuracy.mean_of("class    objects  found  AP50\n1  3  4  0.900\nmean  21  29   0.985\n") == 0.985


def test_more_than_half_of_the_operations_of_the_light_detector_are_in_one_product(monkeypatch):
    """As docs/speed.md states."""
    operations = {}

    def counted(x, weight, *arguments):
        out = convolve(x, weight, *arguments)
        operations[weight.shape] = operations.get(weight.shape, 0) + out.size * math.prod(weight.shape[1:])
        return out

    convolve = conv.convolve
    monkeypatch.setattr(conv, "convolve", counted)
    photo = np.random.default_rng(0).integers(256, size=(480, 640, 3)).astype(np.uint8)
    with rcnn.use_backend("cython"):
        rcnn.faster_rcnn_mobilenet_v3_large_320_fpn(91).predict([photo])
    assert operations[1024, 256, 7, 7] / sum(operations.values()) > 0.5
