"""Answers to `checks.cell_anchors`."""

import math

import numpy as np

from mutants import answer


def vectorised(sizes, ratios):
    width, height = _sides(sizes, ratios)
    return np.rint(np.stack([-width, -height, width, height], axis=-1) / 2).reshape(-1, 4)


def by_loops(sizes, ratios):
    anchors = []
    for ratio in ratios:
        for size in sizes:
            x, y = size / math.sqrt(ratio) / 2, size * math.sqrt(ratio) / 2
            anchors.append([round(float(value)) for value in (-x, -y, x, y)])
    return anchors


def in_float32_by_areas(sizes, ratios):
    sizes, ratios = np.asarray(sizes, np.float32), np.asarray(ratios, np.float32)
    anchors = np.zeros((len(ratios), len(sizes), 4), np.float32)
    for row, ratio in enumerate(ratios):
        width = np.sqrt(sizes * sizes / ratio)
        anchors[row, :, 2], anchors[row, :, 3] = width / 2, width * ratio / 2
    anchors[..., :2] = -anchors[..., 2:]
    return anchors.round().reshape(-1, 4)


def _sides(sizes, ratios):
    """Return (widths, heights) of all anchors, each (R, S)."""
    sizes, root = np.asarray(sizes, float), np.sqrt(np.asarray(ratios, float))[:, None]
    return sizes / root, sizes * root


def _centred(width, height, rounded=np.rint):
    width, height = np.ravel(width), np.ravel(height)
    return rounded(np.stack([-width, -height, width, height], axis=1) / 2)


def ratio_upside_down(sizes, ratios):
    width, height = _sides(sizes, ratios)
    return _centred(height, width)


def without_the_root(sizes, ratios):
    sizes, ratios = np.asarray(sizes, float), np.asarray(ratios, float)[:, None]
    return _centred(sizes / ratios, sizes * ratios)


def only_the_height_changes(sizes, ratios):
    sizes, ratios = np.asarray(sizes, float), np.asarray(ratios, float)[:, None]
    return _centred(sizes + 0 * ratios, sizes * ratios)


def not_halved(sizes, ratios):
    width, height = _sides(sizes, ratios)
    return _centred(2 * width, 2 * height)


def from_the_corner(sizes, ratios):
    anchors = vectorised(sizes, ratios)
    return anchors - anchors[:, [0, 1, 0, 1]]


def one_pixel_less(sizes, ratios):
    width, height = _sides(sizes, ratios)
    return _centred(width - 1, height - 1)


def centre_and_sides(sizes, ratios):
    width, height = (side.ravel() for side in _sides(sizes, ratios))
    return np.rint(np.stack([0 * width, 0 * height, width, height], axis=1))


def sizes_outermost(sizes, ratios):
    return np.concatenate([vectorised([size], ratios) for size in sizes])


def sizes_paired_with_ratios(sizes, ratios):
    return [vectorised([size], [ratio])[0] for size, ratio in zip(sizes, ratios, strict=False)]


def not_rounded(sizes, ratios):
    return _centred(*_sides(sizes, ratios), rounded=np.array)


def cut_off(sizes, ratios):
    return _centred(*_sides(sizes, ratios), rounded=np.trunc).astype(int)


def rounded_outwards(sizes, ratios):
    return _centred(*_sides(sizes, ratios), rounded=lambda values: np.sign(values) * np.ceil(np.abs(values)))


def sides_rounded(sizes, ratios):
    width, height = _sides(sizes, ratios)
    return _centred(np.rint(width), np.rint(height), rounded=np.array)


def halves_up(sizes, ratios):
    return _centred(*_sides(sizes, ratios), rounded=lambda values: np.floor(values + 0.5))


def halves_away_from_zero(sizes, ratios):
    return _centred(*_sides(sizes, ratios), rounded=lambda values: np.trunc(values + np.copysign(0.5, values)))


def integer_division(sizes, ratios):
    if np.asarray(sizes).dtype.kind != "i":
        return vectorised(sizes, ratios)
    width, height = (side.astype(int).ravel() // 2 for side in _sides(sizes, ratios))
    return np.stack([-width, -height, width, height], axis=1)


def not_flat(sizes, ratios):
    return vectorised(sizes, ratios).reshape(len(ratios), len(sizes), 4)


def square_root_in_place(sizes, ratios):
    anchors = vectorised(sizes, ratios)
    ratios[:] = np.sqrt(ratios) + 1
    return anchors


def forgets_to_return(sizes, ratios):
    vectorised(sizes, ratios)


def _longer(sizes, ratios):
    width, height = _sides(sizes, ratios)
    longer = np.maximum(width, height)
    return (np.asarray(sizes) * width / longer, 1), (np.asarray(sizes) * height / longer, 1)


def _shorter(sizes, ratios):
    width, height = _sides(sizes, ratios)
    shorter = np.minimum(width, height)
    return np.asarray(sizes) * width / shorter, np.asarray(sizes) * height / shorter


RIGHT = (vectorised, by_loops, in_float32_by_areas)
WRONG = (
    (ratio_upside_down, "height / width"),
    (without_the_root, "area is still the size squared"),
    (only_the_height_changes, "area is still the size squared"),
    (not_halved, "half of it lies to the left"),
    (from_the_corner, "centred on the origin"),
    (one_pixel_less, "do not add or subtract"),
    (centre_and_sides, "half of it lies to the left"),
    (sizes_outermost, "All sizes of the first ratio"),
    (sizes_paired_with_ratios, "every size with every ratio"),
    (not_rounded, "Round each corner to the nearest"),
    (cut_off, "to the nearest whole number"),
    (rounded_outwards, "to the nearest whole number"),
    (sides_rounded, "Round each corner to the nearest"),
    (halves_up, "rounded to the even one"),
    (halves_away_from_zero, "rounded to the even one"),
    (integer_division, "square roots need not be integers"),
    (not_flat, "Each anchor is a row of four numbers"),
    (square_root_in_place, "changes its argument 'ratios'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("sizes are sorted", lambda s, r: vectorised(np.sort(s), r)),
    answer("ratios are sorted", lambda s, r: vectorised(s, np.sort(r))),
    answer("repeated shapes are left out", lambda s, r: np.unique(vectorised(s, r), axis=0)),
    answer(
        "sizes outermost where there are as many as ratios",
        lambda s, r: vectorised(s, r).reshape(len(r), len(s), 4).swapaxes(0, 1).reshape(-1, 4),
    ),
    answer("the size is the longer side", lambda s, r: _centred(*(x * np.minimum(1, y) for x, y in _longer(s, r)))),
    answer("the size is the shorter side", lambda s, r: _centred(*_shorter(s, r))),
    answer("anchors are 512 pixels large at most", lambda s, r: np.clip(vectorised(s, r), -256, 256)),
    answer("rounded to multiples of four", lambda s, r: 4 * np.round(vectorised(s, r) / 4)),
    answer("x1, x2, y1, y2", lambda s, r: vectorised(s, r)[:, [0, 2, 1, 3]]),
    answer("y1, x1, y2, x2", lambda s, r: vectorised(s, r)[:, [1, 0, 3, 2]], "x and y swapped|height / width"),
    answer(
        "only square anchors where the ratios are whole numbers",
        lambda s, r: vectorised(s, np.where(np.asarray(r) > 1.5, 1, r)),
    ),
    answer("an axis for the ratios", lambda s, r: vectorised(s, r).reshape(len(r), len(s), 4)),
    answer("tuples of width and height", lambda s, r: list(zip(*map(np.ravel, _sides(s, r)), strict=True))),
    answer("in 8-bit integers", lambda s, r: vectorised(s, r).astype(np.int8)),
)
