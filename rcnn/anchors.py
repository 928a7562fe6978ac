"""Anchors: boxes of fixed shapes at every position of a feature map.

The region proposal network (RPN) refines the anchors. Ren et al. introduced anchors in "Faster R-CNN", 2015, section
3.1.1. Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 4.1, use one size per pyramid level.
The coordinates are the same as in torchvision.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import Result, floats, replaceable
from rcnn._validate import (
    FRACTION,
    MOST_LEVELS,
    MOST_SIDE,
    as_dtype,
    as_float_array,
    check_boxes,
    check_pair,
    check_sequence,
    check_size,
    integer,
    is_sequence,
    shown,
)

MIN_SIZE = 2.0  # in pixels; half of a shorter side could be rounded to 0
MOST_PER_CELL = 4096  # the number of sizes or of ratios per cell


@replaceable(lambda sizes, ratios: floats((len(sizes) * len(ratios), 4), np.float32(0)))
def cell_anchors(sizes: ArrayLike, ratios: ArrayLike) -> np.ndarray:
    """Return the anchors of one cell of the feature map, centred on the origin.

    An anchor of size s and ratio r is s / sqrt(r) wide and s * sqrt(r) high. Its area is therefore s * s. The corners
    are then rounded to whole pixels, with halves rounded to the nearest even number.

    Parameters
    ----------
    sizes : (S,) array_like
        The S sizes in pixels: 1 to 4096 numbers in [2, 2^20]. A size is the square root of an area.
    ratios : (R,) array_like
        The R aspect ratios, height / width; 1 to 4096 numbers in [2^-20, 2^20].

    Returns
    -------
    (S * R, 4) float32 array
        The anchors: first all sizes of the first ratio, then all sizes of the second ratio, and so on.

    Raises
    ------
    ValueError
        If a size or a ratio is out of range, or if a side of an anchor would be rounded to 0.

    Examples
    --------
    >>> cell_anchors([16, 32], [1])
    array([[ -8.,  -8.,   8.,   8.],
           [-16., -16.,  16.,  16.]], dtype=float32)
    """
    side = _row(sizes, "sizes", MIN_SIZE)  # (S,)
    ratio = _row(ratios, "ratios", 1 / MOST_SIDE)  # (R,)
    root = np.sqrt(ratio)  # (R,)
    half_widths = ((1 / root)[:, None] * side).ravel() / 2  # (A,)
    half_heights = (root[:, None] * side).ravel() / 2  # (A,)
    anchors: np.ndarray = np.rint(np.stack([-half_widths, -half_heights, half_widths, half_heights], axis=1))  # (A, 4)
    flat = np.flatnonzero((anchors[:, :2] == 0).any(axis=1))
    if len(flat):
        r, s = divmod(int(flat[0]), len(side))
        raise ValueError(
            f"an anchor of size {side[s]:g} and ratio {ratio[r]:g} has a side that is rounded to 0; use a larger size"
        )
    return anchors


@replaceable(lambda cell, feature_size, **_: floats((feature_size[0] * feature_size[1] * len(cell), 4), cell))
def grid_anchors(
    cell: ArrayLike, feature_size: Sequence[int], stride: Sequence[int], offset: float = 0.0
) -> np.ndarray:
    """Return the anchors at every position of a feature map, ordered by row, then column, then cell anchor.

    Parameters
    ----------
    cell : (A, 4) array_like
        The A anchors of one cell, as returned by `cell_anchors`.
    feature_size : (H, W)
        The height and width of the feature map, in 1 .. 2^20.
    stride : (rows, columns)
        The distance between neighbouring positions, in image pixels, in 1 .. 2^20.
    offset : float
        The position of the centre of an anchor in its cell, in [0, 1]: 0 means the top left corner of the cell, and 0.5
        means the middle.

    Returns
    -------
    (H * W * A, 4) array
        The anchors, in image pixels.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or if there would be more than 2^28 anchors.

    Examples
    --------
    >>> grid_anchors([[-8, -8, 8, 8]], feature_size=(1, 2), stride=(16, 16))
    array([[-8., -8.,  8.,  8.],
           [ 8., -8., 24.,  8.]])
    """
    shapes = check_boxes(cell, "cell")  # (A, 4)
    rows, columns = check_pair(feature_size, "feature_size")
    row_stride, column_stride = check_pair(stride, "stride")
    offset = FRACTION.check("offset", offset)
    check_size((rows, columns, len(shapes), 4), "cell and feature_size")
    y = ((np.arange(rows) + offset) * row_stride).astype(shapes.dtype)  # (H,)
    x = ((np.arange(columns) + offset) * column_stride).astype(shapes.dtype)  # (W,)
    anchors = np.empty((rows, columns, len(shapes), 4), shapes.dtype)  # (H, W, A, 4)
    anchors[..., 0::2] = x[:, None, None] + shapes[:, 0::2]
    anchors[..., 1::2] = y[:, None, None, None] + shapes[:, 1::2]
    return anchors.reshape(-1, 4)  # (H * W * A, 4)


def _level_shapes(
    feature_sizes: Sequence[Sequence[int]], sizes: Sequence[ArrayLike], ratios: Sequence[Any], **_: object
) -> tuple[Result, ...]:
    levels = zip(feature_sizes, sizes, _per_level(ratios, len(sizes)), strict=True)
    return tuple(
        floats((rows * columns * len(np.ravel(size)) * len(np.ravel(ratio)), 4), np.float32(0))
        for (rows, columns), size, ratio in levels
    )


@replaceable(_level_shapes, name="anchor_generator", gather=list)
def all_anchors(
    image_size: Sequence[int],
    feature_sizes: Sequence[Sequence[int]],
    sizes: Sequence[ArrayLike],
    ratios: Sequence[Any],
    offset: float = 0.0,
) -> list[np.ndarray]:
    """Return the anchors of every level of an image; `AnchorGenerator` calls this function with its settings.

    Parameters
    ----------
    image_size : (height, width)
        The size of the padded image, in pixels.
    feature_sizes : sequence of (height, width)
        The size (H_l, W_l) of the feature map of each level l.
    sizes : sequence of sequences of floats
        The sizes of the anchors of each level, in pixels.
    ratios : sequence of floats, or one such sequence per level
        The aspect ratios, height / width.
    offset : float
        See `grid_anchors`.

    Returns
    -------
    list of (H_l * W_l * A_l, 4) float32 arrays
        The anchors of each level, in image pixels. A_l is the number of anchors per cell.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or if `feature_sizes` has a different number of levels than `sizes`.

    Examples
    --------
    >>> [level.shape for level in all_anchors((32, 32), [(4, 4), (2, 2)], [(8,), (16,)], (0.5, 1.0))]
    [(32, 4), (8, 4)]
    """
    if len(feature_sizes) != len(sizes):
        raise ValueError(
            f"feature_sizes must have one entry per level of sizes ({len(sizes)}), got {len(feature_sizes)}"
        )
    cells = map(cell_anchors, sizes, _per_level(ratios, len(sizes)))
    return [
        grid_anchors(cell, size, measure_stride(image_size, size), offset)
        for cell, size in zip(cells, feature_sizes, strict=True)
    ]


def measure_stride(image_size: Sequence[int], feature_size: Sequence[int]) -> tuple[int, int]:
    """Return the stride (rows, columns) of a feature map: image pixels per position, rounded down.

    Parameters
    ----------
    image_size : (height, width)
        The size of the padded image, in pixels, in 1 .. 2^20.
    feature_size : (height, width)
        The size of the feature map, in 1 .. 2^20.

    Returns
    -------
    (int, int)
        The strides along y and along x.

    Raises
    ------
    ValueError
        If a number is out of range, or if the feature map is larger than the image.
    """
    height, width = check_pair(image_size, "image_size")
    rows, columns = check_pair(feature_size, "feature_size")
    if rows > height or columns > width:
        raise ValueError(
            f"feature_size must be at most the size of the image, ({height}, {width}), got ({rows}, {columns})"
        )
    return height // rows, width // columns


class AnchorGenerator:
    """A generator of the anchors of an image, for every level of the feature pyramid.

    Parameters
    ----------
    sizes : sequence of floats, or one such sequence per level
        The sizes of the anchors, in pixels; see `cell_anchors`. A flat sequence is used at every level. A nested
        sequence has at most 64 levels.
    ratios : sequence of floats, or one such sequence per level
        The aspect ratios, height / width; see `cell_anchors`. A flat sequence is used at every level. A nested sequence
        has at most 64 levels.
    offset : float
        See `grid_anchors`.

    Attributes
    ----------
    cells : list of (A_l, 4) arrays
        The cell anchors of each level, with A_l anchors on level l. If `sizes` and `ratios` are flat, the list has a
        single array, which applies to every level.
    num_levels : int or None
        The number of levels. None means that `sizes` and `ratios` are flat, so any number of levels is possible.

    Raises
    ------
    TypeError, ValueError
        If `offset` is out of range, or if `sizes` and `ratios` have different numbers of levels. The errors of
        `cell_anchors` are also raised.
    """

    def __init__(
        self,
        sizes: Sequence[float] | Sequence[Sequence[float]],
        ratios: Sequence[float] | Sequence[Sequence[float]],
        offset: float = 0.0,
    ) -> None:
        for name, values in (("sizes", sizes), ("ratios", ratios)):
            check_sequence(values, name)
            most, items = (MOST_LEVELS, "levels") if _is_nested(values) else (MOST_PER_CELL, "numbers")
            if len(values) > most:
                raise ValueError(f"{name} must have at most {most} {items}, got {len(values)}")
        offset = FRACTION.check("offset", offset)
        counts = [len(values) for values in (sizes, ratios) if _is_nested(values)]
        if len(set(counts)) > 1:
            raise ValueError(
                f"sizes and ratios must have the same number of levels, got {len(sizes)} and {len(ratios)}"
            )
        self.sizes, self.ratios, self.offset = sizes, ratios, offset
        self.num_levels = counts[0] if counts else None  # None allows any number of levels
        self.num_anchors_per_location()  # raises ValueError if a size or a ratio is invalid

    @property
    def cells(self) -> list[np.ndarray]:  # numpydoc ignore=RT01
        """The cell anchors (A_l, 4) of each level, as float32, or a single array if `sizes` and `ratios` are flat."""
        levels = self.num_levels or 1
        pairs = zip(_per_level(self.sizes, levels), _per_level(self.ratios, levels), strict=True)
        return [cell_anchors(sizes, ratios) for sizes, ratios in pairs]

    def num_anchors_per_location(self) -> list[int]:
        """Return the number of anchors per cell, for each level.

        Returns
        -------
        list of int
            One number per level, or a single number for all levels if `sizes` and `ratios` are flat.
        """
        return [len(cell) for cell in self.cells]

    def __call__(self, image_size: Sequence[int], feature_sizes: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the anchors of every level.

        Parameters
        ----------
        image_size : (height, width)
            The size of the padded image, in pixels.
        feature_sizes : list of (height, width)
            The size (H_l, W_l) of the feature map of each level l. The strides are computed from these sizes.

        Returns
        -------
        list of (H_l * W_l * A_l, 4) float32 arrays
            The anchors of each level, in image pixels. A_l is the number of anchors per cell.

        Raises
        ------
        ValueError
            If `feature_sizes` has a different number of levels than `sizes` and `ratios`.
        """
        check_sequence(feature_sizes, "feature_sizes")
        levels = len(feature_sizes)
        self._check_levels(levels, "feature_sizes")
        return all_anchors(image_size, feature_sizes, _per_level(self.sizes, levels), self.ratios, self.offset)

    def cells_of(self, levels: int, name: str = "levels") -> list[np.ndarray]:
        """Return the cell anchors of each level.

        Parameters
        ----------
        levels : int
            The number of levels, in 1 .. 64.
        name : str
            The name of the caller's argument that has these levels. It appears in the error message.

        Returns
        -------
        list of (A_l, 4) arrays
            One array per level l, with A_l anchors.

        Raises
        ------
        ValueError
            If `sizes` and `ratios` have a different number of levels.
        """
        self._check_levels(levels, name)
        return self.cells if self.num_levels else self.cells * levels

    def _check_levels(self, levels: int, name: str) -> None:
        integer(1, MOST_LEVELS).check(name, levels)
        if self.num_levels not in (None, levels):
            raise ValueError(
                f"{name} must have one entry per level of anchor sizes (number of levels: {self.num_levels}), "
                f"got {levels}"
            )


def _row(values: ArrayLike, name: str, least: float) -> np.ndarray:
    """Return the values as a float32 array (N,). Raise ValueError unless they are in [`least`, 2^20]."""
    row = as_dtype(as_float_array(values, name), np.float32, name)  # torchvision also rounds anchors in float32
    if row.ndim != 1 or not 1 <= len(row) <= MOST_PER_CELL:
        raise ValueError(f"{name} must be a sequence of 1 to {MOST_PER_CELL} numbers, got {shown(values)}")
    if not ((row >= least) & (row <= MOST_SIDE)).all():
        raise ValueError(f"{name} must be in [{least:g}, {MOST_SIDE}], got {shown(values)}")
    return row


def _is_nested(values: Sequence[float] | Sequence[Sequence[float]]) -> bool:
    return any(map(is_sequence, values[: MOST_LEVELS + 1]))


def _per_level(values: Sequence[float] | Sequence[Sequence[float]], levels: int) -> Sequence[ArrayLike]:
    """Return one sequence per level. If `values` is a flat sequence, it is repeated for every level."""
    return values if _is_nested(values) else [values] * levels
