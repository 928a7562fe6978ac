"""The model of the cost of training by several processes, with values computed by hand, and what it is made from."""

from pathlib import Path

import numpy as np
import pytest
import scaling
from scaling import Cost, Link

from rcnn import data
from rcnn.nn.layers import without_drawing
from rcnn.train.parallel import BUCKET, Group
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


def test_tables():
    assert list(scaling.allreduce_seconds(Group())) == list(scaling.SIZES)
    links = [scaling.Measured(MEMORY, {"small": 0.5}), scaling.Measured(NETWORK, {"small": 2.0})]
    check = scaling.compared({"small": COST}, {"small": 2.0}, links)
    one, two = COST.seconds(8, 1, MEMORY), COST.seconds(8, 2, MEMORY)
    assert f"| 1 |  | 2.000 | {one:.3f} | {one / 2 - 1:+.0%} |" in check
    assert f"| 2 | one machine | 0.500 | {two:.3f} | {two / 0.5 - 1:+.0%} |" in check
    table = scaling.predicted({"small": COST}, links, 2)
    assert f"| one machine | {2 / 0.5:.1f} |" in table
    slow = scaling.Measured(Link("modem", 1, 1e4, True), {})
    assert scaling.predicted({"small": COST}, [slow], 2).rstrip().endswith("| 2 |")
    assert np.isfinite(COST.seconds(512, 256, NETWORK))
