"""The model of the cost of training by several processes, with values computed by hand, and what it is made from."""

from pathlib import Path

import pytest
import scaling
from scaling import Cost, Link
from speed import record

from rcnn import data
from rcnn.nn.layers import without_drawing
from rcnn.train.parallel import BUCKET, POLL, Group
from rcnn.zoo.detectors import faster_rcnn_small

MEMORY = Link("one machine", latency=1e-3, bandwidth=1e9, is_network=False)
NETWORK = Link("1 Gbit/s", latency=1e-3, bandwidth=1e8, is_network=True)
COST = Cost(fixed=0.1, per_image=0.2, backward=0.5, nbytes=2 * BUCKET, exchanges=10, read=0.01)


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        (1, 0.0),
        (2, 0.001 + 1.0 * 0.1),  # each of two processes sends and receives half of the array twice
        (4, 0.002 + 1.5 * 0.1),
        (5, 0.003 + 1.6 * 0.1),
    ],
)
def test_time_of_a_sum(processes, expected):
    assert MEMORY.seconds(1e8, processes) == pytest.approx(expected)


def test_one_process_only_computes():
    assert COST.seconds(4, 1, NETWORK) == pytest.approx(0.1 + 4 * 0.2)


def test_processes_of_a_machine_wait_for_all_messages():
    small = 10 * (0.001 + 64 / 1e9)
    bulk = 0.001 + 2 * BUCKET / 1e9
    assert COST.seconds(4, 2, MEMORY) == pytest.approx(0.1 + 2 * 0.2 + small + bulk)


def test_network_is_hidden_behind_the_backward_pass_except_for_the_last_bucket():
    small, last = 10 * (0.001 + 64 / 1e8), 0.001 + BUCKET / 1e8
    assert COST.seconds(4, 2, NETWORK) == pytest.approx(0.5 + small + last)
    slow = Link("slow", 1e-3, 1e7, True)
    bulk = 0.001 + 2 * BUCKET / 1e7
    assert COST.seconds(4, 2, slow) == pytest.approx(0.5 + 10 * (0.001 + 64 / 1e7) + bulk - 0.25)


def test_process_with_most_images_determines_the_time():
    assert COST.seconds(5, 4, NETWORK) - COST.seconds(4, 4, NETWORK) == pytest.approx(0.2)


def test_reading_limits_a_step_that_is_shorter():
    reading = Cost(0.1, 0.2, 0.5, BUCKET, 10, read=1.0)
    assert reading.seconds(4, 2, MEMORY) == pytest.approx(2.0)


def test_line_is_fitted_to_relative_errors():
    assert scaling.fit_line([1, 2, 4], [3, 5, 9]) == pytest.approx((1, 2))
    assert scaling.fit_line([1, 2], [2, 1])[1] == 0  # a negative slope is noise


def test_cost_of_a_small_detector(monkeypatch):
    work = scaling.Work("tiny", lambda: faster_rcnn_small(data.Digits.classes), data.Digits, 2, (1, 2))
    monkeypatch.setattr(scaling, "ROUNDS", 1)
    cost = scaling.cost_of(work)
    model = work.make()
    assert cost.nbytes == sum(parameter.data.nbytes for parameter in model.parameters())
    norms = sum(type(module).__name__ == "BatchNorm2d" for module in model.modules())
    assert cost.exchanges == 2 * norms + 3  # of the sizes, the divisors and the losses
    assert 0 < cost.backward < 1 and cost.read > 0 and cost.per_image + cost.fixed > 0


def test_numbers_of_the_page_are_those_of_the_code():
    text = (Path(scaling.__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
    page = " ".join(text.split())
    with without_drawing():
        works = [scaling.WORKS[name].make() for name in ("small", "resnet50")]
    small, resnet = (sum(parameter.size for parameter in model.parameters()) for model in works)
    assert BUCKET == 4 << 20 and "buckets of 4 MiB" in page
    assert round(small / 1e6, 1) == 0.5 and round(4 * small / 1e6) == 2
    assert "half a million parameters, which are 2 MB of gradients" in page
    assert round(resnet / 1e6) == 41 and round(4 * resnet / 1e6) == 165
    assert "41 million, which are 165 MB" in page
    assert POLL == 1e-3 and "a thread calls MPI every millisecond" in page
    breaks = {}
    for title, speed, link, *_, end in record.read()["scaling"]["images_per_second"]["rows"]:
        breaks.setdefault((speed, link), {})[title.split()[0]] = float("inf" if end == "more" else end)
    assert len(breaks) == 4 and all(found["ResNet-50-FPN,"] >= found["small"] for found in breaks.values())


def test_table_of_measured_and_predicted_times():
    links = [scaling.Measured(MEMORY, {"small": 0.5}), scaling.Measured(NETWORK, {"small": 2.0})]
    check, error = scaling.compared({"small": COST}, {"small": 2.0}, links)
    one, two = COST.seconds(8, 1, MEMORY), COST.seconds(8, 2, MEMORY)
    assert f"| 1 |  | 2 | {one:.3g} | {one / 2 - 1:+.0%} |" in check
    assert f"| 2 | one machine | 0.5 | {two:.3g} | {two / 0.5 - 1:+.0%} |" in check
    assert error == pytest.approx(two / 0.5 - 1)  # 0.91 instead of 0.5


def test_predictions_are_for_networks_and_end_where_the_network_costs_a_fifth():
    links = [scaling.Measured(MEMORY, {}), scaling.Measured(NETWORK, {})]
    lines = scaling.predicted({"small": COST}, links, images=2).splitlines()[2:]
    assert len(lines) == len(scaling.SPEEDS) and "one machine" not in "".join(lines)
    for line, speed in zip(lines, scaling.SPEEDS, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        cost = COST.faster(speed)
        times = {n: cost.seconds(2 * n, n, NETWORK) for n in scaling.PROCESSES}
        assert cells[1:3] == [str(speed), "1 Gbit/s"]
        assert [float(cell) for cell in cells[3:-1]] == pytest.approx([2 * n / t for n, t in times.items()], rel=0.01)
        slow = [n for n, t in times.items() if times[1] / t < 0.8]
        assert cells[-1] == (str(slow[0]) if slow else "more")
    assert COST.faster(4).seconds(4, 1, NETWORK) == pytest.approx(COST.seconds(4, 1, NETWORK) / 4)


def test_sums_are_measured_for_all_sizes():
    assert list(scaling.allreduce_seconds(Group())) == list(scaling.SIZES)


def test_results_require_networks(capsys):
    with pytest.raises(SystemExit, match="2"):
        scaling.main(["--results"])
    assert "--results requires --networks" in capsys.readouterr().err
