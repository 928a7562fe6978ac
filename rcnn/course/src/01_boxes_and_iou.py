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
#     seconds: 20
# ---

# %% question [markdown]
# # Boxes and IoU
#
# *Goals.* After this notebook, you can
#
# - convert boxes between the three common formats;
# - explain what the coordinates of a box mean, and why no + 1 belongs in a width;
# - derive the intersection over union (IoU), and compute it for all pairs of two sets of boxes with NumPy;
# - estimate how far a box may be off before its IoU falls below a threshold.
#
# *Prerequisites.* NumPy indexing and broadcasting. Notebook 00 shows where boxes are used.
#
# *Time.* About two hours.
#
# **The question.** Two people draw a rectangle around the same digit. None of the edges are in exactly the same
# place, and yet everyone sees that both mean the same digit. When are two boxes *the same*, and how similar are they?
#
# Every stage of the detector needs the answer: it decides which anchors learn which object, which of two proposals is
# dropped, and which detections count as correct. The answer is one number, the *intersection over union* (IoU).
# Before you can compute it, you must know what the four numbers of a box mean. This causes more bugs than the
# formula.
#
# You will write `convert`, which converts boxes between formats, `iou`, and a short function `slip`, which computes
# how precise a box must be.
#
# | array | shape | content |
# |---|---|---|
# | `boxes` | (N, 4) | a row `x1, y1, x2, y2` for each box, in pixels |
# | `boxes1`, `boxes2` | (N, 4), (M, 4) | two sets of boxes to compare |
# | `iou` | (N, M) | the IoU of each box of the first set with each box of the second set |
#
# *History.* The IoU is also called the Jaccard index (1901). PASCAL VOC made it the standard measure for boxes [1].
#
# [1] Everingham, Van Gool, Williams, Winn, Zisserman: *The PASCAL Visual Object Classes (VOC) Challenge*, 2010.
# [2] Lin et al.: *Microsoft COCO*, 2014 (arXiv 1405.0312). [3] Girshick, Donahue, Darrell, Malik: *Rich feature
# hierarchies*, 2014 (arXiv 1311.2524). [4] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497).

# %% setting-up
import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, plot
from rcnn.course import widgets

pages = data.Digits(split="val")
image, target = pages[178]
objects = target["boxes"]
print("image", image.shape, image.dtype, "  boxes", objects.shape, objects.dtype)
print("first box:", objects[0])

figure = plot.figure(5, 4.6)
ax = plot.image(figure.subplots(), image)
plot.boxes(ax, target["boxes"], target["labels"], class_names=pages.classes)
plot.title(ax, "A page and its boxes", "each box is four numbers")
course.show(
    figure,
    f"A grey page with {len(target['boxes'])} handwritten digits, each in a tight box "
    "with its class.",
)

# %% formats [markdown]
# ## 1  One box, three formats
#
# A box is an interval along x and an interval along y. Four numbers describe it, and three formats are common:
#
# | format | numbers | where it is used |
# |---|---|---|
# | `xyxy` | $x_1, y_1, x_2, y_2$: two opposite corners | VOC [1], torchvision, all of rcnn |
# | `xywh` | $x_1, y_1, w, h$: top left corner, width and height | the annotation files of COCO [2] |
# | `cxcywh` | $c_x, c_y, w, h$: centre, width and height | the deltas of the network ([3] appendix C, [4] section 3.1.2) |
#
# The formats contain the same information, because
#
# $$ \begin{aligned}
# w &= x_2 - x_1, & \quad h &= y_2 - y_1, \\
# c_x &= x_1 + \tfrac{w}{2}, & \quad c_y &= y_1 + \tfrac{h}{2}.
# \end{aligned} $$
#
# Coordinates are *continuous*: the left edge of the image is 0, and its right edge is the width of the image. The
# pixel in row $r$ and column $c$ is the square from $c$ to $c + 1$ in x, and from $r$ to $r + 1$ in y. An integer
# coordinate is therefore a line *between* two pixels, and a coordinate may be 4.5.

# %% formats-picture
box = np.array([2, 1, 7, 4])
for name in boxes.FORMATS:
    print(f"{name:<8}", boxes.convert([box], "xyxy", name)[0])

figure = plot.figure(7, 4.3)
ax = plot.box_formats(figure.subplots(), box, size=(6, 9))
caption = "the size is (height, width); the box starts with x"
plot.title(ax, "One box on an image of 6 × 9 pixels", caption)
course.show(
    figure,
    "A box on a grid of pixels. Its top left corner is (2, 1), its bottom right corner "
    "(7, 4), and its centre (4.5, 2.5). Its width is 5, and its height 3.",
)

# %% order [markdown]
# ### A box starts with x, an index starts with the row
#
# A box starts with x. An image is indexed by row first, and the row is y. To cut a box out of an image, write
# `image[y1:y2, x1:x2]`. The size of an image is (height, width). **Predict** what the right plot shows, where the
# indices are in the order of the box.
#
# > **What people get wrong.** `image[x1:x2, y1:y2]` raises no error. On a square page, it returns a region with the
# > transposed shape from another place. A network also trains on such regions without an error. The cheapest test is
# > to draw the boxes on the image, and to look at them.

# %% order-picture
x1, y1, x2, y2 = target["boxes"][0].astype(int)
figure = plot.figure(7, 3.4)
left, right = figure.subplots(1, 2, subplot_kw={"anchor": "N"})  # the tops are aligned
right_way, wrong_way = image[y1:y2, x1:x2], image[x1:x2, y1:y2]
plot.title(plot.image(left, right_way), "image[y1:y2, x1:x2]", f"{right_way.shape}")
plot.title(plot.image(right, wrong_way), "image[x1:x2, y1:y2]", f"{wrong_way.shape}")
course.show(
    figure,
    "Left: the region with y first is a whole 3, higher than wide. Right: the region with "
    "x first is wider than high, and shows mostly empty paper and a part of another digit.",
)

# %% convert-words [markdown]
# ### Exercise: `convert`
#
# Input: boxes (N, 4), the name of their format, and the name of the target format. Output: (N, 4). There are nine
# pairs of formats. Do not write nine cases: convert to one format first, and from this format to the target.
#
# Three traps:
#
# - No boxes, an array with the shape (0, 4), is a valid input, because a page may be blank.
# - The input may contain integers, but a centre may be fractional. Do not store the result in an integer array.
# - The input array must not change.
#
# The same rules hold for all functions that a check of `rcnn.checks` tests. An array may contain integers, float32 or
# float64 numbers, and may have no rows. A result without rows keeps its other sides, such as (0, 4). Indices and labels
# are integers. Floats may differ from the expected ones by rounding errors, at most 1e-5 of the largest number. The
# arguments must not change.


# %% convert-yours
def convert(given, source, target):
    """Return the boxes `given` (N, 4) in the format `target`: (N, 4) float.

    source: the format of `given`. Each format is "xyxy" (two corners), "xywh" (top left
    corner, width, height) or "cxcywh" (centre, width, height). Both formats may be the
    same. N may be 0. `given` must not change.
    """
    ### BEGIN SOLUTION
    given = np.asarray(given, float)
    first, second = given[:, :2], given[:, 2:]  # (N, 2), (N, 2)
    sides = second - first if source == "xyxy" else second
    corner = first - sides / 2 if source == "cxcywh" else first
    if target == "xyxy":
        return np.concatenate([corner, corner + sides], axis=1)
    first = corner + sides / 2 if target == "cxcywh" else corner
    return np.concatenate([first, sides], axis=1)
    ### END SOLUTION


# %% convert-check points=1
checks.convert(convert)
print("convert: right")

# %% plus-one [markdown]
# ## 2  Why there is no + 1
#
# Older code has `w = x2 - x1 + 1`. This is correct if the numbers are the *first and the last pixel* of the object.
# An object in the columns 2, 3 and 4 is three pixels wide, and $4 - 2 = 2$, so 1 must be added. In continuous
# coordinates, the same object extends from 2 to 5, and $5 - 2 = 3$. (VOC's files contain pixels and count them from
# 1, like MATLAB. In such a file, this object extends from 3 to 5.)
#
# Each convention is consistent. A mixture is wrong: continuous boxes in an area with + 1, or pixel indices in an area
# without it. Convert once, when a file is read, and use continuous coordinates everywhere else. For VOC, `rcnn.data`
# subtracts 1 from the first corner and nothing from the second, so 3 to 5 becomes 2 to 5.
#
# The plot shows both conventions for one object. The numbers in the pixels are their indices, [row, column]. The
# table shows the IoU with and without a wrong + 1. (A + 1 in width and height has the same effect as moving $x_2$ and
# $y_2$ by 1, so the cell needs no second formula.) **Predict** the four rows of the table.

# %% plus-one-shown
covered = np.zeros((4, 7), bool)
covered[1:3, 2:5] = True  # two rows, three columns

figure = plot.figure(10, 3.9)
left, right = figure.subplots(1, 2)
plot.pixel_grid(left, covered, (2, 1, 5, 3))
plot.title(left, "Continuous coordinates: 2, 1, 5, 3", "5 - 2 = 3 pixels wide")
plot.pixel_grid(right, covered, (2, 1, 4, 2))
caption = "without + 1, the last row and column are missing"
plot.title(right, "First and last pixel: 2, 1, 4, 2", caption)

pairs = {
    "a point and itself": ([5, 5, 5, 5], [5, 5, 5, 5]),
    "two boxes that touch": ([0, 0, 4, 4], [4, 0, 8, 4]),
    "overlapping, small": ([0, 0, 4, 4], [2, 0, 6, 4]),
    "overlapping, 10 times as large": ([0, 0, 40, 40], [20, 0, 60, 40]),
}
print(f"{'IoU of':<32}{'continuous':>10}{'with + 1':>10}")
table = []
for name, (one, other) in pairs.items():
    longer = [np.add([each], [0, 0, 1, 1]) for each in (one, other)]
    table.append((boxes.iou([one], [other])[0, 0], boxes.iou(*longer)[0, 0]))
    print(f"{name:<32}{table[-1][0]:>10.3f}{table[-1][1]:>10.3f}")
assert table[0] == (0, 1) and table[1][0] == 0 < table[1][1]
assert table[2][0] == table[3][0] and table[3][1] < 0.4 < table[2][1]
course.show(
    figure,
    "An object of two rows and three columns of pixels. Left: the box 2, 1, 5, 3 in "
    "continuous coordinates covers all six pixels. Right: the numbers of the first and "
    "the last pixel, 2, 1, 4, 2, read as a box, cover only two of them.",
)

# %% derivation [markdown]
# With the + 1, a point has the area 1 and overlaps itself completely, and boxes that only touch overlap. The third
# and the fourth row show the same two boxes at two scales, and the + 1 changes them differently, because one pixel is
# a larger part of a small box. This is the worst of the three effects, because a detector sees resized images. With a
# threshold of 0.4, the same detection is correct in the small image and wrong in the large one.
#
# > **What people get wrong.** They use + 1 in some places and not in others: in the IoU but not in the deltas, or in
# > NMS but not in the evaluation. All numbers look plausible. `checks.convert` and `checks.iou` find a + 1.
#
# ## 3  Derivation of the IoU
#
# Start with one axis. The points that the intervals $[a_1, a_2]$ and $[b_1, b_2]$ share extend from $\max(a_1, b_1)$
# to $\min(a_2, b_2)$. If the second number is smaller than the first, the intervals share nothing; the difference is
# then negative, and its absolute value is the gap. The shared length is therefore
#
# $$ o = \max\bigl(0,\, \min(a_2, b_2) - \max(a_1, b_1)\bigr). $$
#
# A point is in both boxes if its x is in both intervals along x *and* its y is in both intervals along y. The
# intersection is therefore a rectangle with the area
#
# $$ |A \cap B| = o_x \, o_y. $$
#
# The sum of the two areas counts the intersection twice, and the union counts it once ([1] section 4.2):
#
# $$ \mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|} = \frac{o_x o_y}{|A| + |B| - o_x o_y}. $$
#
# The IoU is 1 only for equal boxes (with a positive area), and 0 if the boxes share no area. It is symmetric, and it
# has no unit: if both boxes become ten times as large, the IoU does not change.

# %% overlap-picture
pairs = [
    ("Overlapping", (0, 0, 4, 4), (2, 1, 6, 5)),
    ("Touching", (0, 0, 4, 4), (4, 1, 8, 5)),
    ("Apart along both axes", (0, 0, 4, 4), (6, 5, 10, 9)),
]
figure, values = plot.figure(10, 4), []
for ax, (name, one, other) in zip(figure.subplots(1, 3), pairs, strict=True):
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    value = boxes.iou([one], [other])[0, 0]
    values.append(round(value, 3))
    plot.overlap(ax, one, other, limits=(-1, -1, 11, 10))
    plot.title(ax, name, f"min - max: {width} along x, {height} along y; IoU {value:.3f}")
assert values == [0.231, 0, 0]
course.show(
    figure,
    "Three pairs of squares with side 4. The first pair overlaps in 2 × 3 pixels, and its "
    "IoU is 0.231. The second pair shares an edge, and the third pair is apart along both "
    "axes; both have the IoU 0.",
)

# %% iou-words [markdown]
# In the right plot, both differences are negative, so their product is positive. Without the maximum, two boxes that
# are apart along both axes would have an intersection of $(-2) \cdot (-1) = 2$. Take the maximum of each length
# before the product, not after it.
#
# ### Exercise: `iou`
#
# Input: `boxes1` (N, 4) and `boxes2` (M, 4). Output: (N, M), the IoU of each pair. Two nested loops are a correct
# answer. To avoid them, use broadcasting: NumPy stretches an axis of length 1, so (N, 1, 2) and (M, 2) give (N, M,
# 2). `boxes1[:, None, :2]` has the shape (N, 1, 2).
#
# The union of two boxes without area is 0, and 0 / 0 is not a number. In rcnn, the IoU is then 0. (The argument
# `where=` of `np.divide` selects the elements to divide, and `out=` contains the values of all others. NumPy then
# prints no warning. Without `out=`, all others are uninitialised.) N or M may be 0.
#
# > **What people get wrong.** A comparison of (N, 4) with (N, 4) row by row returns (N,). It works until the two sets
# > have different lengths. Also, an `iou` that returns NaN causes errors far from their origin. NaN is neither below
# > nor above a threshold, so such an anchor is neither positive nor negative, and such a box is never suppressed.


# %% iou-yours
def iou(boxes1, boxes2):
    """Return the IoU (N, M) of each of `boxes1` (N, 4) with each of `boxes2` (M, 4).

    The boxes are xyxy; the numbers may be integers, and they may be negative. The IoU is 0
    for boxes that only touch, and for two boxes without area. N or M may be 0. The
    arguments must not change.
    """
    ### BEGIN SOLUTION
    boxes1, boxes2 = np.asarray(boxes1, float), np.asarray(boxes2, float)
    top_left = np.maximum(boxes1[:, None, :2], boxes2[:, :2])  # (N, M, 2)
    bottom_right = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:])  # (N, M, 2)
    intersection = np.maximum(bottom_right - top_left, 0).prod(axis=2)  # (N, M)
    areas1 = (boxes1[:, 2:] - boxes1[:, :2]).prod(axis=1)  # (N,)
    areas2 = (boxes2[:, 2:] - boxes2[:, :2]).prod(axis=1)  # (M,)
    union = areas1[:, None] + areas2 - intersection  # (N, M)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    ### END SOLUTION


# %% iou-check points=2
checks.iou(iou)
print("iou: right")

# %% stage-words [markdown]
# ### Your `iou` in the detector
#
# A detector uses the IoU in many places. The next cell runs the digit detector with your `iou`, and with a typical
# mistake: the intersection is divided by the *sum* of the two areas, and not by the union. **Predict** the largest
# value that this wrong IoU can have. NMS compares it with the thresholds 0.7 (proposals) and 0.5 (detections). Does
# the detector then find too few digits, or return too many boxes? Does the average precision (AP) rise or fall?

# %% stage-compared
result = course.with_and_without("iou", iou)
assert result.ap["mistake"] < result.ap["library"]
counts = {
    key: sum(len(page["boxes"]) for page in each.detections)
    for key, each in result.outcomes.items()
}
print(
    "detections:",
    ", ".join(f"{count} with {result.outcomes[key].name}" for key, count in counts.items()),
)
assert counts["mistake"] > 5 * counts["library"]
result

# %% stage-read [markdown]
# The wrong IoU is at most 0.5, for two equal boxes. It never exceeds a threshold, so NMS removes nothing: each digit
# keeps many boxes, and all but one of them count as wrong. Therefore the AP falls. The boxes themselves are as
# precise as before.

# %% reference [markdown]
# ## 4  The same function in the library
#
# `boxes.iou` validates its input and calls one of two implementations. The reference is short NumPy code. It creates
# temporary arrays of shape (N, M, 2), and each operation reads and writes all of them. The kernel computes the whole
# formula for one pair in registers and stores only the result, so it is faster. In float32, its results are
# bit-identical to torchvision's, except for 0 / 0, where torchvision returns NaN.

# %% reference-source
rng = np.random.default_rng(0)
corners = rng.uniform(0, 900, (20_000, 2)).astype(np.float32)
sides = rng.uniform(8, 300, (20_000, 2)).astype(np.float32)
many = np.concatenate([corners, corners + sides], axis=1)  # (20000, 4)
print("20,000 boxes with 16 objects, on one thread")
with rcnn.set_num_threads(1):
    course.compare(boxes.iou, many, many[:16])
course.source(boxes._iou)

# %% surface-words [markdown]
# ## 5  How quickly does the IoU decrease?
#
# Move a square of side $s$ by $d$ along x. Both lengths along y are $s$, and the shared length along x is $s - d$:
#
# $$ \mathrm{IoU} = \frac{(s - d)\,s}{2 s^2 - (s - d)\,s} = \frac{s - d}{s + d}. $$
#
# So the IoU is $t$ at
#
# $$ d = s\,\frac{1 - t}{1 + t}. $$
#
# If the square moves by a third of its side, the IoU is one half. **Predict** the shape of the line on which the IoU
# is 0.5, when the box can move in any direction. Which of the two costs more: a box that is too large, or one that is
# too small?

# %% surface
side, slide, scale = 20, np.linspace(-24, 24, 97), np.geomspace(0.4, 2.5, 97)
dx, dy = np.meshgrid(slide, slide)  # (97, 97), rows are dy
slid = np.stack([dx, dy, dx + side, dy + side], axis=-1).reshape(-1, 4)
dx, grown = np.meshgrid(slide, scale)  # rows are scales
sides = side * grown.ravel()
x, y = side / 2 + dx.ravel(), np.full(grown.size, side / 2)
centred = np.stack([x, y, sides, sides], axis=1)
scaled = boxes.convert(centred, "cxcywh", "xyxy")

figure = plot.figure(10, 4.4)
left, right = figure.subplots(1, 2)
still = [[0, 0, side, side]]
values = boxes.iou(slid, still).reshape(97, 97)
plot.iou_surface(left, values, slide, slide, "dx, pixels", "dy, pixels")
values = boxes.iou(scaled, still).reshape(97, 97)
plot.iou_surface(right, values, slide, np.log2(scale), "dx, pixels", "log2 of the scale")
plot.title(left, "A moved square", "side 20 pixels; white lines: IoU 0.3, 0.5, 0.7")
caption = "log2 = 1: sides twice as long; -1: half as long"
plot.title(right, "A square moved along x and scaled", caption)
course.show(
    figure,
    "Left: the IoU as a function of the shift along x and y has a sharp peak at 0. The "
    "lines of equal IoU are diamonds with curved sides, whose tips lie on the axes. "
    "Right: as a function of the shift along x and the scale, the IoU is the same for "
    "half and double sides while the shift is small.",
)

# %% surface-read [markdown]
# The surface has a sharp peak: the first pixel costs more than any later one. The lines reach farthest along the
# axes, because on a diagonal the box loses overlap along both axes. In the right plot, the upper half mirrors the
# lower half as long as the box does not move sideways: if one box is inside the other, the IoU is *smaller area /
# larger area*, so twice as long and half as long cost the same. Notebook 06 uses this logarithm.
#
# If the boxes do not overlap, the IoU is 0 everywhere, so it does not measure *how far* apart they are. The sliders in
# the next cell change all three numbers. <!-- notebook only -->(On a page that does not run Python, the cell shows a
# few positions.)<!-- /notebook only -->
#
# > **What people get wrong.** They use only $1 - \mathrm{IoU}$ as the loss of a box. If the boxes do not overlap, its
# > gradient is 0, so the boxes never approach each other. Losses based on the IoU add a term for such pairs (for
# > example, generalised IoU, 2019). Faster R-CNN learns deltas instead ([4] section 3.1.2, and notebook 06).

# %% explorer
widgets.box_iou(side=20)

# %% thresholds [markdown]
# ## 6  Boxes with an IoU of 0.3, 0.5 and 0.7
#
# Three thresholds are common. An anchor is background if its best IoU is below 0.3, and an object if it is at least
# 0.7 ([4] section 3.1.2). A detection is correct if its IoU is at least 0.5 ([1] section 4.2). **Predict:** draw a
# digit and a box with an IoU of 0.5 on paper. Then run the cell and compare.
#
# All boxes in a column have the same IoU. The rows show three kinds of error: the box moved along x, moved along both
# axes by equal fractions of its sides, and enlarged around its centre.

# %% thresholds-picture
x1, y1, x2, y2 = target["boxes"][2]
width, height, room = x2 - x1, y2 - y1, 19
crop = image[int(y1) - room : int(y2) + room, int(x1) - room : int(x2) + room]
truth = np.array([room, room, room + width, room + height])

figure = plot.figure(9, 10.5)
for column, t in zip(figure.subplots(3, 3).T, (0.3, 0.5, 0.7), strict=True):
    along, both, grown = (1 - t) / (1 + t), 1 - np.sqrt(2 * t / (1 + t)), (t**-0.5 - 1) / 2
    ways = {
        "moved along x": (along, 0, along, 0),
        "moved along x and y": (both, both, both, both),
        "enlarged": (-grown, -grown, grown, grown),
    }  # the shift of each edge, as a fraction of the side
    for ax, (name, way) in zip(column, ways.items(), strict=True):
        other = truth + np.multiply(way, [width, height, width, height])
        plot.overlap(plot.image(ax, crop), truth, other, names=("object", "box"))
        plot.title(ax, f"IoU {boxes.iou([truth], [other])[0, 0]:.2f}", name)
course.show(
    figure,
    "Nine pairs of the box of a 0 and another box. At an IoU of 0.3, the moved box misses "
    "about half of the digit. At 0.5, it misses a third, and the enlarged box has twice "
    "the area of the object. At 0.7, the boxes look similar.",
)

# %% small-words [markdown]
# ## 7  Why small objects are difficult
#
# The IoU has no unit, but errors do. The edge of a pen stroke is blurred over a pixel or two, a person who draws a
# box is off by about the same, and neighbouring cells of a feature map are several pixels apart. Move a square of
# side $s$ by $d$ along both axes:
#
# $$ t = \frac{(s - d)^2}{2 s^2 - (s - d)^2}. $$
#
# **Predict:** how small must an object be, so that an error of one pixel along both axes brings the IoU below 0.7?
# (In COCO's evaluation, an object is small if its area is less than $32^2$ pixels.)

# %% small-picture
sides = 2.0 ** np.linspace(2, 8, 49)
series = {}
for d in (1, 2, 4):
    one = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    name = f"{d} pixel{'s' * (d > 1)} along x and y"
    series[name] = [boxes.iou([a], [a + d])[0, 0] for a in one]

figure = plot.figure(8, 3.6)
ax = figure.subplots()
labels = "side of the object, pixels", "IoU"
plot.lines(ax, sides, series, *labels, levels=(0.5, 0.7), log=True)
plot.title(ax, "IoU after the same error", "dotted: IoU 0.5 and 0.7")
smallest = np.interp(
    0.7, series["1 pixel along x and y"], sides
)  # its IoU is 0.7 after an error of a pixel
assert round(smallest) == 11
course.show(
    figure,
    "Three rising curves of the IoU against the side of the object, for errors of 1, 2 "
    "and 4 pixels along x and y. With an error of 1 pixel, the IoU is below 0.7 for "
    f"objects smaller than {smallest:.0f} pixels. Twice the error needs twice the side.",
)

# %% slip-words [markdown]
# ### Exercise: `slip`
#
# In the plot, the answer is a side of 11 pixels: there, the curve for 1 pixel crosses the upper dotted line.
#
# Now solve the equation above for $d$: how far can a square of side $s$ move along both axes until its IoU is $t$?
# The check draws random sides and thresholds, moves a box by your result, and computes the IoU.


# %% slip-yours
def slip(side, threshold):
    """Return how many pixels a square can move along x, and also along y, until its IoU
    with its first position is `threshold`.

    side: side of the square in pixels. threshold: above 0, at most 1; for 1, return 0.
    """
    ### BEGIN SOLUTION
    return side * (1 - np.sqrt(2 * threshold / (1 + threshold)))
    ### END SOLUTION


# %% slip-check points=1
thresholds = [1, *rng.uniform(0.05, 0.95, 19)]
for side, threshold in zip(rng.uniform(4, 200, 20), thresholds, strict=True):
    d = slip(side, threshold)
    call = f"slip({side:.1f}, {threshold:.2f}) returns"
    if d is None or np.ndim(d) or not d >= 0:
        raise checks.CheckFailed(f"{call} {d}; expected a number of pixels, at least 0")
    reached = boxes.iou([[0, 0, side, side]], [[d, d, side + d, side + d]])[0, 0]
    if not np.isclose(reached, threshold):
        raise checks.CheckFailed(
            f"{call} {d:.3f}; after this move, the IoU is {reached:.3f}\n"
            "Hint: the square moves along both axes. The intersection is (s - d) squared, "
            "and the union is twice the area of the square minus the intersection"
        )
print("slip: right")
print(f"{'side':>6}{'IoU 0.5':>12}{'IoU 0.7':>12}   pixels along x and y")
for side in (8, 12, 32, 96, 224):
    print(f"{side:>6}{slip(side, 0.5):>12.1f}{slip(side, 0.7):>12.1f}")

# %% number [markdown]
# This answers the question: the IoU measures how similar two boxes are. The threshold above which they count as *the
# same* is a convention, and the smaller the object, the stricter it is in pixels.
#
# ## A number to check
#
# Two squares have the side 4, and one is moved by 2 along both axes. By hand: the intersection is $2 \cdot 2 = 4$,
# the union is $16 + 16 - 4 = 28$, and the IoU is $4 / 28 = 1 / 7 \approx$ **0.1429**.
#
# The cell computes it in a second way, without a formula for boxes: it marks the pixels of both boxes and counts
# them. For integer coordinates, the count is exact. It must agree for a thousand random pairs; with a + 1, it would
# not.


# %% number-check
def count(box, other, size=(64, 64)):
    """Return the number of pixels in both boxes, divided by the number in at least one."""
    masks = np.zeros((2, *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, (box, other), strict=True):
        mask[y1:y2, x1:x2] = True
    return (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()


print("formula:", boxes.iou([[0, 0, 4, 4]], [[2, 2, 6, 6]])[0, 0])
print("counted:", count((0, 0, 4, 4), (2, 2, 6, 6)))
corners = rng.integers(0, 32, (2, 1000, 2))
sides = rng.integers(1, 32, (2, 1000, 2))
one, other = np.concatenate([corners, corners + sides], axis=2)  # (1000, 4) each
pairs = zip(one, other, strict=True)
differences = [boxes.iou([a], [b])[0, 0] - count(a, b) for a, b in pairs]
print("largest difference over 1000 pairs:", np.abs(differences).max())
assert np.isclose(boxes.iou([[0, 0, 4, 4]], [[2, 2, 6, 6]])[0, 0], 1 / 7)
assert not np.any(differences)

# %% learned [markdown]
# ## What you have learned
#
# - A box is `x1, y1, x2, y2` in continuous coordinates, and its width is `x2 - x1`.
# - The IoU is the intersection divided by the union. It is between 0 and 1, and does not depend on the scale.
# - The same error in pixels costs a small object more IoU than a large one.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Add one bug to your `iou` at a time, and read the message of `checks.iou`: take the maximum after the product,
#    forget to subtract the intersection, return the transpose, add 1.
# 2. Two boxes have the same area and the same centre, and height / width is 1 and 2. What is their IoU? An anchor
#    with the right area, whose ratio is wrong by a factor of two, cannot do better; notebook 04 uses such numbers to
#    choose ratios.
#
# **Core** (half an hour)
#
# 3. Move a box of 10 × 40 pixels over another one. Along which axis does the IoU decrease faster? How does the
#    surface of section 5 change?
# 4. Two boxes both have an IoU of at least 0.5 with the same object. How small can their own IoU be? Find two such
#    boxes on paper. (NMS, in notebook 08, assumes that it is not small.)
#
# **Stretch** (an evening)
#
# 5. Write the generalised IoU: the IoU minus the fraction of the smallest box around both that belongs to neither of
#    them. Draw its surface with `plot.iou_surface`, next to that of section 5. What does it do where the IoU is 0?
#    What is its smallest value? (`plot.iou_surface` accepts values in [0, 1], so draw (1 + value) / 2.)
# 6. The distance $1 - \mathrm{IoU}$ fulfils the triangle inequality. Test it with a million random triples of boxes.
#    Which triples come close to equality? What does this say about exercise 4?

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    An object fills the columns 3 to 7 of an image; the first column is 0. Which x1 and x2
    does its box have in continuous coordinates?
    [ ] 3 and 7
        These are the indices of the first and the last column. The box then ends at the
        left edge of the last column.
    [x] 3 and 8
        Column 3 starts at x = 3, and column 7 ends at x = 8. The width is 8 - 3 = 5
        columns.
    [ ] 4 and 8
        These are the pixels counted from 1, as in VOC's files. In continuous coordinates,
        the first column starts at 0.
    [ ] 3.5 and 7.5
        These are the centres of the first and the last column. A box covers its pixels
        completely.

    What is the IoU of the boxes (0, 0, 2, 2) and (1, 0, 3, 2)?
    [ ] 1/2
        This is the intersection divided by the area of one box. Divide by the area of the
        union.
    [ ] 1/4
        This is the intersection divided by the sum of the areas. The sum counts the
        intersection twice.
    [x] 1/3
        The intersection is 1 · 2 = 2, and the union is 4 + 4 - 2 = 6.

    Box B has half the width and half the height of box A, and lies inside A. You move B,
    but it stays inside A. What happens to their IoU?
    [ ] It is highest when both have the same centre, and decreases as B moves.
        The IoU compares areas, not centres. The intersection is the whole of B in each
        position.
    [ ] It stays at 0.5.
        The sides are half as long, but the area is a quarter.
    [x] It stays at 0.25.
        The intersection is always B and the union is always A, so the IoU is the ratio of
        the areas.

    Your only test of an `iou` compares a set of three boxes, all with a positive area, with
    itself. It only tests whether the diagonal of the result is 1. Which mistake does it
    find?
    [ ] The result is transposed.
        The diagonal of a matrix and that of its transpose are equal.
    [ ] The maximum with 0 is taken after the product.
        For a box and itself, both lengths are positive, so the maximum changes nothing.
    [ ] A + 1 is added to all widths and heights.
        Intersection and union of a box and itself are still equal, so their quotient is 1.
    [x] The intersection is divided by the sum of the areas.
        For a box and itself, the result is then 0.5.

    A detector finds all objects, but each box is off by 2 pixels along x and along y. The
    objects are squares with a side of 8 or 32 pixels. Which detections are correct at an
    IoU of 0.5?
    [ ] All, because an error of 2 pixels is small.
        Whether an error is small depends on the side of the object. Compute the IoU for a
        side of 8 pixels.
    [x] Only those of the large objects.
        For a side of 32, the IoU is 900 / 1148 = 0.78. For a side of 8, it is 36 / 92 =
        0.39.
    [ ] None, because no box is exact.
        The IoU of two boxes that are not equal is below 1, but it can be far above 0.5.
    [ ] Only those of the small objects.
        The same error is a larger part of a small object, so the IoU of the small object is
        lower.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 02 finds wrong boxes in a data set. In the library, see `rcnn/boxes.py`. For further reading, see
# [1] section 4.2.
