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
# **The question.** Two people draw a rectangle around the same digit. No edge of one lies exactly on an edge of the
# other, and yet everyone sees that they mean the same thing. When are two boxes *the same*, and how nearly?
#
# The whole detector hangs on the answer. It decides which anchors learn from which object, which of two proposals is
# thrown away, and which detections count as right. It is one number, the *intersection over union* (IoU). Before it can
# be computed, it has to be settled what the four numbers of a box mean, and there more goes wrong than in the formula.
#
# You will write `convert`, from one way to state a box to another, and `iou`; and a small third one, `slip`, which says
# how exact a box has to be.
#
# | array | shape | what it is |
# |---|---|---|
# | `boxes` | (N, 4) | a row `x1, y1, x2, y2` for each box, in pixels |
# | `boxes1`, `boxes2` | (N, 4), (M, 4) | two sets of boxes to compare |
# | `iou` | (N, M) | each of the first with each of the second |
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
print("image", image.shape, image.dtype, "  boxes", target["boxes"].shape, target["boxes"].dtype)
print("the first box:", target["boxes"][0])

figure = plot.figure(5, 4.6)
ax = plot.image(figure.subplots(), image)
plot.boxes(ax, target["boxes"], target["labels"], class_names=pages.classes)
plot.title(ax, "A page and its boxes", "each box is four numbers; which four?")
figure

# %% formats [markdown]
# ## 1  Four numbers, three ways to say them
#
# A box is an interval along x and an interval along y. Four numbers state it, and three choices of four are in use:
#
# | format | numbers | who uses it |
# |---|---|---|
# | `xyxy` | $x_1, y_1, x_2, y_2$: two opposite corners | VOC [1], torchvision, all of rcnn |
# | `xywh` | $x_1, y_1, w, h$: top left corner and sides | the annotation files of COCO [2] |
# | `cxcywh` | $c_x, c_y, w, h$: centre and sides | the network's own terms ([3] appendix C, [4] section 3.1.2) |
#
# They say the same, because
#
# $$ w = x_2 - x_1, \qquad h = y_2 - y_1, \qquad c_x = x_1 + \tfrac{w}{2}, \qquad c_y = y_1 + \tfrac{h}{2}. $$
#
# Coordinates are *continuous*: 0 is the left edge of the image, and its right edge is the image's width. The pixel
# in row $r$ and column $c$ is the square from $c$ to $c + 1$ in x and from $r$ to $r + 1$ in y. So a coordinate is a
# place *between* pixels, and may be 4.5.

# %% formats-picture
box = np.array([2, 1, 7, 4])
for name in boxes.FORMATS:
    print(f"{name:<8}", boxes.convert([box], "xyxy", name)[0])

figure = plot.figure(7, 4.3)
plot.title(
    plot.box_formats(figure.subplots(), box, size=(6, 9)),
    "One box on an image of 6 × 9 pixels",
    "the size is (height, width), the box begins with x",
)
figure

# %% order [markdown]
# ### x first, but row first
#
# A box begins with x, an image is indexed by row, and a row is y. Cutting a box out of an image therefore reads
# `image[y1:y2, x1:x2]`. Sizes go with images: (height, width). Before you run the next cell: what does the right
# plot show, where the order is that of the box?
#
# > **What people get wrong.** `image[x1:x2, y1:y2]` raises no error: on a square page it gives a piece of the
# > transposed size, from another place. Nor does anything complain while a network is trained on such pieces. The
# > cheapest test that there is: draw the boxes on the image, and look.

# %% order-picture
x1, y1, x2, y2 = target["boxes"][0].astype(int)
figure = plot.figure(7, 3.4)
left, right = figure.subplots(1, 2)
right_way, wrong_way = image[y1:y2, x1:x2], image[x1:x2, y1:y2]
plot.title(plot.image(left, right_way), "image[y1:y2, x1:x2]", f"{right_way.shape}")
plot.title(plot.image(right, wrong_way), "image[x1:x2, y1:y2]", f"{wrong_way.shape}")
figure

# %% convert-words [markdown]
# ### Exercise: `convert`
#
# In: boxes (N, 4), the name of their format, and the name of the wanted one. Out: (N, 4). There are nine pairs of
# formats. Do not write nine cases: go through one format in the middle, and there are three ways in and three ways out.
#
# Three traps. No boxes, an array of shape (0, 4), is an ordinary input, for a page may be blank. Whole numbers may come
# in, but a centre need not be whole, so the answer is not to be stored in an array of integers. And the caller's array
# must stay as it was.


# %% convert-yours
def convert(given, source, target):
    """The boxes `given` (N, 4), which are in the format `source`, in the format `target`: (N, 4) float.

    Either format may be "xyxy" (two corners), "xywh" (top left corner and sides) or "cxcywh" (centre
    and sides), and both may be the same. N may be 0. `given` is not changed.
    """
    ### BEGIN SOLUTION
    given = np.asarray(given, float)
    first, second = given[:, :2], given[:, 2:]  # (N, 2), (N, 2)
    sides = second - first if source == "xyxy" else second
    corner = first - sides / 2 if source == "cxcywh" else first
    if target == "xyxy":
        return np.concatenate([corner, corner + sides], axis=1)
    return np.concatenate([corner + sides / 2 if target == "cxcywh" else corner, sides], axis=1)
    ### END SOLUTION


# %% convert-check points=1
checks.convert(convert)
print("convert: right")

# %% plus-one [markdown]
# ## 2  Why there is no + 1
#
# Old code has `w = x2 - x1 + 1`. This was right for what its boxes meant: the *first and the last pixel* that belong to
# the object. An object that covers the columns 2, 3 and 4 is three pixels wide, and $4 - 2 = 2$; so one has to be added.
# In continuous coordinates the same object goes from the edge at 2 to the edge at 5, and $5 - 2 = 3$. (The files of VOC
# name pixels in this way and, as MATLAB does, count them from 1: there the object reaches from 3 to 5.)
#
# Each convention agrees with itself. What cannot be right is a mixture: boxes from a network, which are continuous, put
# into an area with + 1; or indices of pixels put into one without. The step from one to the other is made once, where a
# file is read, and never thought of again: `rcnn.data` takes 1 from VOC's first corner and nothing from the second, so
# that 3 to 5 becomes 2 to 5.
#
# The plot shows both ways to state one object; the numbers in the pixels are their indices, [row, column]. The table
# measures what the + 1 does where it does not belong. To add 1 to both sides of every box is to move every $x_2$ and
# $y_2$ by 1, so it takes no second program. Predict the four rows of the table before you run the cell.

# %% plus-one-shown
covered = np.zeros((4, 7), bool)
covered[1:3, 2:5] = True  # two rows, three columns

figure = plot.figure(10, 3.9)
left, right = figure.subplots(1, 2)
plot.pixel_grid(left, covered, (2, 1, 5, 3))
plot.title(left, "From edge to edge: 2, 1, 5, 3", "5 - 2 = 3 pixels wide")
plot.pixel_grid(right, covered, (2, 1, 4, 2))
plot.title(right, "From first to last index: 2, 1, 4, 2", "without + 1, the last row and column are lost")

pairs = {
    "a point and itself": ([5, 5, 5, 5], [5, 5, 5, 5]),
    "two boxes that touch": ([0, 0, 4, 4], [4, 0, 8, 4]),
    "overlapping, small": ([0, 0, 4, 4], [2, 0, 6, 4]),
    "the same, 10 times as large": ([0, 0, 40, 40], [20, 0, 60, 40]),
}
print(f"{'IoU of':<30}{'continuous':>10}{'with + 1':>10}")
for name, (one, other) in pairs.items():
    longer = [np.add([each], [0, 0, 1, 1]) for each in (one, other)]
    print(f"{name:<30}{boxes.iou([one], [other])[0, 0]:>10.3f}{boxes.iou(*longer)[0, 0]:>10.3f}")
figure

# %% derivation [markdown]
# A point has gained an area of 1, and overlaps itself entirely. Boxes that only touch overlap. And the third and the
# fourth row are the same image at two scales, which the + 1 tells apart: it adds a pixel, and a pixel is a larger
# part of a small box. A detector is shown resized images, so that is the worst of the three: with a threshold of 0.4,
# the same detection would count as right on a small copy of an image and as wrong on a large one.
#
# > **What people get wrong.** + 1 in some places and not in others: in the IoU but not in the deltas, in NMS but not
# > in the evaluation. All numbers look plausible. The check above catches the one in `convert`, and the next one
# > catches the one in `iou`.
#
# ## 3  IoU, derived
#
# Take one axis first. The intervals $[a_1, a_2]$ and $[b_1, b_2]$ share the points that lie right of both left ends and
# left of both right ends, from $\max(a_1, b_1)$ to $\min(a_2, b_2)$. Where the second is smaller than the first, they
# share nothing, and the difference is negative: it is the gap between them. So the shared length is
#
# $$ o(a, b) = \max\bigl(0,\; \min(a_2, b_2) - \max(a_1, b_1)\bigr). $$
#
# A point lies in both boxes where its x lies in both intervals along x *and* its y in both along y. So the intersection
# is a rectangle, of the area
#
# $$ |A \cap B| = o_x \, o_y. $$
#
# The sum of both areas counts the intersection twice, the union counts it once:
#
# $$ \mathrm{IoU}(A, B) = \frac{|A \cap B|}{|A \cup B|} = \frac{o_x o_y}{|A| + |B| - o_x o_y}
#    \qquad \text{([1] section 4.2)}. $$
#
# It is 1 for equal boxes only (with some area), 0 where no area is shared, the same for $(A, B)$ as for $(B, A)$, and
# it has no unit: both boxes ten times as large have the same IoU.

# %% overlap-picture
pairs = [
    ("They overlap", (0, 0, 4, 4), (2, 1, 6, 5)),
    ("They touch", (0, 0, 4, 4), (4, 1, 8, 5)),
    ("They are apart both ways", (0, 0, 4, 4), (6, 5, 10, 9)),
]
figure = plot.figure(10, 4)
for ax, (name, one, other) in zip(figure.subplots(1, 3), pairs, strict=True):
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    value = boxes.iou([one], [other])[0, 0]
    plot.overlap(ax, one, other, limits=(-1, -1, 11, 10))
    plot.title(ax, name, f"min - max: {width} along x, {height} along y; IoU {value:.3f}")
figure

# %% iou-words [markdown]
# Look at the boxes on the right. Both differences are negative, so their product is positive: without the maximum, two
# boxes that are apart both ways would overlap by $(-2) \cdot (-1) = 2$. The maximum must be taken of each side, before
# the product, not after it.
#
# ### Exercise: `iou`
#
# In: `boxes1` (N, 4) and `boxes2` (M, 4). Out: (N, M), each with each. Two nested loops are a right answer. To do
# without them, let NumPy pair the arrays: an axis of length 1 is stretched to the length that it meets, so (N, 1, 2)
# and (M, 2) give (N, M, 2). `boxes1[:, None, :2]` has the shape (N, 1, 2).
#
# Two boxes without area have a union of 0, and 0 / 0 is not a number. Here it is defined to be 0. (`np.divide` can be
# told by `where=` where to divide, and by `out=` what stands elsewhere; then NumPy has nothing to warn of.) N or M may
# be 0.
#
# > **What people get wrong.** (N, 4) with (N, 4) compared row by row gives (N,) and works, until the two sets have
# > different lengths. And an `iou` that returns NaN does not fail where it is computed. NaN is neither below a
# > threshold nor above it: such an anchor is neither positive nor negative, such a box is never suppressed.


# %% iou-yours
def iou(boxes1, boxes2):
    """IoU of each of `boxes1` (N, 4) with each of `boxes2` (M, 4), both xyxy: (N, M), between 0 and 1.

    Boxes that only touch have 0, and so have two boxes without area. The arguments are not changed.
    """
    ### BEGIN SOLUTION
    boxes1, boxes2 = np.asarray(boxes1, float), np.asarray(boxes2, float)
    top_left = np.maximum(boxes1[:, None, :2], boxes2[:, :2])  # (N, M, 2)
    bottom_right = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:])  # (N, M, 2)
    intersection = np.maximum(bottom_right - top_left, 0).prod(axis=2)  # (N, M)
    areas1, areas2 = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes1, boxes2))  # (N,), (M,)
    union = areas1[:, None] + areas2 - intersection  # (N, M)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    ### END SOLUTION


# %% iou-check points=2
checks.iou(iou)
print("iou: right")

# %% reference [markdown]
# ## 4  The same in the library
#
# `boxes.iou` checks its input and hands it to one of two implementations. The reference is written to be read. It makes
# arrays of (N, M, 2) on the way, and each of its operations walks through all of them. The kernel does the whole
# formula for one pair while its numbers are in registers, and keeps nothing but the answer; so it is faster, though it
# computes the same, in float32 bit for bit the same as torchvision. Only for 0 / 0 do they differ: torchvision gives
# NaN.

# %% reference-source
rng = np.random.default_rng(0)
corners = rng.uniform(0, 900, (20_000, 2)).astype(np.float32)
sides = rng.uniform(8, 300, (20_000, 2)).astype(np.float32)
many = np.concatenate([corners, corners + sides], axis=1)  # (20000, 4)
print("20,000 boxes with 16 objects, both on one thread")
with rcnn.set_num_threads(1):
    course.compare(boxes.iou, many, many[:16])
course.source(boxes._iou)

# %% surface-words [markdown]
# ## 5  How fast does it fall?
#
# Slide a square of side $s$ by $d$ along x. Both lengths along y are $s$, and what is shared along x is $s - d$:
#
# $$ \mathrm{IoU} = \frac{(s - d)\,s}{2 s^2 - (s - d)\,s} = \frac{s - d}{s + d}, \qquad\text{so}\qquad
#    d = s\,\frac{1 - t}{1 + t} \ \text{ where the IoU is } t. $$
#
# A slide by a third of the side leaves an IoU of one half. Before you run the cell: what shape has the line on which
# the IoU is 0.5, when the box may slide in any direction? And does a box that is too large lose more than one that is
# too small?

# %% surface
side, slide, scale = 20, np.linspace(-24, 24, 97), np.geomspace(0.4, 2.5, 97)
dx, dy = np.meshgrid(slide, slide)  # (97, 97), rows are dy
slid = np.stack([dx, dy, dx + side, dy + side], axis=-1).reshape(-1, 4)
dx, grown = np.meshgrid(slide, scale)  # rows are the scale
sides = np.full(grown.size, side) * grown.ravel()
about = np.stack([side / 2 + dx.ravel(), np.full(grown.size, side / 2), sides, sides], axis=1)
scaled = boxes.convert(about, "cxcywh", "xyxy")

figure = plot.figure(10, 4.4)
left, right = figure.subplots(1, 2)
still = [[0, 0, side, side]]
plot.iou_surface(left, boxes.iou(slid, still).reshape(97, 97), slide, slide, "dx, pixels", "dy, pixels")
values = boxes.iou(scaled, still).reshape(97, 97)
plot.iou_surface(right, values, slide, np.log2(scale), "dx, pixels", "logarithm (base 2) of the scale")
plot.title(left, "A square of 20 pixels slides", "white: where the IoU is 0.3, 0.5, 0.7")
plot.title(right, "It slides along x and grows", "along y: 1 is twice as long, -1 half as long")
figure

# %% surface-read [markdown]
# There is a sharp peak, not a rounded hilltop: the first pixel costs more than any later one. The lines reach farthest
# along the axes, for on a diagonal the box loses along both axes at once. In the logarithm of the scale, what is above
# the middle mirrors what is below it as long as the box does not slide: one box inside the other has the IoU *smaller
# area / larger area*, so twice as long and half as long cost the same. Notebook 06 will use this logarithm.
#
# Outside, everything is 0 and flat. IoU does not say *how far* apart two boxes are. The explorer after this text has
# sliders for all three moves. (Where no kernel runs, it shows a few positions.)
#
# > **What people get wrong.** Taking $1 - \mathrm{IoU}$ for the loss of a box, and no more. Where the boxes are apart
# > its gradient is 0, so nothing pulls them together; losses that are made of the IoU add a term for such pairs. Faster
# > R-CNN learns deltas instead ([4] section 3.1.2, and notebook 06).

# %% explorer
widgets.box_iou(side=20)

# %% thresholds [markdown]
# ## 6  What 0.3, 0.5 and 0.7 look like
#
# Three numbers come up again and again: an anchor is background below 0.3 and an object from 0.7 ([4] section 3.1.2),
# and a detection is right from 0.5 on ([1] section 4.2). Before you run the cell, draw in your head a box with an IoU of
# 0.5 with a digit; then see whether it was as loose as these.
#
# In each column the IoU is the same. The rows show three ways to lose it: sliding along x, sliding along both axes
# by equal shares of the sides, and growing about the same centre.

# %% thresholds-picture
x1, y1, x2, y2 = target["boxes"][2]
width, height, room = x2 - x1, y2 - y1, 19
crop = image[int(y1) - room : int(y2) + room, int(x1) - room : int(x2) + room]
truth = np.array([room, room, room + width, room + height])

figure = plot.figure(9, 10.5)
for column, t in zip(figure.subplots(3, 3).T, (0.3, 0.5, 0.7), strict=True):
    along, both, grown = (1 - t) / (1 + t), 1 - np.sqrt(2 * t / (1 + t)), (t**-0.5 - 1) / 2
    ways = {
        "slid along x": (along, 0, along, 0),
        "slid along x and y": (both, both, both, both),
        "grown": (-grown, -grown, grown, grown),
    }  # how far each edge moves, in sides of the object
    for ax, (name, way) in zip(column, ways.items(), strict=True):
        other = truth + np.multiply(way, [width, height, width, height])
        plot.overlap(plot.image(ax, crop), truth, other, names=("object", "box"))
        plot.title(ax, f"IoU {boxes.iou([truth], [other])[0, 0]:.2f}", name)
figure

# %% small-words [markdown]
# ## 7  Why small objects are hard
#
# IoU has no unit, but errors have. The edge of a stroke is blurred over a pixel or two, a hand that draws a box misses
# by as much, and a network reads features that are several pixels apart. Slide a square of side $s$ by $d$ along both
# axes:
#
# $$ t = \frac{(s - d)^2}{2 s^2 - (s - d)^2}. $$
#
# Guess before you run the cell: how small must an object be for an error of one pixel each way to bring the IoU below
# 0.7? In COCO's measures an object is small if its area is below $32^2$ pixels; the smallest digits here are a dozen
# pixels high.

# %% small-picture
sides = 2.0 ** np.linspace(2, 8, 49)
series = {}
for d in (1, 2, 4):
    one = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    series[f"{d} pixel{'s' * (d > 1)} each way"] = [boxes.iou([a], [a + d])[0, 0] for a in one]

figure = plot.figure(8, 3.6)
ax = figure.subplots()
plot.lines(ax, sides, series, "side of the object, pixels", "IoU", levels=(0.5, 0.7), log=True)
plot.title(ax, "What the same error costs", "dotted: IoU 0.5 and 0.7")
figure

# %% slip-words [markdown]
# ### Exercise: `slip`
#
# Solve the equation above for $d$: how far may a square of side $s$ slide along both axes until its IoU is $t$? The
# check draws sides and thresholds at random, slides a box by your answer, and measures.


# %% slip-yours
def slip(side, threshold):
    """How many pixels a square may slide along x, and as many along y, until its IoU with where it
    was is `threshold`.

    `side` is the square's, in pixels. `threshold` lies above 0 and is at most 1, for which the answer is 0.
    """
    ### BEGIN SOLUTION
    return side * (1 - np.sqrt(2 * threshold / (1 + threshold)))
    ### END SOLUTION


# %% slip-check points=1
for side, threshold in zip(rng.uniform(4, 200, 20), [1, *rng.uniform(0.05, 0.95, 19)], strict=True):
    d = slip(side, threshold)
    call = f"slip({side:.1f}, {threshold:.2f}) gives"
    if d is None or np.ndim(d) or not d >= 0:
        raise checks.CheckFailed(f"{call} {d}; wanted is a number of pixels, at least 0")
    reached = boxes.iou([[0, 0, side, side]], [[d, d, side + d, side + d]])[0, 0]
    if not np.isclose(reached, threshold):
        raise checks.CheckFailed(
            f"{call} {d:.3f}, and after such a slide the IoU is {reached:.3f}\n"
            "Hint: it moves both ways; (s - d) squared is shared"
        )
print("slip: right")
print(f"{'side':>6}{'until 0.5':>12}{'until 0.7':>12}   pixels each way")
for side in (8, 12, 32, 96, 224):
    print(f"{side:>6}{slip(side, 0.5):>12.1f}{slip(side, 0.7):>12.1f}")

# %% number [markdown]
# That answers the question at the top. Two boxes are as nearly the same as their IoU says. From which number on they
# count as *the same* is a decision, and the smaller the object, the harder its terms.
#
# ## A number to check
#
# Two squares of side 4, one moved by 2 along both axes. By hand: the intersection is $2 \cdot 2 = 4$, the union
# $16 + 16 - 4 = 28$, the IoU $4 / 28 = 1 / 7 \approx$ **0.1429**.
#
# And in a second way, without any formula for boxes: colour the pixels of both, and count. For boxes with whole
# coordinates the count is not an estimate. It must agree exactly, for a thousand random pairs as well; with a + 1 it
# would not.


# %% number-check
def count(box, other, size=(64, 64)):
    "IoU by counting pixels: in both, and in either."
    masks = np.zeros((2, *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, (box, other), strict=True):
        mask[y1:y2, x1:x2] = True
    return (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()


print("formula:", boxes.iou([[0, 0, 4, 4]], [[2, 2, 6, 6]])[0, 0])
print("counted:", count((0, 0, 4, 4), (2, 2, 6, 6)))
corners = rng.integers(0, 32, (2, 1000, 2))
sides = rng.integers(1, 32, (2, 1000, 2))
one, other = np.concatenate([corners, corners + sides], axis=2)  # (1000, 4) each
differences = [boxes.iou([a], [b])[0, 0] - count(a, b) for a, b in zip(one, other, strict=True)]
print("largest difference over 1000 pairs:", np.abs(differences).max())

# %% next [markdown]
# ## To try
#
# 1. Make your `iou` wrong in one way at a time, and read what `checks.iou` says: take the maximum after the product,
#    leave out the subtraction, return the transpose. Then let it add 1.
# 2. Slide a box of 10 × 40 pixels over another one. Along which axis does the IoU fall faster, and how does the surface
#    of section 5 change?
# 3. Two boxes of the same area and the same centre have height / width 1 and 2. What is their IoU? No anchor whose ratio
#    is wrong by a factor of two and whose area is right can do better; notebook 04 chooses ratios by such numbers.
# 4. Take pairs with an IoU of at least 0.5 with the same object. How small can the IoU of the two of them be? (NMS, in
#    notebook 08, assumes that it is not small.)
