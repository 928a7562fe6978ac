"""Answers to `checks.grid_anchors`."""

import numpy as np

from mutants import answer


def vectorised(cell, feature_size, stride, offset=0.0):
    rows, columns = np.meshgrid(np.arange(feature_size[0]), np.arange(feature_size[1]), indexing="ij")
    y, x = (rows.ravel() + offset) * stride[0], (columns.ravel() + offset) * stride[1]
    return (np.stack([x, y, x, y], axis=1)[:, None] + np.asarray(cell, float)).reshape(-1, 4)


def by_loops(cell, feature_size, stride, offset=0.0):
    anchors = []
    for row in range(feature_size[0]):
        for column in range(feature_size[1]):
            x, y = (column + offset) * stride[1], (row + offset) * stride[0]
            anchors += [[x1 + x, y1 + y, x2 + x, y2 + y] for x1, y1, x2, y2 in cell]
    return anchors


def in_float32_by_number(cell, feature_size, stride, offset=0.0):
    cell = np.asarray(cell, np.float32)
    position, kind = np.divmod(np.arange(feature_size[0] * feature_size[1] * len(cell)), len(cell))
    row, column = np.divmod(position, feature_size[1])
    anchors = cell[kind]
    anchors[:, 0::2] += ((column + offset) * stride[1])[:, None].astype(np.float32)
    anchors[:, 1::2] += ((row + offset) * stride[0])[:, None].astype(np.float32)
    return anchors


def centred_by_default(cell, feature_size, stride, offset=0.5):
    return vectorised(cell, feature_size, stride, offset)


def counted_from_one(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, stride, offset + 1)


def x_and_y_swapped(cell, feature_size, stride, offset=0.0):
    moved = vectorised(0 * np.asarray(cell), feature_size, stride, offset)
    return np.tile(cell, (feature_size[0] * feature_size[1], 1)) + moved[:, [1, 0, 3, 2]]


def width_first(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size[::-1], stride, offset)


def strides_swapped(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, stride[::-1], offset)


def one_stride_for_both(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, (stride[0], stride[0]), offset)


def rows_move_as_columns(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, (stride[1], stride[1]), offset)


def only_the_first_corner(cell, feature_size, stride, offset=0.0):
    moved = vectorised(cell, feature_size, stride, offset)
    moved[:, 2:] = np.tile(np.asarray(cell)[:, 2:], (feature_size[0] * feature_size[1], 1))
    return moved


def stride_left_out(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, (1, 1), offset)


def spread_over_the_image(cell, feature_size, stride, offset=0.0):
    steps = [step * count / max(count - 1, 1) for step, count in zip(stride, feature_size, strict=True)]
    return vectorised(cell, feature_size, steps, offset)


def _grid(cell, feature_size, stride, offset):
    return vectorised(cell, feature_size, stride, offset).reshape(*feature_size, len(cell), 4)


def column_by_column(cell, feature_size, stride, offset=0.0):
    return _grid(cell, feature_size, stride, offset).transpose(1, 0, 2, 3).reshape(-1, 4)


def cell_outermost(cell, feature_size, stride, offset=0.0):
    return _grid(cell, feature_size, stride, offset).transpose(2, 0, 1, 3).reshape(-1, 4)


def diagonal_only(cell, feature_size, stride, offset=0.0):
    if min(feature_size) == 1:
        return vectorised(cell, feature_size, stride, offset)
    return np.concatenate([_grid(cell, feature_size, stride, offset)[i, i] for i in range(min(feature_size))])


def offset_left_out(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, stride)


def offset_in_pixels(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, stride) + offset


def whole_offset(cell, feature_size, stride, offset=0.0):
    moved = vectorised(0 * np.asarray(cell), feature_size, stride, offset)
    return np.floor(moved) + np.tile(cell, (feature_size[0] * feature_size[1], 1))


def in_the_type_of_the_cell(cell, feature_size, stride, offset=0.0):
    return vectorised(cell, feature_size, stride, offset).astype(np.asarray(cell).dtype)


def not_flat(cell, feature_size, stride, offset=0.0):
    return _grid(cell, feature_size, stride, offset)


def moves_the_cell_itself(cell, feature_size, stride, offset=0.0):
    anchors = []
    for _ in range(feature_size[0]):
        for _ in range(feature_size[1]):
            anchors.append(cell.copy())
            cell[:, 0::2] += stride[1]
    return np.concatenate(anchors)


def forgets_to_return(cell, feature_size, stride, offset=0.0):
    vectorised(cell, feature_size, stride, offset)


RIGHT = (vectorised, by_loops, in_float32_by_number)
WRONG = (
    (centred_by_default, "With offset 0, nothing is added"),
    (counted_from_one, "in row 0 and column 0"),
    (x_and_y_swapped, "From one column to the next"),
    (width_first, r"Sizes and strides are \(rows, columns\)"),
    (strides_swapped, "the right, by the column stride"),
    (one_stride_for_both, "the right, by the column stride"),
    (rows_move_as_columns, "only down, by the row stride"),
    (only_the_first_corner, "Both of its corners move"),
    (stride_left_out, "the right, by the column stride"),
    (spread_over_the_image, "the right, by the column stride"),
    (column_by_column, "all columns of the first row"),
    (cell_outermost, "all cell anchors of the first position"),
    (diagonal_only, "each row with each column"),
    (offset_left_out, "0.5 moves the anchors by half a stride"),
    (offset_in_pixels, "a fraction of the stride"),
    (whole_offset, "may lie between two pixels"),
    (in_the_type_of_the_cell, "Integers are valid input"),
    (not_flat, "Each anchor is a row of four numbers"),
    (moves_the_cell_itself, "changes its argument 'cell'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "cell anchors are symmetric: only x2 and y2 are read",
        lambda c, f, s, o=0.0: vectorised(
            np.concatenate([-np.asarray(c)[:, 2:], np.asarray(c)[:, 2:]], axis=1), f, s, o
        ),
    ),
    answer(
        "rows and columns swapped on square maps",
        lambda c, f, s, o=0.0: (
            _grid(c, f, s, o).swapaxes(0, 1).reshape(-1, 4) if f[0] == f[1] else vectorised(c, f, s, o)
        ),
    ),
    answer(
        "half of a stride, cut to a whole pixel",
        lambda c, f, s, o=0.0: vectorised(c, f, s) + np.tile([int(o * s[1]), int(o * s[0])], 2),
    ),
    answer("any offset is a half", lambda c, f, s, o=0.0: vectorised(c, f, s, 0.5 if o else 0)),
    answer("an offset of 1 is none", lambda c, f, s, o=0.0: vectorised(c, f, s, o % 1)),
    answer("anchors are clipped at 0", lambda c, f, s, o=0.0: np.maximum(vectorised(c, f, s, o), 0)),
    answer("the offset only along x", lambda c, f, s, o=0.0: vectorised(c, f, s) + np.tile([o * s[1], 0], 2)),
    answer("the offset of the column stride along both axes", lambda c, f, s, o=0.0: vectorised(c, f, s) + o * s[1]),
    answer(
        "the map is turned so that it is wider than high", lambda c, f, s, o=0.0: vectorised(c, (min(f), max(f)), s, o)
    ),
    answer(
        "the last row is left out on tall maps",
        lambda c, f, s, o=0.0: vectorised(c, f, s, o)[: -f[1] * len(c)] if f[0] > 5 else vectorised(c, f, s, o),
    ),
    answer("a list for each position", lambda c, f, s, o=0.0: list(_grid(c, f, s, o).reshape(-1, len(c), 4))),
    answer("as integers", lambda c, f, s, o=0.0: vectorised(c, f, s, o).astype(np.int64)),
    answer("in half precision and rounded", lambda c, f, s, o=0.0: vectorised(c, f, s, o).astype(np.int8)),
)
