"""The images of each batch: epochs, groups and repeated images."""

from typing import Any

import numpy as np
import pytest

from rcnn import data
from rcnn.train.order import Order, aspect_groups, repeat_factors

PAGES = data.Shapes(5, seed=3)


def stream(order: Order, steps: int) -> list[int]:
    return [index for step in range(steps) for index in order.batch(step)]


def test_every_image_appears_once_per_epoch() -> None:
    seen = stream(Order(10, 4, seed=0), 5)
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]
    assert seen[:10] != stream(Order(10, 4, seed=1), 5)[:10]


def test_batch_may_be_larger_than_the_data_set() -> None:
    assert sorted(Order(2, 4, seed=0).batch(0)) == [0, 0, 1, 1]
    assert sorted(Order(2, 5, seed=0, groups=np.array([0, 1])).batch(1)) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


@pytest.mark.parametrize("group", [0, 1])
def test_one_group_changes_nothing(group: int) -> None:
    groups = np.full(11, group)
    assert stream(Order(11, 4, 5, groups), 30) == stream(Order(11, 4, 5), 30)


@pytest.mark.parametrize(
    ("length", "batch_size", "upright"), [(40, 4, 12), (37, 4, 9), (50, 3, 25), (8, 4, 1), (9, 2, 4)]
)
def test_groups_share_batches(length: int, batch_size: int, upright: int) -> None:
    groups = np.arange(length) < upright
    order = Order(length, batch_size, 3, groups)
    epochs, steps = 2 * batch_size, 2 * length
    seen = stream(order, steps)
    for epoch in range(epochs):
        assert sorted(seen[epoch * length : (epoch + 1) * length]) == list(range(length))
    mixed = [step for step in range(steps) if len(set(groups[order.batch(step)])) > 1]
    within = [step for step in mixed if step * batch_size // length == ((step + 1) * batch_size - 1) // length]
    assert len({step * batch_size // length for step in within}) == len(within)
    if length % batch_size == upright % batch_size == 0:
        assert not mixed


def test_steps_can_be_requested_in_any_order() -> None:
    groups = np.arange(23) % 3 == 0
    order = Order(23, 4, 9, groups)
    expected = [order.batch(step) for step in range(40)]
    assert [Order(23, 4, 9, groups).batch(step) for step in reversed(range(40))] == expected[::-1]


def test_groups_come_from_sizes_that_are_known_without_decoding() -> None:
    sizes = [(480, 640), (640, 480), (500, 500), (501, 500)]
    known = type("Known", (), {"__len__": lambda self: 4, "annotation": lambda self, i: (sizes[i], {})})()
    np.testing.assert_array_equal(aspect_groups(known, progress=False), [False, True, False, True])
    assert aspect_groups(PAGES) is None


# ---------------------------------------------------------------------- repeated images


class Labelled:
    """Images of which only the labels are known."""

    classes = ("background", "common", "rare", "unseen")

    def __init__(self, *labels: list[int], **flags: Any) -> None:
        self.labels, self.flags = labels, flags

    def __len__(self) -> int:
        return len(self.labels)

    def annotation(self, index: int) -> tuple[tuple[int, int], dict[str, Any]]:
        return (8, 8), {"labels": self.labels[index], **{name: flags[index] for name, flags in self.flags.items()}}


def test_repeat_factors_by_hand() -> None:
    images = Labelled([1], [1, 1], [1, 2], [])
    np.testing.assert_allclose(repeat_factors(images, 0.25, progress=False), 1)
    factors = repeat_factors(images, 1.0, progress=False)
    np.testing.assert_allclose(factors, [np.sqrt(4 / 3), np.sqrt(4 / 3), 2, 1])
    difficult = Labelled([1], [1, 1], [1, 2], [], difficult=[[False], [False] * 2, [False, True], []])
    np.testing.assert_allclose(repeat_factors(difficult, 0.5, progress=False), 1)


def test_repeated_images_appear_as_often_as_their_factors() -> None:
    repeats = np.array([1, 2.5, 1, 1.2])
    order = Order(4, 3, 0, repeats=repeats)
    assert order.length == 6
    epochs = [stream(order, 2 * 40)[epoch * 6 : epoch * 6 + 6] for epoch in range(40)]
    counts = np.array([np.bincount(epoch, minlength=4) for epoch in epochs])
    expected = repeats * 6 / repeats.sum()
    assert ((counts >= np.floor(expected)) & (counts <= np.ceil(expected))).all()
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.15)


def test_factors_of_1_change_nothing() -> None:
    groups = np.arange(11) % 2
    assert stream(Order(11, 4, 5, groups, np.ones(11)), 30) == stream(Order(11, 4, 5, groups), 30)
    assert Order(7, 7, 3).batch(2) == np.random.default_rng([3, 0, 2]).permutation(7).tolist()
