"""Interpolation of images. With it, the drawn data sets need only NumPy.

`resize` and `transform` give the same bits as Pillow. They use the bicubic kernel of Keys, "Cubic Convolution
Interpolation for Digital Image Processing", 1981, with a = -0.5 and a = -1.
"""

from collections.abc import Callable

import numpy as np

SHARPNESS = -0.5  # Keys' parameter a
BITS = 22  # of the fraction of a fixed-point weight


def resize(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Enlarge an image with bicubic interpolation, first its columns and then its rows.

    Parameters
    ----------
    image : (H, W) float32 array
        The image.
    size : (int, int)
        New height and width, at least H and W.

    Returns
    -------
    (height, width) float32 array
        The enlarged image.
    """
    for count in (size[1], size[0]):
        rows, weights = _taps(image.shape[1], count, _cubic_kernel, 2.0)  # (count, K)
        image = sum(image.T[rows[:, k]].astype(np.float64) * weights[:, k, None] for k in range(rows.shape[1]))
        image = image.astype(np.float32)  # (count, the other side)
    return image


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Shrink an image with triangular weights that cover all pixels, first its columns and then its rows.

    The result differs from Pillow's by at most 1, because Pillow sometimes begins with the rows.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
        The image.
    side : int
        New height and width.

    Returns
    -------
    (side, side, 3) uint8 array
        The shrunk image.
    """
    for _ in range(2):
        rows, weights = _taps(image.shape[1], side, lambda x: np.maximum(1.0 - np.abs(x), 0.0), 1.0)  # (side, K)
        fixed = (0.5 + weights * 2**BITS).astype(np.int64)
        columns = image.transpose(1, 0, 2)  # (W, H, 3)
        total = sum(columns[rows[:, k]] * fixed[:, k, None, None] for k in range(rows.shape[1]))  # (side, H, 3)
        image = np.clip((total + 2 ** (BITS - 1)) >> BITS, 0, 255).astype(np.uint8)
    return image


def _taps(
    pixels: int, count: int, kernel: Callable[[np.ndarray], np.ndarray], support: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices and the weights (count, K) of the pixels whose weighted mean is a pixel of the result."""
    step = pixels / count
    stretch = max(step, 1.0)  # an image that becomes smaller needs a wider kernel
    centre = (np.arange(count) + 0.5) * step  # (count,)
    first = np.maximum((centre - support * stretch + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support * stretch + 0.5).astype(np.int64), pixels)
    indices = first[:, None] + np.arange((stop - first).max())  # (count, K)
    weights = np.where(indices < stop[:, None], kernel((indices - centre[:, None] + 0.5) * (1.0 / stretch)), 0.0)
    total = np.cumsum(weights, axis=1)[:, -1:]  # adds one by one; another order would change the last bit
    return np.minimum(indices, pixels - 1), weights / total


def _cubic_kernel(x: np.ndarray) -> np.ndarray:
    """Return the weight of a pixel at the distance x."""
    x = np.abs(x)
    near = ((SHARPNESS + 2.0) * x - (SHARPNESS + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * SHARPNESS
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def transform(image: np.ndarray, size: tuple[int, int], affine: tuple[float, ...]) -> np.ndarray:
    """Transform an image: the pixel at (x, y) gets the value at (a x + b y + c, d x + e y + f).

    Parameters
    ----------
    image : (H, W) float32 array
        The image.
    size : (int, int)
        Height and width of the result.
    affine : (a, b, c, d, e, f)
        The numbers of the transformation. It applies to the centres of the pixels.

    Returns
    -------
    (height, width) float32 array
        The transformed image; 0 where a point lies outside the image.
    """
    (height, width), (a, b, c, d, e, f) = image.shape, affine
    xs, ys = np.arange(size[1]) + 0.5, (np.arange(size[0]) + 0.5)[:, None]  # (width,), (height, 1)
    x, y = a * xs + b * ys + c, d * xs + e * ys + f  # (height, width)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x[inside] - 0.5, y[inside] - 0.5  # (P,)
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    columns = np.clip(column[:, None] + np.arange(-1, 3), 0, width - 1)  # (P, 4)
    rows = np.clip(row[:, None] + np.arange(-1, 3), 0, height - 1)  # (P, 4)
    neighbours = image[rows[:, :, None], columns[:, None]]  # (P, 4, 4)
    along_x = _cubic(neighbours, (x - column)[:, None])  # (P, 4)
    result = np.zeros(size, np.float32)
    result[inside] = _cubic(along_x, y - row)
    return result


def _cubic(values: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return the cubic interpolation of four neighbours (..., 4) at the distance d from the second one."""
    v1, v2, v3, v4 = np.moveaxis(values, -1, 0)
    return v2 + d * (-v1 + v3 + d * (2 * (v1 - v2) + v3 - v4 + d * (-v1 + v2 - v3 + v4)))
