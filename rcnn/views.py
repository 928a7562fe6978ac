"""Detection in several views of an image: mirrored, resized, or cut into tiles. The detections are then merged.

A detector often finds an object in one view that it misses in another. Objects that are only a few pixels large in a
resized photograph have more pixels in a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from rcnn._validate import MOST_BOXES, MOST_SIDE, check_boxes, check_pair, check_sequence, integer, number, shown
from rcnn.boxes import area, share_inside
from rcnn.nms import descending_order, suppress
from rcnn.transform import as_image

MOST_SCALES = 64
LEAST_TILE = 32  # pixels along a side
BORDER = 0.02  # of the side of a tile; an object that ends so close to the border of its tile may be cut
COVERED = 0.5  # of a cut box; if more is covered by another box, it is a part of the same object

Detections = dict[str, np.ndarray]  # of one image: boxes (D, 4), scores (D,), labels (D,)


# ---------------------------------------------------------------------- tiles


def detect_in_tiles(
    predict: Callable[[list[np.ndarray]], list[Detections]],
    image: np.ndarray,
    tile: int,
    overlap: float = 0.2,
    *,
    batch_size: int = 1,
    nms_thresh: float = 0.5,
    top_k: int = MOST_BOXES,
    class_agnostic: bool = False,
    progress: bool = False,
) -> Detections:
    """Return the detections of an image, merged from overlapping tiles and from the whole image.

    An object that is not larger than the overlap is whole in at least one tile. Larger objects are also detected in
    the whole image. A box that ends at a border between tiles may contain only a part of an object. It is dropped if
    more than half of it is covered by another box.

    Parameters
    ----------
    predict : callable
        Function that is called with a list of images and returns the detections in each of them, such as
        `rcnn.FasterRCNN.predict`.
    image : (H, W, 3) array
        An image.
    tile : int
        The side of a tile, in pixels, at least 32. It is best about as large as the images of the training.
    overlap : float
        The minimum overlap of neighbouring tiles: below 1, a fraction of the side of a tile; otherwise, a number of
        pixels. It is at most half of the side of a tile.
    batch_size : int
        The largest number of tiles in a call of `predict`, in 1 .. 2^20.
    nms_thresh : float
        The maximum intersection over union (IoU) of two detections of the same class, in [0, 1], in all tiles together.
    top_k : int
        The maximum number of detections, in 1 .. 2^20.
    class_agnostic : bool
        If True, `nms_thresh` is also the maximum IoU of detections of different classes.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    dict
        {"boxes": (D, 4), "scores": (D,), "labels": (D,)} of the D detections, in descending order of score. The boxes
        are in pixel coordinates of the image.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    if not callable(predict):
        raise TypeError(f"predict must be callable, got {shown(predict)}")
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise TypeError(f"image must be an array (H, W, 3), got {shown(image)}")
    height, width = check_pair(image.shape[:2], "the size of image")
    tiles = tile_boxes((height, width), tile, overlap).tolist()
    step = integer(1, MOST_BOXES).check("batch_size", batch_size)
    calls = [tiles[start : start + step] for start in range(0, len(tiles), step)]
    if len(tiles) > 1:
        calls.insert(0, [[0, 0, width, height]])
    found, is_cut = [], []
    for windows in tqdm(calls, unit="view", leave=False, disable=None if progress else True):
        answers = predict([image[y1:y2, x1:x2] for x1, y1, x2, y2 in windows])
        check_sequence(answers, "the result of predict", len(windows))
        for window, answer in zip(windows, answers, strict=True):
            boxes = answer["boxes"] + np.array(window[:2] * 2, answer["boxes"].dtype)  # (D, 4)
            found.append({**answer, "boxes": boxes})
            is_cut.append(_end_inside(boxes, window, (height, width), BORDER * tile))
    if len(tiles) > 1:  # objects that are not larger than the overlap are whole in a tile, where they have more pixels
        is_large = (found[0]["boxes"][:, 2:] - found[0]["boxes"][:, :2] > _in_pixels(tile, overlap)).any(axis=1)
        found[0], is_cut[0] = _choose(found[0], is_large), is_cut[0][is_large]
    cut = np.concatenate(is_cut)
    together = {key: np.concatenate([one[key] for one in found]) for key in ("boxes", "scores", "labels")}
    whole = merge([_choose(together, ~cut)], nms_thresh=nms_thresh, top_k=top_k, class_agnostic=class_agnostic)
    return _add_parts(whole, _choose(together, cut), top_k)


def tile_boxes(size: tuple[int, int], tile: int, overlap: float = 0.2) -> np.ndarray:
    """Return overlapping square tiles that cover an image.

    Parameters
    ----------
    size : (height, width)
        The size of the image, in pixels, in 1 .. 2^20.
    tile : int
        The side of a tile, in pixels, at least 32. If the image has a shorter side, so do the tiles.
    overlap : float
        The minimum overlap of neighbouring tiles; see `detect_in_tiles`.

    Returns
    -------
    (T, 4) int64 array
        The tiles x1, y1, x2, y2, row by row, at equal distances.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> tile_boxes((100, 250), 100, 20)
    array([[  0,   0, 100, 100],
           [ 75,   0, 175, 100],
           [150,   0, 250, 100]])
    """
    tile = integer(LEAST_TILE, MOST_SIDE).check("tile", tile)
    shared = _in_pixels(tile, overlap)
    starts, sides = [], []
    for side in check_pair(size, "size"):
        count = max(-(-(side - shared) // (tile - shared)), 1)
        starts.append([round(start) for start in np.linspace(0, max(side - tile, 0), count)])
        sides.append(min(side, tile))
    return np.array([[x, y, x + sides[1], y + sides[0]] for y in starts[0] for x in starts[1]])  # (T, 4)


def _in_pixels(tile: int, overlap: float) -> int:
    """Return the overlap of neighbouring tiles in pixels."""
    overlap = number(0, MOST_SIDE).check("overlap", overlap)
    shared = round(overlap * tile if overlap < 1 else overlap)
    if shared > tile // 2:
        raise ValueError(f"overlap must be at most half of the tile, {tile // 2} pixels, got {overlap:g}")
    return shared


def _end_inside(boxes: np.ndarray, window: Sequence[int], size: tuple[int, int], margin: float) -> np.ndarray:
    """Return a mask (N,) of the boxes with a side that is near a side of the window inside the image."""
    height, width = size
    inside = np.array(window) != (0, 0, width, height)  # (4,)
    return ((np.abs(boxes - np.array(window)) <= margin) & inside).any(axis=1)


def _add_parts(whole: Detections, parts: Detections, top_k: int) -> Detections:
    """Return the detections of whole objects and those parts, the largest first, that no returned box covers."""
    boxes = whole["boxes"]
    added = []
    for index in descending_order(area(parts["boxes"])):
        part = parts["boxes"][index : index + 1]  # (1, 4)
        if not (share_inside(part, boxes) > COVERED).any():
            boxes = np.concatenate([boxes, part])
            added.append(index)
    both = {key: np.concatenate([values, parts[key][added]]) for key, values in whole.items()}
    return _choose(both, descending_order(both["scores"])[:top_k])


def _choose(found: Detections, index: np.ndarray) -> Detections:
    return {key: values[index] for key, values in found.items()}


# ---------------------------------------------------------------------- mirrored and resized images


def detect_in_views(
    detect: Callable[[Sequence[np.ndarray], float], list[Detections]],
    images: Sequence[np.ndarray],
    flip: bool,
    scales: Sequence[float],
    **rules: Any,
) -> list[Detections]:
    """Return the detections of each image, merged from its views: one for each scale, and also mirrored if `flip`.

    Parameters
    ----------
    detect : callable
        Function that is called with the N images of a view and its scale. It returns the detections in each image,
        without suppression, in pixel coordinates of the given image before it is resized.
    images : sequence of (H, W, 3) arrays
        N images.
    flip : bool
        If True, also use the mirrored images.
    scales : sequence of floats
        The factors by which `detect` resizes the images.
    **rules : arguments
        The arguments of `merge`.

    Returns
    -------
    list of dicts
        For each image, {"boxes": (D, 4), "scores": (D,), "labels": (D,)} of its D detections.
    """
    found = []
    for scale in scales:
        found.append(detect(images, scale))
        if flip:
            in_mirrors = detect([image[:, ::-1] for image in images], scale)
            pairs = zip(in_mirrors, images, strict=True)
            found.append([{**one, "boxes": mirror(one["boxes"], image.shape[1])} for one, image in pairs])
    return [merge(of_image, **rules) for of_image in zip(*found, strict=True)]


def mirror(boxes: ArrayLike, width: int) -> np.ndarray:
    """Return the boxes of an image after the image was mirrored left to right.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.
    width : int
        The width of the image, in pixels.

    Returns
    -------
    (N, 4) array
        The boxes in the mirrored image.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> mirror([[10, 20, 30, 40]], 100)
    array([[70., 20., 90., 40.]])
    """
    x1, y1, x2, y2 = check_boxes(boxes).T  # (N,) each
    width = integer(1, MOST_SIDE).check("width", width)
    return np.stack([width - x2, y1, width - x1, y2], axis=1)  # (N, 4)


def merge(views: Sequence[Detections], **rules: Any) -> Detections:
    """Return the detections of an image from those in its views: apply non-maximum suppression to all of them.

    Parameters
    ----------
    views : sequence of dicts
        For each view, the boxes, scores and labels of its detections, in pixel coordinates of the image.
    **rules : arguments
        The arguments of `rcnn.nms.suppress`.

    Returns
    -------
    dict
        {"boxes": (D, 4), "scores": (D,), "labels": (D,)} of the D detections, in descending order of score.
    """
    boxes, scores, labels = (np.concatenate([view[key] for view in views]) for key in ("boxes", "scores", "labels"))
    kept, scores = suppress(boxes, scores, labels, **rules)
    return {"boxes": boxes[kept], "scores": scores, "labels": labels[kept]}


def check_images(images: Any, dtype: Any) -> list[np.ndarray]:
    """Return a list of images as float arrays (H, W, 3).

    Parameters
    ----------
    images : list of images
        Arrays, PIL images or paths.
    dtype : dtype
        The dtype of the result.

    Returns
    -------
    list of (H, W, 3) arrays
        The images in RGB, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If `images` is not a list of images.
    """
    if not isinstance(images, (list, tuple)):
        raise TypeError(
            f"flip and scales require a list of images, because a batch has a fixed size; got {type(images).__name__}"
        )
    return [as_image(image, f"image {index}", dtype) for index, image in enumerate(images)]


def check_scales(scales: Any) -> list[float]:
    """Return the scales as floats.

    Parameters
    ----------
    scales : sequence of floats
        1 to 64 factors, in [0.001, 1000].

    Returns
    -------
    list of floats
        The scales.

    Raises
    ------
    TypeError, ValueError
        If there are no scales or too many, or if one is not such a number.
    """
    check_sequence(scales, "scales")
    if not 1 <= len(scales) <= MOST_SCALES:
        raise ValueError(f"scales must contain 1 to {MOST_SCALES} numbers, got {len(scales)}")
    return [number(1e-3, 1e3).check(f"scales[{index}]", scale) for index, scale in enumerate(scales)]
