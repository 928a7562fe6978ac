"""Plots of the stages of a detector and of traces: positions, values, empty and invalid input."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped, texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rcnn import plot
from rcnn.plot import style
from rcnn.plot.tags import Tags
from rcnn.trace import Trace

matplotlib.use("agg")

NAMES = ("background", "cat", "dog", "a rather long class name")
BOXES = np.array([[2, 3, 12, 18], [20, 5, 39, 30], [0, 0, 40, 32], [38, 30, 40, 32]], np.float32)
NONE = np.zeros((0, 4), np.float32)
CELL = np.array([[-4, -2, 4, 2], [-3, -3, 3, 3]])


@pytest.fixture
def ax():
    return plot.figure(5, 4).subplots()


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)


def corners(ax):
    return np.array(
        [
            [p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()]
            for p in ax.patches
            if isinstance(p, Rectangle)
        ]
    ).reshape(-1, 4)


def edge_colors(ax):
    return [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches]


def collections(ax, kind):
    return [each for each in ax.collections if isinstance(each, kind)]


def points(ax):
    return [np.asarray(each.get_offsets()) for each in collections(ax, PathCollection)]


def grid(rows, columns, stride, cell):
    y, x = np.meshgrid(np.arange(rows) * stride, np.arange(columns) * stride, indexing="ij")
    return (np.stack([x, y, x, y], axis=-1)[:, :, None] + cell).reshape(-1, 4)


# ---- image and boxes


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p / 255.0, lambda p: p[:, :, 0]])
def test_image_covers_its_pixels(ax, image, make):
    assert plot.image(ax, make(image)) is ax
    assert ax.images[0].get_extent() == [0, 40, 32, 0]
    assert ax.get_xlim() == (0, 40)
    assert ax.get_ylim() == (32, 0)


def test_image_keeps_values_and_dims_on_request(image):
    bright, dim = plot.figure().subplots(1, 2)
    plot.image(bright, image)
    plot.image(dim, np.array([[[0.0] * 3, [1.0] * 3]]), dimmed=True)
    np.testing.assert_allclose(bright.images[0].get_array(), image / 255.0)
    np.testing.assert_allclose(dim.images[0].get_array()[0, :, 0], style.DIMMED)


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 8, 8)), np.zeros((0, 4, 3)), np.full((4, 4, 3), 255.0), np.full((4, 4, 3), np.nan)]
)
def test_image_rejects_invalid_arrays(ax, bad):
    with pytest.raises(ValueError, match="image"):
        plot.image(ax, bad)


def test_boxes_are_drawn_at_their_coordinates(ax, image):
    plot.image(ax, image)
    assert plot.boxes(ax, BOXES, labels=[1, 2, 3, 1], scores=[0.9, 0.5, 0.25, 1], class_names=NAMES) is ax
    np.testing.assert_array_equal(corners(ax), BOXES)
    colors = edge_colors(ax)
    assert len(set(colors)) == 3
    assert colors[0] == colors[3]
    (tags,) = ax.findobj(Tags)
    assert [text.get_text() for text in tags.texts] == [
        "cat 0.90",
        "dog 0.50",
        "a rather long class name 0.25",
        "cat 1.00",
    ]
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 40), (32, 0))


def test_boxes_tags_contain_labels_and_scores(ax):
    plot.boxes(ax, BOXES[:2])
    assert not ax.findobj(Tags)
    plot.boxes(ax, BOXES[:1], labels=[7])
    plot.boxes(ax, BOXES[:1], scores=[0.125], color="#123456")
    assert [tags.texts[0].get_text() for tags in ax.findobj(Tags)] == ["7", "0.12"]
    assert edge_colors(ax)[-1] == "#123456"
    assert ax.yaxis_inverted()  # pixel axes without an image, too
    left, right = ax.get_xlim()
    assert left <= 2 < 39 <= right


# ---- anchors, objectness, proposals, detections


def test_cell_anchors_share_a_colour_by_ratio(ax):
    # Sides 23 x 11, 45 x 23 and 23 x 45: after rounding the first two ratios are 0.478 and 0.511, nominally 0.5.
    anchors = np.array([[-11.5, -5.5, 11.5, 5.5], [-22.5, -11.5, 22.5, 11.5], [-11.5, -22.5, 11.5, 22.5]])
    assert plot.cell_anchors(ax, anchors, stride=(8, 16)) is ax
    np.testing.assert_array_equal(corners(ax)[:3], anchors)
    np.testing.assert_array_equal(corners(ax)[3], [-8, -4, 8, 4])
    first, second, third = edge_colors(ax)[:3]
    assert first == second != third
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["height / width \u2248 0.5", "height / width \u2248 2.0", "cell, 8 \u00d7 16"]


@pytest.mark.parametrize("near, center", [(None, (16, 16)), ((0, 0), (0, 0)), ((33, 23), (32, 24))])
def test_anchor_level_shows_centres_and_one_cell(ax, image, near, center):
    anchors = grid(4, 5, 8, CELL)  # columns at 0 .. 32, rows at 0 .. 24; the image's middle is (20, 16)
    assert plot.anchor_level(ax, image, anchors, near) is ax
    (dots,) = points(ax)
    assert dots.tolist() == [[x, y] for y in (0, 8, 16, 24) for x in (0, 8, 16, 24, 32)]
    np.testing.assert_array_equal(corners(ax), CELL + np.tile(center, 2))
    assert ax.get_xlim() == (min(0, center[0] - 4), 40)  # extended to show whole anchors


def test_anchor_level_thins_dense_centres(ax, image):
    plot.anchor_level(ax, image, grid(6, 9, 4, CELL), max_dots=4)  # 9 columns: every third
    (dots,) = points(ax)
    assert dots.tolist() == [[x, y] for y in (4, 16) for x in (4, 16, 28)]
    assert ax.get_xlabel() == "dots: 1 of 3 rows and columns"


def test_objectness_cells_are_centred_on_anchors(ax, image):
    maps = np.zeros((2, 4, 5))
    maps[0, 1, 2], maps[1, 3, 4] = 0.9, 0.3
    assert plot.objectness(ax, image, maps) is ax
    (mesh,) = collections(ax, QuadMesh)
    edges = np.asarray(mesh.get_coordinates())
    assert edges[0, :, 0].tolist() == [0, 4, 12, 20, 28, 40]  # centres at 0, 8, 16, 24, 32
    assert edges[:, 0, 1].tolist() == [0, 4, 12, 20, 32]
    values = np.asarray(mesh.get_array()).reshape(4, 5)
    np.testing.assert_array_equal(values, maps.max(axis=0))
    assert mesh.get_clim() == (0, 1)


def test_the_colour_bar_of_objectness_has_the_colours_of_the_cells(ax):
    plot.objectness(ax, np.full((32, 48, 3), 0.8), np.array([[0.0, 1.0], [0.5, 0.25]]))
    (bar,) = ax.child_axes
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())

    def color(axes, x, y):
        column, row = axes.transData.transform((x, y))
        return drawn[drawn.shape[0] - 1 - int(row), int(column), :3].astype(int)

    for value, cell in ((0.002, (2, 2)), (0.998, (30, 2)), (0.5, (2, 24)), (0.25, (30, 24))):
        np.testing.assert_allclose(color(bar, 0.5, value), color(ax, *cell), atol=3)


def test_objectness_of_a_padded_batch(ax, image):
    plot.objectness(ax, image, np.zeros((3, 3)), image_size=(48, 48), offset=0.5)
    (mesh,) = collections(ax, QuadMesh)
    assert np.asarray(mesh.get_coordinates())[0, :, 0].tolist() == [0, 16, 32, 48]
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 40), (32, 0))


def test_proposals_draw_the_best_on_top(ax, image):
    assert plot.proposals(ax, image, BOXES, [0.2, 0.9, 0.1, 0.5], top=3) is ax
    (lines,) = collections(ax, LineCollection)
    assert np.asarray(lines.get_array()).tolist() == [0.2, 0.5, 0.9]
    drawn = np.array([path.vertices for path in lines.get_paths()])
    np.testing.assert_array_equal(drawn.min(axis=1), BOXES[[0, 3, 1], :2])
    np.testing.assert_array_equal(drawn.max(axis=1), BOXES[[0, 3, 1], 2:])


def test_matched_anchors_distinguish_the_three_kinds(ax, image):
    anchors = np.array([[0, 0, 4, 4], [8, 8, 12, 12], [2, 2, 20, 20], [30, 20, 34, 24]])
    assert plot.matched_anchors(ax, image, anchors, [-1, -2, 1, -1], BOXES[:2]) is ax
    negative, ignored = points(ax)
    assert negative.tolist() == [[2, 2], [32, 22]]
    assert ignored.tolist() == [[10, 10]]
    (positive,) = collections(ax, LineCollection)
    assert [path.vertices[[0, 2]].ravel().tolist() for path in positive.get_paths()] == [[2, 2, 20, 20]]
    np.testing.assert_array_equal(corners(ax), BOXES[:2])
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "positive: 1",
        "ignored: 1",
        "negative: 2",
        "ground truth: 2",
    }


def test_detections_over_ground_truth(ax, image):
    assert plot.detections(ax, image, BOXES[:2], [0.9, 0.8], [1, 2], NAMES, gt_boxes=BOXES[2:]) is ax
    np.testing.assert_array_equal(corners(ax), BOXES[[2, 3, 0, 1]])
    assert [patch.get_linestyle() for patch in ax.patches] == ["--", "--", "-", "-"]
    assert [text.get_text() for text in ax.findobj(Tags)[0].texts] == ["cat 0.90", "dog 0.80"]


def test_funnel_has_a_bar_and_a_number_for_each_count(ax):
    assert plot.funnel(ax, {"anchors": 1536, "proposals": 100, "detections": 0}) is ax
    assert [text.get_text() for text in ax.get_yticklabels()] == ["anchors", "proposals", "detections"]
    assert [bar.get_x() + bar.get_width() for bar in ax.patches] == [1536, 100, 0.5]
    assert [text.get_text() for text in ax.texts] == ["1,536", "100", "0"]
    assert (ax.get_xscale(), ax.yaxis_inverted()) == ("log", True)


# ---- whole traces


def make_trace(size=(64, 96), strides=(8,), proposals=30, objects=3, padding=16, targets=True):
    """Return an invented trace: one image, padded to `size`, with `objects` detections of `proposals` RoIs."""
    rng = np.random.default_rng(0)
    height, width = size
    maps = [((height + padding) // stride, (width + padding) // stride) for stride in strides]
    anchors = [
        grid(rows, columns, stride, CELL * stride // 4) for (rows, columns), stride in zip(maps, strides, strict=True)
    ]
    corner = rng.uniform(0, (width - 24, height - 24), (proposals, 2))
    kept = np.concatenate([corner, corner + rng.uniform(8, 24, (proposals, 2))], axis=1)
    found = {"boxes": kept[:objects], "scores": np.linspace(0.99, 0.5, objects), "labels": np.arange(objects) % 3 + 1}
    num_anchors = sum(map(len, anchors))
    return Trace(
        images=[rng.uniform(0, 1, (height, width, 3))],
        batch=rng.normal(size=(1, 3, height + padding, width + padding)).astype(np.float32),
        image_sizes=[size],
        features=[rng.normal(size=(1, 8, *shape)) for shape in maps],
        anchors=anchors,
        objectness=[rng.normal(size=(1, len(level))) for level in anchors],
        rpn_deltas=[np.zeros((1, len(level), 4)) for level in anchors],
        candidates=[np.concatenate([kept, kept])],
        candidate_scores=[np.linspace(1, 0, 2 * proposals)],
        num_after_nms=[proposals],
        proposals=[kept],
        proposal_scores=[np.linspace(1, 0.1, proposals)],
        rois=kept,
        roi_images=np.zeros(proposals, int),
        roi_levels=np.full(proposals, len(strides) // 2),
        roi_scales=[1 / stride for stride in strides],
        pooled=rng.normal(size=(proposals, 8, 7, 7)),
        class_logits=rng.normal(size=(proposals, 4)),
        box_deltas=np.zeros((proposals, 4, 4)),
        detections=[found],
        outputs=[found],
        output_size=(7, 7),
        sampling_ratio=2,
        aligned=False,
        gt_boxes=[kept[:objects]] if targets else None,
        anchor_matches=[np.full(num_anchors, -1)] if targets else None,
    )


TRACES = [
    {},
    {"strides": (4, 8, 16, 32)},
    {"size": (600, 1000), "strides": (4, 8, 16, 32, 64), "proposals": 300},
    {"size": (90, 40), "objects": 12},
    {"proposals": 0, "objects": 0},
    {"targets": False, "objects": 0},
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", TRACES)
def test_trace_strip_has_eight_panels_and_clips_nothing(options):
    strip = plot.trace_strip(make_trace(**options), class_names=NAMES)
    assert [ax.get_title(loc="left") for ax in strip.axes] == [
        "1  Image",
        "2  Features",
        "3  Anchors",
        "4  Objectness",
        "5  Proposals",
        "6  RoI sample points",
        "7  Pooled features",
        "8  Detections",
    ]
    assert_nothing_is_clipped(strip)
    shown = texts(strip)
    heads = [text.get_window_extent() for text in shown if text.axes in strip.axes and text.get_fontweight() == "bold"]
    captions = [text.get_window_extent() for text in shown if text.get_color() == style.GREY and text.axes]
    assert len(heads) == 8
    assert not any(a.overlaps(b) for i, a in enumerate(captions + heads) for b in (captions + heads)[:i])
    assert any("detections " in text.get_text() for text in shown)


def test_trace_strip_shows_the_most_confident_roi():
    trace = make_trace(strides=(4, 8))
    trace.class_logits[17, 2] = 50.0
    trace.roi_levels[17] = 0
    strip = plot.trace_strip(trace)
    captions = {text.get_text() for text in texts(strip)}
    assert "RoI 17: 7 \u00d7 7 bins, 2 \u00d7 2 points each" in captions
    assert "level 1 of 2: (8, 20, 28)" in captions
    np.testing.assert_allclose(corners(strip.axes[4]), trace.rois[[17]])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", TRACES)
def test_stage_figures(options):
    trace = make_trace(**options)
    figures = dict(plot.stage_figures(trace, class_names=NAMES))
    expected = [
        "Image",
        "Features",
        "Anchors",
        "Objectness",
        "Matched anchors",
        "Proposals",
        "RoI sample points",
        "Pooled features",
        "Detections",
    ]
    assert list(figures) == [name for name in expected if name != "Matched anchors" or trace.anchor_matches is not None]
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        assert figure.axes[0].get_title(loc="left") == name
        assert_nothing_is_clipped(figure)


def test_low_scoring_detections_are_counted_but_not_drawn():
    trace = make_trace(objects=3)  # scores 0.99, 0.745 and 0.5
    last = plot.trace_strip(trace, class_names=NAMES, min_score=0.7).axes[7]
    np.testing.assert_allclose(corners(last), trace.rois[:2])
    assert "3 in total, 2 with a score above 0.7" in {text.get_text() for text in texts(last.figure)}


def test_trace_plots_reject_an_index_out_of_range():
    with pytest.raises(ValueError, match=r"index must be in 0 .. 0 \(number of images: 1\), got 1"):
        plot.trace_strip(make_trace(), index=1)


# ---- empty and invalid input


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax, p: plot.boxes(ax, [], [], [], NAMES),
        lambda ax, p: plot.cell_anchors(ax, NONE),
        lambda ax, p: plot.anchor_level(ax, p, NONE),
        lambda ax, p: plot.objectness(ax, p, np.zeros((3, 0, 0))),
        lambda ax, p: plot.proposals(ax, p, NONE, []),
        lambda ax, p: plot.matched_anchors(ax, p, NONE, [], []),
        lambda ax, p: plot.detections(ax, p, [], [], [], NAMES, gt_boxes=[]),
        lambda ax, p: plot.funnel(ax, {}),
        lambda ax, p: plot.funnel(ax, {"anchors": 0}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_empty_input_is_drawn(ax, image, draw):
    assert draw(ax, image) is ax
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    "message, draw",
    [
        (r"boxes must have shape .*, got \(2, 5\)", lambda ax, p: plot.boxes(ax, np.zeros((2, 5)))),
        (r"boxes\[1\] must .*nan", lambda ax, p: plot.boxes(ax, [[0, 0, 1, 1], [0, np.nan, 1, 1]])),
        (r"labels must have shape .*, got \(1,\)", lambda ax, p: plot.boxes(ax, BOXES, [1])),
        (
            r"labels\[1\] must be in 0 .. 3, .*, got 4",
            lambda ax, p: plot.boxes(ax, BOXES[:2], [1, 4], class_names=NAMES),
        ),
        (r"scores must have shape .*, got \(1,\)", lambda ax, p: plot.proposals(ax, p, BOXES, [0.5])),
        (
            r"objectness must be in \[0, 1\], got values from -1 to 0",
            lambda ax, p: plot.objectness(ax, p, [[-1.0, 0]]),
        ),
        (r"objectness must have shape .*, got \(3,\)", lambda ax, p: plot.objectness(ax, p, np.zeros(3))),
        (
            r"matches\[0\] must be in -2 .. 0, got 1",
            lambda ax, p: plot.matched_anchors(ax, p, BOXES[:1], [1], BOXES[:1]),
        ),
        (r"counts\['RoIs'\] must be at least 0, got -1", lambda ax, p: plot.funnel(ax, {"RoIs": -1})),
    ],
)
def test_invalid_input_is_reported(ax, image, message, draw):
    with pytest.raises(ValueError, match=message):
        draw(ax, image)
