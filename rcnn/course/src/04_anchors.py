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
#     seconds: 30
# ---

# %% question [markdown]
# # Anchors
#
# **The question.** A convolution gives the same number of outputs at every cell of its map, whatever is on the image.
# If each of these outputs is to propose a box: which box should it begin with?
#
# Faster R-CNN begins with *anchors*: a fixed list of boxes, laid over the image before anything is looked at. For each
# of them the network answers two questions: does it hold an object, and how must it be moved to fit? This notebook is
# about the list alone. Nothing in it is learned, so everything in it can be worked out: where each anchor lies, in which
# order they come, and which objects they reach.
#
# | array | shape | what it is |
# |---|---|---|
# | `cell` | (k, 4) | the anchors of one cell, around (0, 0) |
# | `laid` | (H × W × k, 4) | the anchors of every cell of a map with H rows and W columns |
# | `objects` | (G, 4) | the true boxes of a page |
# | `iou` | (H × W × k, G) | intersection over union of each anchor with each object |
#
# A box is `x1, y1, x2, y2` in pixels; a size of an image, a map or a stride is (rows, columns).
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Lin, Dollár, Girshick, He, Hariharan,
# Belongie: *Feature Pyramid Networks*, 2017 (arXiv 1612.03144). [3] Redmon, Farhadi: *YOLO9000*, 2017 (arXiv 1612.08242).

# %% setting-up
import numpy as np
from sklearn.datasets import load_sample_image

import rcnn
from rcnn import anchors, boxes, checks, course, data, evaluate, plot
from rcnn.course import widgets

rcnn.set_num_threads(1)  # the arrays are small: a second thread would spend its time waiting
pages = data.Digits(400, seed=4)  # handwritten digits, 128 × 128 pixels
drawn = [pages[i] for i in range(len(pages))]  # each (image, target), drawn once
stride = (8, 8)  # of a backbone with three convolutions of stride 2


def coverage(sizes, ratios, stride=stride, offset=0.0):
    "How well such anchors overlap the objects of all pages: what `evaluate.coverage` says."
    generator = anchors.AnchorGenerator(sizes, ratios, offset)
    return evaluate.coverage(drawn, generator, [stride], min_size=128, max_size=128, progress=False)


print("objects:", sum(len(target["boxes"]) for _, target in drawn), "on", len(drawn), "pages")

# %% from-what [markdown]
# ## 1  Regress from what?
#
# Suppose that each cell had a single output, four numbers, and learned the box of the object at that cell. Now let two
# objects have the same centre: one tall, one wide. The cell sees both, and has one answer. Which?
#
# Trained with squared error, it learns the mean of what it is taught, for $\frac{1}{2}\left[(t - b_1)^2 + (t -
# b_2)^2\right]$ is smallest at $t = (b_1 + b_2) / 2$. **Predict first:** one box is 20 pixels wide and 60 high, the other
# 60 wide and 20 high. What is the mean box, and its IoU with either of them?

# %% mean-box
tall, wide = np.array([54.0, 34, 74, 94]), np.array([34.0, 54, 94, 74])
both, mean = np.stack([tall, wide]), (tall + wide) / 2  # (2, 4), (4,)
pair = anchors.cell_anchors((32,), (3, 1 / 3)) + 64  # (2, 4), an anchor for each

answers = {"One output: the mean": mean[None], "Two anchors: two outputs": pair}
figure = plot.figure(8, 4.2)
for ax, (name, answer) in zip(figure.subplots(1, 2), answers.items(), strict=True):
    plot.boxes(ax, both, color="white", linestyle="--")
    plot.boxes(ax, answer, np.arange(len(answer)) + 1, class_names=["", "", ""])
    best = boxes.iou(answer, both).max(axis=0)  # (2,)
    plot.title(ax, name, f"IoU with the objects (dashed): {best[0]:.2f} and {best[1]:.2f}")
figure

# %% why-anchors [markdown]
# The mean is a square of 40 pixels with an IoU of 0.4, which fits neither. That is not a lack of training: *one* output
# cannot be two boxes. The two anchors on the right have an IoU of 0.84 before anything is learned, and each has an
# output of its own, which is taught one object only. The anchors divide the work: an object belongs to those that look
# like it. What remains to be learned is a small correction, relative to the anchor ([1] section 3.1.2).
#
# Before Faster R-CNN, images were scaled to several sizes, or filters of several sizes slid over them. Anchors do
# neither: one image, one filter size, and reference boxes of several sizes and ratios in their place, a "pyramid of
# anchors" ([1] section 3.1.1).
#
# ## 2  Area and ratio
#
# An anchor's shape is given by its *size* $s$, the square root of its area, and its *ratio* $r$, height over width
# ([1] section 3.1.1 speaks of scale and aspect ratio). Two equations for two unknowns:
#
# $$ w h = s^2, \qquad \frac{h}{w} = r \qquad\Longrightarrow\qquad w = \frac{s}{\sqrt r}, \qquad h = s \sqrt r. $$
#
# Around the origin the corners are $(-w/2, -h/2, w/2, h/2)$. torchvision rounds these to whole pixels, halves to the even
# neighbour, and rcnn does as torchvision does: a checkpoint was trained with exactly those anchors.
#
# The order is part of the definition, too. Later an anchor is known by nothing but its index, so everybody who counts
# must count alike: all sizes of the first ratio, then all of the second, and so on.
#
# > **What people get wrong.** The root: with $w = s / r$ and $h = s$ the ratio is right and the area is not. And which
# > way the ratio goes: in rcnn, as in torchvision, 2 is a tall anchor. Other code divides width by height.


# %% cell-anchors-yours
def cell_anchors(sizes, ratios):
    """The anchors of one cell, centred on (0, 0): (R × S, 4), x1, y1, x2, y2.

    sizes (S,): square roots of the areas, in pixels. ratios (R,): height / width.
    All sizes of the first ratio come first, then all sizes of the second, ...
    Corners are rounded to whole pixels, halves to the even neighbour, as np.round and np.rint do.
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
# ## 3  What rounding does
#
# A square of size 13 has its right edge at 6.5. That is as near to 6 as to 7, and goes to the even one. **Predict
# first:** how wide are the anchors of the sizes 12 to 17? Which two sizes give the same anchor?

# %% rounding-shown
for size in range(12, 18):
    x1, y1, x2, y2 = anchors.cell_anchors((size,), (1,))[0]
    area = (x2 - x1) * (y2 - y1)
    print(f"size {size}: from {x1:g} to {x2:g}, width {x2 - x1:g}, area {area / size**2:.2f} size²")

paper = anchors.cell_anchors((128, 256, 512), (0.5, 1, 2))  # (9, 4), [1] section 3.3
small = anchors.cell_anchors((14, 24, 40), (1, 1.7))  # (6, 4), those of the digit detector
figure = plot.figure(10, 3.8)
left, right = figure.subplots(1, 2)
plot.cell_anchors(left, paper, (16, 16))
plot.title(left, "The paper's anchors", f"{paper.shape}, on a stride of 16")
plot.title(plot.cell_anchors(right, small, stride), "The digit detector's", f"{small.shape}, stride 8")
figure

# %% grid [markdown]
# Both edges are rounded away from or towards the centre alike, so every side is even, and 15 and 17 give the same
# anchor. For the sizes of the paper this is nothing. For an anchor of 13 pixels it is 15 % of the area.
#
# ## 4  The grid
#
# A cell of the map stands for a *stride* of pixels: image height // rows, image width // columns. Its anchors are the
# cell anchors, moved to the cell's place. With row $i$, column $j$, strides $(d_y, d_x)$ and an *offset* $o$:
#
# $$ \text{centre} = \left( (j + o)\, d_x, \; (i + o)\, d_y \right), \qquad
# \text{index} = (i \, W + j)\, k + a, $$
#
# where $a$ is the place within the cell. So the order is row, column, cell anchor; the last changes fastest. The default
# of $o$ is 0: section 7 asks whether that is wise.
#
# > **What people get wrong.** A row is a y and a column is an x. A size is (rows, columns), a box begins with x:
# > somewhere the two must be exchanged, once. On a square map with equal strides nothing betrays that it was forgotten.


# %% grid-anchors-yours
def grid_anchors(cell, feature_size, stride, offset=0.0):
    """The anchors of every cell of a map: (H × W × k, 4), by row, then column, then cell anchor.

    cell (k, 4): anchors around (0, 0). feature_size (H, W). stride (rows, columns) in pixels.
    offset: where in its stride a cell's anchors are centred; 0 at its start, 0.5 in its middle.
    """
    ### BEGIN SOLUTION
    (rows, columns), (down, right) = feature_size, stride
    y, x = (np.arange(rows) + offset) * down, (np.arange(columns) + offset) * right  # (H,), (W,)
    y, x = np.meshgrid(y, x, indexing="ij")  # (H, W)
    shifts = np.stack([x, y, x, y], axis=-1)[:, :, None]  # (H, W, 1, 4)
    return (shifts + np.asarray(cell)).reshape(-1, 4)  # (H × W × k, 4)
    ### END SOLUTION


# %% grid-anchors-check points=2
checks.grid_anchors(grid_anchors)
print("grid_anchors: right")

few = np.asarray(grid_anchors(anchors.cell_anchors((12,), (1, 2)), (2, 3), (18, 20)))  # (12, 4)
figure = plot.figure(8, 3.9)
ax = plot.anchor_order(figure.subplots(), few, color_of=np.tile([0, 1], 6))
plot.title(ax, "Which index lies where", f"a map of 2 × 3 cells, 2 anchors per cell: {few.shape}")
figure

# %% why-order [markdown]
# The plot shows your own grid. Check one anchor by the formula: row 1, column 2, cell anchor 1 is $(1 \cdot 3 + 2)
# \cdot 2 + 1 = 11$, at the lower right.
#
# ## 5  All levels
#
# A feature pyramid has several maps, each with a stride of its own. There the size of an anchor goes with the level:
# small ones on the fine map, large ones on the coarse map ([2] section 4.1 gives each level one size, 32 to 512 pixels,
# and all three ratios). Join your two functions to one that lays all levels. The stride is measured, not given: 13 rows
# on 800 pixels are a stride of 61, though six halvings suggest 64 (notebook 03).


# %% generator-yours
def all_anchors(image_size, feature_sizes, sizes, ratios, offset=0.0):
    """The anchors of each level, a list of (H_l × W_l × k_l, 4).

    image_size: (height, width) of the image with its padding.
    feature_sizes: a (H_l, W_l) for each level.
    sizes: a tuple for each level. ratios: one tuple, for all levels.
    A level's stride is image side // feature side, for rows and columns separately.
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

figure = plot.figure(10, 5.8)
*axes, last = figure.subplots(2, 3).flat
for ax, level, size in zip(axes, pyramid, maps, strict=True):
    plot.anchor_level(ax, photo, level)
    plot.title(ax, f"{size[0]} × {size[1]} cells", f"{len(level):,} anchors")
names = [f"{rows} × {columns}" for rows, columns in maps]
plot.funnel(last, dict(zip(names, map(len, pyramid), strict=True)))
plot.title(last, "Anchors of each level", f"{sum(map(len, pyramid)):,} in all")
figure

# %% reference [markdown]
# Dots are the centres; the boxes are those of one cell. Three quarters of all anchors belong to the finest level, for
# small objects can be in many more places than large ones.
#
# Below is how the library lays a grid: two broadcast sums, without a loop. There is no kernel beside it, for anchors
# depend on the size of the image alone. What costs is to hold them against the objects, $A \times G$ times. That has a
# kernel, which the cell measures first.

# %% reference-source
laid = anchors.AnchorGenerator((14, 24, 40), (1, 1.7))((128, 128), [(16, 16)])[0]  # (1536, 4)
objects = np.concatenate([target["boxes"] for _, target in drawn[:100]])
print("boxes.iou, anchors", laid.shape, "objects", objects.shape)
course.compare(boxes.iou, laid, objects)
course.source(anchors.grid_anchors)

# %% tolerance [markdown]
# ## 6  How far may an anchor be off?
#
# An object is *covered* when some anchor overlaps it well: by an IoU of 0.7, from which an anchor counts as an object
# in training (notebook 05 says how), or at least of 0.5. Three things can be wrong with the best anchor. Let
# everything else fit:
#
# | wrong by | intersection over union | 0.5 allows | 0.7 allows |
# |---|---|---|---|
# | size, a factor $q \ge 1$ | $1 / q^2$ | $q \le 1.41$ | $q \le 1.19$ |
# | ratio, a factor $q \ge 1$ | $\frac{1}{2\sqrt q - 1}$ | $q \le 2.25$ | $q \le 1.47$ |
# | place, a part $u$ of both sides | $\frac{(1 - u)^2}{2 - (1 - u)^2}$ | $u \le 0.18$ | $u \le 0.09$ |
#
# (The second row: of two boxes of area $s^2$ with one centre, one is $\sqrt q$ times as high and as much narrower than
# the other, so they share $s^2 / \sqrt q$.) Sizes a factor of two apart leave an object in the middle, a factor of
# $\sqrt 2$ from both, an IoU of exactly 0.5. That is why doubling sizes and ratios of 0.5, 1, 2 are reasonable, and why
# they are not generous.
#
# Several of these together cost more than each alone. Below, the colour is the best IoU that an anchor of the digit
# detector has with objects of every size and ratio: on the left with their centre on that of an anchor, on the right as
# far from all centres as can be.

# %% shapes-covered
s, r = np.geomspace(8, 64, 61), np.geomspace(0.25, 4, 61)
root = np.sqrt(r)[:, None]
half = np.stack([s / root, s * root], axis=-1) / 2  # (61, 61, 2): half the width, half the height

figure = plot.figure(10, 4.2)
names = {64: "On an anchor's centre", 68: "Between four centres"}
for ax, (centre, name) in zip(figure.subplots(1, 2), names.items(), strict=True):
    objects = np.concatenate([centre - half, centre + half], axis=-1).reshape(-1, 4)  # (3721, 4)
    best = boxes.iou(laid, objects).max(axis=0).reshape(61, 61)
    plot.coverage_map(ax, s, r, best, "size of the object, pixels", "height / width", log=True)
    plot.title(ax, name, f"IoU of 0.5 or more: {np.mean(best >= 0.5):.0%} of the field")
figure

# %% place [markdown]
# Each bright spot is a cell anchor. Between four centres the field of 0.5 has lost its left part: for small objects a
# stride of 8 is too coarse, and no choice of shapes helps. A square of 12 pixels, for one, does best with an anchor
# of 20, which just holds it: the IoU is $144 / 400 = 0.36$.
#
# ## 7  The same object in all places, and the offset
#
# Now keep the shape and move the object. A square of 24 pixels has an anchor of exactly its shape. Its centre goes over
# 16 × 16 pixels, two strides; the colour is the best IoU with any of the anchors. **Predict first:** where is it 1, and
# where is it lowest? What does an offset of 0.5 change here, and what on whole pages?

# %% places-covered
at = np.linspace(56, 72, 65)
centres = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)  # (4225, 2)
objects = np.concatenate([centres - 12, centres + 12], axis=1)  # (4225, 4)

figure = plot.figure(10, 4.2)
for ax, offset in zip(figure.subplots(1, 2), (0.0, 0.5), strict=True):
    moved = anchors.AnchorGenerator((14, 24, 40), (1, 1.7), offset)((128, 128), [(16, 16)])[0]
    best = boxes.iou(moved, objects).max(axis=0).reshape(65, 65)
    plot.coverage_map(ax, at, at, best, "x of the centre, pixels", "y of the centre, pixels")
    plot.title(ax, f"offset {offset:g}", f"lowest {best.min():.3f}, mean {best[:-1, :-1].mean():.3f}")

start, middle = (coverage((14, 24, 40), (1, 1.7), offset=offset) for offset in (0.0, 0.5))
for threshold in (0.5, 0.7):
    change = (middle.best_iou >= threshold).astype(float) - (start.best_iou >= threshold)  # (G,)
    print(
        f"recall at {threshold}: offset 0 {start.recall(threshold):.3f}, "
        f"offset 0.5 {middle.recall(threshold):.3f}, "
        f"difference {change.mean():+.3f} ± {change.std() / np.sqrt(len(change)):.3f}"
    )
figure

# %% offset [markdown]
# Inside an image the offset moves the pattern by half a stride and changes nothing else: lowest value and mean are the
# same. Only the borders know the difference. With 0 the first anchors stand on the edge, and the last ones a stride
# inside the other; with 0.5 both ends are alike. At 0.7 the 400 pages show nothing, at 0.5 a loss of about three times
# its standard error, which seems clear. But 8,000 pages, too many for here, say -0.006 ± 0.002: there may be a loss,
# and it is too small to choose by.
#
# What decides is where the *network* looks (notebook 03). A 3 × 3 convolution of stride 2 and padding 1 has its output $j$ centred on
# input $2j$, so that after three of them output $j$ is centred on pixel $8j$, whose middle lies at $8j + 0.5$. Anchors
# with offset 0 are half a pixel beside what their cell sees; with 0.5 they would be 3.5 pixels beside it. torchvision's
# generator has 0, too, and rcnn's has it by default. A network can learn to make up for a wrong offset, since it is the
# same everywhere. But a checkpoint trained with one and run with the other has all its boxes half a stride off.
#
# ## 8  Recall: what the anchors promise
#
# The share of all objects whose best anchor reaches an IoU of $t$ is the anchors' *recall* at $t$. If boxes were never
# moved, it would be an upper bound for the whole detector: scores, NMS and the second stage can lose a box, but cannot
# make one. The deltas lift that bound, and that is what they are for. Yet an object that no anchor reaches at 0.7 is
# taught by its single best anchor (notebook 05 shows how), instead of by several good ones.
#
# **Predict first:** what is the recall of the paper's anchors on pages of digits?

# %% recall
settings = {
    "The paper's": ((128, 256, 512), (0.5, 1, 2)),
    "An eighth of them": ((16, 32, 64), (0.5, 1, 2)),
    "The digit detector's": ((14, 24, 40), (1, 1.7)),
}
figure = plot.figure(11, 6.2)
for column, (name, (sizes, ratios)) in zip(figure.subplots(2, 3).T, settings.items(), strict=True):
    found = coverage(sizes, ratios)
    cell = anchors.cell_anchors(sizes, ratios)
    plot.coverage(column[0], found.sizes, found.ratios, found.best_iou, cell)
    plot.title(column[0], name, f"sizes {sizes}, ratios {ratios}")
    plot.coverage_histogram(column[1], found.best_iou)
figure

# %% explorer [markdown]
# The cheap mistake is on the left: anchors for photographs of 600 pixels, used on pages of 128. Nothing fails: every
# shape is right, and the losses fall. In the middle a third of the anchors is wider than high, and hardly a digit is.
#
# > **What people get wrong.** Anchors are chosen for the images *as the network gets them*. If you resize images,
# > or use another backbone stride, look at the coverage again. And more anchors are not a remedy for wrong ones:
# > the nine in the middle do worse than the six on the right.
#
# Move the sizes, the ratios and the stride. (Where no kernel runs, three positions are shown: the factors of two; a
# single ratio that fits digits; and that ratio on a stride of 4.)

# %% explorer-shown
widgets.anchor_painter(data.Digits(80, seed=4), index=3)

# %% choose [markdown]
# ## 9  Choose
#
# On a stride of 8, with **at most six anchors per cell**, reach a recall of **0.33 at an IoU of 0.7**. The digit
# detector's six reach 0.23 or so. The check measures on fresh pages, so leave a margin. Sizes and ratios multiply: six
# anchors can be $3 \times 2$, $2 \times 3$, $6 \times 1$ or $1 \times 6$. Look at the cloud of dots above: in which
# direction is it long, and what does the table of section 6 say about that direction? `coverage(sizes,
# ratios).recall(0.7)` measures your choice on the pages of this notebook.


# %% choose-yours
def my_anchors():
    """(sizes, ratios), two tuples such as (16, 32), (1, 2), of which at most six pairs can be made.

    Sizes are in pixels, ratios are height / width.
    """
    ### BEGIN SOLUTION
    # Sizes stretch over a factor of four, most ratios from 1.2 to 2: one ratio in their middle is
    # within a factor of 1.47 of nearly all, so the six anchors are six sizes, close to each other.
    return (12, 14, 17, 21, 27, 36), (1.4,)
    ### END SOLUTION


# %% choose-check points=3
sizes, ratios = my_anchors()
count = len(anchors.cell_anchors(sizes, ratios))
if count > 6:
    raise checks.CheckFailed(f"my_anchors: {count} anchors per cell; at most 6 are allowed")
generator = anchors.AnchorGenerator(sizes, ratios)
fresh = data.Digits(400, seed=int(np.random.default_rng().integers(10_000, 1_000_000)))
found = evaluate.coverage(fresh, generator, [stride], 128, 128, progress=False)
if found.recall(0.7) < 0.33:
    raise checks.CheckFailed(
        f"my_anchors: a recall of {found.recall(0.7):.3f} at 0.7, wanted is 0.33; "
        f"where it is lost:\n{found}"
    )
print("my_anchors: a recall of at least 0.33 on fresh pages")

mine = coverage(sizes, ratios)
figure = plot.figure(10, 3.8)
left, right = figure.subplots(1, 2)
plot.coverage(left, mine.sizes, mine.ratios, mine.best_iou, generator.cells[0])
plot.title(left, "My anchors", f"sizes {sizes}, ratios {ratios}")
plot.coverage_histogram(right, mine.best_iou)
figure

# %% number [markdown]
# So this is the box that each output begins with: one of given size and ratio, at the place of its cell. The list is
# good where every object finds a box in it from which a small correction suffices.
#
# ## A number to check
#
# Why is 0.7 so hard to reach on digits? With a stride of $d$ the worst place is between four centres, $d / 2$ off along
# both axes. There an anchor of exactly the object's shape has $u = d / 2s$ in the table of section 6. Solve for the
# smallest square that has an IoU of $t$ *everywhere* with the nearest anchor of its own shape:
#
# $$ \left(1 - \frac{d}{2s}\right)^2 \ge \frac{2t}{1 + t} \qquad\Longleftrightarrow\qquad
# s \ge \frac{d}{2 \left(1 - \sqrt{2t / (1 + t)}\right)}. $$
#
# For $t = 0.7$ that is **5.4 strides**, for $t = 0.5$ it is **2.7 strides**. Half of the digits are smaller than 2.3
# strides. So with a stride of 8 even an anchor of their very shape need not reach 0.5. The cell compares the formula with
# boxes on a grid, tried out in steps of a tenth of a pixel.

# %% number-check
for threshold in (0.5, 0.7):
    by_formula = 8 / (2 * (1 - np.sqrt(2 * threshold / (1 + threshold))))
    for size in np.arange(12, 60, 0.1):
        square = np.array([[-size, -size, size, size]]) / 2
        grid = anchors.grid_anchors(square, (5, 5), stride)
        if boxes.iou(grid, square + 20).max() >= threshold:  # (20, 20) lies between four centres
            break
    print(f"IoU {threshold}: from {by_formula:.2f} pixels by the formula, {size:.1f} on the grid")
print(f"half of the digits are smaller than {np.median(start.sizes) / 8:.1f} strides")

# %% next [markdown]
# ## To try
#
# 1. `print(evaluate.suggest(drawn, [stride], 128, 128, num_sizes=6, num_ratios=1, progress=False))` lets the library choose.
#    Is it better than you? How much is left to gain with 20 sizes?
# 2. Repeat the choice with a stride of 4, `coverage(sizes, ratios, (4, 4))`. How many anchors per cell replace a finer
#    grid? Compare the total numbers of anchors.
# 3. In the worst place an anchor of the object's own shape is not the best one. How large must the anchor be for a square
#    of 24 pixels there, and what IoU does it reach? (Change `square` for the grid alone in the last cell.)
# 4. [3] chooses priors by k-means on the IoU of the shapes, with the centres laid on each other. Which of the two maps of
#    section 6 is that, and what does it overlook on small objects?
# 5. Anchors reach beyond the image. Count those that do, for the photo, level by level. ([1] section 3.3 leaves them
#    out of training; torchvision and rcnn do not.)
