# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: rcnn
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   rcnn:
#     seconds: 40
# ---

# %% question [markdown]
# # Anchors
#
# *Goals.* After this notebook, you can
#
# - explain why a detector starts from a fixed list of boxes;
# - write an anchor generator for one or several feature maps, with the order and the rounding of torchvision;
# - compute which objects a set of anchors can reach, and how far an anchor may be off;
# - choose sizes and aspect ratios for a data set.
#
# *Prerequisites.* Notebooks 01 (IoU) and 03 (feature maps and strides).
#
# *Time.* About two hours.
#
# **The question.** A convolution computes the same number of outputs at every cell of its map, for any image. Each of
# these outputs must predict a box. From which box does it start?
#
# Faster R-CNN starts from *anchors*: a fixed list of boxes that does not depend on the content of the image. For each
# anchor, the network predicts two things: whether it contains an object, and how it must change to fit this object.
# This notebook is about the list. It is not learned, so you can compute everything: the position of each anchor, the
# order of the list, and the objects that it reaches.
#
# | array | shape | content |
# |---|---|---|
# | `cell` | (k, 4) | the anchors of one cell, centred on (0, 0) |
# | `grid` | (H × W × k, 4) | the anchors of all cells of a map with H rows and W columns |
# | `objects` | (G, 4) | the ground-truth boxes of a page |
# | `iou` | (H × W × k, G) | the IoU of each anchor with each object |
#
# A box is `x1, y1, x2, y2` in pixels. The size of an image or a map, and a stride, is (rows, columns).
#
# *History.* Earlier detectors resized the image to several sizes, or applied filters of several sizes. Faster R-CNN
# (2015) replaced both by anchors [1]. SSD, YOLO9000 [3] and RetinaNet use anchors, too. FCOS (2019) works without
# them.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Lin, Dollár, Girshick, He, Hariharan,
# Belongie: *Feature Pyramid Networks*, 2017 (arXiv 1612.03144). [3] Redmon, Farhadi: *YOLO9000*, 2017 (arXiv
# 1612.08242).

# %% setting-up
import numpy as np
from sklearn.datasets import load_sample_image

import rcnn
from rcnn import anchors, boxes, checks, course, data, evaluate, plot
from rcnn.course import widgets

rcnn.set_num_threads(1)  # a second thread does not help for small arrays
pages = data.Digits(400, seed=4)  # handwritten digits, 128 × 128 pixels
drawn = [pages[i] for i in range(len(pages))]  # each (image, target), drawn once
stride = (8, 8)  # a backbone with three convolutions with stride 2


def coverage(sizes, ratios, stride=stride, offset=0.0):
    "Return how well these anchors cover the objects of all pages."
    generator = anchors.AnchorGenerator(sizes, ratios, offset)
    return evaluate.coverage(drawn, generator, [stride], 128, 128, progress=False)


number = sum(len(target["boxes"]) for _, target in drawn)
print(f"objects: {number:,} on {len(drawn)} pages")

# %% from-what [markdown]
# ## 1  Why one output per cell is not enough
#
# Suppose that each cell has one output of four numbers, and learns the box of the object at this cell. Now two
# objects have the same centre: one is tall, the other is wide. The cell sees both, but can predict only one box.
#
# If it is trained with the squared error, it learns the mean of its targets, because
# $\frac{1}{2}\left[(t - b_1)^2 + (t - b_2)^2\right]$ is smallest at $t = (b_1 + b_2) / 2$. **Predict:** one box is 20
# pixels wide and 60 pixels high, the other is 60 pixels wide and 20 pixels high. What is the mean box, and what is
# its IoU with each of them?

# %% mean-box
tall, wide = np.array([54.0, 34, 74, 94]), np.array([34.0, 54, 94, 74])
both, mean = np.stack([tall, wide]), (tall + wide) / 2  # (2, 4), (4,)
pair = anchors.cell_anchors((32,), (3, 1 / 3)) + 64  # (2, 4), one anchor for each object

answers = {"One output: the mean box": mean[None], "Two anchors: two outputs": pair}
assert np.allclose(boxes.iou(mean[None], both), 0.4)
assert np.allclose(boxes.iou(pair, both).max(axis=0), 0.84)
figure = plot.figure(8, 4.2)
for ax, (name, answer) in zip(figure.subplots(1, 2), answers.items(), strict=True):
    plot.boxes(ax, both, color="white", linestyle="--")
    plot.boxes(ax, answer, np.arange(len(answer)) + 1, class_names=["", "", ""])
    best = boxes.iou(answer, both).max(axis=0)  # (2,)
    plot.title(ax, name, f"IoU with the objects (dashed): {best[0]:.2f} and {best[1]:.2f}")
course.show(
    figure,
    "Left: the mean box is a square that crosses a tall and a wide object; its IoU is "
    "0.40 with both. Right: a tall and a wide anchor have nearly the shapes of the "
    "objects; their IoU with them is 0.84.",
)

# %% why-anchors [markdown]
# The mean is a square of 40 pixels. Its IoU with each object is 0.4, so it fits neither. More training does not help:
# *one* output cannot be two boxes. The two anchors in the right plot have an IoU of 0.84 with their objects before
# anything is learned. Each anchor has its own output, which learns only the objects that are similar to the anchor.
# The network must then learn only a small correction relative to the anchor ([1] section 3.1.2).
#
# Anchors need only one image size and one filter size: they are a "pyramid of anchors" instead of a pyramid of images
# or filters ([1] section 3.1.1).
#
# ## 2  Size and aspect ratio
#
# The shape of an anchor is given by its *size* $s$, the square root of its area, and by its *aspect ratio* $r$,
# height divided by width ([1] section 3.1.1 uses the words scale and aspect ratio). These are two equations with two
# unknowns:
#
# $$ \begin{aligned}
# w h &= s^2, & \frac{h}{w} &= r, \\
# \text{so} \quad w &= \frac{s}{\sqrt r}, & \quad h &= s \sqrt r.
# \end{aligned} $$
#
# Around the origin, the corners are $(-w/2, -h/2, w/2, h/2)$. Like torchvision, rcnn rounds them to integers, and
# halves to the even neighbour, because public checkpoints were trained with exactly these anchors.
#
# The order is part of the definition, because later stages identify an anchor only by its index. All sizes of the
# first ratio come first, then all sizes of the second ratio, and so on.
#
# > **What people get wrong.** They forget the root: with $w = s / r$ and $h = s$, the ratio is right, but the area is
# > wrong. Or they invert the ratio: in rcnn and torchvision, 2 is a tall anchor, but other code divides width by
# > height.


# %% cell-anchors-yours
def cell_anchors(sizes, ratios):
    """Return the anchors of one cell, centred on (0, 0): (R × S, 4), x1, y1, x2, y2.

    sizes (S,): square roots of the areas, in pixels. ratios (R,): height / width. Both may
    be unsorted; keep their order. All sizes of the first ratio come first, then all sizes
    of the second ratio, and so on. Corners are rounded to integers, halves to the even
    neighbour, like np.round and np.rint. The arguments must not change.
    """
    ### BEGIN SOLUTION
    roots = np.sqrt(np.asarray(ratios, float))[:, None]  # (R, 1)
    sizes = np.asarray(sizes, float)  # (S,)
    half_w, half_h = (sizes / roots).ravel() / 2, (sizes * roots).ravel() / 2  # (R × S,)
    return np.round(np.stack([-half_w, -half_h, half_w, half_h], axis=1))  # (R × S, 4)
    ### END SOLUTION


# %% cell-anchors-check points=2
checks.cell_anchors(cell_anchors)
print("cell_anchors: right")

# %% rounding [markdown]
# ## 3  The effect of rounding
#
# The right edge of a square of size 13 is at 6.5. This is halfway between 6 and 7, so it is rounded to the even
# number 6. **Predict** the widths of the anchors with the sizes 12 to 17. Which sizes give the same anchor?

# %% rounding-shown
for size in range(12, 18):
    x1, y1, x2, y2 = anchors.cell_anchors((size,), (1,))[0]
    share = (x2 - x1) * (y2 - y1) / size**2
    print(
        f"size {size}: from {x1:g} to {x2:g}, width {x2 - x1:g}, area / size² {share:.2f}"
    )
rounded = anchors.cell_anchors((13, 15, 16, 17), (1,))
assert np.array_equal(rounded[1], rounded[2]) and np.array_equal(rounded[2], rounded[3])
assert round(1 - boxes.area(rounded[:1])[0] / 13**2, 2) == 0.15

paper = anchors.cell_anchors((128, 256, 512), (0.5, 1, 2))  # (9, 4), [1] section 3.3
small = anchors.cell_anchors((14, 24, 40), (1, 1.7))  # (6, 4), the digit detector
figure = plot.figure(10, 3.8)
left, right = figure.subplots(1, 2)
plot.cell_anchors(left, paper, (16, 16))
plot.title(left, "Anchors of the paper", f"{paper.shape}, stride 16")
plot.cell_anchors(right, small, stride)
plot.title(right, "Anchors of the digit detector", f"{small.shape}, stride 8")
course.show(
    figure,
    "Left: the paper's nine anchors have three sizes and three ratios. They are much "
    "larger than the cell of 16 × 16 pixels. Right: the smallest of the six anchors of "
    "the digit detector is not much larger than its cell of 8 × 8 pixels.",
)

# %% grid [markdown]
# Opposite edges are rounded symmetrically, so every side is even. The sizes 15, 16 and 17 give the same anchor. For
# the sizes of the paper, this has no effect. For an anchor of size 13, it removes 15 % of the area.
#
# ## 4  The grid
#
# The distance between neighbouring cells of a map is the *stride*: the image height divided by the number of rows,
# and the image width divided by the number of columns. The anchors of a cell are the cell anchors, moved to the
# position of the cell. For row $i$, column $j$, strides $(d_y, d_x)$ and an *offset* $o$,
#
# $$ \begin{aligned}
# \text{centre} &= \left( (j + o)\, d_x, \; (i + o)\, d_y \right), \\
# \text{index} &= (i \, W + j)\, k + a,
# \end{aligned} $$
#
# where $a$ is the index within the cell. The order is therefore row, column, cell anchor; the cell anchor changes
# fastest. By default, $o = 0$. Section 7 discusses this choice.
#
# > **What people get wrong.** A row is a y, and a column is an x. A size is (rows, columns), but a box starts with x,
# > so the two must be swapped exactly once. On a square map with equal strides, you cannot see this bug.


# %% grid-anchors-yours
def grid_anchors(cell, feature_size, stride, offset=0.0):
    """Return the anchors of all cells: (H × W × k, 4), by row, column and cell anchor.

    cell (k, 4): anchors around (0, 0), floats or integers. It must not change.
    feature_size (H, W). stride (rows, columns) in pixels.
    offset: position of the centres within a cell, in strides: 0 is the corner, 0.5 is the
    centre. Do not round the positions.
    """
    ### BEGIN SOLUTION
    (rows, columns), (down, right) = feature_size, stride
    y = (np.arange(rows) + offset) * down  # (H,)
    x = (np.arange(columns) + offset) * right  # (W,)
    y, x = np.meshgrid(y, x, indexing="ij")  # (H, W)
    shifts = np.stack([x, y, x, y], axis=-1)[:, :, None]  # (H, W, 1, 4)
    return (shifts + np.asarray(cell)).reshape(-1, 4)  # (H × W × k, 4)
    ### END SOLUTION


# %% grid-anchors-check points=2
checks.grid_anchors(grid_anchors)
print("grid_anchors: right")

pair = anchors.cell_anchors((12,), (1, 2))  # (2, 4)
few = np.asarray(grid_anchors(pair, (2, 3), (18, 20)))  # (12, 4)
figure = plot.figure(8, 3.9)
ax = plot.anchor_order(figure.subplots(), few, color_of=np.tile([0, 1], 6))
caption = f"a map of 2 × 3 cells, 2 anchors per cell: {few.shape}"
plot.title(ax, "Indices of the anchors", caption)
course.show(
    figure,
    "Each of the 2 × 3 cells has a square and a tall anchor. The indices are 0 to 5 in "
    "the first row of cells, from left to right, and 6 to 11 in the second row.",
)

# %% why-order [markdown]
# The plot shows your own grid. Check one anchor with the formula: row 1, column 2, cell anchor 1 has the index
# $(1 \cdot 3 + 2) \cdot 2 + 1 = 11$. It is at the lower right.
#
# ### Your functions in the detector
#
# The digit detector can run with your functions. The next cell compares three detectors on 20 pages: one with the
# library's function, one with yours, and one with a typical mistake. For `cell_anchors`, the mistake is an inverted
# ratio. For `grid_anchors`, it is the order column, row, cell anchor. All shapes are right in both cases, so no error
# appears. The result is the average precision (AP), which is 1 for perfect detections (notebook 12).
#
# **Predict:** which of the two mistakes lowers the AP more, and why?

# %% own-anchors
inverted = course.with_and_without("cell_anchors", cell_anchors, pages=20)
print("cell_anchors: AP on 20 pages")
for outcome in inverted.outcomes.values():
    print(f"  {outcome.name}: {outcome.problem or f'{outcome.ap:.3f}'}")
reordered = course.with_and_without("grid_anchors", grid_anchors, pages=20)
assert inverted.ap["mistake"] > 0.95 > 0.6 > reordered.ap["mistake"]
reordered

# %% several-levels [markdown]
# With the wrong order, most anchors get the logits and deltas of another cell, so many proposals are far from all
# digits. The second stage can correct only small errors. With the inverted ratio, the proposals are near their digits.
# They have a wrong shape, but the second stage corrects it. So a detector can hide a mistake: test each stage by
# itself, as the checks of this course do.
#
# ## 5  Several levels
#
# A feature pyramid has several maps with different strides. Fine maps have small anchors, and coarse maps have large
# ones ([2] section 4.1 gives each level one size, from 32 to 512 pixels, and three ratios). Combine your two
# functions into one that generates the anchors of all levels. Compute the stride from the sizes: 13 rows on 800
# pixels have the stride 61, although six halvings suggest 64 (notebook 03).


# %% generator-yours
def all_anchors(image_size, feature_sizes, sizes, ratios, offset=0.0):
    """Return the anchors of each level, a list of (H_l × W_l × k_l, 4).

    image_size: (height, width) of the padded image.
    feature_sizes: one (H_l, W_l) for each level.
    sizes: one tuple for each level. ratios: one tuple for all levels.
    The stride of a level is image side // feature side, separately for rows and columns.
    offset: as for grid_anchors.
    """
    ### BEGIN SOLUTION
    levels = []
    for size, own in zip(feature_sizes, sizes, strict=True):
        stride = (image_size[0] // size[0], image_size[1] // size[1])
        levels.append(grid_anchors(cell_anchors(own, ratios), size, stride, offset))
    return levels
    ### END SOLUTION


# %% generator-check points=2
checks.anchor_generator(all_anchors)
print("all_anchors: right")

# %% pyramid
photo = np.pad(load_sample_image("china.jpg"), ((0, 21), (0, 0), (0, 0)))  # (448, 640, 3)
maps = [(448 // d, 640 // d) for d in (4, 8, 16, 32, 64)]
one_size_each = anchors.AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), (0.5, 1, 2))
pyramid = one_size_each(photo.shape[:2], maps)  # [(H_l × W_l × 3, 4)]

figure = plot.figure(10, 7)
*axes, last = figure.subplots(2, 3).flat
for ax, level, size in zip(axes, pyramid, maps, strict=True):
    plot.anchor_level(ax, photo, level)
    plot.title(ax, f"{size[0]} × {size[1]} cells", f"{len(level):,} anchors")
for ax in axes:  # the last level needs the most room; draw all levels at its scale
    ax.set(xlim=axes[-1].get_xlim(), ylim=axes[-1].get_ylim())
names = [f"{rows} × {columns}" for rows, columns in maps]
plot.funnel(last, dict(zip(names, map(len, pyramid), strict=True)))
plot.title(last, "Anchors of each level", f"{sum(map(len, pyramid)):,} in total")
assert round(len(pyramid[0]) / sum(map(len, pyramid)), 2) == 0.75
course.show(
    figure,
    "Five levels over the same photo. From level to level, the centres of the anchors "
    "are twice as far apart, and the anchors of a cell are twice as large: on the finest "
    "level, they cover a part of a roof; on the coarsest, they extend beyond the photo. "
    f"Bars: the levels have {len(pyramid[0]):,} to {len(pyramid[-1])} anchors, four times "
    "fewer from level to level.",
)

# %% reference [markdown]
# Dots are the centres, and the boxes are the anchors of one cell. Three quarters of all anchors belong to the finest
# level, because small objects can be at more different positions than large ones.
#
# The next cell shows how the library generates a grid: two broadcast sums, without a loop. It has no kernel, because
# the anchors depend only on the size of the image and can be computed once. The comparison with the objects,
# $A \times G$ IoUs, is more expensive. It has a kernel, and the cell first measures this kernel.


# %% reference-source
def page_anchors(sizes, ratios, offset=0.0):
    "Return the anchors of a page of 128 × 128 pixels with the stride 8: (A, 4)."
    return anchors.AnchorGenerator(sizes, ratios, offset)((128, 128), [(16, 16)])[0]


grid = page_anchors((14, 24, 40), (1, 1.7))  # (1536, 4)
objects = np.concatenate([target["boxes"] for _, target in drawn[:100]])
print("boxes.iou, anchors", grid.shape, "objects", objects.shape)
course.compare(boxes.iou, grid, objects)
course.source(anchors.grid_anchors)

# %% tolerance [markdown]
# ## 6  How far may an anchor be off?
#
# An object is *covered* if its IoU with some anchor is high enough: at least 0.7, from which an anchor is positive in
# training (notebook 05), or at least 0.5. Three things can be wrong with the best anchor. In each row of this table,
# only one of them is wrong:
#
# | error | IoU | for 0.5 | for 0.7 |
# |---|---|---|---|
# | size, by a factor $q \ge 1$ | $1 / q^2$ | $q \le 1.41$ | $q \le 1.19$ |
# | ratio, by a factor $q \ge 1$ | $\frac{1}{2\sqrt q - 1}$ | $q \le 2.25$ | $q \le 1.47$ |
# | position, by a fraction $u$ of both sides | $\frac{(1 - u)^2}{2 - (1 - u)^2}$ | $u \le 0.18$ | $u \le 0.09$ |
#
# (Second row: two boxes have the area $s^2$ and the same centre. One of them is $\sqrt q$ times as high and $\sqrt q$
# times narrower, so their intersection is $s^2 / \sqrt q$.) If sizes double from anchor to anchor, an object between
# two sizes differs by a factor of $\sqrt 2$ from both, and its IoU is exactly 0.5. Doubled sizes with the ratios 0.5,
# 1 and 2 are therefore just sufficient for 0.5.
#
# Several errors together cost more than each of them alone. The plots show the best IoU of the digit detector's
# anchors with objects of every size and ratio. On the left, the centre of the object is the centre of an anchor. On
# the right, it is as far as possible from all centres.

# %% shapes-covered
t = np.array([0.5, 0.7])
assert np.array_equal(np.floor(100 * t**-0.5), [141, 119])  # the table of section 6
assert np.array_equal(np.round(((1 / t + 1) / 2) ** 2, 2), [2.25, 1.47])
assert np.array_equal(np.round(1 - np.sqrt(2 * t / (1 + t)), 2), [0.18, 0.09])

s, r = np.geomspace(8, 64, 61), np.geomspace(0.25, 4, 61)
root = np.sqrt(r)[:, None]
half = np.stack([s / root, s * root], axis=-1) / 2  # (61, 61, 2): half of width and height
labels = "size of the object, pixels", "height / width"

figure, above = plot.figure(10, 4.2), []
names = {64: "Object centred on an anchor", 68: "Object between four centres"}
for ax, (centre, name) in zip(figure.subplots(1, 2), names.items(), strict=True):
    objects = np.concatenate([centre - half, centre + half], axis=-1)  # (61, 61, 4)
    best = boxes.iou(grid, objects.reshape(-1, 4)).max(axis=0).reshape(61, 61)
    plot.coverage_map(ax, s, r, best, *labels, log=True)
    above.append(np.mean(best >= 0.5))
    plot.title(ax, name, f"IoU of at least 0.5: {above[-1]:.0%} of the area")

square = np.array([[62.0, 62, 74, 74]])  # 12 × 12 pixels; (68, 68) is between four centres
every_size = page_anchors(tuple(range(8, 41, 2)), (1,))
iou = boxes.iou(every_size, square)[:, 0]
assert np.isclose(iou.max(), 0.36) and boxes.area(every_size)[iou.argmax()] == 20**2
course.show(
    figure,
    "Best IoU by size and aspect ratio of the object. Left, for an object that is "
    "centred on an anchor: six peaks of 1, one for each cell anchor, and an IoU of at "
    f"least 0.5 in {above[0]:.0%} of the area. Right, for an object between four centres: "
    f"no peaks of 1, and at least 0.5 in {above[1]:.0%} of the area, only for large "
    "objects.",
)

# %% place [markdown]
# Each bright spot is a cell anchor. Between four centres, the region of 0.5 has lost its left part: for small
# objects, a stride of 8 is too coarse, and no choice of shapes helps. For example, the best anchor for a square of 12
# pixels has the size 20 and just contains it: the IoU is $144 / 400 = 0.36$, even if anchors of every size are
# available.
#
# ## 7  The same object at all positions, and the offset
#
# Now keep the shape and move the object. A square of 24 pixels has the shape of an anchor. Its centre moves over 16 ×
# 16 pixels, which is two strides in each direction. The colour is the best IoU with any anchor. **Predict** where it
# is 1, and where it is lowest. What does an offset of 0.5 change in these plots, and what does it change for whole
# pages?

# %% places-covered
at = np.linspace(56, 72, 65)
centres = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)  # (4225, 2)
objects = np.concatenate([centres - 12, centres + 12], axis=1)  # (4225, 4)

figure, extremes = plot.figure(10, 4.2), []
for ax, offset in zip(figure.subplots(1, 2), (0.0, 0.5), strict=True):
    moved = page_anchors((14, 24, 40), (1, 1.7), offset)
    best = boxes.iou(moved, objects).max(axis=0).reshape(65, 65)
    labels = "x of the centre, pixels", "y of the centre, pixels"
    plot.coverage_map(ax, at, at, best, *labels)
    extremes.append((best.min(), best[:-1, :-1].mean()))
    plot.title(ax, f"Offset {offset:g}", "lowest {:.3f}, mean {:.3f}".format(*extremes[-1]))
assert np.allclose(extremes[0], extremes[1])

corner, centre = (coverage((14, 24, 40), (1, 1.7), offset=offset) for offset in (0.0, 0.5))
in_errors = []  # the differences, in standard errors
for threshold in (0.5, 0.7):
    before, after = (each.best_iou >= threshold for each in (corner, centre))  # (G,) each
    change = after.astype(float) - before  # (G,)
    error = change.std() / np.sqrt(len(change))
    in_errors.append(change.mean() / error)
    print(
        f"recall at {threshold}: offset 0 {before.mean():.3f}, offset 0.5 "
        f"{after.mean():.3f}, difference {change.mean():+.3f} ± {error:.3f}"
    )
assert -3.2 < in_errors[0] < -2.5 and abs(in_errors[1]) < 1
course.show(
    figure,
    "Best IoU by the position of a square of 24 pixels. With offset 0, it is 1 at "
    f"multiples of 8 pixels and {extremes[0][0]:.2f} in the middle between them. With "
    "offset 0.5, the same pattern is moved by 4 pixels along both axes.",
)

# %% offset [markdown]
# Inside an image, the offset only moves the pattern by half a stride: the lowest value and the mean are the same.
# Only the borders differ. With offset 0, the first anchors are centred on the edge of the image, and the last anchors
# one stride before the other edge. With offset 0.5, both borders are alike. At 0.7, the difference is smaller than
# its standard error. At 0.5, it is nearly three standard errors. Before you draw a conclusion from one set of pages,
# repeat the measurement with others (exercise 1 at the end).
#
# The position at which the *network* looks is more important (notebook 03). A 3 × 3 convolution with stride 2 and
# padding 1 centres its output $j$ on input $2j$. After three of them, output $j$ is centred on pixel $8j$, whose
# centre is at $8j + 0.5$. Anchors with offset 0 are half a pixel from the centre of what their cell sees; with offset
# 0.5, the distance is 3.5 pixels. torchvision uses 0, and so does rcnn by default. A network can learn to correct a
# wrong offset, because it is the same everywhere. But if a checkpoint was trained with one offset and runs with
# another, all its boxes are wrong by half a stride.
#
# ## 8  Recall: the upper limit of the anchors
#
# The *recall* of the anchors at an IoU of $t$ is the fraction of all objects whose best anchor has an IoU of at least
# $t$. If boxes were never moved, this would be an upper limit for the whole detector: scores, NMS and the second
# stage can lose a box, but cannot add one. The deltas raise this limit. But an object that no anchor reaches at 0.7
# has only its single best anchor as a positive example (notebook 05), instead of several good ones.
#
# **Predict** the recall of the paper's anchors on pages of digits.

# %% recall
settings = {
    "Anchors of the paper": ((128, 256, 512), (0.5, 1, 2)),
    "Sizes divided by 8": ((16, 32, 64), (0.5, 1, 2)),
    "The digit detector": ((14, 24, 40), (1, 1.7)),
}
recalls = []
figure = plot.figure(11, 6.2)
columns = figure.subplots(2, 3).T
for column, (name, (sizes, ratios)) in zip(columns, settings.items(), strict=True):
    found = coverage(sizes, ratios)
    recalls.append(found.recall(0.7))
    cell = anchors.cell_anchors(sizes, ratios)
    plot.coverage(column[0], found.sizes, found.ratios, found.best_iou, cell)
    column[0].set(xlim=(4, 512), ylim=(0.25, 4))  # the same in all three plots
    plot.title(column[0], name, f"sizes {sizes}, ratios {ratios}")
    plot.coverage_histogram(column[1], found.best_iou)
assert recalls[0] == 0 < recalls[1] < recalls[2] and round(recalls[2], 2) == 0.23
assert np.mean(found.ratios < 1) < 0.02
course.show(
    figure,
    "Objects by size and ratio, with the anchors as squares, and histograms of the best "
    "IoU. The paper's anchors are all larger than the objects, and their recall at 0.7 "
    f"is {recalls[0]:.0%}. Divided by 8, they are among the objects, but three of them "
    f"are wide, and the recall is {recalls[1]:.0%}. The six anchors of the digit detector "
    f"reach {recalls[2]:.0%}.",
)

# %% explorer [markdown]
# The left column shows a common mistake: anchors for photos of 600 pixels on pages of 128 pixels. Nothing fails: all
# shapes are right, and the losses decrease, but the recall is 0. In the middle column, a third of the anchors are
# wider than high, but almost no digit is.
#
# > **What people get wrong.** Choose anchors for the images *after resizing*. If you change the image size or the
# > stride, measure the coverage again. Also, more anchors do not replace suitable ones: the nine anchors in the
# > middle have a lower recall than the six on the right.
#
# Change the sizes, the ratios and the stride with the sliders. <!-- notebook only -->(Without a kernel, the notebook
# shows three settings: doubled sizes, one ratio that fits digits, and the same ratio with a stride of
# 4.)<!-- /notebook only -->

# %% explorer-shown
widgets.anchor_painter(data.Digits(80, seed=4), index=3)

# %% choose [markdown]
# ## 9  Choose your anchors
#
# **Exercise.** With a stride of 8 and **at most six anchors per cell**, reach a recall of **0.33 at an IoU of 0.7**.
# The digit detector's six anchors reach about 0.23. The check uses new pages, so leave a margin. The number of
# anchors is the number of sizes times the number of ratios: six anchors can be $3 \times 2$, $2 \times 3$,
# $6 \times 1$ or $1 \times 6$. In the scatter plots above, along which axis do the objects vary most? What does the
# table of section 6 say about this axis? `coverage(sizes, ratios).recall(0.7)` measures your choice on the pages of
# this notebook.


# %% choose-yours
def my_anchors():
    """Return (sizes, ratios), two tuples with at most six pairs.

    Sizes are in pixels, ratios are height / width. For example: (16, 32), (1, 2).
    """
    ### BEGIN SOLUTION
    # The sizes of the digits vary by a factor of four, but most ratios are between 1.2 and
    # 2. One ratio in the middle is within a factor of 1.47 of nearly all, so use six sizes.
    return (12, 14, 17, 21, 27, 36), (1.4,)
    ### END SOLUTION


# %% choose-check points=3
sizes, ratios = my_anchors()
count = len(anchors.cell_anchors(sizes, ratios))
if count > 6:
    raise checks.CheckFailed(f"my_anchors: {count} anchors per cell; at most 6 are allowed")
generator = anchors.AnchorGenerator(sizes, ratios)
new = data.Digits(400, seed=int(np.random.default_rng().integers(10_000, 1_000_000)))
found = evaluate.coverage(new, generator, [stride], 128, 128, progress=False)
if found.recall(0.7) < 0.33:
    raise checks.CheckFailed(
        f"my_anchors: the recall at 0.7 is {found.recall(0.7):.3f}, expected at least 0.33"
        f"; details:\n{found}"
    )
print("my_anchors: recall of at least 0.33 on new pages")

mine = coverage(sizes, ratios)
figure = plot.figure(10, 3.8)
left, right = figure.subplots(1, 2)
plot.coverage(left, mine.sizes, mine.ratios, mine.best_iou, generator.cells[0])
plot.title(left, "My anchors", f"sizes {sizes}, ratios {ratios}")
plot.coverage_histogram(right, mine.best_iou)
course.show(
    figure,
    f"My {count} anchors among the objects, by size and ratio, and a histogram of the "
    f"best IoU. The recall is {mine.recall(0.5):.0%} at an IoU of 0.5, and "
    f"{mine.recall(0.7):.0%} at 0.7.",
)

# %% number [markdown]
# This answers the question: each output starts from a box with a given size and ratio at the position of its cell.
# The list is good if every object has an anchor that needs only a small correction.
#
# ## A number to check
#
# Why do so few digits reach 0.7? With a stride of $d$, the worst position is between four centres, $d / 2$ away along
# both axes. There, an anchor with exactly the object's shape has $u = d / 2s$ in the table of section 6. Solve for
# the smallest square that has an IoU of at least $t$ at *every* position with the nearest anchor of its own shape:
#
# $$ \begin{aligned}
# \left(1 - \frac{d}{2s}\right)^2 &\ge \frac{2t}{1 + t}, \\
# \text{so} \quad s &\ge \frac{d}{2 \left(1 - \sqrt{2t / (1 + t)}\right)}.
# \end{aligned} $$
#
# For $t = 0.7$, this is **5.4 strides**, and for $t = 0.5$, it is **2.7 strides**. Half of the digits are smaller
# than 2.3 strides. With a stride of 8, even an anchor with exactly their shape may not reach 0.5. The cell compares
# the formula with boxes on a grid, in steps of a tenth of a pixel.

# %% number-check
for threshold in (0.5, 0.7):
    by_formula = 8 / (2 * (1 - np.sqrt(2 * threshold / (1 + threshold))))
    for size in np.arange(12, 60, 0.1):
        square = np.array([[-size, -size, size, size]]) / 2
        grid = anchors.grid_anchors(square, (5, 5), stride)
        if (
            boxes.iou(grid, square + 20).max() >= threshold
        ):  # (20, 20): between four centres
            break
    print(
        f"IoU {threshold}: from {by_formula:.2f} pixels by the formula, {size:.1f} on the "
        "grid"
    )
    assert abs(by_formula - size) < 0.1
    assert round(by_formula / 8, 1) == {0.5: 2.7, 0.7: 5.4}[threshold]
print(f"half of the digits are smaller than {np.median(corner.sizes) / 8:.1f} strides")
assert round(np.median(corner.sizes) / 8, 1) == 2.3

square = np.array([[-8, -8, 8, 8]])  # for question 4: squares of 16 pixels at all positions
at = np.linspace(40, 48, 80, endpoint=False)
places = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)  # (6400, 2)
for step, expected in ((8, 0.3), (4, 0.9)):
    grid = anchors.grid_anchors(square, (88 // step, 88 // step), (step, step))
    covered = boxes.iou(grid, square + np.tile(places, 2)).max(axis=0) >= 0.7
    assert round(covered.mean(), 1) == expected

# %% learned [markdown]
# ## What you have learned
#
# - Anchors are a fixed list of boxes. Their order is row, column, ratio, size.
# - An anchor covers an object if size, ratio and position fit. The stride limits the position of small objects.
# - Measure the recall of the anchors on the resized images before you train.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Repeat the measurement of section 7 with other pages, `data.Digits(400, seed=5)` and further seeds. Is the
#    difference between the two offsets at 0.5 always as large?
# 2. `print(evaluate.suggest(drawn, [stride], 128, 128, num_sizes=6, num_ratios=1, progress=False))` lets the library
#    choose. Is its choice better than yours? How much better are 20 sizes?
# 3. What happens if the digit detector runs with an offset of 0.5, although it was trained with 0? Write a function
#    that calls `anchors.grid_anchors` with this offset, and compare:
#    `course.with_and_without("grid_anchors", anchors.grid_anchors, yours, pages=20)`.
#
# **Core** (half an hour)
#
# 4. Repeat the exercise of section 9 with a stride of 4, `coverage(sizes, ratios, (4, 4))`. How many anchors per cell
#    replace a finer grid? Compare the total numbers of anchors.
# 5. At the worst position, an anchor with the object's own shape is not the best one. How large must the anchor be
#    for a square of 24 pixels there, and what IoU does it reach? (In the cell of "A number to check", change `square`
#    only for the grid.)
# 6. Anchors extend beyond the image. Count these anchors for the photo, level by level. ([1] section 3.3 excludes
#    them from training; torchvision and rcnn do not.)
#
# **Stretch** (an evening)
#
# 7. [3] chooses anchors by k-means: the distance of two shapes is 1 - IoU, if both have the same centre. Write it for
#    six shapes (width, height). Start with six different shapes of objects, and keep the old shape if a cluster becomes
#    empty. `anchors.grid_anchors` also takes cell anchors that are not a product of sizes and ratios. Is the recall at
#    0.7 higher than that of your anchors? To which of the two plots of section 6 does this distance correspond, and
#    what does it miss for small objects?

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    A map has 4 rows, 5 columns and 3 anchors per cell. Rows, columns and cell anchors are
    counted from 0. What is the index of cell anchor 1 in row 2, column 3?
    [ ] 43
        This is (3 · 4 + 2) · 3 + 1, so the order is column, row, cell anchor. The columns
        of a row follow each other.
    [ ] 33
        This is 1 · 20 + 2 · 5 + 3, so all cells of one cell anchor follow each other. The
        cell anchor changes fastest.
    [x] 40
        (2 · 5 + 3) · 3 + 1 = 40: before this cell, there are two full rows of 5 cells and 3
        cells of its own row.

    An anchor has the size 20 and the aspect ratio 4. What are its width and height before
    rounding?
    [x] 10 and 40
        The width is 20 / 2 and the height is 20 · 2, because the root of 4 is 2. The area
        is 400, the square of 20.
    [ ] 40 and 10
        The area is right, but the ratio is height / width, so 4 is a tall anchor.
    [ ] 5 and 20
        The ratio is right, but the area is 100. Divide the size by the *root* of the ratio.
    [ ] 20 and 80
        The ratio is right, but the area is 1600. Both sides change, so that the area stays
        the same.

    "The recall of our anchors at 0.7 is 0.4, so our detector finds at most 40 % of the
    objects." What is wrong with this claim?
    [ ] Nothing. No later stage can add a box.
        This is true for the number of boxes, but the deltas move every box, so a box can
        reach an object that its anchor does not reach.
    [x] The deltas move the boxes, and training uses the best anchor even below 0.7.
        The best anchor of an object is a positive example. The digit detector finds nearly
        all digits, although the recall of its anchors at 0.7 is 0.23.
    [ ] The recall is too low to be true. Anchors of several sizes always reach 0.7.
        Even an anchor with exactly the shape of the object can be too far from it. The
        stride limits the recall.

    All objects are squares of 16 pixels at arbitrary positions. The stride is 8, and the
    only anchor of a cell is a square of 16 pixels. Which change increases the recall at 0.7
    most?
    [ ] Add the sizes 14 and 18.
        The shape is already right. The best anchor of most objects is too far away, and
        other sizes do not move it.
    [ ] Add the ratios 0.8 and 1.25.
        The anchors get a wrong shape at the same positions.
    [ ] Set the offset to 0.5.
        The centres of all anchors move, but the distance between them stays 8 pixels.
    [x] Use a stride of 4.
        In this example, the recall increases from about 0.3 to about 0.9, because the
        nearest anchor is now at most 2 pixels away along each axis.

    The anchors of a cell are squares of 20 and 40 pixels. A square of 28.3 pixels (20 times
    the root of 2) has the same centre. What is its best IoU?
    [ ] 0.71, because its side is 0.71 times the larger side
        The ratio of the sides must be squared, because the IoU is a ratio of areas.
    [x] 0.5, for both anchors
        One box lies inside the other, so the IoU is the ratio of the areas: 400 / 800 and
        800 / 1600.
    [ ] 0.5 with the smaller and 0.25 with the larger anchor
        800 / 1600 is 0.5, too. The factor is the same in both directions, and so is the
        IoU.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 05 decides which anchors learn which object. In the library, see `rcnn/anchors.py` and `rcnn/evaluate`
# (`coverage` and `suggest`). For further reading, see [1] section 3.1.1, [3] section 2, and FCOS (arXiv 1904.01355)
# for a detector without anchors.
