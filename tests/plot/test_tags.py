"""Tags of boxes stay inside the axes and do not overlap."""

import matplotlib
import numpy as np
from legible import texts

from rcnn import plot
from rcnn.plot.tags import place

matplotlib.use("agg")

NAMES = ("background", "cat", "dog", "a rather long class name")


def test_tags_stay_inside_and_apart():
    ax = plot.figure(5, 4).subplots()
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    plot.image(ax, image)
    corner = np.array([[0, 0], [32, 0], [0, 24], [32, 24], [16, 10], [16, 10]])
    edges = np.concatenate([corner, corner + 8], axis=1)
    plot.boxes(ax, edges, labels=[3] * 4 + [1, 2], class_names=NAMES)
    fields = [text.get_window_extent() for text in texts(ax.figure)]
    window = ax.get_window_extent()
    assert len(fields) == 6
    for field in fields:
        assert window.x0 <= field.x0 <= field.x1 <= window.x1
        assert window.y0 <= field.y0 <= field.y1 <= window.y1
    assert not any(a.overlaps(b) for i, a in enumerate(fields) for b in fields[:i])


def test_place_prefers_above_then_below():
    sizes, window = np.array([[20.0, 10.0]]), np.array([0.0, 0.0, 200.0, 100.0])
    assert place(sizes, np.array([[50.0, 40.0, 90.0, 60.0]]), window).tolist() == [[50, 60]]  # its left edge, on top
    assert place(sizes, np.array([[50.0, 40.0, 90.0, 95.0]]), window).tolist() == [[50, 30]]  # no room on top
    assert place(sizes, np.array([[195.0, 40.0, 199.0, 60.0]]), window).tolist() == [[180, 60]]  # moved inwards
