"""Anchors: comparison with torchvision, their order, rounding, and error messages."""

import numpy as np
import pytest

from rcnn.anchors import AnchorGenerator, cell_anchors, grid_anchors, measure_stride


def test_cell_anchors_by_hand():
    # size 32: ratio 1 is 32 x 32; ratio 4 is 32 / 2 = 16 wide and 32 * 2 = 64 high. Size 8 likewise: 8 x 8, 4 x 16.
    expected = [[-16, -16, 16, 16], [-4, -4, 4, 4], [-8, -32, 8, 32], [-2, -8, 2, 8]]
    cell = cell_anchors((32, 8), (1.0, 4.0))
    assert cell.dtype == np.float32
    np.testing.assert_array_equal(cell, expected)


@pytest.mark.parametrize("size, half", [(2, 1), (3, 2), (5, 2), (7, 4), (9, 4)])
def test_halves_are_rounded_to_even(size, half):
    np.testing.assert_array_equal(cell_anchors([size], [1]), [[-half, -half, half, half]])


def test_cell_anchors_match_torchvision(golden):
    case = golden("boxes")
    cell = cell_anchors(case["anchors_half/sizes"], case["anchors_half/ratios"])
    np.testing.assert_array_equal(cell, case["anchors_half/cell"])


@pytest.mark.parametrize("name, one_size_per_level", [("fpn", True), ("c4", False), ("odd", False)])
def test_generator_matches_torchvision(golden, name, one_size_per_level):
    image, levels, sizes, ratios, expected = (
        golden("boxes")[f"anchors_{name}/{key}"] for key in ("image", "levels", "sizes", "ratios", "anchors")
    )
    sizes = [(size,) for size in sizes.tolist()] if one_size_per_level else sizes.tolist()
    anchors = AnchorGenerator(sizes, ratios.tolist())(image, levels)
    assert [len(level) for level in anchors] == [h * w * len(expected) // levels.prod(axis=1).sum() for h, w in levels]
    np.testing.assert_array_equal(np.concatenate(anchors), expected)


@pytest.mark.parametrize("offset, x, y", [(0.0, 0, 0), (0.5, 4, 5)])
def test_grid_is_ordered_by_row_then_column_then_cell_anchor(offset, x, y):
    cell = np.array([[-1, -2, 1, 2], [-3, -3, 3, 3]], np.float32)
    centres = [(x, y), (x + 8, y), (x + 16, y), (x, y + 10), (x + 8, y + 10), (x + 16, y + 10)]  # 2 rows, 3 columns
    expected = [[cx + a, cy + b, cx + c, cy + d] for cx, cy in centres for a, b, c, d in cell.tolist()]
    anchors = grid_anchors(cell, (2, 3), (10, 8), offset)
    assert anchors.dtype == np.float32
    np.testing.assert_array_equal(anchors, expected)


def test_offset_of_the_generator_moves_every_anchor_by_half_a_stride():
    at_corner = AnchorGenerator((16,), (1, 2))((40, 60), [(5, 6), (2, 3)])
    at_middle = AnchorGenerator((16,), (1, 2), offset=0.5)((40, 60), [(5, 6), (2, 3)])
    for corner, middle, (rows, columns) in zip(at_corner, at_middle, [(8, 10), (20, 20)], strict=True):
        np.testing.assert_array_equal(middle - corner, np.tile([columns / 2, rows / 2] * 2, (len(corner), 1)))


def test_flat_sizes_apply_to_every_level_and_nested_sizes_to_one_level_each():
    flat, nested = AnchorGenerator((16, 32), (1.0,)), AnchorGenerator(((16, 32), (64,)), (1.0, 2.0))
    assert flat.num_anchors_per_location() == [2]
    assert nested.num_anchors_per_location() == [4, 2]
    assert [len(level) for level in flat((64, 64), [(4, 4), (2, 2), (1, 1)])] == [32, 8, 2]
    assert [len(level) for level in nested((64, 64), [(4, 4), (2, 2)])] == [64, 8]
    assert AnchorGenerator((16, 32), ((1.0,), (0.5, 1.0))).num_anchors_per_location() == [2, 4]


def test_generator_keeps_its_settings():
    generator = AnchorGenerator(((16, 32), (64,)), (1.0, 2.0), offset=0.5)
    assert (generator.sizes, generator.ratios, generator.offset) == (((16, 32), (64,)), (1.0, 2.0), 0.5)
    assert [len(cell) for cell in generator.cells_of(2)] == [4, 2]
    assert [len(cell) for cell in AnchorGenerator((16,), (1.0, 2.0)).cells_of(3)] == [2, 2, 2]
    with pytest.raises(
        ValueError, match=r"strides must have one entry per level of anchor sizes \(number of levels: 2\), got 3"
    ):
        generator.cells_of(3, "strides")


@pytest.mark.parametrize(
    "image, feature, stride",
    [((97, 130), (5, 7), (19, 18)), ((800, 1216), (61, 76), (13, 16)), ((32, 32), (32, 32), (1, 1))],
)
def test_measured_stride_is_rounded_down_along_each_axis(image, feature, stride):
    assert measure_stride(image, feature) == stride


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: cell_anchors((32, 1.5), (1,)), r"sizes must be in \[2, 1048576\], got \(32, 1.5\)"),
        (
            lambda: cell_anchors((2,), (1, 9)),
            "size 2 and ratio 9 has a side that is rounded to 0",
        ),  # 2 / 3 wide: halves round to 0
        (lambda: cell_anchors((), (1,)), "sizes must be a sequence of 1 to 4096 numbers"),
        (lambda: cell_anchors((32,), (-1,)), r"ratios must be in .*, got \(-1,\)"),
        (lambda: cell_anchors((32,), (np.inf,)), r"ratios must be in .*, got \(inf,\)"),
        (lambda: grid_anchors([[0, 0, 1, 1]], (0, 3), (8, 8)), "feature_size"),
        (lambda: measure_stride((8, 8), (4, 9)), r"at most the size of the image, \(8, 8\), got \(4, 9\)"),
        (lambda: AnchorGenerator((32,), (1,), offset=2), r"offset must be a number in \[0, 1\], got 2"),
        (lambda: AnchorGenerator(((32,), (64,)), ((1,),)), "the same number of levels, got 2 and 1"),
        (lambda: AnchorGenerator((), (1,)), "sizes"),
        (lambda: AnchorGenerator(((32,), (64,)), (1,))((64, 64), [(4, 4)]), "number of levels: 2.* got 1"),
        (lambda: AnchorGenerator(((32,), 64), (1,)), "sizes"),
    ],
)
def test_invalid_input_is_reported(call, message):
    with pytest.raises(ValueError, match=message):
        call()
