"""Sizes on the way from a picture to a batch: (height, width) in pixels, always."""

from collections.abc import Sequence

Size = tuple[int, int]
SIZE_DIVISOR = 32  # both sides of a batch are multiples of this, so that strides up to it come out even


def resized_size(size: Size, min_size: int, max_size: int) -> Size:
    """The (height, width) of a picture of `size` after resizing: shorter side min_size, longer one at most max_size."""
    scale = min(min_size / min(size), max_size / max(size))
    return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def padded_size(sizes: Sequence[Size]) -> Size:
    """The (height, width) of a batch that holds images of these sizes."""
    height, width = (max(size[side] for size in sizes) for side in (0, 1))
    return -(-height // SIZE_DIVISOR) * SIZE_DIVISOR, -(-width // SIZE_DIVISOR) * SIZE_DIVISOR


def is_padded(size: Size) -> bool:
    """Whether a batch may have this (height, width) as it is."""
    return padded_size([size]) == size
