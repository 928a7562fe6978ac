"""Answers to `checks.top_down`."""

import numpy as np

from mutants import answer


def by_index(finer, coarser):
    (height, width), (h, w) = finer.shape[2:], coarser.shape[2:]
    rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
    return finer + coarser[:, :, rows[:, None], columns]


def by_loops(finer, coarser):
    out = np.array(finer, float)
    (height, width), (h, w) = finer.shape[2:], coarser.shape[2:]
    for n, c, i, j in np.ndindex(*finer.shape):
        out[n, c, i, j] += coarser[n, c, int(i * h / height), int(j * w / width)]
    return out.tolist()


def by_matrices_in_float32(finer, coarser):
    rows, columns = (_picks(out, size) for out, size in zip(finer.shape[2:], coarser.shape[2:], strict=True))
    return finer.astype(np.float32) + np.einsum("ih,nchw,jw->ncij", rows, coarser.astype(np.float32), columns)


def _picks(out, size):
    """Return a matrix (out, size) with a 1 in each row, at the element that is shown there."""
    matrix = np.zeros((out, size), np.float32)
    for i in range(out):
        matrix[i, i * size // out] = 1
    return matrix


def _shown(finer, coarser, row):
    """Return finer plus coarser; row i shows row `row(i, h, H)`, and columns likewise."""
    rows, columns = (
        [min(row(i, size, out), size - 1) for i in range(out)]
        for out, size in zip(finer.shape[2:], coarser.shape[2:], strict=True)
    )
    return finer + coarser[:, :, rows][:, :, :, columns]


def _enlarged(coarser, factor=2):
    return coarser.repeat(factor, axis=2).repeat(factor, axis=3)


def not_added(finer, coarser):
    return by_index(0 * finer, coarser)


def averaged(finer, coarser):
    return by_index(finer, coarser) / 2


def subtracted(finer, coarser):
    return by_index(finer, -coarser)


def larger_of_both(finer, coarser):
    return np.maximum(finer, by_index(0 * finer, coarser))


def not_enlarged(finer, coarser):
    return finer + coarser


def finer_made_smaller(finer, coarser):
    return finer[:, :, ::2, ::2] + coarser


def zeros_between(finer, coarser):
    out = np.array(finer, float)
    out[:, :, ::2, ::2] += coarser
    return out


def tiled(finer, coarser):
    return finer + np.tile(coarser, (2, 2))[:, :, : finer.shape[2], : finer.shape[3]]


def blended(finer, coarser):
    rows, columns = (_blends(out, size) for out, size in zip(finer.shape[2:], coarser.shape[2:], strict=True))
    return finer + np.einsum("ih,nchw,jw->ncij", rows, coarser, columns)


def _blends(out, size):
    """Return a matrix (out, size) of bilinear weights between pixel centres at half positions."""
    place = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(size)), 0)


def sides_swapped(finer, coarser):
    return finer + by_index(0 * finer.swapaxes(2, 3), coarser)


def ratios_swapped(finer, coarser):
    (height, width), (h, w) = finer.shape[2:], coarser.shape[2:]
    if (height, width) == (2 * h, 2 * w):
        return by_index(finer, coarser)
    return finer + coarser[:, :, (np.arange(height) * w // width)[:, None], np.arange(width) * h // height]


def first_channel_for_all(finer, coarser):
    return by_index(finer, coarser[:1, :1])


def enlarged_along_the_first_axes(finer, coarser):
    return finer + coarser.repeat(2, axis=0).repeat(2, axis=1)


def twice(finer, coarser):
    return finer + (_enlarged(coarser) if finer.shape[2:] != coarser.shape[2:] else coarser)


def twice_and_finer_padded(finer, coarser):
    if finer.shape[2:] == coarser.shape[2:]:
        return finer + coarser
    large = _enlarged(coarser)
    large[:, :, : finer.shape[2], : finer.shape[3]] += finer
    return large


def cut_at_the_start(finer, coarser):
    if finer.shape[2:] == coarser.shape[2:]:
        return finer + coarser
    return finer + _enlarged(coarser)[:, :, -finer.shape[2] :, -finer.shape[3] :]


def only_the_rows_cut(finer, coarser):
    if finer.shape[2:] == coarser.shape[2:]:
        return finer + coarser
    return finer + _enlarged(coarser)[:, :, : finer.shape[2]]


def half_a_row_off(finer, coarser):
    return _shown(finer, coarser, lambda i, h, height: int((i + 0.5) * h / height))


def corner_on_corner(finer, coarser):
    return _shown(finer, coarser, lambda i, h, height: round(i * (h - 1) / max(height - 1, 1)))


def rounded_up(finer, coarser):
    return _shown(finer, coarser, lambda i, h, height: -(-i * h // height))


def half_of_the_index(finer, coarser):
    if finer.shape[2:] == coarser.shape[2:]:
        return finer + coarser
    return _shown(finer, coarser, lambda i, h, height: i // 2)


def whole_numbers(finer, coarser):
    out = np.zeros_like(finer)
    out[:] = by_index(finer, coarser)
    return out


def changes_the_finer(finer, coarser):
    finer[:] = by_index(finer, coarser)
    return finer


def forgets_to_return(finer, coarser):
    by_index(finer, coarser)


RIGHT = (by_index, by_loops, by_matrices_in_float32)
WRONG = (
    (not_added, "Add the two levels"),
    (averaged, "Add the two levels"),
    (subtracted, "Add the two levels"),
    (larger_of_both, "Add the two levels"),
    (not_enlarged, "coarser level is added, unchanged"),
    (finer_made_smaller, "to every position"),
    (zeros_between, "to every position"),
    (tiled, "Each element of the coarser"),
    (blended, "coarser level is added, unchanged"),
    (sides_swapped, "square: rows belong to rows"),
    (ratios_swapped, "height of the finer level is odd"),
    (first_channel_for_all, "Each channel of each image"),
    (enlarged_along_the_first_axes, "an array of shape"),
    (twice, "height of the finer level is odd"),
    (twice_and_finer_padded, "the size of the finer level"),
    (cut_at_the_start, "height of the finer level is odd"),
    (only_the_rows_cut, "width of the finer level is odd"),
    (half_a_row_off, "height of the finer level is odd"),
    (corner_on_corner, "width of the finer level is odd"),
    (rounded_up, "round down, not up"),
    (half_of_the_index, "rounded down"),
    (whole_numbers, "floats need not be an integer"),
    (changes_the_finer, "changes its argument 'finer'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("only the first image is enlarged", lambda f, c: by_index(f, np.broadcast_to(c[:1], c.shape))),
    answer(
        "images and channels swapped where they are equally many",
        lambda f, c: by_index(f, c.swapaxes(0, 1)) if len(c) == c.shape[1] else by_index(f, c),
    ),
    answer(
        "rows and columns swapped on square maps",
        lambda f, c: (
            by_index(f, c.swapaxes(2, 3)) if c.shape[2] == c.shape[3] and f.shape[2] == f.shape[3] else by_index(f, c)
        ),
    ),
    answer("the finer level is enlarged where it is the smaller one", lambda f, c: f + np.resize(c, f.shape)),
    answer(
        "the last row is repeated where the height is odd",
        lambda f, c: _shown(f, c, lambda i, s, o: min(i // 2, s - 1)),
    ),
    answer("the mean of both levels", lambda f, c: (by_index(f, c) + 0.0) / 2),
    answer("negative sums become 0", lambda f, c: np.maximum(by_index(f, c), 0)),
    answer("rounded to one digit", lambda f, c: by_index(f, c).round(1)),
    answer("in the type of the finer level", lambda f, c: by_index(f, c).astype(f.dtype)),
    answer(
        "the channels are moved to the end",
        lambda f, c: by_index(f, c).transpose(0, 2, 3, 1),
        "axes in the order|shape",
    ),
    answer("both levels are returned", lambda f, c: (f, by_index(f, c) - f)),
    answer("zeros for no images", lambda f, c: by_index(f, c) if len(f) else np.zeros(0)),
    answer("the index is rounded", lambda f, c: _shown(f, c, lambda i, s, o: round(i * s / o))),
    answer("from the far end", lambda f, c: _shown(f, c, lambda i, s, o: s - 1 - (o - 1 - i) * s // o)),
)
