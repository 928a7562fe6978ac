"""Plots of feature maps, windows, receptive fields and influence: positions, values and invalid input."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from rcnn import plot
from rcnn.nn import Tensor
from rcnn.nn import functional as F
from rcnn.plot import style

matplotlib.use("agg")

PADDING, READ = "#ffffff", "#dfe3e8"


@pytest.fixture
def ax():
    return plot.figure(5, 4).subplots()


def cells(ax):
    """Return the colours of the cells by (row, column)."""
    return {
        (patch.get_y(), patch.get_x()): to_hex(patch.get_facecolor())
        for patch in ax.patches
        if isinstance(patch, Rectangle) and patch.get_fill()
    }


def outlines(ax):
    return [
        (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in ax.patches
        if not patch.get_fill()
    ]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---- feature maps


def test_feature_map_is_the_largest_absolute_activation(ax):
    features = np.array([[[1.0, -2], [0, 4]], [[3, 2], [0, -4]]])
    assert plot.feature_map(ax, features) is ax
    assert np.asarray(ax.images[0].get_array()).tolist() == [[3, 2], [0, 4]]
    assert ax.images[0].get_extent() == [-0.5, 1.5, 1.5, -0.5]
    assert ax.child_axes[0].get_ylabel() == "largest |activation|"


@pytest.mark.parametrize("channels", [None, 1])
def test_feature_maps_with_the_same_limits_have_the_same_colours(ax, channels):
    plot.feature_map(ax, np.array([[[1.0, 2]]]), channels, limits=(0, 8))
    assert ax.images[0].get_clim() == (0, 8)
    with pytest.raises(ValueError, match=r"limits must be two ascending numbers, got \(1.0, 1.0\)"):
        plot.feature_map(ax, np.ones((1, 2, 2)), channels, limits=(1, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_feature_map_with_the_shadow_of_an_image(ax, dtype):
    image = np.full((4, 6, 3), 200 / (1 if dtype is np.uint8 else 255)).astype(dtype)
    image[0, 5] = 0
    plot.feature_map(ax, np.ones((3, 4, 4)), image=image, image_size=(8, 8), offset=0.5)  # the stride is 2
    shadow = ax.images[1]
    assert shadow.get_extent() == [-0.5, 2.5, 1.5, -0.5]
    opacity = np.asarray(shadow.get_array())[..., 3]
    assert opacity[0, 5] == 0.6 and np.count_nonzero(opacity) == 1
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 3.5), (3.5, -0.5))


def test_feature_map_with_an_image_of_one_colour_has_no_shadow(ax):
    plot.feature_map(ax, np.ones((3, 4, 4)), image=np.full((8, 8, 3), 90, np.uint8))
    assert ax.images[1].get_extent() == [0, 4, 4, 0]
    assert not np.asarray(ax.images[1].get_array()).any()


def test_feature_map_of_channels_labels_its_quantity(ax):
    plot.feature_map(ax, np.arange(8.0).reshape(2, 2, 2), max_channels=1, quantity="pixel value")
    assert np.asarray(ax.images[0].get_array()).tolist() == [[0, 1], [2, 3]]
    assert ax.child_axes[0].get_ylabel() == "pixel value"


# ---- windows


def test_windows_are_one_stride_apart(ax):
    assert plot.sliding_windows(ax, (4, 5), 3, stride=2, padding=1) is ax
    dots = np.array(ax.lines[0].get_data()).T
    np.testing.assert_array_equal(dots, [[0.5, 0.5], [2.5, 0.5], [4.5, 0.5], [0.5, 2.5], [2.5, 2.5], [4.5, 2.5]])
    assert outlines(ax) == [(-1, -1, 3, 3), (1.09, -0.91, 2.82, 2.82)]
    assert ax.get_ylim() == (5.2, -1.2)  # row 0 on top


def test_padding_is_white_and_uncovered_cells_are_shaded(ax):
    plot.sliding_windows(ax, (4, 4), 2, stride=2, padding=1)  # windows begin at -1, 1, 3 and end before 5
    colors = cells(ax)
    assert len(colors) == 36
    assert {cell for cell, color in colors.items() if color == PADDING} == {
        (row, column) for row in range(-1, 5) for column in range(-1, 5) if not {row, column} <= set(range(4))
    }
    assert READ == colors[0, 0] == colors[3, 3]
    plot.sliding_windows(other := plot.figure(3, 3).subplots(), (4, 5), 3, stride=2)
    uncovered = {cell for cell, color in cells(other).items() if color not in (PADDING, READ)}
    assert uncovered == {(3, column) for column in range(5)}  # the only window covers rows 0 .. 2


def test_single_window_has_no_next_window(ax):
    plot.sliding_windows(ax, (3, 3), 3)
    assert outlines(ax) == [(0, 0, 3, 3)]


def test_windows_legend_is_complete(ax):
    plot.windows_legend(plot.sliding_windows(ax, (7, 7), 3, 2, 1))
    assert legend(ax) == ["first window", "next window", "centre of each window", "padding", "in no window"]
    assert_nothing_is_clipped(ax.figure)


# ---- cells and pixels


def touched(ax, color):
    """Return the marked cells of a colour as (map, position along the row of pixels)."""
    marks = [line for line in ax.lines if line.get_markersize() == 6.5 and line.get_color() == color]
    return {(int(level), x) for line in marks for x, level in zip(*line.get_data(), strict=True)}


def test_cells_are_centred_over_their_receptive_fields(ax):
    layers = [(3, 2, 1), (2, 2, 0)]  # 8 pixels, 4 cells over 0, 2, 4, 6, then 2 over 1 and 5
    assert plot.cells_and_pixels(ax, layers, 8, cell=1) is ax
    everywhere = [line.get_xdata().tolist() for line in ax.lines if line.get_color() == style.INK]
    assert everywhere == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 4, 6], [1, 5]]
    assert touched(ax, style.BLUE) == {(2, 5), (1, 4), (1, 6), (0, 3), (0, 4), (0, 5), (0, 6), (0, 7)}
    assert [text.get_text() for text in ax.get_yticklabels()] == ["8 pixels", "map 1: 4 cells", "map 2: 2 cells"]
    assert_nothing_is_clipped(ax.figure)


def test_receptive_field_equals_the_reach_of_the_gradient():
    rng = np.random.default_rng(5)
    for _ in range(12):
        layers = [tuple(rng.integers((1, 1, 0), (4, 3, 2)).tolist()) for _ in range(3)]
        row = Tensor(np.zeros((1, 1, 1, 24)), requires_grad=True)
        out = row
        for kernel, stride, padding in layers:
            out = F.conv2d(out, Tensor(np.ones((1, 1, 1, kernel))), None, (1, stride), (0, padding))
        cell = int(rng.integers(out.shape[3]))
        out[..., cell].sum().backward()
        ax = plot.figure(4, 3).subplots()
        plot.cells_and_pixels(ax, layers, 24, cell=cell)
        assert {x for level, x in touched(ax, style.BLUE) if level == 0} == set(np.flatnonzero(row.grad))


def test_padding_is_hollow_and_not_connected_further(ax):
    plot.cells_and_pixels(ax, [(3, 1, 1), (3, 1, 1)], 6, cell=0)
    (hollow,) = (line for line in ax.lines if line.get_markerfacecolor() == "white")
    assert sorted(zip(*hollow.get_data(), strict=True)) == [(-1, 0), (-1, 1)]
    assert touched(ax, style.BLUE) == {(2, 0), (1, 0), (1, 1), (0, 0), (0, 1), (0, 2)}


def test_cells_of_a_pixel_have_it_in_their_receptive_fields(ax):
    plot.cells_and_pixels(ax, [(3, 2, 1), (3, 1, 1)], 12, pixel=4)  # cells over 0, 2, 4, ...: only cell 2 reads 3 .. 5
    assert touched(ax, style.VERMILION) == {(0, 4), (1, 4), (2, 2), (2, 4), (2, 6)}
    assert legend(ax) == ["cells that depend on pixel 4"]
    assert_nothing_is_clipped(ax.figure)


# ---- influence


def test_influence_is_relative_to_the_largest(ax):
    gradient = np.array([[0.0, -4], [1, 2]])
    assert plot.influence(ax, gradient, {"all": (0, 0, 2, 2), "one": (1, 0, 2, 1)}) is ax
    (shown,) = ax.images
    np.testing.assert_array_equal(shown.get_array(), [[0, 1], [0.25, 0.5]])
    assert (shown.get_clim(), shown.get_extent()) == ((0, 1), [0, 2, 2, 0])
    assert outlines(ax) == [(0, 0, 2, 2), (1, 0, 1, 1)]
    assert legend(ax) == ["all", "one"]
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.filterwarnings("error")
def test_zero_influence_is_dark(ax):
    plot.influence(ax, np.zeros((3, 2)))
    np.testing.assert_array_equal(ax.images[0].get_array(), np.zeros((3, 2)))
    assert ax.get_legend() is None


# ---- empty and invalid input


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot.feature_map(ax, np.zeros((0, 4, 4))),
    ],
)
@pytest.mark.filterwarnings("error")
def test_empty_input_is_drawn(ax, draw):
    assert draw(ax) is ax
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda ax: plot.feature_map(ax, np.zeros((4, 4))), r"features must have shape"),
        (lambda ax: plot.sliding_windows(ax, (7, 2), 3), r"kernel must be at most 2 \(side 2 with padding 0\), got 3"),
        (lambda ax: plot.cells_and_pixels(ax, [(9, 1, 0)], 8), "kernel must be at most 8 .*, got 9"),
        (lambda ax: plot.cells_and_pixels(ax, [(3, 2, 1)], 8, cell=4), "cell must be in 0 .. 3, got 4"),
        (lambda ax: plot.cells_and_pixels(ax, [(3, 2, 1)], 8, pixel=-1), "pixel must be in 0 .. 7, got -1"),
        (lambda ax: plot.influence(ax, np.zeros(4)), r"gradient must have shape .*, got \(4,\)"),
        (lambda ax: plot.influence(ax, np.full((2, 2), np.inf)), "gradient must contain numbers in .*inf"),
        (lambda ax: plot.influence(ax, np.zeros((2, 2)), {"x": (0, 0, 1)}), r"fields\['x'\] must have shape"),
    ],
)
def test_invalid_input_is_reported(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)
