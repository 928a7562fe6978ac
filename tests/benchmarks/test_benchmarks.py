"""Parts of benchmarks/ that require no other library: timing, comparisons, inputs, tables, one call per kernel."""

import json
import re
from types import SimpleNamespace

import microbenchmarks
import numpy as np
import pytest
import run
from speed import (
    convolutions,
    detector,
    inputs,
    memory,
    memory_probe,
    processors,
    report,
    rows,
    sweeps,
    timing,
    training,
)
from speed.agreement import Agreement, close, partners, same_array, same_detections, same_step
from speed.inputs import Convolution
from speed.rows import Contest, Goal, Result, Row, Settings
from speed.timing import Contestant, Summary, race, summary

import rcnn
from rcnn.nn import Parameter, functional

FACTS = {"date": "2026-01-02", "processor": "abacus"}


@pytest.fixture
def settings(tmp_path):
    """Settings for one round of every row with rcnn alone."""
    return Settings(frozenset(), 2, 0.0, 1, tmp_path)


# ---------------------------------------------------------------- timing


class Clock:
    """Simulated clock with a log of the calls."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def sleep(self, seconds):
        self.now += seconds
        self.log.append(f"pause {seconds:g}")

    def contestant(self, name, *costs):
        """Return a contestant whose calls take these seconds; the last value repeats."""
        costs = list(costs)

        def call(given):
            assert given == f"before {name}"
            self.now += costs.pop(0) if len(costs) > 1 else costs[0]
            self.log.append(name)

        def before():
            self.now += 100  # not counted
            return f"before {name}"

        return Contestant(name, call, before)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "Others", lambda: SimpleNamespace(share=lambda: 0.0))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now, sleep=clock.sleep))
    return clock


def test_turn_counts_calls_after_the_pause_and_the_warm_up(clock):
    seconds = timing.turn(clock.contestant("a", 0.008, 0.003, 0.015, 0.02, 0.025))
    assert seconds == pytest.approx([0.015, 0.02, 0.025])
    assert clock.log == ["pause 0.12", *"aaaaa"]


def test_turn_of_calls_that_take_no_time_ends(clock):
    assert timing.turn(clock.contestant("a", 0.0)) == [0.0] * 200


def test_first_long_call_is_counted(clock):
    assert timing.turn(clock.contestant("a", 0.2, 5.0)) == pytest.approx([0.2])


def test_contestants_take_turns_in_alternating_order(clock):
    times, _ = race([clock.contestant("a", 1.0, 2.0, 3.0), clock.contestant("b", 4.0)], budget=0, rounds=3, pause=0)
    assert times == {"a": pytest.approx([1, 2, 3]), "b": pytest.approx([4, 4, 4])}
    assert [entry for entry in clock.log if entry != "pause 0"] == list("abbaab")


def test_race_continues_until_the_budget_is_spent(clock):
    assert len(race([clock.contestant("a", 1.0)], budget=250, rounds=1)[0]["a"]) == 3  # of 101 seconds each


@pytest.mark.parametrize(
    ("shares", "counted", "others"),
    [
        ([0.5, 0.0, 0.03, 0.2, 0.01], [2, 3], 0.015),  # two undisturbed rounds within the budget of three rounds
        ([0.5, 0.2, 0.0, 0.3, 0.04, 0.0], [3, 5], 0.02),  # the second undisturbed round comes later
        (
            [0.5, 0.2, 0.1, 0.3, 0.0, 0.6, 0.7, 0.8, 0.9, 0.0],
            [3, 5],
            0.05,
        ),  # only one undisturbed round in three times the budget
    ],
)
def test_rounds_disturbed_by_other_processes_do_not_count(clock, monkeypatch, shares, counted, others):
    remaining = iter(shares)
    monkeypatch.setattr(timing, "Others", lambda: SimpleNamespace(share=lambda: next(remaining)))
    contestant = clock.contestant("a", *map(float, range(1, 11)))  # the first round takes a second, and so on
    times, share = race([contestant], budget=250, rounds=2)
    assert sorted(times["a"]) == counted and share == pytest.approx(others)


def test_other_processes_on_spare_processors_do_not_count(clock, monkeypatch):
    monkeypatch.setattr(timing, "Others", lambda: SimpleNamespace(share=lambda: 0.52))
    assert race([clock.contestant("a", 1.0)], 0, 1, spare=0.5)[1] == pytest.approx(0.02)
    assert race([clock.contestant("a", 1.0)], 0, 1, spare=0.75)[1] == 0


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([3.0], Summary(3, 3, 3, 1)),
        ([4.0, 1.0, 2.0, 3.0, 5.0], Summary(3, 2, 4, 5)),
        ([1.0, 3.0], Summary(2, 1.5, 2.5, 2)),
    ],
)
def test_summary(samples, expected):
    assert summary(samples) == expected


# ---------------------------------------------------------------- agreement


def found(*detections):
    """Return detections of an image from (x1, score, label), all 10 pixels wide and high."""
    x, scores, labels = (np.array(column, np.float32) for column in zip(*detections, strict=True))
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1)
    return {"boxes": boxes, "scores": scores, "labels": labels.astype(int)}


NOTHING = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)}


def test_detections_agree_in_any_order():
    ours, theirs = found((0, 0.9, 1), (50, 0.5, 2)), found((50.01, 0.50001, 2), (0, 0.9, 1))
    agreement = same_detections([ours, NOTHING], [theirs, NOTHING])
    assert agreement.holds
    assert agreement.text == "2 of 2 detections, boxes within 1e-02 pixels, scores within 1e-05"


@pytest.mark.parametrize(
    ("theirs", "matched"),
    [
        (found((0, 0.9, 1)), "1 of 2"),
        (NOTHING, "0 of 2"),
        (found((0, 0.9, 2), (50, 0.5, 2)), "1 of 2"),
        (found((0, 0.9, 1), (50.1, 0.5, 2)), "1 of 2"),
        (found((0, 0.9, 1), (50, 0.4, 2)), "1 of 2"),
        (found((0, 0.9, 1), (50, 0.5, 2), (50.02, 0.5, 2)), "2 of 3"),
    ],
)
def test_detections_that_differ_are_counted(theirs, matched):
    agreement = same_detections([found((0, 0.9, 1), (50, 0.5, 2))], [theirs])
    assert not agreement.holds
    assert agreement.text.startswith(f"{matched} detections")


def test_two_detections_do_not_share_a_partner():
    first, second = partners(found((0, 1, 1), (1, 1, 1)), found((0.6, 1, 1)))
    assert (first.tolist(), second.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("agreement", "holds", "text"),
    [
        (same_array(np.array([0.0, 1.0]), np.array([np.nan, 1.0])), True, "equal"),
        (same_array(np.array([0, 1]), np.array([1, 0])), False, "not equal"),
        (same_array(np.array([0]), np.array([0, 0])), False, "not equal"),
        (close(np.array([1.0, -4.0]), np.array([1.0, -4.0]), 0), True, "equal"),
        (close(np.array([1.08, -4]), np.array([1.0, -4]), 0.03), True, "within 2e-02, relative to the largest value"),
        (close(np.array([1.2, -4]), np.array([1.0, -4]), 0.03), False, "within 5e-02, relative to the largest value"),
        (close(np.ones(2), np.ones(3), 1.0), False, "shapes (2,) and (3,) differ"),
    ],
)
def test_agreement_of_arrays(agreement, holds, text):
    assert (agreement.holds, agreement.text) == (holds, text)


STEP = ({"a": np.array(2.0), "b": np.array(1.0)}, {"v": np.array([3.0]), "w": np.array([[4.0]])})


@pytest.mark.parametrize(
    ("losses", "gradients", "holds", "text"),
    [
        ({"a": 2.02, "b": 1.0, "total": 9}, {"v": 3.0, "w": 4.0}, True, "losses within 1e-02, gradients within 0e+00"),
        ({"a": 2.0, "b": 0.97}, {"v": 3.0, "w": 4.0}, False, "losses within 3e-02, gradients within 0e+00"),
        ({"a": 2.0, "b": np.nan}, {"v": 3.0, "w": 4.0}, False, "losses within nan, gradients within 0e+00"),
        ({"a": 2.0, "b": 1.0}, {"v": 3.0, "w": 4.5}, False, "losses within 0e+00, gradients within 1e-01"),
        ({"a": 2.0, "b": 1.0}, {"v": np.nan, "w": 4.0}, False, "losses within 0e+00, gradients within nan"),
        ({"a": 2.0, "b": 1.0}, {"v": 3.0}, False, "only one has gradients of ['w']"),
    ],
)
def test_agreement_of_training_steps(losses, gradients, holds, text):
    ours = losses, {name: np.full_like(STEP[1][name], value) for name, value in gradients.items()}
    agreement = same_step(ours, STEP, 0.02, 0.05)
    assert (agreement.holds, agreement.text) == (holds, text)


def test_two_results_without_detections_do_not_count_as_agreement():
    assert not same_detections([NOTHING], [NOTHING]).holds


# ---------------------------------------------------------------- inputs


def test_convolutions_are_those_of_the_detector():
    listed = [(c.out_channels, c.in_channels, c.kernel, c.kernel) for c in inputs.resnet_fpn_convolutions()]
    named = {name: array.shape for name, array in rcnn.faster_rcnn_resnet_50_fpn(2).state_dict().items()}
    backbone = [shape for name, shape in named.items() if len(shape) == 4 and not name.startswith("rpn")]
    levels = [shape for name, shape in named.items() if len(shape) == 4 and name.startswith("rpn")] * 5
    assert sorted(listed) == sorted(backbone + levels)


def test_cost_of_the_convolutions_is_the_published_one():
    """ResNet-50 with the stride in its 3x3 convolutions: 4.09e9 multiply-adds, including 2e6 of the classifier."""
    assert sum(c.flop for c in inputs._resnet(224, 224)) / 2 == pytest.approx(4.09e9 - 2e6, rel=1e-3)
    assert Convolution(3, 64, 7, 2, 5, 6).output_size == (3, 3)
    assert str(Convolution(3, 64, 7, 2, 5, 6)) == "7x7, stride 2, 3 to 64, 5 x 6"


def test_boxes_are_inside_the_image_and_scores_differ():
    for boxes in (inputs.rois(500), inputs.clustered_boxes(500)[0], inputs.targets(*inputs.IMAGE)[0]["boxes"]):
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all() and (boxes <= (1216, 800, 1216, 800)).all()
    boxes, scores = inputs.clustered_boxes(1000)
    assert len(np.unique(scores)) == 1000
    assert 200 <= len(rcnn.nms.nms(boxes, scores, 0.7)) <= 300


# ---------------------------------------------------------------- rows


def test_goals_belong_to_rows_and_row_names_are_unique():
    names = [row.name for row in [*run.USUAL, *sweeps.ROWS]]
    assert len(set(names)) == len(names)
    assert {row for row, _ in rows.GOALS} <= {*names, "memory-process"}  # only on Linux
    assert {peer for _, peer in rows.GOALS} <= set(sweeps.LOOKS)  # a colour for every peer


@pytest.mark.parametrize(("ratio", "verdict"), [(0.9, "no"), (1.0, "yes"), (2.0, "aim")])
def test_verdict_of_a_goal(ratio, verdict):
    assert Goal(1.0, 2.0).verdict(ratio) == verdict
    assert Goal(1.0, 0.5, most=True).verdict(1 / ratio) == verdict


@pytest.mark.parametrize("leaf", ["input", "weights"])
def test_only_the_gradient_of_one_leaf_is_computed_and_timed(leaf, monkeypatch):
    layer = Convolution(3, 4, 3, 2, 7, 8)
    x, weight = convolutions.arrays(layer)
    grad = inputs.feature_maps(1, 4, *layer.output_size, seed=2)
    leaves = {"input": Parameter(x), "weights": Parameter(weight)}
    functional.conv2d(leaves["input"], leaves["weights"], None, 2, 1).backward(grad)
    required = []

    def spy(x, weight, *rest, conv2d=functional.conv2d):
        required.append((x.requires_grad, weight.requires_grad))
        return conv2d(x, weight, *rest)

    monkeypatch.setattr(convolutions.functional, "conv2d", spy)
    contestant = convolutions.convolving_backward(layer, x, weight, grad, leaf)
    for _ in range(2):  # gradients do not accumulate
        np.testing.assert_allclose(contestant.answer(), leaves[leaf].grad, atol=1e-5)
    assert required == [(leaf == "input", leaf == "weights")] * 2


@pytest.mark.parametrize(
    "make",
    [
        lambda settings: detector.contest(settings, size=(64, 96)),
        lambda settings: detector.contest(settings, detector.RESNET_V2, (64, 96)),
        lambda settings: detector.contest(settings, detector.MOBILENET),
        training.resnet_contest,
        training.digits_contest,
        lambda settings: detector.batch_contest(settings, (64, 64), batch=2),
        lambda settings: convolutions.contest(settings, Convolution(3, 4, 1, 1, 5, 5)),
    ],
    ids=["detector", "version-2", "mobilenet", "resnet", "digits", "batch", "convolution"],
)
def test_rcnn_runs_alone(make, settings, monkeypatch):
    monkeypatch.setattr(training, "SIZE", (64, 64))
    result = rows.run(Row("row", "work", make, table="t", flop=3, times=4, x=5), settings)
    assert list(result.samples) == ["rcnn"] and result.samples["rcnn"][0] > 0 and result.holds
    assert (result.name, result.work, result.table, result.threads) == ("row", "work", "t", 2)
    assert (result.flop, result.times, result.x) == (3, 4, 5)


def test_row_with_its_own_number_of_threads(settings, monkeypatch):
    before, seen = rcnn._ext.backend.get_num_threads(), []
    contestant = Contestant("rcnn", lambda _: seen.append(rcnn._ext.backend.get_num_threads()))
    monkeypatch.setattr(rows, "processors", lambda: 4)
    monkeypatch.setattr(timing, "Others", lambda: SimpleNamespace(share=lambda: 0.8))
    result = rows.run(Row("row", "work", lambda s: rows.by_answer([contestant], same_array), threads=1), settings)
    assert result.others == pytest.approx(0.05)  # three of the four processors were spare
    assert (set(seen), result.threads, rcnn._ext.backend.get_num_threads()) == ({1}, 1, before)


def test_answers_are_compared_with_those_of_rcnn(settings):
    contestants = [
        Contestant(name, lambda _, value=value: value, read=np.array)
        for name, value in (("rcnn", [1]), ("a", [1]), ("b", [2]))
    ]
    result = rows.run(Row("row", "work", lambda s: rows.by_answer(contestants, same_array)), settings)
    assert {name: agreement.holds for name, agreement in result.agreements.items()} == {"a": True, "b": False}
    assert not result.holds


def test_weights_of_the_mobilenet_give_many_detections_and_a_few_with_a_high_score():
    (found,) = detector.detector(detector.MOBILENET).predict([inputs.textured_image(300, 420, seed=5)])
    assert len(found["boxes"]) == 100
    assert 2 <= (found["scores"] > 0.5).sum() <= 20 and len(set(found["labels"])) > 10


@pytest.mark.slow
def test_memory_of_a_separate_process_is_measured(settings):
    """There are rows on Linux only; on other systems this tests that there are none."""
    if not memory.ROWS:
        assert not memory_probe.RESET.exists()
        return
    process, beyond = (memory.measure(settings, kind) for kind in ("process", "beyond"))
    weights = sum(array.nbytes for array in detector.weights(detector.RESNET).values())
    assert set(process) == set(beyond) == {"rcnn"}
    assert weights < process["rcnn"][0] < 10 * weights and 0 < beyond["rcnn"][0] < process["rcnn"][0] - weights


def test_memory_is_read_before_and_after_the_peak_is_reset(monkeypatch, tmp_path, capsys):
    def write_status(most, now):
        memory_probe.STATUS.write_text(f"Name:\tpython\nVmHWM:\t  {most} kB\nVmRSS:\t  {now} kB\n")

    def look():
        assert memory_probe.RESET.read_text() == "5"
        write_status(90, 70)

    for name in ("STATUS", "RESET"):
        monkeypatch.setattr(memory_probe, name, tmp_path / name)
    monkeypatch.setitem(memory_probe.LOADERS, "someone", lambda path, image, threads: write_status(100, 60) or look)
    memory_probe.main("someone", "file", "1")
    assert json.loads(capsys.readouterr().out) == {"process": 100 * 1024, "beyond": 30 * 1024}


def test_share_of_other_processes_excludes_this_process(monkeypatch):
    seconds = {"_busy": 10.0, "_own": 4.0}
    monkeypatch.setattr(processors, "_busy", lambda: seconds["_busy"])
    monkeypatch.setattr(processors, "_own", lambda: seconds["_own"])
    monkeypatch.setattr(processors, "processors", lambda: 2)
    monkeypatch.setattr(processors, "time", SimpleNamespace(perf_counter=lambda: seconds["_busy"] - 10))
    others = processors.Others()
    seconds.update(_busy=15.0, _own=8.0)  # in 5 seconds on 2 processors: 4 of this process, 1 of another
    assert others.share() == pytest.approx(0.1)


# ---------------------------------------------------------------- report

FINE = Agreement("equal", True)
RESULTS = [
    Result(
        "iou-square",
        "IoU",
        "work",
        2,
        {"rcnn": [0.001, 0.002, 0.003], "torchvision": [0.042], "other": [0.001]},
        {"torchvision": FINE, "other": Agreement("not equal", False, 1.0)},
    ),
    Result("alone", "work", "work", 1, {"rcnn": [0.1234]}, flop=2 * 10**9),
    Result("memory-process", "peak", "memory", 2, {"rcnn": [80 * 2.0**20], "torchvision": [100 * 2.0**20]}),
    Result("s1", "1x1", "shapes", 2, {"rcnn": [0.001], "a": [0.002]}, {"a": Agreement("", True, 2e-6)}, 10**7, 3),
    Result("s2", "3x3", "shapes", 2, {"rcnn": [0.002], "a": [0.001]}, {"a": Agreement("", True, 4e-6)}, 4 * 10**7, 1),
    Result("t1", "one", sweeps.THREADS, 1, {"rcnn": [2.0], "torchvision": [4.0]}, {"torchvision": FINE}, x=1),
    Result("t2", "two", sweeps.THREADS, 2, {"rcnn": [1.0]}, x=2),
]


def test_report_of_known_measurements():
    lines = [line for line in report.markdown(FACTS, RESULTS).splitlines() if line.startswith(("- ", "| "))]
    assert lines[:2] == ["- date: 2026-01-02", "- processor: abacus"]
    assert [line for line in lines[2:] if "---" not in line] == [
        "| work | threads | rcnn, ms | peer | peer, ms | ratio | goal, aim | met | agreement |",
        "| IoU | 2 | 2 | torchvision | 42 | 21.00 | 10, 25 | yes | equal |",
        "|  |  |  | other | 1 | 0.50 |  |  | not equal (!) |",
        "| work, 16 GFLOP/s | 1 | 123 |  |  |  |  |  |  |",
        "| peak memory | rcnn, MiB | peer | peer, MiB | ratio | goal, aim | met |",
        "| peak | 80 | torchvision | 100 | 0.80 | 0.85, 0.65 | yes |",
        "| convolution | times | rcnn, ms | GFLOP/s | a, ms | ratio | largest difference |",
        "| 1x1 | 3 | 1 | 10 | 2 | 2.00 | 2e-06 |",
        "| 3x3 | 1 | 2 | 20 | 1 | 0.50 | 4e-06 |",
        "| all of these | 4 | 5 | 14 | 7 | 1.40 |  |",
        "| threads | rcnn, ms | torchvision, ms (ratio) |",
        "| 1 | 2000 | 4000 (2.00) |",
        "| 2 | 1000 |  |",
    ]


def test_json_has_every_sample(tmp_path):
    report.write_json(tmp_path / "file.json", report.as_data(FACTS, RESULTS))
    read = json.loads((tmp_path / "file.json").read_text())
    first = read["rows"][0]
    assert read["facts"] == FACTS and [row["name"] for row in read["rows"]] == [result.name for result in RESULTS]
    assert first["samples"]["rcnn"] == [0.001, 0.002, 0.003] and first["unit"] == "seconds"
    assert first["summaries"]["rcnn"] == {"median": 0.002, "lower": 0.0015, "upper": 0.0025, "count": 3}
    assert first["peer by rcnn"] == {"torchvision": pytest.approx(21), "other": 0.5}
    assert first["goals"] == {"torchvision": {"least": 10, "aim": 25, "most": False}}
    assert read["rows"][2]["unit"] == "bytes"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (230, 1571, [200, 500, 1000, 2000]),
        (0.64, 3, [0.5, 1, 2, 5]),
        (10, 50, [10, 20, 50]),
        (3, 4, [2, 5]),
    ],
)
def test_axis_starts_and_ends_at_a_tick(low, high, expected):
    assert sweeps.ticks(low, high) == pytest.approx(expected)


def test_plot_of_a_sweep():
    figure = sweeps.draw(RESULTS, "a machine")
    panel, hidden = figure.axes
    drawn = zip(*panel.get_legend_handles_labels(), strict=True)
    lines = {name: bars.lines[0].get_xydata().tolist() for bars, name in drawn}
    assert lines == {"rcnn": [[1, 2000], [2, 1000]], "torchvision": [[1, 4000]]}
    assert panel.get_xlabel() == "threads" and not hidden.get_visible()
    assert figure.legends[0].get_title().get_text() == "a machine"
    with pytest.raises(ValueError, match="none of the results belong to a sweep"):
        sweeps.draw(RESULTS[:3], "")


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])])
def test_thread_counts(most, counts):
    assert sweeps.thread_counts(most) == counts


# ---------------------------------------------------------------- the command


@pytest.fixture
def quickest(monkeypatch):
    monkeypatch.setattr(run, "QUICK_BUDGET", 0.0)
    monkeypatch.setattr(run, "QUICK_ROUNDS", 1)


def test_command_prints_a_table_and_writes_files(quickest, tmp_path, capsys):
    files = ["--json", str(tmp_path / "all.json"), "--plot", str(tmp_path / "sweeps.png")]
    status = run.main(["--quick", "--peers", "--threads", "1", "--only", "nms-1000", "sweep-rois-100", *files])
    printed = capsys.readouterr()
    assert status == 0
    assert re.search(r"^- versions: Python .*, rcnn .*, numpy [\d.]+$", printed.out, re.MULTILINE)
    assert re.search(r"^\| NMS, 1,000 boxes \| 1 \| [\d.]+ \|", printed.out, re.MULTILINE)
    assert "1 of 3  nms-1000: NMS, 1,000 boxes" in printed.err
    assert len(json.loads((tmp_path / "all.json").read_text())["rows"]) == 3  # 100 and 1000 RoIs
    assert (tmp_path / "sweeps.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_command_reports_its_rows_and_returns_1_if_answers_differ(quickest, monkeypatch, capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(timing, "Others", lambda: SimpleNamespace(share=lambda: 0.06))
    alone = Contestant("rcnn", lambda _: None)
    contest = Contest([alone, Contestant("peer", lambda _: None)], lambda: {"peer": Agreement("not equal", False)})
    monkeypatch.setattr(
        run,
        "USUAL",
        [
            Row("one", "a row", lambda _: contest),
            Row("two", "another", interrupted),
            Row("three", "a third", lambda _: contest),
        ],
    )
    assert run.main(["--quick", "--peers"]) == 1
    printed = capsys.readouterr()
    assert "| a row |" in printed.out and "a third" not in printed.out and "stopped" in printed.err
    assert "- rows disturbed by other processes: one\n" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "no row starts with 'nothing'; the rows are: detector,"),
        (["--plot", "file.png"], "--plot draws sweeps"),
        (["--threads", "0"], "must be at least 1, got 0"),
        (["--peers", "tensorflow"], "invalid choice: 'tensorflow'"),
    ],
)
def test_invalid_arguments_are_errors(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        run.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_command_lists_its_rows(capsys):
    assert run.main(["--list", "--only", "iou", "sweep-rois"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == ["iou-square", "iou-tall", *(f"sweep-rois-{n}" for n in sweeps.ROIS)]


def test_peers_that_are_not_installed_do_not_run(monkeypatch):
    monkeypatch.setattr(rows, "find_spec", lambda package: package in ("torch", "torchvision", "onnx", "openvino"))
    assert rows.installed() == ["torchvision", "openvino"]


# ---------------------------------------------------------------- microbenchmarks


@pytest.mark.parametrize("name", microbenchmarks.KERNELS)
def test_every_microbenchmark_runs_on_both_implementations(name):
    answers = []
    for backend in ("numpy", "cython"):
        with rcnn.use_backend(backend):
            work = microbenchmarks.KERNELS[name]()
            first, again = (answer if isinstance(answer, list) else [answer] for answer in (work(), work()))
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)
        answers.append(first)
    for reference, kernel in zip(*answers, strict=True):
        assert close(np.asarray(kernel), np.asarray(reference), 1e-4).holds
