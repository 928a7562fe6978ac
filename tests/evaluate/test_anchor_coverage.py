"""Coverage by arithmetic equals coverage with every anchor; suggested anchors cover at least as much as given ones."""

import sys

import numpy as np
import pytest

from rcnn import FasterRCNN, FasterRCNNConfig, nn
from rcnn.anchors import AnchorGenerator
from rcnn.backbones import ResNetFPN
from rcnn.boxes import iou
from rcnn.data import Digits
from rcnn.evaluate import CoverageRow, coverage, suggest
from rcnn.evaluate.anchor_coverage import anchor_sides
from rcnn.evaluate.anchor_suggestion import _floors
from rcnn.transform import padded_size, resized_size
from rcnn.zoo.detectors import faster_rcnn_small

FPN_STRIDES = [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]


class Annotated:
    """A data set of sizes and targets, without images to decode."""

    def __init__(self, *pages):
        self.pages = [
            (size, {"boxes": np.array(boxes, float).reshape(-1, 4), **(flags[0] if flags else {})})
            for size, boxes, *flags in pages
        ]

    def __len__(self):
        return len(self.pages)

    def annotation(self, index):
        return self.pages[index]


def drawn(sizes, ratios, num_pages=30, page=(240, 320), per_page=6, seed=0):
    """Return objects at random positions; size and ratio are log-uniform in a random one of the given ranges."""
    rng = np.random.default_rng(seed)
    pages = []
    for _ in range(num_pages):
        size, ratio = (
            np.exp(rng.uniform(*np.log(np.array(spans)[rng.integers(len(spans), size=per_page)].T)))
            for spans in (sizes, ratios)
        )
        sides = np.minimum(np.stack([size / np.sqrt(ratio), size * np.sqrt(ratio)], 1), page[::-1])  # width, height
        corners = rng.uniform(0, page[::-1] - sides)
        pages.append((page, np.concatenate([corners, corners + sides], 1)))
    return Annotated(*pages)


def random_pages(rng, num_pages=15):
    pages = []
    for _ in range(num_pages):
        height, width = rng.integers(20, 900, 2).tolist()
        centres = rng.uniform(0, (width, height), (rng.integers(0, 8), 2))
        half = np.exp(rng.uniform(0, np.log(200), centres.shape))
        boxes = np.clip(np.concatenate([centres - half, centres + half], 1), 0, [width, height] * 2)
        pages.append(((height, width), boxes))
    return Annotated(*pages)


def naive(dataset, generator, strides, min_size, max_size):
    """Return for each object its IoU (A,) with every anchor of its image."""
    overlaps = []
    for size, target in dataset.pages:
        resized = resized_size(size, min_size, max_size)
        padded = padded_size([resized])
        laid = generator(
            padded, [tuple(-(-side // step) for side, step in zip(padded, stride, strict=True)) for stride in strides]
        )
        y, x = resized[0] / size[0], resized[1] / size[1]
        overlaps += list(iou(np.concatenate(laid).astype(np.float64), target["boxes"] * [x, y, x, y]).T)
    return overlaps


# ---------------------------------------------------------------------- coverage


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize(
    "sizes, ratios, strides",
    [
        ((14, 24, 40), (1.0, 1.7), [(8, 8)]),
        ([(32,), (64,), (128,), (256,), (512,)], (0.5, 1.0, 2.0), FPN_STRIDES),
        ((128, 50), (0.5, 3.0), [(16, 8)]),
        ((9, 20), (1.0,), [(32, 16), (3, 5)]),
    ],
)
def test_arithmetic_agrees_with_computing_every_anchor(sizes, ratios, strides, offset):
    generator = AnchorGenerator(sizes, ratios, offset)
    rng = np.random.default_rng(len(strides))
    num_positive = 0
    for threshold in (0.3, 0.7):
        dataset = random_pages(rng)
        expected = naive(dataset, generator, strides, 200, 300)
        result = coverage(dataset, generator, strides, 200, 300, threshold, progress=False)
        np.testing.assert_allclose(result.best_iou, [o.max() for o in expected], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(result.num_positive, [(o >= threshold).sum() for o in expected])
        assert result.recall(0.4) == np.mean([o.max() >= 0.4 for o in expected])
        num_positive += result.num_positive.sum()
    assert num_positive > 20


@pytest.fixture(scope="module")
def models():
    """Return a model with a single map, and one with a pyramid, whose deepest level divides few images evenly."""
    pyramid = FasterRCNNConfig(
        ResNetFPN(18, out_channels=8),
        8,
        len(Digits.classes),
        True,
        (8, 16, 32, 64, 128),
        hidden_dim=8,
        min_size=160,
        max_size=400,
        anchor_offset=0.5,
    )
    return {"small": faster_rcnn_small(Digits.classes), "pyramid": FasterRCNN(pyramid)}


@pytest.mark.parametrize("name", ["small", "pyramid"])
def test_coverage_equals_that_of_the_models_anchors(models, name):
    model, dataset = models[name], Digits(1, size=(90, 127))
    image, target = dataset[0]
    trace = model.trace([image], [target])
    expected = iou(np.concatenate(trace.anchors), trace.gt_boxes[0]).max(axis=0)
    c = model.config
    result = coverage(dataset, model.anchor_generator, model.strides(), c.min_size, c.max_size, progress=False)
    assert len(expected) > 1
    np.testing.assert_allclose(result.best_iou, expected, atol=1e-6)


def test_one_object_by_hand():
    # 16 x 16 anchors at 0, 16, 32, 48. The object's centre is (16, 16), it is 12 wide and 16 high: 192 of 256 pixels.
    # 16 x 4 pixels of the next anchor are in the object: 64 / (256 + 192 - 64) = 1 / 6.
    dataset = Annotated(((64, 64), [[10, 8, 22, 24]]))
    result = coverage(dataset, AnchorGenerator((32, 16), (1.0,)), [(16, 16)], 64, 64, 1 / 6, progress=False)
    assert result.best_iou.tolist() == [0.75]
    assert (result.levels.tolist(), result.cells.tolist(), result.images.tolist()) == ([0], [1], [0])
    assert result.sizes[0] == pytest.approx(192**0.5)
    assert result.ratios[0] == pytest.approx(16 / 12)


@pytest.mark.parametrize("threshold, count", [(0.61, 1), (0.6, 5), (0.5, 5), (0.39, 9)])
def test_positive_anchors_are_counted(threshold, count):
    # 32 x 32 anchors every 8 pixels, and an object that equals one of them. Moved by 8 along one axis an anchor has
    # 768 / 1280 = 0.6 with it, along both 576 / 1472 = 0.391, moved by 16 along one 512 / 1536 = 0.333.
    dataset = Annotated(((64, 64), [[16, 16, 48, 48]]))
    result = coverage(dataset, AnchorGenerator((32,), (1.0,)), [(8, 8)], 64, 64, threshold, progress=False)
    assert result.best_iou.tolist() == [1.0]
    assert result.num_positive.tolist() == [count]


@pytest.mark.filterwarnings("error")
def test_positive_anchors_of_objects_with_different_numbers_of_rows():
    # An IoU of 0.3 with 32 x 32 anchors needs 473 pixels of the first object, and 354.5 of the second, 32 wide and 16
    # high. Rows 8 away: 24 x 32 and 16 x 32; 16 away: 16 x 32 and 8 x 32; 24 away the second is not even touched.
    dataset = Annotated(((128, 128), [[16, 16, 48, 48], [16, 24, 48, 40]]))
    result = coverage(dataset, AnchorGenerator((32,), (1.0,)), [(8, 8)], 128, 128, 0.3, progress=False)
    assert result.num_positive.tolist() == [1 + 4 + 4 + 4, 9]


def test_no_anchor_covers_an_object_beyond_the_last_position():
    dataset = Annotated(((64, 64), [[56, 56, 64, 64], [0, 0, 8, 8]]))  # the last position is 48, and 48 + 8 = 56
    result = coverage(dataset, AnchorGenerator((16,), (1.0,)), [(16, 16)], 64, 64, progress=False)
    assert result.best_iou.tolist() == [0.0, 0.25]
    assert (result.levels.tolist(), result.cells.tolist()) == ([-1, 0], [-1, 0])


def test_objects_are_measured_on_the_resized_image():
    dataset = Annotated(((32, 64), [[0, 0, 16, 8]]))
    result = coverage(dataset, AnchorGenerator((16,), (0.5,)), [(8, 8)], 64, 200, progress=False)  # twice as large
    assert (result.sizes[0], result.ratios[0]) == (pytest.approx(512**0.5), 0.5)


def test_difficult_objects_and_crowds_do_not_count():
    boxes = [[0, 0, 16, 16], [8, 8, 20, 24], [0, 0, 30, 30]]
    flags = {"difficult": np.array([True, False, False]), "crowd": np.array([False, False, True])}
    generator = AnchorGenerator((16,), (1.0,))
    some = coverage(Annotated(((64, 64), boxes, flags)), generator, [(8, 8)], 64, 64, progress=False)
    alone = coverage(Annotated(((64, 64), boxes[1:2])), generator, [(8, 8)], 64, 64, progress=False)
    assert some.best_iou.tolist() == alone.best_iou.tolist()


def test_images_are_read_if_there_is_no_annotation_method():
    pages = Digits(2)
    listed = Annotated(*((image.shape[:2], target["boxes"]) for image, target in (pages[0], pages[1])))
    generator = AnchorGenerator((14, 24, 40), (1.0,))
    results = [coverage(d, generator, [(8, 8)], 128, 256, progress=False) for d in (pages, listed)]
    np.testing.assert_array_equal(results[0].best_iou, results[1].best_iou)
    np.testing.assert_array_equal(results[0].images, results[1].images)


def test_tables_and_report():
    # 16 x 16 anchors every 16 pixels: the first object is one of them, the second (16 x 32, ratio 2) holds two, and
    # the third (64 x 64) nine; its best IoU with one of them is 256 / 4096.
    dataset = Annotated(((96, 96), [[8, 8, 24, 24], [8, 8, 24, 40]]), ((96, 96), [[16, 16, 80, 80]]), ((96, 96), []))
    result = coverage(dataset, AnchorGenerator((16,), (1.0,)), [(16, 16)], 96, 96, 0.5, progress=False)
    assert result.by_size() == [
        CoverageRow(16, 32, 2, 0.75, (1.0, 0.5), 1.5),
        CoverageRow(64, 128, 1, 0.0625, (0.0, 0.0), 0.0),
    ]
    assert [(row.low, row.high, row.num_objects) for row in result.by_ratio()] == [(0.8, 1.25, 2), (2, 4, 1)]
    assert result.mean_iou == pytest.approx((1 + 0.5 + 0.0625) / 3)
    lines = str(result).splitlines()
    assert lines[:3] == [
        "3 objects in 3 images",
        "best IoU with an anchor: 0.52 on average; >= 0.5 for 66.7% and >= 0.7 for 33.3% of the objects",
        "anchors with an IoU of at least 0.5: 1.0 per object",
    ]
    assert [line.split() for line in lines[4:7]] == [
        ["size", "(pixels)", "objects", "mean", "IoU", "recall", "0.5", "recall", "0.7", "anchors", ">=", "0.5"],
        ["16", "to", "32", "2", "0.75", "1.000", "0.500", "1.5"],
        ["64", "to", "128", "1", "0.06", "0.000", "0.000", "0.0"],
    ]
    assert len({len(line) for line in lines[4:7]}) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pages", [[], [((64, 64), [])]])
def test_coverage_without_objects(pages):
    dataset = Annotated(*pages)
    result = coverage(dataset, AnchorGenerator((16,), (1.0,)), [(8, 8)], 64, 64, progress=False)
    assert (result.best_iou.shape, result.num_images) == ((0,), len(pages))
    assert np.isnan([result.recall(0.5), result.mean_iou]).all()
    assert result.by_size() == result.by_ratio() == []
    assert str(result) == f"no objects in {len(pages)} images"
    with pytest.raises(ValueError, match=f"the {len(pages)} images contain no objects"):
        suggest(dataset, [(8, 8)], 64, 64, progress=False)


ONE = Annotated(((64, 64), [[0, 0, 16, 16]]))


@pytest.mark.parametrize(
    "dataset, strides, sizes, message",
    [
        (
            Annotated(((64, 64), []), ((64, 64), [[0, 0, 9, 9], [5, 5, 5, 9]])),
            [(8, 8)],
            (64, 64),
            "image 1: box 1 must be finite, with x2 > x1",
        ),
        (Annotated(((64, 64), [[0, 0, np.nan, 9]])), [(8, 8)], (64, 64), "image 0: box 0 must be finite"),
        (Annotated(((64, 64), [[0, 0, np.inf, 9]])), [(8, 8)], (64, 64), "image 0: box 0 must be finite"),
        (
            Annotated(((64, 64), [[0, 0, 9, 9]], {"crowd": [True, False]})),
            [(8, 8)],
            (64, 64),
            r"image 0\['crowd'\] must have shape",
        ),
        (Annotated(((0, 64), [])), [(8, 8)], (64, 64), r"the size of dataset\.annotation\(0\)"),
        (
            Annotated(((64, 64), [[0, 0, 0, 0]])),
            [(8, 8), (16, 16)],
            (64, 64),
            "strides must have .*number of levels: 1.* got 2",
        ),
        (ONE, [(8, 0)], (64, 64), r"strides\[0\] must be two integers"),
        (ONE, [(8, 8)], (64, 32), r"min_size must be at most max_size \(32\), got 64"),
    ],
)
def test_errors_of_coverage(dataset, strides, sizes, message):
    with pytest.raises(ValueError, match=message):
        coverage(dataset, AnchorGenerator(((16,),), (1.0,)), strides, *sizes, progress=False)


def test_thresholds_are_checked():
    with pytest.raises(ValueError, match=r"fg_iou_thresh must be a number in \(0, 1\], got 0"):
        coverage(ONE, AnchorGenerator((16,), (1.0,)), [(8, 8)], 64, 64, 0, progress=False)
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\], got 1.5"):
        coverage(ONE, AnchorGenerator((16,), (1.0,)), [(8, 8)], 64, 64, progress=False).recall(1.5)


# ---------------------------------------------------------------------- strides of a model


@pytest.mark.parametrize("name, strides", [("small", [(8, 8)]), ("pyramid", FPN_STRIDES)])
def test_strides_predict_the_feature_maps_of_the_backbones(models, name, strides):
    assert models[name].strides() == strides
    for size in ((32, 32), (96, 160), (288, 416)):
        with nn.no_grad():
            levels = models[name].backbone(nn.Tensor(np.zeros((1, 3, *size), np.float32)))
        found = [level.shape[2:] for level in (levels if isinstance(levels, list) else [levels])]
        assert found == [tuple(-(-side // step) for side, step in zip(size, stride, strict=True)) for stride in strides]


def detector(layer):
    return FasterRCNN(FasterRCNNConfig(layer, 4, 2, hidden_dim=8, pool_size=(2, 2)))


def test_strides_do_not_change_the_models_mode_and_dtype():
    model = detector(nn.Sequential(nn.Conv2d(3, 4, 3, stride=(8, 16), padding=1), nn.BatchNorm2d(4)))
    before = {name: array.copy() for name, array in model.astype(np.float64).train().state_dict().items()}
    assert model.strides() == [(8, 16)]
    assert all(module.training for module in model.modules())
    assert all((array == before[name]).all() for name, array in model.state_dict().items())


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 11, stride=8), nn.Conv2d(3, 4, 3, stride=4, padding=9)])
def test_a_backbone_without_padding_has_no_strides(layer):
    with pytest.raises(ValueError, match=r"level 0 of the backbone .* convolutions of the backbone pad"):
        detector(layer).strides()


# ---------------------------------------------------------------------- suggestions


def recalls(result):
    return [result.recall(0.5), result.recall(0.7)]


@pytest.mark.parametrize("strides", [[(8, 8)], FPN_STRIDES])
def test_a_suggestion_beats_the_defaults_on_elongated_objects(strides):
    dataset = drawn([(20, 120)], [(4, 8)])
    sizes = (32, 64, 128) if len(strides) == 1 else [(32,), (64,), (128,), (256,), (512,)]
    default = AnchorGenerator(sizes, (0.5, 1.0, 2.0))
    found = suggest(dataset, strides, 240, 320, generator=default, progress=False)
    before, after = recalls(found.before), recalls(found.after)
    assert before[0] < 0.2
    assert before[1] == 0
    assert after[0] > 0.85
    assert after[1] > 0.35
    assert 3.5 < min(found.ratios) < max(found.ratios) < 9
    again = coverage(
        dataset,
        AnchorGenerator([(s,) for s in found.sizes] if len(strides) > 1 else found.sizes, found.ratios),
        strides,
        240,
        320,
        progress=False,
    )
    np.testing.assert_array_equal(again.best_iou, found.after.best_iou)
    np.testing.assert_array_equal(
        found.before.best_iou, coverage(dataset, default, strides, 240, 320, progress=False).best_iou
    )


def test_numbers_are_round_ascending_and_deterministic():
    dataset = drawn([(10, 150)], [(0.5, 2)], num_pages=15)
    first, second = (suggest(dataset, FPN_STRIDES, 240, 320, num_ratios=2, progress=False) for _ in range(2))
    assert (first.sizes, first.ratios) == (second.sizes, second.ratios)
    assert len(first.sizes) == 5
    assert len(first.ratios) == 2
    assert all(isinstance(size, int) for size in first.sizes)
    assert all(ratio == float(f"{ratio:.2g}") for ratio in first.ratios)
    assert list(first.sizes) == sorted(set(first.sizes))
    assert list(first.ratios) == sorted(set(first.ratios))
    assert first.before is None


def test_two_groups_of_objects_are_both_covered():
    dataset = drawn([(18, 20), (110, 120)], [(0.3, 0.33), (3, 3.3)])
    found = suggest(dataset, [(4, 4)], 240, 320, num_sizes=2, num_ratios=2, progress=False)
    assert 16 <= found.sizes[0] <= 22 < 100 <= found.sizes[1] <= 130
    assert 0.25 <= found.ratios[0] <= 0.4
    assert 2.5 <= found.ratios[1] <= 4
    assert recalls(found.after)[0] > 0.95


def quality(result):
    return sum(recalls(result)) + result.mean_iou


@pytest.mark.parametrize(
    "strides, candidates, num_sizes, num_ratios",
    [
        ([(8, 8)], [((size,), (ratio / 20,)) for size in range(12, 36) for ratio in range(10, 28)], 1, 1),
        ([(8, 8)], [((14, size), (ratio / 10, 1.0)) for size in range(16, 40) for ratio in range(4, 10)], 2, 2),
        (
            [(4, 4), (16, 16)],
            [(((fine,), (coarse,)), (0.8,)) for fine in range(12, 40, 2) for coarse in range(12, 40, 2)],
            2,
            1,
        ),
    ],
)
def test_a_suggestion_is_about_as_good_as_the_best_of_many(strides, candidates, num_sizes, num_ratios):
    dataset = drawn([(15, 40)], [(0.6, 1.2)], num_pages=8)
    best = max(
        quality(coverage(dataset, AnchorGenerator(*candidate), strides, 240, 320, progress=False))
        for candidate in candidates
    )
    found = suggest(dataset, strides, 240, 320, num_sizes, num_ratios, progress=False)
    assert quality(found.after) >= best - 0.03


@pytest.mark.parametrize("strides", [[(4, 4)], [(4, 4), (8, 8), (16, 16)]])
def test_changing_a_suggested_size_by_two_pixels_gains_nothing(strides):
    dataset = drawn([(12, 45)], [(0.5, 1.5)], num_pages=15)
    found = suggest(dataset, strides, 240, 320, num_ratios=2, progress=False)
    for index, step in [(index, step) for index in range(3) for step in (-2, -1, 1, 2)]:
        sizes = list(found.sizes)
        sizes[index] += step
        if len(strides) == 1 or sizes == sorted(set(sizes)):
            moved = AnchorGenerator(sizes if len(strides) == 1 else [(size,) for size in sizes], found.ratios)
            near = coverage(dataset, moved, strides, 240, 320, progress=False)
            assert quality(near) <= quality(found.after) + 2e-4  # gains up to 1e-4 are ignored


@pytest.mark.parametrize(
    "sizes, ratios, stride, counts, least",
    [
        ([(15, 150)], [(0.2, 0.25), (1, 1.1), (4, 5)], 8, (3, 3), 1.98),  # 2.01 from quantiles, 1.93 from even factors
        ([(20, 22), (22, 24), (180, 200)], [(0.8, 1.25), (4.5, 5.5)], 16, (2, 2), 1.6),  # 1.49 and 1.64
    ],
)
def test_the_better_of_two_starts_is_used(sizes, ratios, stride, counts, least):
    found = suggest(drawn(sizes, ratios, num_pages=20), [(stride, stride)], 240, 320, *counts, progress=False)
    assert quality(found.after) >= least


def test_a_sample_comes_from_all_images(monkeypatch):
    monkeypatch.setattr(sys.modules["rcnn.evaluate.anchor_suggestion"], "MOST_OBJECTS", 20)
    pages = [page for spans in ([(18, 20)], [(90, 100)]) for page in drawn(spans, [(1, 1.1)], num_pages=10).pages]
    dataset = Annotated(*((size, target["boxes"]) for size, target in pages))
    found = suggest(dataset, [(4, 4)], 240, 320, num_sizes=2, num_ratios=1, progress=False)
    assert recalls(found.after)[0] > 0.95


@pytest.mark.parametrize("sizes, ratios", [((16,), (1.0,)), ((8, 12, 16, 20, 24), (0.5, 0.7, 1.0, 1.4, 2.0))])
def test_anchors_that_cannot_be_improved_are_returned(sizes, ratios):
    dataset = Annotated(((64, 64), [[8, 8, 24, 24], [24, 16, 40, 32]]))
    generator = AnchorGenerator(sizes, ratios)
    found = suggest(dataset, [(8, 8)], 64, 64, num_sizes=1, num_ratios=1, generator=generator, progress=False)
    assert found.generator is generator
    assert (found.sizes, found.ratios) == (sizes, ratios)
    assert found.after is found.before
    assert "no better anchors were found" in str(found)


def centred_squares(*sides):
    """Return squares on a grid of 8, each with an anchor position at its centre."""
    return Annotated(*(((128, 128), [[64 - side / 2, 64 - side / 2, 64 + side / 2, 64 + side / 2]]) for side in sides))


@pytest.mark.parametrize(
    "smallest, size, after",
    [
        (17, 24, [1, 0]),  # an anchor of 24 has an IoU of 0.502 with it, one of 26 less than 0.5: nothing may change
        (20, 28, [1, 8 / 9]),  # up to 28 it keeps an IoU of 0.5; the others then have 0.77
    ],
)
def test_neither_recall_decreases(smallest, size, after):
    # Alone, the eight objects of 32 would make it 32, and the ninth would be lost.
    dataset, given = centred_squares(smallest, *[32] * 8), AnchorGenerator((24,), (1.0,))
    alone = suggest(dataset, [(8, 8)], 128, 128, 1, 1, progress=False)
    assert anchor_sides(alone.generator.cells[0]).ravel().tolist() == [32, 32]
    found = suggest(dataset, [(8, 8)], 128, 128, 1, 1, generator=given, progress=False)
    assert recalls(found.before) == [1, 0]
    assert recalls(found.after) == pytest.approx(after)
    assert anchor_sides(found.generator.cells[0]).ravel().tolist() == [size, size]


def test_a_misleading_sample_is_detected(monkeypatch):
    monkeypatch.setattr(sys.modules["rcnn.evaluate.anchor_suggestion"], "MOST_OBJECTS", 4)  # of nine: 0, 2, 4, 6
    dataset, given = centred_squares(32, 17, *[32] * 7), AnchorGenerator((24,), (1.0,))
    assert suggest(dataset, [(8, 8)], 128, 128, 1, 1, generator=given, progress=False).generator is given


def test_recall_on_a_sample_must_rise_by_two_standard_errors():
    dataset = centred_squares(*[16] * 5, *[40] * 5)
    before = coverage(dataset, AnchorGenerator((16,), (1.0,)), [(8, 8)], 128, 128, progress=False)
    assert recalls(before) == [0.5, 0.5]
    assert _floors(before, sampled=False) == [0.5, 0.5]
    assert _floors(before, sampled=True) == pytest.approx([0.51, 0.51])  # sqrt(0.25 / 10,000) is 0.005


def test_the_default_offset_is_that_of_the_given_anchors():
    dataset = Annotated(((64, 64), [[12, 12, 28, 28], [28, 20, 44, 36]]))  # centres in the middle of cells of 8
    wide = AnchorGenerator((40,), (1.0,), offset=0.5)
    found = suggest(dataset, [(8, 8)], 64, 64, 1, 1, generator=wide, progress=False)
    assert (found.sizes, found.ratios, found.generator.offset) == ((16,), (1.0,), 0.5)
    assert recalls(found.after) == [1, 1]
    assert suggest(dataset, [(8, 8)], 64, 64, 1, 1, wide, offset=0.0, progress=False).generator.offset == 0


@pytest.mark.parametrize(
    "boxes", [[[0, 0, 3, 2]], [[0, 0, 2, 200]], [[3, 3, 203, 5]], [[10, 10, 60, 60]], [[0, 0, 3, 3], [10, 10, 12, 210]]]
)
@pytest.mark.parametrize("strides", [[(8, 8)], FPN_STRIDES])
def test_objects_of_any_shape_have_valid_anchors(boxes, strides):
    found = suggest(Annotated(((256, 256), boxes)), strides, 256, 256, progress=False)
    assert len(set(found.sizes)) == max(3, len(strides))
    assert len(set(found.ratios)) == 3


def test_report_of_a_suggestion():
    dataset = Annotated(((64, 64), [[8, 8, 24, 24]]))
    found = suggest(dataset, [(8, 8)], 64, 64, 1, 1, AnchorGenerator((40,), (1.0,)), progress=False)
    assert str(found).splitlines() == [
        "anchor_sizes = [16]",
        "aspect_ratios = [1]",
        "share of objects with an anchor of IoU 0.5 or more: 0.000 -> 1.000",
        "share of objects with an anchor of IoU 0.7 or more: 0.000 -> 1.000",
    ]


@pytest.mark.parametrize(
    "strides, counts, message",
    [
        (FPN_STRIDES, {"num_sizes": 3}, "num_sizes must be None or 5 .one size for each level"),
        ([(8, 8)], {"num_ratios": 0}, "num_ratios must be an integer of at least 1 and at most 64, got 0"),
        ([], {}, "the number of levels in strides must be .* at least 1"),
        ([(8, 8)] * 2, {"generator": AnchorGenerator(((8,),), (1,))}, "strides must have .*number of levels: 1"),
    ],
)
def test_errors_of_suggest(strides, counts, message):
    with pytest.raises(ValueError, match=message):
        suggest(ONE, strides, 64, 64, progress=False, **counts)
