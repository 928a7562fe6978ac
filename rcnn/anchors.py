"""Anchors: the boxes of fixed shapes, laid over every position of a feature map, that the RPN refines.

Ren et al., "Faster R-CNN", 2015, section 3.1.1; one size per pyramid level after Lin et al., "Feature Pyramid Networks
for Object Detection", 2017, section 4.1. The numbers are torchvision's.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import floats, replaceable
from rcnn._validate import as_float_array, check_boxes, check_pair

MIN_SIZE = 2.0  # pixels; half of a smaller side could round to nothing


@replaceable(lambda sizes, ratios: floats((len(sizes) * len(ratios), 4), np.float32(0)))
def cell_anchors(sizes: ArrayLike, ratios: ArrayLike) -> np.ndarray:
    """The anchors of one position, centred on the origin, (A, 4) float32: ratios outermost, sizes innermost.

    An anchor of size s and ratio r (height / width) is s / sqrt(r) wide and s * sqrt(r) high, so that its area is
    s * s; its corners are then rounded to whole pixels, half to even.

    Args:
        sizes: (S,) pixels, each at least 2.
        ratios: (R,) each positive.

    Raises ValueError for a size or ratio out of range, and for a pair whose anchor would be less than a pixel across.
    """
    side = _positive_row(sizes, "sizes")  # (S,)
    ratio = _positive_row(ratios, "ratios")  # (R,)
    if side.min() < MIN_SIZE:
        raise ValueError(f"sizes must be at least {MIN_SIZE:g} pixels, got {float(side.min()):g}")
    root = np.sqrt(ratio)  # (R,)
    half_widths = ((1 / root)[:, None] * side).ravel() / 2  # (A,)
    half_heights = (root[:, None] * side).ravel() / 2  # (A,)
    anchors: np.ndarray = np.rint(np.stack([-half_widths, -half_heights, half_widths, half_heights], axis=1))  # (A, 4)
    flat = np.flatnonzero((anchors[:, :2] == 0).any(axis=1))
    if len(flat):
        r, s = divmod(int(flat[0]), len(side))
        raise ValueError(f"an anchor of size {side[s]:g} and ratio {ratio[r]:g} is less than a pixel across")
    return anchors


@replaceable(lambda cell, feature_size, **_: floats((feature_size[0] * feature_size[1] * len(cell), 4), cell))
def grid_anchors(
    cell: ArrayLike, feature_size: Sequence[int], stride: Sequence[int], offset: float = 0.0
) -> np.ndarray:
    """The anchors of every position of a feature map, (H * W * A, 4): by row, then column, then cell anchor.

    Args:
        cell: (A, 4), as from `cell_anchors`.
        feature_size: (H, W), positions of the feature map.
        stride: (rows, columns), pixels of the image from one position to the next.
        offset: where in its stride a position's anchors are centred: 0 at its start, 0.5 in its middle.
    """
    shapes = check_boxes(cell, "cell")  # (A, 4)
    rows, columns = check_pair(feature_size, "feature_size")
    row_stride, column_stride = check_pair(stride, "stride")
    y = ((np.arange(rows) + offset) * row_stride).astype(shapes.dtype)  # (H,)
    x = ((np.arange(columns) + offset) * column_stride).astype(shapes.dtype)  # (W,)
    anchors = np.empty((rows, columns, len(shapes), 4), shapes.dtype)  # (H, W, A, 4)
    anchors[..., 0::2] = x[:, None, None] + shapes[:, 0::2]
    anchors[..., 1::2] = y[:, None, None, None] + shapes[:, 1::2]
    return anchors.reshape(-1, 4)  # (H * W * A, 4)


def measure_stride(image_size: Sequence[int], feature_size: Sequence[int]) -> tuple[int, int]:
    """(rows, columns): how many pixels of an image lie between two positions of its feature map, rounded down.

    Both sizes are (height, width); the image's includes its padding. Raises ValueError if the feature map is larger.
    """
    height, width = check_pair(image_size, "image_size")
    rows, columns = check_pair(feature_size, "feature_size")
    if rows > height or columns > width:
        raise ValueError(f"feature_size ({rows}, {columns}) exceeds the image's ({height}, {width})")
    return height // rows, width // columns


class AnchorGenerator:
    """All anchors of an image, level by level.

    Args (and attributes):
        sizes: pixels; a tuple per pyramid level, or a flat tuple, of which every level has every size.
        ratios: height / width; likewise.
        offset: as in `grid_anchors`, 0 to 1.

    Raises ValueError as `cell_anchors` does, and for tuples of different numbers of levels.
    """

    def __init__(
        self,
        sizes: Sequence[float] | Sequence[Sequence[float]],
        ratios: Sequence[float] | Sequence[Sequence[float]],
        offset: float = 0.0,
    ) -> None:
        if not 0 <= offset <= 1:
            raise ValueError(f"offset must be between 0 and 1, got {offset!r}")
        counts = [len(values) for values in (sizes, ratios) if _is_nested(values)]
        if len(set(counts)) > 1:
            raise ValueError(f"sizes and ratios must have as many levels, got {len(sizes)} and {len(ratios)}")
        self.sizes, self.ratios, self.offset = sizes, ratios, offset
        self.num_levels = counts[0] if counts else None  # None: any number of levels, all alike
        self.cells  # raises for what cannot be

    @property
    def cells(self) -> list[np.ndarray]:
        """The cell anchors of each level, [(A_l, 4) float32]; a single entry, for every level, if sizes and ratios are flat."""
        levels = self.num_levels or 1
        pairs = zip(_per_level(self.sizes, levels), _per_level(self.ratios, levels), strict=True)
        return [cell_anchors(sizes, ratios) for sizes, ratios in pairs]

    def num_anchors_per_location(self) -> list[int]:
        """How many anchors a position has, level by level; one entry, which holds for every level, if all is flat."""
        return [len(cell) for cell in self.cells]

    def __call__(self, image_size: Sequence[int], feature_sizes: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The anchors of every level in pixels of the image, [(H_l * W_l * A_l, 4) float32].

        Args:
            image_size: (height, width) of the image with its padding.
            feature_sizes: (H_l, W_l) of every level; the strides are measured from them.

        Raises ValueError for another number of levels than the sizes and ratios were given for.
        """
        return [
            grid_anchors(cell, size, measure_stride(image_size, size), self.offset)
            for cell, size in zip(self.cells_of(len(feature_sizes), "feature_sizes"), feature_sizes, strict=True)
        ]

    def cells_of(self, levels: int, name: str = "levels") -> list[np.ndarray]:
        """The cell anchors of each of so many levels, [(A_l, 4)]; `name` is what the error calls their source."""
        if self.num_levels not in (None, levels):
            raise ValueError(f"{name} must have {self.num_levels} levels as the anchor sizes do, got {levels}")
        return self.cells if self.num_levels else self.cells * levels


def _positive_row(values: ArrayLike, name: str) -> np.ndarray:
    """`values` as (N,) float32, which is the precision that torchvision's rounding is decided in."""
    row = as_float_array(values, name).astype(np.float32)
    if row.ndim != 1 or not len(row):
        raise ValueError(f"{name} must be a tuple of one or more numbers, got {values!r}")
    if not (np.isfinite(row) & (row > 0)).all():
        raise ValueError(f"{name} must be positive and finite, got {values!r}")
    return row


def _is_nested(values: Sequence[float] | Sequence[Sequence[float]]) -> bool:
    return any(isinstance(value, (Sequence, np.ndarray)) for value in values)


def _per_level(values: Sequence[float] | Sequence[Sequence[float]], levels: int) -> Sequence[ArrayLike]:
    """`values` of each level: as they come if nested, all of them every time if flat."""
    return values if _is_nested(values) else [values] * levels
