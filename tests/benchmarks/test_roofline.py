"""Counts, tables and figures of benchmarks/roofline.py and tricks.py; speed is not tested."""

import numpy as np
import pytest
import roofline
import tricks
from legible import assert_nothing_is_clipped
from roofline import Point, Spent
from speed.inputs import Convolution

import rcnn

WINDOWS = Convolution(256, 256, 3, 1, 200, 304)
STRIDED = Convolution(8, 16, 1, 2, 7, 9)  # it reads 4 x 5 of the pixels
PEAKS = {1: 100e9, 4: 400e9}
MOVED = {1: dict.fromkeys(roofline.SIZES, 20e9), 4: dict.fromkeys(roofline.SHOWN[2:], 50e9)}


@pytest.fixture(autouse=True)
def kernels():
    """Use the kernels, which these programs measure, whatever implementation the other tests use."""
    with rcnn.use_backend("cython"):
        yield


def points():
    return [
        Point(WINDOWS, "direct", 2, WINDOWS.flop / 90e9),
        Point(WINDOWS, "winograd4", 2, WINDOWS.flop / 270e9),
        Point(STRIDED, "direct", 1, STRIDED.flop / 10e9),
    ]


# ---------------------------------------------------------------- counting


def test_every_value_is_moved_once():
    assert roofline.bytes_moved(WINDOWS) == 4 * (2 * 256 * 200 * 304 + 256 * 256 * 9)
    assert roofline.bytes_moved(STRIDED) == 4 * (4 * 5 * 8 + 4 * 5 * 16 + 8 * 16)


def test_intensity_is_operations_per_byte():
    assert roofline.intensity(STRIDED) == pytest.approx(2 * 20 * 16 * 8 / (4 * 608))


@pytest.mark.parametrize(("of", "allowed"), [(2, 40e9), (5, 100e9), (50, 100e9)])
def test_lower_roof_limits_the_speed(of, allowed):
    assert roofline.attainable(of, 100e9, 20e9) == allowed


def test_operations_are_those_of_the_direct_algorithm():
    assert [round(point.speed / 1e9) for point in points()] == [90, 270, 10]


def test_profile_counts_the_calls_of_a_pass_and_restores_the_functions(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: float(next(ticks)))
    before = roofline.conv_kernels.convolve
    config = rcnn.FasterRCNNConfig(rcnn.nn.Conv2d(3, 8, 3, 2, 1), 8, 4, hidden_dim=16, box_score_thresh=0.0)
    spent = roofline.profile(rcnn.FasterRCNN(config).eval(), np.zeros((64, 64, 3), np.float32))
    assert roofline.conv_kernels.convolve is before
    assert spent["3x3 convolutions, stride 2"].calls == spent["3x3 convolutions"].calls == 1  # backbone; RPN
    assert spent["1x1 convolutions"].calls == 2 and spent["fully connected layers"].calls == 4
    assert spent["1x1 convolutions"].flop == 2 * 8 * (9 + 36) * (config.min_size // 2) ** 2  # 9 anchors: scores, deltas
    clocks = {kind: one.seconds for kind, one in spent.items() if kind != "the rest"}
    assert all(seconds == spent[kind].calls for kind, seconds in clocks.items())
    height, width = config.min_size // 2, config.min_size // 2
    assert spent["3x3 convolutions, stride 2"].flop == 2 * 9 * 3 * 8 * height * width
    assert spent["3x3 convolutions, stride 2"].bytes == 4 * (3 * 4 * height * width + 3 * 8 * 9 + 8 * height * width)


def test_fastest_pass_is_sorted_by_descending_time():
    slow, quick = {"a": Spent(1, 9.0)}, {"a": Spent(1, 1.0), "b": Spent(1, 3.0)}
    assert list(roofline.fastest([slow, quick]).items()) == [("b", Spent(1, 3.0)), ("a", Spent(1, 1.0))]


# ---------------------------------------------------------------- measuring


def test_best_repeats_until_patience_ends_and_ignores_the_first_call(monkeypatch):
    now, costs = [0.0], iter([0.5, 3.0, 2.0, 5.0, 1.0])
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: now[0])

    def work():
        now[0] += next(costs)

    assert roofline.best(work, patience=10) == 2.0


@pytest.mark.parametrize(("size", "threads"), [(8192, 1), (roofline.MIB, 1), (16 * roofline.MIB, 2)])
def test_bandwidth_is_three_arrays_divided_by_the_time(monkeypatch, size, threads):
    calls = []
    monkeypatch.setattr(roofline, "best", lambda work, patience: calls.append(work()) or 1e-3)
    times = roofline.TOGETHER // size - 1 if size <= roofline.BRIEF else 1
    assert roofline.bandwidth(size, threads) == pytest.approx(1.5 * size * times / 1e-3)
    assert len(calls) == 1


# ---------------------------------------------------------------- showing


def test_tables():
    spent = {"x": Spent(2, 0.75, int(3e9), int(5e6)), "the rest": Spent(1, 0.25)}
    assert "| x | 2 | 1.5 | 5 | 750 | 75.0% | 4 |" in roofline.profile_table(spent)
    assert "| all | 3 | 1.5 | 5 | 1000 | 100.0% | 3 |" in roofline.profile_table(spent)
    assert "| 4 | 400 |  |  | 50 | 50 | 8.0 |" in roofline.roofs_table(PEAKS, MOVED)
    direct, fewer, _ = points()
    other = Point(STRIDED, "direct", 1, 6 * fewer.seconds)  # the first layer takes 2: the faster algorithm counts
    lines = roofline.layers_table([direct, fewer, other], 100e9, 20e9).splitlines()
    assert len(lines) == 4 and " 100 | 90 | 90% | 270 | 25.0% |" in lines[2]


def test_plot_is_legible_and_shows_every_layer():
    figure = roofline.draw(points(), 1, PEAKS, MOVED, "abacus; 2026-01-02")
    left, right = figure.axes
    assert sum(len(marks.get_offsets()) for marks in left.collections) == 3
    assert [len(line.get_xdata()) for line in right.lines] == [len(roofline.SIZES), 2]
    assert_nothing_is_clipped(figure)


# ---------------------------------------------------------------- the tricks


def test_winograd_in_one_dimension_by_hand():
    into, of_weights, back = tricks.winograd_matrices((0, 1, -1))
    inputs, weights = into @ (1, 2, 3, 5), of_weights @ (1, 2, 3)
    # The row of point 0 has the opposite sign in both factors, so their product is unchanged.
    assert weights.tolist() == pytest.approx([-1, 3, 1, 3])
    assert inputs.tolist() == pytest.approx([2, 5, 1, 3])
    assert (back @ (inputs * weights)).tolist() == pytest.approx([14, 23])  # 1 + 4 + 9, 2 + 6 + 15


@pytest.mark.parametrize("points", [(0, 1, -1), tricks.CUSTOMARY, tricks.OURS])
def test_winograd_by_matrices_is_the_convolution(points):
    layer = Convolution(3, 5, 3, 1, 8, 12)
    x, weight = (array.astype(np.float64) for array in tricks.convolutions.arrays(layer))
    exact = tricks.convolution(layer, x, weight)().data[0]
    np.testing.assert_allclose(tricks.by_matrices(x[0], weight, points, np.float64), exact, atol=1e-13)


def test_answers_are_equal_with_and_without_every_trick(monkeypatch):
    monkeypatch.setattr(tricks, "FINEST", (12, 16))
    monkeypatch.setattr(tricks, "MIDDLE", (8, 8))
    found = list(tricks.tricks())
    assert len({trick.name for trick in found}) == 10
    for trick in found:
        without, with_it = (
            answer.numpy() if isinstance(answer, rcnn.nn.Tensor) else answer
            for answer in (trick.without(), trick.with_it())
        )
        if trick.name.startswith("256 channels"):
            without = without.T
        if without is not None:  # a trick about memory has no answer
            np.testing.assert_allclose(with_it, without, atol=1e-4, err_msg=trick.name)


def test_errors_are_small_and_grow_with_the_tile():
    found = tricks.errors(12, 16, 32)
    assert all(0 < usual < most < 1e-4 for most, usual in found.values())
    assert found["winograd4"][1] > found["direct"][1]
    with_ours, with_customary = (
        found[f"F(4x4, 3x3) in NumPy, points {name}"][1] for name in ("of winograd4", "0, +-1, +-2")
    )
    assert with_ours < with_customary / 1.5 and with_ours == pytest.approx(found["winograd4"][1], rel=0.3)


def test_answer_does_not_depend_on_threads(monkeypatch):
    assert tricks.same_on_any_threads(3)
    monkeypatch.setattr(tricks, "convolution", lambda *_: lambda: rcnn.nn.Tensor(np.random.default_rng().random(2)))
    assert not tricks.same_on_any_threads(2)


def test_trick_is_measured_by_its_fastest_calls(monkeypatch):
    monkeypatch.setattr(tricks, "race", lambda *_: ({"without": [0.5, 0.4, 0.9], "with": [0.2, 0.1]}, 0.0))
    found = tricks.compare(tricks.Trick("t", list, list), 1.0)
    assert "| t | 400 | 100 | 4.00 |" in tricks.tricks_table({"t": found})


# ---------------------------------------------------------------- the commands


@pytest.mark.slow
def test_roofline_is_printed_and_drawn(monkeypatch, capsys, tmp_path):
    """The whole program, with one call of each function."""

    def best(work, patience=0.0):
        work()
        return 1e-3

    monkeypatch.setattr(roofline, "best", best)
    monkeypatch.setattr(roofline, "PASSES", 1)
    roofline.main(["--threads", "2", "--plot", str(tmp_path / "roofline.png")])
    printed = capsys.readouterr().out
    assert "| 3x3 convolutions | 22 | 124.5 |" in printed and "| 2 | " in printed
    assert printed.count("3x3, 256 to 256, 200 x 304") == 1 and (tmp_path / "roofline.png").stat().st_size > 20_000


@pytest.mark.slow
def test_tricks_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(tricks, "race", lambda *_: ({"without": [0.4], "with": [0.1]}, 0.0))
    monkeypatch.setattr(tricks, "errors", lambda: {"direct": (2e-7, 1e-7)})
    tricks.main([])
    printed = capsys.readouterr().out
    assert printed.count("| 400 | 100 | 4.00 |") == 10 and "| direct | 2.0e-07 | 1.0e-07 |" in printed
    assert "equal to the last bit" in printed and "| baseline | " in printed
