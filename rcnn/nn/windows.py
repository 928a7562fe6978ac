"""Windows that slide over feature maps: how many there are, and how their values are copied and added back.

Feature maps of N images with C channels have the shape (N, C, H, W). They are stored channels last in memory, in the
order (N, H, W, C). The values in a window are therefore `kernel height` contiguous runs of `kernel width * C` numbers,
which are fast to copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rcnn._validate import as_array, check_size, is_whole, shown
from rcnn.nn.tensor import Tensor, check_tensor

Pair = tuple[int, int]
MOST_WINDOW = 2**12  # the maximum side, stride, dilation and border of a window, in pixels


def pair(name: str, value: int | Sequence[int], smallest: int, largest: int = MOST_WINDOW) -> Pair:
    """Return a pair (rows, columns), given two numbers or one number for both.

    Parameters
    ----------
    name : str
        The name of the argument; the message contains it.
    value : int or (int, int)
        One or two whole numbers.
    smallest, largest : int
        The smallest and the largest number that are allowed.

    Returns
    -------
    (int, int)
        The numbers for rows and columns.

    Raises
    ------
    ValueError
        If the value is not one or two whole numbers in `smallest` .. `largest`.

    Examples
    --------
    >>> pair("stride", 2, 1)
    (2, 2)
    """
    if type(value) is int and smallest <= value <= largest:  # the usual case
        return value, value
    is_pair = type(value) is tuple or not isinstance(value, int) and isinstance(value, Sequence)
    values: Any = value if is_pair else (value, value)
    if len(values) == 2 and is_whole(values[0]) and is_whole(values[1]):
        rows, columns = int(values[0]), int(values[1])
        if smallest <= rows <= largest and smallest <= columns <= largest:
            return rows, columns
    allowed = f"one or two whole numbers of at least {smallest} and at most {largest}"
    raise ValueError(f"{name} must be {allowed}, got {shown(value)}")


def check_maps(operation: str, x: Tensor, name: str = "x") -> None:
    """Raise an error unless x is a tensor of feature maps.

    Parameters
    ----------
    operation : str
        The name of the operation, for the message.
    x : Tensor
        The argument of the operation.
    name : str
        The name of the argument; the message contains it.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x does not have four axes.
    """
    check_tensor(operation, x, name)
    if x.ndim != 4:
        raise ValueError(f"{operation}: {name} must be feature maps of shape (N, C, H, W), got {x.shape}")


def check_pixels(operation: str, x: Tensor, name: str = "x") -> None:
    """Raise an error unless x is a tensor of feature maps with at least one pixel.

    Parameters
    ----------
    operation : str
        The name of the operation, for the message.
    x : Tensor
        The argument of the operation.
    name : str
        The name of the argument; the message contains it.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x does not have four axes, or if it has no pixels.
    """
    check_maps(operation, x, name)
    if 0 in x.shape[2:]:
        raise ValueError(
            f"{operation}: {name} must be feature maps (N, C, H, W) with at least one pixel, got {x.shape}"
        )


def channels_last(features: np.ndarray) -> np.ndarray:
    """Return the feature maps in the channels-last memory layout.

    Parameters
    ----------
    features : (N, C, H, W) array
        The feature maps, in any layout.

    Returns
    -------
    (N, C, H, W) array
        The feature maps. They are copied only if the layout changes.

    Raises
    ------
    TypeError, ValueError
        If `features` does not have four axes.
    """
    maps = as_array(features, "features")
    if maps.ndim != 4:
        raise ValueError(f"features must have shape (N, C, H, W), got {maps.shape}")
    check_size(maps.shape, "features")
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> Pair:
    """Return the number of positions of a window on a padded map.

    Parameters
    ----------
    size : (int, int)
        The height and width of the map, in pixels.
    kernel : (int, int)
        The height and width of the window.
    stride, padding, dilation : (int, int)
        The step between windows, the width of the border, and the step between the elements of a window, each as
        (rows, columns).

    Returns
    -------
    (int, int)
        The numbers of rows and columns: floor((side + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.

    Raises
    ------
    ValueError
        If the window does not fit into the padded map.
    """
    span = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
    room = size[0] + 2 * padding[0] - span[0], size[1] + 2 * padding[1] - span[1]
    if min(room) < 0:
        raise ValueError(
            f"kernel_size: a window of {span[0]} x {span[1]} pixels does not fit into x, which has {size[0]} x "
            f"{size[1]} pixels and a padding of ({padding[0]}, {padding[1]})"
        )
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def padded(features: np.ndarray, pad: Pair, value: float) -> np.ndarray:
    """Return maps with a border.

    Parameters
    ----------
    features : (N, C, H, W) array
        The maps.
    pad : (int, int)
        The number of rows to add above and below, and of columns to add on the left and right.
    value : float
        The value of the border.

    Returns
    -------
    (N, H + 2 * pad[0], W + 2 * pad[1], C) array
        The padded maps, in a contiguous array.
    """
    maps = features.transpose(0, 2, 3, 1)
    if pad == (0, 0):
        return np.ascontiguousarray(maps)
    n, height, width, channels = maps.shape
    out = np.full((n, height + 2 * pad[0], width + 2 * pad[1], channels), value, maps.dtype)
    out[:, pad[0] : pad[0] + height, pad[1] : pad[1] + width] = maps
    return out


def unpadded(maps: np.ndarray, shape: tuple[int, ...], pad: Pair) -> np.ndarray:
    """Return maps without their border.

    Parameters
    ----------
    maps : (N, H + 2 * pad[0], W + 2 * pad[1], C) array
        The padded maps.
    shape : (int, int, int, int)
        The shape (N, C, H, W) of the result.
    pad : (int, int)
        The number of rows to remove above and below, and of columns to remove on the left and right.

    Returns
    -------
    (N, C, H, W) array
        The inner part, stored channels last in memory.
    """
    inner = maps[:, pad[0] : pad[0] + shape[2], pad[1] : pad[1] + shape[3]]
    return np.ascontiguousarray(inner).transpose(0, 3, 1, 2)


def windows(maps: np.ndarray, kernel: Pair, stride: Pair, dilation: Pair, size: Pair) -> np.ndarray:
    """Return a view of every window.

    Parameters
    ----------
    maps : (N, H, W, C) array
        The padded maps.
    kernel, stride, dilation : (int, int)
        The size of the window, the step between windows, and the step between the elements of a window, each as
        (rows, columns).
    size : (int, int)
        The number of windows (H', W'), from `output_size`.

    Returns
    -------
    (N, H', W', kernel height, kernel width, C) array
        A read-only view.
    """
    n, _, _, channels = maps.shape
    at_image, at_row, at_column, at_channel = maps.strides
    strides = (
        at_image,
        stride[0] * at_row,
        stride[1] * at_column,
        dilation[0] * at_row,
        dilation[1] * at_column,
        at_channel,
    )
    return np.lib.stride_tricks.as_strided(maps, (n, *size, *kernel, channels), strides, writeable=False)


def at_offset(maps: np.ndarray, offset: Pair, stride: Pair, size: Pair) -> np.ndarray:
    """Return a view of one element of every window.

    Parameters
    ----------
    maps : (N, H, W, C) array
        The padded maps.
    offset : (int, int)
        The row and column of the element in the window, in pixels.
    stride : (int, int)
        The step between windows, as (rows, columns).
    size : (int, int)
        The number of windows (H', W').

    Returns
    -------
    (N, H', W', C) array
        A view.
    """
    (i, j), (rows, columns) = offset, size
    return maps[:, i : i + stride[0] * (rows - 1) + 1 : stride[0], j : j + stride[1] * (columns - 1) + 1 : stride[1]]


def scatter_windows(windows: np.ndarray, shape: tuple[int, ...], stride: Pair, pad: Pair, dilation: Pair) -> np.ndarray:
    """Add every element of the windows to the pixel from which it was taken.

    This is the adjoint (the transpose) of `windows`. Elements at the same offset in their windows never overlap, so
    they are added in one operation.

    Parameters
    ----------
    windows : (N, H', W', kernel height, kernel width, C) array
        The windows.
    shape : (int, int, int, int)
        The shape (N, C, H, W) of the result.
    stride, pad, dilation : (int, int)
        The step between windows, the width of the border, and the step between the elements of a window, each as
        (rows, columns).

    Returns
    -------
    (N, C, H, W) array
        The sums, without the border.
    """
    n, channels, height, width = shape
    _, rows, columns, kernel_height, kernel_width, _ = windows.shape
    if (kernel_height, kernel_width) == stride == (1, 1) and pad == (0, 0):
        return windows.reshape(n, height, width, channels).transpose(0, 3, 1, 2)
    maps = np.zeros((n, height + 2 * pad[0], width + 2 * pad[1], channels), windows.dtype)
    for i in range(kernel_height):
        for j in range(kernel_width):
            offset = (i * dilation[0], j * dilation[1])
            at_offset(maps, offset, stride, (rows, columns))[...] += windows[:, :, :, i, j]
    return unpadded(maps, shape, pad)
