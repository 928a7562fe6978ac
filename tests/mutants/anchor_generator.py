"""Answers to `checks.anchor_generator`."""

import numpy as np

from mutants import answer
from rcnn.anchors import AnchorGenerator, cell_anchors, grid_anchors


def level_by_level(image_size, feature_sizes, sizes, ratios, offset=0.0):
    levels = []
    for feature_size, own in zip(feature_sizes, sizes, strict=True):
        stride = image_size[0] // feature_size[0], image_size[1] // feature_size[1]
        levels.append(grid_anchors(cell_anchors(own, ratios), feature_size, stride, offset))
    return levels


def by_the_library(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return AnchorGenerator(sizes, ratios, offset)(image_size, feature_sizes)


def by_loops(image_size, feature_sizes, sizes, ratios, offset=0.0):
    answer = []
    for level, (rows, columns) in enumerate(feature_sizes):
        down, right = np.array(image_size) // (rows, columns)
        boxes = []
        for row in range(rows):
            for column in range(columns):
                x, y = (column + offset) * right, (row + offset) * down
                for ratio in ratios:
                    for size in sizes[level]:
                        w, h = np.round(size / ratio**0.5 / 2), np.round(size * ratio**0.5 / 2)
                        boxes.append([x - w, y - h, x + w, y + h])
        answer.append(boxes)
    return tuple(answer)


def _with(image_size, feature_sizes, sizes, ratios, offset, stride_of):
    return [
        grid_anchors(cell_anchors(own, ratios), size, stride_of(size, level), offset)
        for level, (size, own) in enumerate(zip(feature_sizes, sizes, strict=True))
    ]


def _measured(image_size, size):
    return image_size[0] // size[0], image_size[1] // size[1]


def all_in_one_array(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return np.concatenate(level_by_level(image_size, feature_sizes, sizes, ratios, offset))


def stride_of_the_height_for_both(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return _with(image_size, feature_sizes, sizes, ratios, offset, lambda size, _: (image_size[0] // size[0],) * 2)


def strides_swapped(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return _with(image_size, feature_sizes, sizes, ratios, offset, lambda size, _: _measured(image_size, size)[::-1])


def stride_not_whole(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return [
        np.concatenate(
            [
                cell_anchors(own, ratios)
                + np.tile([(column + offset) * image_size[1] / size[1], (row + offset) * image_size[0] / size[0]], 2)
                for row in range(size[0])
                for column in range(size[1])
            ]
        )
        for size, own in zip(feature_sizes, sizes, strict=True)
    ]


def stride_rounded_up(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return _with(
        image_size,
        feature_sizes,
        sizes,
        ratios,
        offset,
        lambda size, _: (-(-image_size[0] // size[0]), -(-image_size[1] // size[1])),
    )


def stride_of_the_first_level(image_size, feature_sizes, sizes, ratios, offset=0.0):
    first = _measured(image_size, feature_sizes[0])
    return _with(image_size, feature_sizes, sizes, ratios, offset, lambda *_: first)


def sizes_of_the_first_level(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return level_by_level(image_size, feature_sizes, [sizes[0]] * len(sizes), ratios, offset)


def every_size_at_every_level(image_size, feature_sizes, sizes, ratios, offset=0.0):
    flat = [size for own in sizes for size in own]
    return level_by_level(image_size, feature_sizes, [flat] * len(sizes), ratios, offset)


def sizes_from_the_other_end(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return level_by_level(image_size, feature_sizes, sizes[::-1], ratios, offset)


def one_ratio_per_level(image_size, feature_sizes, sizes, ratios, offset=0.0):
    if len(sizes) == 1:
        return level_by_level(image_size, feature_sizes, sizes, ratios, offset)
    return [
        level_by_level(image_size, [size], [own], [ratio], offset)[0]
        for size, own, ratio in zip(feature_sizes, sizes, ratios, strict=False)
    ]


def offset_forgotten(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return level_by_level(image_size, feature_sizes, sizes, ratios)


def always_in_the_middle(image_size, feature_sizes, sizes, ratios, offset=0.5):
    return level_by_level(image_size, feature_sizes, sizes, ratios, 0.5)


def offset_of_the_first_stride(image_size, feature_sizes, sizes, ratios, offset=0.0):
    moved = [offset * (image_size[axis] // feature_sizes[0][axis]) for axis in (1, 0)]
    return [level + np.tile(moved, 2) for level in level_by_level(image_size, feature_sizes, sizes, ratios)]


def clipped_to_the_image(image_size, feature_sizes, sizes, ratios, offset=0.0):
    height, width = image_size
    return [
        level.clip(0, [width, height, width, height])
        for level in level_by_level(image_size, feature_sizes, sizes, ratios, offset)
    ]


def only_the_last_level(image_size, feature_sizes, sizes, ratios, offset=0.0):
    return level_by_level(image_size, feature_sizes, sizes, ratios, offset)[-1:]


def forgets_to_return(image_size, feature_sizes, sizes, ratios, offset=0.0):
    level_by_level(image_size, feature_sizes, sizes, ratios, offset)


RIGHT = (level_by_level, by_the_library, by_loops)
WRONG = (
    (all_in_one_array, "Return a list even for a single level"),
    (stride_of_the_height_for_both, "along each axis separately"),
    (strides_swapped, "along each axis separately"),
    (stride_not_whole, "rounded down"),
    (stride_rounded_up, "rounded down"),
    (stride_of_the_first_level, "its own stride and its own sizes"),
    (sizes_of_the_first_level, "its own stride and its own sizes"),
    (every_size_at_every_level, "its own stride and its own sizes"),
    (sizes_from_the_other_end, "its own stride and its own sizes"),
    (one_ratio_per_level, "Every level uses all ratios"),
    (offset_forgotten, "a fraction of the level's own stride"),
    (always_in_the_middle, "image side // feature side"),
    (offset_of_the_first_stride, "moves the anchors of a deeper level farther"),
    (clipped_to_the_image, "the anchors of every position"),
    (only_the_last_level, "a list of one array|its own stride and its own sizes"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "the longer side of the image is its width",
        lambda i, f, s, r, o=0.0: level_by_level((min(i), max(i)), [(min(x), max(x)) for x in f], s, r, o),
    ),
    answer(
        "one stride for both axes on square images",
        lambda i, f, s, r, o=0.0: _with(
            i, f, s, r, o, lambda x, _: (i[0] // x[0],) * 2 if i[0] <= 75 else _measured(i, x)
        ),
    ),
    answer(
        "the stride is the next power of two",
        lambda i, f, s, r, o=0.0: _with(
            i, f, s, r, o, lambda x, _: tuple(2 ** int(np.log2(max(m, 1)) + 0.5) for m in _measured(i, x))
        ),
    ),
    answer(
        "the stride doubles from level to level",
        lambda i, f, s, r, o=0.0: _with(
            i, f, s, r, o, lambda x, level: tuple(m * 2**level for m in _measured(i, f[0]))
        ),
    ),
    answer(
        "the stride is rounded",
        lambda i, f, s, r, o=0.0: _with(i, f, s, r, o, lambda x, _: (round(i[0] / x[0]), round(i[1] / x[1]))),
    ),
    answer("the deepest level first", lambda i, f, s, r, o=0.0: level_by_level(i, f, s, r, o)[::-1]),
    answer("half an offset everywhere but at 0", lambda i, f, s, r, o=0.0: level_by_level(i, f, s, r, min(o, 0.5))),
    answer(
        "the offset counts only at the first level",
        lambda i, f, s, r, o=0.0: level_by_level(i, f[:1], s[:1], r, o) + level_by_level(i, f[1:], s[1:], r, 0.0),
    ),
    answer("ratios are width / height", lambda i, f, s, r, o=0.0: level_by_level(i, f, s, tuple(1 / x for x in r), o)),
    answer(
        "only the first size of each level", lambda i, f, s, r, o=0.0: level_by_level(i, f, [x[:1] for x in s], r, o)
    ),
    answer("a dict of levels", lambda i, f, s, r, o=0.0: dict(enumerate(level_by_level(i, f, s, r, o)))),
    answer(
        "an array of objects", lambda i, f, s, r, o=0.0: np.array([*level_by_level(i, f, s, r, o), None], object)[:-1]
    ),
    answer("three levels at most", lambda i, f, s, r, o=0.0: level_by_level(i, f[:3], s[:3], r, o)),
)
