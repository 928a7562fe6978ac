"""Plots of boxes, IoU and deltas: positions and values, legible and unclipped."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.patches import Rectangle

from rcnn import plot
from rcnn.plot import style
from rcnn.plot.geometry import DELTA_LOOK

matplotlib.use("agg")

IMAGE = np.full((40, 60, 3), 200, np.uint8)
SMALL_IMAGE = np.full((6, 9, 3), 200, np.uint8)


@pytest.fixture
def ax():
    return plot.figure(6, 5).subplots()


@pytest.fixture
def wide_ax():
    return plot.figure(6, 3).subplots()


def corners(ax):
    """Return x1, y1, x2, y2 of every rectangle on `ax`."""
    return [
        (*patch.get_xy(), patch.get_x() + patch.get_width(), patch.get_y() + patch.get_height())
        for patch in ax.patches
        if isinstance(patch, Rectangle)
    ]


def written(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---- boxes, IoU and deltas


def test_box_formats_writes_every_number(ax):
    assert plot.box_formats(ax, [2, 1, 7, 4], (6, 9)) is ax
    assert corners(ax) == [(2, 1, 7, 4)]
    assert written(ax) == ["x1, y1 = 2, 1", "x2, y2 = 7, 4", "cx, cy = 4.5, 2.5", "w = 5", "h = 3"]
    assert [tuple(line.get_xydata()[0]) for line in ax.lines] == [(2, 1), (7, 4), (4.5, 2.5)]
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 9), (6, 0))
    assert_nothing_is_clipped(ax.figure)


def test_pixel_grid_ticks_are_pixel_edges(ax):
    covered = np.zeros((3, 4), bool)
    covered[1, 2:] = True
    assert plot.pixel_grid(ax, covered, (2, 1, 4, 2)) is ax
    assert corners(ax) == [(2, 1, 3, 2), (3, 1, 4, 2), (2, 1, 4, 2)]
    assert written(ax) == ["[1, 2]", "[1, 3]"]
    assert (list(ax.get_xticks()), list(ax.get_yticks())) == ([0, 1, 2, 3, 4], [0, 1, 2, 3])
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 4), (3, 0))
    assert_nothing_is_clipped(ax.figure)


def test_pixel_grid_without_a_box(ax):
    plot.pixel_grid(ax, np.zeros((2, 2)))
    assert corners(ax) == []


def test_overlap_shades_the_intersection_and_lists_the_areas(ax):
    # 4 x 4 and 4 x 3 pixels; the intersection is x from 2 to 4, y from 1 to 4: 2 x 3. The union is 16 + 12 - 6.
    assert plot.overlap(ax, [0, 0, 4, 4], [2, 1, 6, 4], names=("first", "second")) is ax
    assert corners(ax)[-1] == (2, 1, 4, 4)
    assert {(0, 0, 4, 4), (2, 1, 6, 4)} < set(corners(ax))
    assert legend(ax) == ["first: 16 px²", "second: 12 px²", "overlap: 6 px²", "union: 22 px²"]
    assert written(ax) == ["first", "second"]
    assert {*ax.get_xticks(), *ax.get_xticks(minor=True)} >= set(range(7))
    assert ax.get_xlabel() == "x, pixels" and ax.yaxis_inverted()
    assert ax.get_xlim()[0] < 0 and ax.get_xlim()[1] > 6
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("other", [(4, 0, 8, 4), (6, 5, 8, 9), (1, 6, 3, 8)])
def test_touching_and_disjoint_boxes_have_no_intersection(ax, other):
    plot.overlap(ax, (0, 0, 4, 4), other)
    assert set(corners(ax)) == {(0, 0, 4, 4), other}
    assert legend(ax)[2] == "overlap: 0 px²"


@pytest.mark.parametrize("on_image", [False, True])
def test_overlap_legend_is_just_below_the_axis_label(ax, on_image):
    plot.overlap(plot.image(ax, IMAGE) if on_image else ax, [0, 0, 4, 4], [2, 1, 6, 4])
    assert_nothing_is_clipped(ax.figure)
    lowest = (ax if on_image else ax.xaxis.label).get_window_extent().y0
    assert 0 <= lowest - ax.get_legend().get_window_extent().y1 < 15  # dots


def test_overlap_limits_are_fixed(ax):
    plot.overlap(ax, [0, 0, 4, 4], [2, 0, 6, 4], limits=(-5, -6, 20, 21))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-5, 20), (21, -6))
    assert ax.get_xticks(minor=True).size == 0  # lines between so many pixels would be too dense


def test_overlap_keeps_the_limits_of_an_image(ax):
    plot.overlap(plot.image(ax, IMAGE), [10, 10, 30, 30], [50, 10, 70, 30])
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 60), (40, 0))
    assert ax.get_xlabel() == ""
    assert_nothing_is_clipped(ax.figure)


def test_iou_surface_has_its_values_and_contours(ax):
    # IoU 0.2 times the column's number: 0.5 is crossed between the columns 2 and 3, at x = 25.
    values = np.tile([0.0, 0.2, 0.4, 0.6], (3, 1))
    assert plot.iou_surface(ax, values, [0, 10, 20, 30], [1, 2, 3], "dx", "dy", (0.5, 0.9), points=[[5, 2]]) is ax
    mesh, lines, dots = ax.collections
    np.testing.assert_array_equal(mesh.get_array(), values)
    assert mesh.get_clim() == (0, 1)
    assert list(lines.levels) == [0.5]  # 0.9 is never reached
    np.testing.assert_allclose(lines.get_paths()[0].vertices[:, 0], 25)
    np.testing.assert_array_equal(dots.get_offsets(), [[5, 2]])
    (label,) = ax.texts
    assert (label.get_text(), label.get_rotation()) == ("0.5", 0) and label.get_position() == pytest.approx((25, 2))
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 30), (1, 3))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dx", "dy")
    assert_nothing_is_clipped(ax.figure)


def test_labels_of_contours_are_at_their_right_side_and_inside_the_axes(ax):
    x = np.linspace(-1, 1, 41)
    plot.iou_surface(ax, np.maximum(1 - np.abs(x) - np.abs(x)[:, None], 0), x, x, "dx", "dy", (0.02, 0.5))
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places["0.5"] == pytest.approx((0.5, 0), abs=0.01)
    assert 0.8 < places["0.02"][0] < 0.9  # the contour itself reaches 0.98
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.filterwarnings("error")
def test_flat_iou_surface_has_no_contours(ax):
    plot.iou_surface(ax, np.zeros((2, 2)), [0, 1], [0, 1], "x", "y")
    assert len(ax.collections) == 1


def test_delta_histograms_are_densities_with_standard_deviations(ax):
    # dx is -1 or 1: its standard deviation is 1. All of dy is 0.5. Half of dw lies outside the limit and is not drawn.
    deltas = np.array([[-1, 0.5, 0, 0], [1, 0.5, 9, 0]])
    assert plot.delta_histograms(ax, deltas, limit=2) is ax
    dx, dy, dw, dh = [patch.get_data() for patch in ax.patches]
    area = [values @ np.diff(edges) for values, edges, _ in (dx, dy, dw, dh)]
    np.testing.assert_allclose(area, [1, 1, 0.5, 1])
    filled = dy.edges[:-1][dy.values > 0]
    assert len(filled) == 1 and filled[0] <= 0.5 < filled[0] + 0.08 + 1e-9
    assert legend(ax) == ["dx: std 1.00", "dy: std 0.00", "dw: std 4.50", "dh: std 0.00"]
    assert ax.get_xlim() == (-2, 2) and not ax.lines
    assert_nothing_is_clipped(ax.figure)


def test_delta_histograms_with_a_normal_distribution(ax):
    plot.delta_histograms(ax, np.zeros((1, 4)), limit=4, unit=True)
    (curve,) = ax.lines
    assert max(curve.get_ydata()) == pytest.approx(0.39894, abs=1e-5)
    assert legend(ax)[-1] == "normal: std 1"


@pytest.mark.filterwarnings("error")
def test_delta_histograms_without_deltas(ax):
    plot.delta_histograms(ax, np.zeros((0, 4)), limit=1)
    assert written(ax) == ["no deltas"]
    assert_nothing_is_clipped(ax.figure)


def test_moves_draws_arrows_from_boxes_to_objects(ax):
    boxes, objects = [[10, 10, 20, 20], [30, 10, 40, 30]], [[12, 14, 22, 24], [12, 14, 22, 24]]
    assert plot.moves(ax, IMAGE, boxes, objects) is ax
    arrows = [(text.xyann, text.xy) for text in ax.texts]
    np.testing.assert_array_equal(arrows, [[(15, 15), (17, 19)], [(35, 20), (17, 19)]])
    assert [len(lines.get_segments()) for lines in ax.collections] == [2]
    assert corners(ax) == [(12, 14, 22, 24)]  # an object of two boxes is drawn once
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 60), (40, 0))
    assert_nothing_is_clipped(ax.figure)


def test_moves_without_boxes_draws_the_image(ax):
    plot.moves(ax, IMAGE, [], [])
    assert not ax.texts and len(ax.images) == 1


def test_delta_curves_differ_in_colour_and_line_style():
    assert len({color for color, _ in DELTA_LOOK}) == 4 and {dash for _, dash in DELTA_LOOK} == {"-", "--"}
    assert {color for color, _ in DELTA_LOOK} <= set(style.PALETTE)


# ---- boxes on pixels, and their fit


def test_pixel_boxes_lie_on_pixel_edges(wide_ax):
    assert plot.pixel_boxes(wide_ax, SMALL_IMAGE, [[2, 1, 5, 4], [0, 0, 9, 6]], ["box", "all"]) is wide_ax
    inner, whole = (line for line in wide_ax.lines if line.get_label() in ("box", "all"))
    assert set(inner.get_xdata()) == {2, 5} and set(inner.get_ydata()) == {1, 4}
    assert set(whole.get_xdata()) == {0, 9}
    assert inner.get_color() != whole.get_color() and inner.get_linestyle() != whole.get_linestyle()
    assert inner.get_linewidth() > whole.get_linewidth()  # the second is drawn over the first
    assert legend(wide_ax) == ["box", "all"]
    assert list(wide_ax.get_xticks()) == list(range(10)) and list(wide_ax.get_yticks()) == list(range(7))
    assert wide_ax.get_xlabel() == "x, pixels" and wide_ax.get_ylabel() == "y, pixels"
    assert_nothing_is_clipped(wide_ax.figure)


def test_pixel_boxes_with_colours_and_without_boxes(wide_ax):
    plot.pixel_boxes(wide_ax, SMALL_IMAGE, [[2, 1, 5, 4]], ["box"], ["red"])
    assert wide_ax.lines[-1].get_color() == "red"
    other = plot.figure(4, 3).subplots()
    plot.pixel_boxes(other, SMALL_IMAGE, np.zeros((0, 4)), [])
    assert other.get_legend() is None
    assert_nothing_is_clipped(other.figure)


def test_pixel_boxes_of_a_larger_image_has_fewer_ticks(wide_ax):
    plot.pixel_boxes(wide_ax, np.zeros((50, 90, 3), np.uint8), [], [])
    assert list(wide_ax.get_xticks()) == list(range(0, 91, 3)) and list(wide_ax.get_yticks()) == list(range(0, 51, 3))


def test_fit_histogram_shows_shares(wide_ax):
    # Bins are 0.1 wide. One of four boxes is in the first bin, and three are in the last, which includes 1.
    assert plot.fit_histogram(wide_ax, {"true": np.array([0.05, 0.95, 0.99, 1.0]), "none": np.array([])}) is wide_ax
    (steps,) = (patch for patch in wide_ax.patches if hasattr(patch, "get_data"))
    np.testing.assert_allclose(steps.get_data().values, [0.25, *[0] * 8, 0.75])
    assert wide_ax.lines[0].get_ydata()[0] == 0.1
    assert legend(wide_ax) == ["true: mean 0.75", "by chance: mean 0.50"]
    assert wide_ax.get_xlim() == (0, 1) and wide_ax.get_ylim()[0] == 0
    assert_nothing_is_clipped(wide_ax.figure)


@pytest.mark.filterwarnings("error")
def test_empty_input_is_noted(wide_ax):
    assert plot.fit_histogram(wide_ax, {"none": np.array([])}) is wide_ax
    assert [text.get_text() for text in wide_ax.texts] == ["no boxes"]
    assert_nothing_is_clipped(wide_ax.figure)


# ---- invalid input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda ax: plot.box_formats(ax, [1, 2, 3], (5, 5)), "box must have shape"),
        (lambda ax: plot.pixel_grid(ax, [True]), r"covered must have shape .*, got \(1,\)"),
        (lambda ax: plot.overlap(ax, [0, 0, np.nan, 4], [0, 0, 1, 1]), r"box1\[0\] must .*nan"),
        (
            lambda ax: plot.iou_surface(ax, np.zeros((2, 3)), [0, 1], [0, 1], "x", "y"),
            r"iou must have shape .*, got \(2, 3\)",
        ),
        (lambda ax: plot.iou_surface(ax, np.full((2, 2), 1.5), [0, 1], [0, 1], "x", "y"), "from 1.5 to 1.5"),
        (lambda ax: plot.delta_histograms(ax, [[1, 2, 3]], 1), r"deltas must have shape .*, got \(1, 3\)"),
        (
            lambda ax: plot.moves(ax, IMAGE, [[0, 0, 1, 1]], [[0, 0, 1, 1]] * 2),
            r"gt_boxes must have shape .*, got \(2, 4\)",
        ),
        (
            lambda ax: plot.pixel_boxes(ax, SMALL_IMAGE, [[0, 0, 1, 1]], []),
            "names must have one entry per box .1., got 0",
        ),
        (
            lambda ax: plot.pixel_boxes(ax, SMALL_IMAGE, [[0, 0, 1, np.nan]], ["a"]),
            r"boxes\[0\] must have four finite coordinates",
        ),
        (lambda ax: plot.fit_histogram(ax, {"a": [0.5, 1.5]}), r"fits\['a'\]\[1\] must be in \[0, 1\], got 1.5"),
        (lambda ax: plot.fit_histogram(ax, {"a": [[0.5]]}), "must have shape"),
    ],
)
def test_invalid_input_is_reported(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)
