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
# # Deltas
#
# *Goals.* After this notebook, you can
#
# - write `encode` and `decode`, which convert boxes to deltas and back;
# - explain why shifts are fractions of a box, why sizes are logarithms, and why `decode` has a clamp;
# - derive from the matching rule how large the deltas are, and explain the weights (10, 10, 5, 5);
# - test an encoder properly, and recognise the effects of degenerate boxes.
#
# *Prerequisites.* Notebooks 01 (boxes) and 05 (matching). You need logarithms and standard deviations.
#
# *Time.* About two hours.
#
# **The question.** An anchor lies on a digit, but not exactly: it is too small and too far left. The network has
# features of this region and can predict where the digit really is. Which four numbers should it predict?
#
# The four numbers are called *deltas*, $d_x, d_y, d_w, d_h$. The RPN predicts them for anchors, and the second stage
# predicts them for proposals. In training, `encode` computes the target deltas from two boxes, and the network learns
# to predict them. In prediction, `decode` computes boxes from the predicted deltas. You write both functions.
#
# | function | input | output |
# |---|---|---|
# | `encode(gt_boxes, boxes)` | two arrays (N, 4); row i of one belongs to row i of the other | `deltas` (N, 4) |
# | `decode(deltas, boxes)` | `deltas` (N, 4), or (N, L, 4) for L classes; `boxes` (N, 4) | boxes, with the shape of `deltas` |
#
# Both also take four `weights`, which section 5 explains.
#
# *History.* R-CNN [1] defined the deltas and computed them with a separate linear regression for each class. Fast R-CNN
# [2] trained them together with the network. Faster R-CNN [3] also uses them for anchors. Later detectors such as FCOS
# predict the distances from a point to the four sides instead.
#
# [1] Girshick, Donahue, Darrell, Malik: *Rich feature hierarchies*, 2014 (arXiv 1311.2524). [2] Girshick: *Fast R-CNN*,
# 2015 (arXiv 1504.08083). [3] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497).

# %% setting-up
import textwrap
import timeit

import numpy as np

import rcnn
from rcnn import anchors, boxes, checks, course, data, matching, nn, plot

rcnn.seed(0)
rcnn.set_num_threads(1)  # the pages are small, so a second thread does not help
model = rcnn.load_digits()
pages = data.Digits(split="val")
image, target = pages[178]
sizes, ratios = model.config.anchor_sizes, model.config.aspect_ratios
make_anchors = anchors.AnchorGenerator(sizes, ratios)
(grid,) = make_anchors((128, 128), [(16, 16)])  # (A, 4), one level of 16 × 16 cells

iou = boxes.iou(grid, target["boxes"])  # (A, G)
matches = matching.match(iou, high=0.7, low=0.3, force_best=True)  # (A,)
positive = np.flatnonzero(matches >= 0)
figure = plot.figure(5.5, 5.8)
ax = figure.subplots()
plot.moves(ax, image, grid[positive], target["boxes"][matches[positive]])
caption = f"{len(positive)} of {len(grid):,} anchors are positive"
plot.title(ax, "Positive anchors and their objects", caption)
course.show(
    figure,
    f"A page with digits and the {len(positive)} positive anchors around them. Arrows "
    "lead from the centre of each anchor to the centre of its object; the shifts are "
    "short, compared with the sides, and point in all directions.",
)

# %% relative [markdown]
# ## 1  Why not in pixels?
#
# The simplest answer would be four differences of coordinates, in pixels. But the features of a box do not contain its
# size. RoIAlign (notebook 09) turns every RoI, large or small, into the same $5 \times 5$ bins. The bins show, for
# example, that *the digit starts one bin from the left*, which is a **fraction** of the box. Therefore the shift of the
# centre is measured in sides of the box. (In the RPN, each anchor shape has its own weights. There, fractions give the
# targets of all shapes a similar magnitude.) The box has the width $w_a$, the height $h_a$ and the centre $(x_a, y_a)$;
# the object has $x, y, w, h$ ([1] appendix C, [3] section 3.1.2):
#
# $$ d_x = \frac{x - x_a}{w_a}, \qquad d_y = \frac{y - y_a}{h_a}. $$
#
# The next cell collects training examples of the second stage from 60 pages: the proposals, each with the object that
# it overlaps by an IoU of at least 0.5. **Predict:** how does the shift depend on the size of the proposal, in pixels
# and in sides?

# %% collect
# For each proposal, its object, and the deltas that the network predicts:
proposals, objects, predicted = [], [], []
for number in range(60):
    page, target = pages[number]
    trace = model.trace([page], [target], rng=np.random.default_rng(0))
    iou = boxes.iou(trace.rois, trace.gt_boxes[0])  # (R, G)
    matches = matching.match(iou, high=0.5, low=0.5)  # (R,)
    matched = np.flatnonzero(matches >= 0)
    labels = trace.gt_labels[0][matches[matched]]
    proposals.append(trace.rois[matched])
    objects.append(trace.gt_boxes[0][matches[matched]])
    predicted.append(trace.box_deltas[matched, labels])  # of the true class
proposals, objects, predicted = map(
    np.concatenate, (proposals, objects, predicted)
)  # (N, 4)

pixels = boxes.convert(objects, "xyxy", "cxcywh") - boxes.convert(
    proposals, "xyxy", "cxcywh"
)
deltas = boxes.encode(objects, proposals)  # (N, 4)
side = np.sqrt(boxes.area(proposals))
shifts = []  # standard deviations in pixels and in sides, for each range of sizes
print(f"{'side of the proposal':<24}{'number':>8}{'std in pixels':>18}{'std in sides':>18}")
for low, high in ((0, 16), (16, 24), (24, 36), (36, 128)):
    some = (side >= low) & (side < high)
    in_pixels, in_sides = pixels[some, :2].std(), deltas[some, :2].std()
    shifts.append((in_pixels, in_sides))
    print(
        f"{low:>3} to {high:>3} pixels{some.sum():>17}{in_pixels:>18.2f}{in_sides:>18.3f}"
    )
assert shifts[3][0] > 2.5 * shifts[0][0]
assert 0.8 * shifts[0][1] < shifts[3][1] < 1.2 * shifts[0][1]

# %% logarithm [markdown]
# The two columns on the right are standard deviations of the shift. In pixels, it is more than twice as large for the
# largest proposals as for the smallest. In sides, it is nearly the same for all sizes. So if the network predicts
# shifts in sides, one rule works for all sizes.
#
# ## 2  Why logarithms?
#
# For the same reason, the network should predict the ratio $w / w_a$ instead of a difference. There are three forms.
# The table shows their values for an object that is half as wide as the box, equally wide, and twice as wide:
#
# | | half | equal | twice | problem |
# |---|---|---|---|---|
# | $w / w_a$ | 0.5 | 1 | 2 | a prediction of 0 means a width of 0 |
# | $w / w_a - 1$ | -0.5 | 0 | 1 | below -1, the width is negative; and halving counts less than doubling |
# | $\log(w / w_a)$ | -0.69 | 0 | 0.69 | none |
#
# With the logarithm, halving and doubling have the same magnitude. Its inverse, $w = w_a e^{d_w}$, gives a positive
# width for *any* real number that the last layer predicts. And 0 means *no change*, which is also what a layer with
# small random weights predicts. So
#
# $$ d_w = \log\frac{w}{w_a}, \qquad d_h = \log\frac{h}{h_a}. $$
#
# Together with $d_x$ and $d_y$, these are the four numbers of the question.

# %% logarithm-picture
d = np.linspace(-3, 2, 101)
figure = plot.figure(8, 3.6)
ax = figure.subplots()
factors = {"exp(d)": np.exp(d), "1 + d": 1 + d, "d": d}
plot.lines(ax, d, factors, "prediction d", "new width / old width", levels=(0, 1))
caption = "dotted lines: width 0, and the old width"
plot.title(ax, "How a prediction changes the width", caption)
course.show(
    figure,
    "The factor of the width, by the prediction d. The curve exp(d) is always above 0 and "
    "goes through 1 at d = 0. The line 1 + d goes through 1 at the same point, but is "
    "negative below -1. The line d is 0 at d = 0, and negative below.",
)

# %% encode-words [markdown]
# ### Exercise: `encode`
#
# The inputs are objects and boxes, both (N, 4), and four `weights`. The deltas are multiplied by the weights at the end
# (section 5 explains why). The result is (N, 4), in the order $d_x, d_y, d_w, d_h$.
#
# Before you write the two formulas, answer four questions. By which of the two boxes do you divide? (Which box is known
# when the deltas are *decoded*?) Do you shift a corner or the centre? Which logarithm do you use? And is the weight
# inside or outside the logarithm?


# %% encode-yours
def encode(gt_boxes, boxes, weights=(1, 1, 1, 1)):
    """Return the deltas dx, dy, dw, dh that lead from boxes[i] to gt_boxes[i], (N, 4).

    gt_boxes, boxes (N, 4): xyxy, floats or integers, with sides above 0. N may be 0.
    dx, dy: shift of the centre, in widths and heights of boxes[i].
    dw, dh: natural logarithms of new width / old width and of new height / old height.
    Multiply each delta by its weight. Do not limit the deltas, and do not change the
    arguments.
    """
    ### BEGIN SOLUTION
    gt_boxes, boxes = np.asarray(gt_boxes, float), np.asarray(boxes, float)
    gt_sides = gt_boxes[:, 2:] - gt_boxes[:, :2]  # (N, 2)
    sides = boxes[:, 2:] - boxes[:, :2]  # (N, 2)
    shift = (gt_boxes[:, :2] + gt_sides / 2 - boxes[:, :2] - sides / 2) / sides
    return np.concatenate([shift, np.log(gt_sides / sides)], axis=1) * weights
    ### END SOLUTION


# %% encode-check points=2
checks.encode(encode)
print("encode: correct")

# %% clamp [markdown]
# ## 3  The clamp
#
# `decode` is the inverse: $x = x_a + d_x w_a$ and $w = w_a e^{d_w}$, and the same for y and h. In exact arithmetic, the
# width is positive and finite for any number. In floating point, it can overflow. An untrained or diverging network can
# predict 100. But $e^{100} \approx 2.7 \cdot 10^{43}$, and the largest float32 is $3.4 \cdot 10^{38}$. Therefore $d_w$
# and $d_h$ have an upper limit of
#
# $$ \log\frac{1000}{16} \approx 4.135. $$
#
# This is a factor of 62.5, which is enough to enlarge a side of 16 pixels to 1000 pixels. The papers do not mention
# this clamp. It comes from the published implementations, and both torchvision and rcnn use it. Only `decode` has the
# clamp. There is no lower limit, and $d_x$ and $d_y$ have no limit.
#
# The next cell decodes without the clamp, in float32. **Predict:** the last three boxes are infinitely wide. What
# happens to them when they are clipped to a page of 128 × 128 pixels? And what is the IoU of such a box with itself?


# %% clamp-measured
def decode_without_clamp(deltas, start):
    """Return the boxes that deltas (N, 4) make from one box (4,), in float32, (N, 4)."""
    x, y, w, h = boxes.convert([start], "xyxy", "cxcywh")[0].astype(np.float32)
    centre = deltas[:, :2] * (w, h) + (x, y)
    half = np.exp(deltas[:, 2:]) * (w, h) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


start, dw = [56, 56, 72, 72], np.array([0, 1, 4, 10, 100, 1000, 1e6], np.float32)
growing = np.stack([0 * dw, 0 * dw, dw, dw], axis=1)  # (7, 4)
with np.errstate(over="ignore", invalid="ignore"):
    unlimited = decode_without_clamp(growing, start)
    with_itself = np.diag(boxes.iou(unlimited, unlimited))
clamped = boxes.decode(growing, np.repeat([start], len(growing), axis=0))
three = unlimited, boxes.clip(unlimited, (128, 128)), clamped
widths = [each[:, 2] - each[:, 0] for each in three]
names = ("dw = dh", "width, no clamp", "IoU with itself", "then clipped", "width, clamp")
print("{:>9}{:>17}{:>18}{:>16}{:>16}".format(*names))
for row in zip(dw, widths[0], with_itself, *widths[1:], strict=True):
    print("{:>9g}{:>17.4g}{:>18.3g}{:>16.4g}{:>16.4g}".format(*row))
assert np.isinf(widths[0][4:]).all() and np.isnan(with_itself[4:]).all()
assert (widths[1][4:] == 128).all()
assert np.isclose(np.exp(100), 2.7e43, rtol=0.01)
assert np.isclose(np.finfo(np.float32).max, 3.4e38, rtol=0.01)

# %% decode-words [markdown]
# If the areas are infinite, the union is $\infty + \infty - \infty$, which is NaN, and so is the IoU. Every comparison
# with NaN is false, so NMS does not even remove exact copies of such a box. After clipping, an infinite box is an
# ordinary box that covers the whole page, with an arbitrary score. No error appears.
#
# ### Exercise: `decode`
#
# Write the inverse of `encode`, with the clamp. The inputs are deltas (N, 4), or (N, L, 4) if the second stage predicts
# deltas for each of L classes; boxes (N, 4); and weights. The result has the shape of the deltas.
#
# Note the order: first divide by the weights, then clamp, then apply the exponential. For (N, L, 4), all L rows start
# from the same box. Which shape must its sides have, so that you can multiply them by an array of shape (N, L, 2)?


# %% decode-yours
def decode(deltas, boxes, weights=(1, 1, 1, 1)):
    """Return the boxes (xyxy) that `deltas` make from `boxes`, in the shape of `deltas`.

    deltas (N, 4) or (N, L, 4), boxes (N, 4). Invert `encode`: divide by the weights, then
    limit dw and dh (not dx and dy) to at most log(1000/16). There is no lower limit. Do not
    clip the boxes to an image, and do not change the arguments. N may be 0.
    """
    ### BEGIN SOLUTION
    unit, boxes = np.asarray(deltas, float) / weights, np.asarray(boxes, float)
    sides = boxes[:, 2:] - boxes[:, :2]  # (N, 2)
    centre = boxes[:, :2] + sides / 2  # (N, 2)
    if unit.ndim == 3:
        sides, centre = sides[:, None], centre[:, None]  # (N, 1, 2)
    centre = centre + unit[..., :2] * sides
    half = np.exp(np.minimum(unit[..., 2:], np.log(1000 / 16))) * sides / 2
    return np.concatenate([centre - half, centre + half], axis=-1)
    ### END SOLUTION


# %% decode-check points=2
checks.decode(decode)
print("decode: correct")
moved = decode(predicted, proposals, model.config.bbox_reg_weights)
print("mean IoU with the objects:")
for name, each in (("proposals", proposals), ("moved by your decode", moved)):
    print(f"  {name:<22}{np.diag(boxes.iou(each, objects)).mean():.3f}")

# %% own-decode-text [markdown]
# ### Your `decode` in the detector
#
# The detector decodes twice: the RPN with the weights (1, 1, 1, 1), and the second stage with (10, 10, 5, 5). The next
# cell runs the digit detector with the library's `decode`, with yours, and with a mistake that ignores the weights.
# **Predict** which boxes of the third detector are wrong, and how: do they move too little or too much? Are the digits
# still classified correctly?

# %% own-decode
decoded_by = course.with_and_without("decode", decode, pages=20)
assert decoded_by.ap["mistake"] < 0.8 and decoded_by.ap["library"] > 0.95
decoded_by

# %% reference [markdown]
# Without the weights, the deltas of the second stage are 5 to 10 times too large. The proposals and their classes are
# right, because the RPN has no weights and the classifier does not use the deltas. But the last step moves good boxes
# away from their digits.
#
# ## 4  The library's implementation
#
# The two public functions validate their arguments. Otherwise, they do the same as your functions. If the boxes are
# float32, they compute in float32. The clamp is that of torchvision.
#
# There are no kernels for these functions. The next cell shows why: decoding takes only a small part of the time of the
# detector, so a kernel would save very little.

# %% reference-source
many = trace.rpn_deltas[0][0]  # (A, 4), the deltas that the RPN predicts for one page


def seconds(function, number):
    """Return the time of one call, the shortest of five measurements."""
    return min(timeit.repeat(function, number=number, repeat=5)) / number


alone = seconds(lambda: boxes.decode(many, trace.anchors[0]), number=20)
whole = seconds(lambda: model.predict([image]), number=1)
print(f"decoding all {len(many)} anchors of a page: {alone * 1e6:.0f} µs")
print(f"the whole detector: {whole * 1e3:.1f} ms; decoding takes {alone / whole:.1%} of it")
assert alone < whole / 10
course.source(boxes.encode, boxes.decode, boxes._centre_and_sides)

# %% round-trip [markdown]
# ### A test that proves nothing
#
# `decode(encode(gt, box), box)` must return `gt`. Many people write this test first, and no other. Let $E$ be the right
# encoder and $D$ the right decoder. Take any invertible function $T$ of the deltas, a wrong encoder that also applies
# $T$, and a wrong decoder that first applies $T^{-1}$:
#
# $$ D\bigl(T^{-1}(T(E(g)))\bigr) = D(E(g)) = g. $$
#
# $T$ cancels out. A round trip shows that the decoder inverts the encoder, but not that the deltas are right. The table
# contains the right encoder and six wrong ones, each with the matching wrong decoder. In the last column, these
# decoders decode the deltas that the trained network predicts for its proposals. The network was trained with the right
# encoder. **Predict** which of the six mistakes does the least harm.


# %% round-trip-six
def pixels_of(start):
    """Return the factors that convert shifts in sides to shifts in pixels, (N, 4)."""
    sides = boxes.convert(start, "xyxy", "xywh")[:, 2:]  # (N, 2)
    return np.concatenate([sides, np.ones_like(sides)], axis=1)


def ratios(d):
    return np.concatenate([d[:, :2], np.exp(d[:, 2:])], axis=1)


def logs(d):
    return np.concatenate([d[:, :2], np.log(np.maximum(d[:, 2:], 1e-3))], axis=1)


two = np.array([1, 1, np.log(2), np.log(2)])
pairs = {  # T, and its inverse; d: deltas, s: boxes from which the deltas lead, w: weights
    "no mistake": (lambda d, s, w: d, lambda d, s, w: d),
    "logarithm to base 2": (lambda d, s, w: d / two, lambda d, s, w: d * two),
    "height before width": (
        lambda d, s, w: d[:, [0, 1, 3, 2]],
        lambda d, s, w: d[:, [0, 1, 3, 2]],
    ),
    "no logarithm": (lambda d, s, w: ratios(d / w) * w, lambda d, s, w: logs(d / w) * w),
    "wrong signs": (lambda d, s, w: -d, lambda d, s, w: -d),
    "shift in pixels": (lambda d, s, w: d * pixels_of(s), lambda d, s, w: d / pixels_of(s)),
    "no weights": (lambda d, s, w: d / w, lambda d, s, w: d * w),
}


# %% round-trip-table
def result_of_check(encoder):
    """Return whether an encoder passes checks.encode."""
    try:
        checks.encode(encoder)
    except checks.CheckFailed:
        return "fails"
    return "passes"


def mean_iou(moved):
    return np.diag(boxes.iou(moved, objects)).mean()


weights = model.config.bbox_reg_weights
after = {}
heads = "mistake", "round trip", "checks.encode", "mean IoU after decoding"
print("{:<28}{:>12}{:>15}{:>25}".format(*heads))
for name, (there, back) in pairs.items():

    def wrong_encode(gt, start, weights=(1, 1, 1, 1), there=there):
        return there(boxes.encode(gt, start, weights), start, np.asarray(weights))

    trip = back(wrong_encode(objects, proposals, weights), proposals, weights)
    error = np.abs(boxes.decode(trip, proposals, weights) - objects).max()
    read = back(predicted, proposals, weights)  # as the wrong decoder reads the predictions
    after[name] = mean_iou(boxes.decode(read, proposals, weights))
    round_trip = "passes" if error < 1e-3 else "fails"
    checked = result_of_check(wrong_encode)
    print(f"{name:<28}{round_trip:>12}{checked:>15}{after[name]:>25.3f}")
    assert round_trip == "passes"
    assert checked == ("passes" if name == "no mistake" else "fails")
print(f"{'proposals, not moved':<55}{mean_iou(proposals):>25.3f}")
assert after["no weights"] < mean_iou(proposals)
assert max(list(pairs)[1:], key=after.get) == "logarithm to base 2"

# %% normalise [markdown]
# All six pass the round trip. `checks.encode` compares the deltas themselves, so it rejects them. The logarithm to base
# 2 does the least harm here: the centres are right, and only the changes of size are too small. A network that is
# trained with a wrong pair can even work. But everything that relies on the definition of the deltas fails: a network
# that was trained by other people (as in the table), the clamp, and the balance of the losses.
#
# ## 5  Why 0.1 and 0.2?
#
# The second stage multiplies its target deltas by the weights $(10, 10, 5, 5)$, and divides the predicted deltas by
# them before decoding. The multiplication is the same as a division by $(0.1, 0.1, 0.2, 0.2)$. These numbers are
# approximate standard deviations, so the targets are scaled to roughly unit standard deviation ([2] section 2.3). The
# box loss then has about the same magnitude as the classification loss. The original implementation first measured the
# standard deviations on the training data. Later, it used these four constants, because the proposals change while the
# RPN learns. Why do these constants suit different data sets?
#
# The reason is the matching rule. A proposal has a box target only if its IoU with an object is at least $t = 0.5$. On
# one axis, take a box of length 1, and an object of length $g = e^{d_w}$ whose centre is shifted by $d_x$:
#
# - equal lengths: $\frac{1 - d_x}{1 + d_x} \ge t$, so $|d_x| \le \frac{1 - t}{1 + t} = \frac13$;
# - one inside the other: $e^{-|d_w|} \ge t$, so $|d_w| \le \log\frac1t = \log 2 \approx 0.69$;
# - the largest possible shift: the object has the largest possible length $g = 1/t$, and the box lies at one end of it:
#   $|d_x| \le \frac{1 - t}{2t} = \frac12$.
#
# The IoU of two boxes is at most the IoU of their intervals along either axis, so these limits also hold for boxes. At
# equal lengths, the limit of $d_w$ is about twice the limit of $d_x$. This explains the factor of 2 between 0.1 and
# 0.2. **Predict:** inside which of the white lines must all dots of the next plot lie?

# %% bounds-picture
dx, dw = np.linspace(-0.7, 0.7, 141), np.linspace(-1, 1, 161)
all_pairs = np.array([[x, 0, w, 0] for w in dw for x in dx])  # (161 * 141, 4)
unit = np.array([[0.0, 0, 1, 1]])
decoded = boxes.decode(all_pairs, np.repeat(unit, len(all_pairs), axis=0))
surface = boxes.iou(decoded, unit).reshape(len(dw), len(dx))

figure = plot.figure(7, 4.6)
ax = figure.subplots()
labels = "dx, in widths of the box", "dw, natural logarithm of the ratio"
dots = deltas[::3, [0, 2]]
plot.iou_surface(ax, surface, dx, dw, *labels, levels=(0.5, 0.7), points=dots)
caption = "IoU of a box with itself moved by dx and dw; dots: every third proposal"
plot.title(ax, "The matching rule limits the deltas", caption)
course.show(
    figure,
    "IoU of a box with a copy that is moved by dx and dw. The region of an IoU of at "
    "least 0.5 is a trapezium with curved sides: dw is between -0.69 and 0.69, and |dx| "
    "is at most 0.25 at the lower edge and 0.5 at the upper edge. All dots of the "
    "proposals are inside. The region of 0.7 is about half as wide and high.",
)

# %% histograms
wanted = boxes.encode(objects, proposals, model.config.bbox_reg_weights)  # (N, 4)
figure = plot.figure(11, 3.6)
left, right = figure.subplots(1, 2)
plot.delta_histograms(left, deltas, limit=0.8)
plot.title(left, "Without weights", f"deltas {deltas.shape}")
plot.delta_histograms(right, wanted, limit=4, unit=True)
plot.title(right, "With weights", "10, 10, 5, 5")
assert (deltas.std(axis=0)[:2] / deltas.std(axis=0)[2] < 0.6).all()
course.show(
    figure,
    "Left, without weights: dx and dy have narrow peaks around 0, dw and dh wider ones; "
    f"the standard deviations are {deltas.std(axis=0).min():.2f} to "
    f"{deltas.std(axis=0).max():.2f}. Right, with weights: all four have about the width "
    "of the drawn normal distribution, with standard deviations of "
    f"{wanted.std(axis=0).min():.2f} to {wanted.std(axis=0).max():.2f}, but with higher "
    "peaks at 0.",
)

# %% deviations [markdown]
# The two plots have different axes. On the left, the distributions of $d_x$ and $d_y$ are about half as wide as that of
# $d_w$. On the right, where the axis is five times as long, all four distributions are about as wide as the normal
# distribution, but have more values near 0.
#
# The next cell prints the standard deviations for the proposals and for the positive anchors. It also prints the loss
# of a network that predicts 0 for all deltas and so moves no box. The loss is smooth L1 with beta 1/9, as in training
# (notebook 07). For comparison, the cross-entropy over 11 classes starts at $\log 11 \approx 2.4$. At most a quarter of
# the sampled RoIs are positive, so at most a quarter of the printed loss counts.

# %% deviations-measured
rpn = []  # targets of the RPN
for number in range(60):
    gt_boxes = pages[number][1]["boxes"]
    iou = boxes.iou(grid, gt_boxes)
    matches = matching.match(iou, high=0.7, low=0.3, force_best=True)
    positive = np.flatnonzero(matches >= 0)  # empty on a page without objects
    rpn.append(boxes.encode(gt_boxes[matches[positive]], grid[positive]))


def loss_of_zero(wanted):
    """Return smooth L1 for predictions of 0, as a mean over the boxes."""
    total = nn.functional.smooth_l1_loss(nn.Tensor(0 * wanted), wanted, beta=1 / 9)
    return total.item() / len(wanted)


print(f"{'standard deviation of':<24}{'dx':>8}{'dy':>8}{'dw':>8}{'dh':>8}{'loss of 0':>12}")
unweighted = {"proposals, no weights": deltas, "positive anchors": np.concatenate(rpn)}
for name, each in {**unweighted, "proposals, weights": wanted}.items():
    deviations = " ".join(f"{value:>7.3f}" for value in each.std(axis=0))
    print(f"{name:<24} {deviations} {loss_of_zero(each):>11.3f}")
print(f"{'1 / weights':<24}{0.1:>8}{0.1:>8}{0.2:>8}{0.2:>8}")
assert 28 < np.log(11) / (loss_of_zero(deltas) / 4) < 34
assert 2.8 < np.log(11) / (loss_of_zero(wanted) / 4) < 3.4
assert np.all(np.abs(wanted.std(axis=0) - 1) < 0.2)

# %% weights [markdown]
# The weights were chosen for photos, but they also suit handwritten digits: the matching rule, which is the same for
# both, determines the size of the deltas more than the images do. Without the weights, the box loss would start at
# about a thirtieth of the classification loss. With them, it starts at about a third. The RPN uses its deltas without
# weights, in torchvision and in rcnn. Its cross-entropy of two classes starts at only $\log 2 \approx 0.69$, and up to
# half of the sampled anchors are positive.
#
# > **What people get wrong.** The RPN uses the weights $(1, 1, 1, 1)$, and the second stage uses $(10, 10, 5, 5)$, each
# > for both `encode` and `decode`. In `encode`, dividing by $(0.1, 0.1, 0.2, 0.2)$ is the same as multiplying by
# > $(10, 10, 5, 5)$. *Multiplying* by 0.1 and 0.2 is wrong by factors of 100 and 25. The last mistake in the table
# > above shows the effect of missing weights on a trained network: the moved boxes are worse than the proposals.
#
# ## 6  Boxes that have no deltas
#
# If the box has no width, $d_x$ is a division by 0. If the object has no width, $d_w$ is the logarithm of 0, which is
# $-\infty$. One such box among thousands is enough to break the training. The next cell uses an encoder without
# validation, 64 pairs of boxes, and one linear layer that learns the deltas. In the second case, one object has no
# width. In the third case, this object is also a RoI, because the second stage appends the ground truth to its
# proposals (notebook 10). **Predict** the loss, and how many of the 32 weights of the layer have a gradient of NaN.


# %% degenerate
def encode_without_validation(gt, start):
    gt, start = boxes.convert(gt, "xyxy", "cxcywh"), boxes.convert(start, "xyxy", "cxcywh")
    with np.errstate(divide="ignore", invalid="ignore"):
        shift, ratio = (gt[:, :2] - start[:, :2]) / start[:, 2:], gt[:, 2:] / start[:, 2:]
        return np.concatenate([shift, np.log(ratio)], axis=1)


thin, own = objects[:64].copy(), proposals[:64].copy()
thin[7, 2] = thin[7, 0]
own[7] = thin[7]
features = np.random.default_rng(0).standard_normal((64, 8), dtype=np.float32)
cases = {
    "all boxes are valid": (objects[:64], proposals[:64]),
    "object 7 has no width": (thin, proposals[:64]),
    "box 7 is this object": (thin, own),
}
missing = []
for name, (gt, start) in cases.items():
    layer = nn.Linear(8, 4)
    targets = encode_without_validation(gt, start)
    loss = nn.functional.smooth_l1_loss(layer(nn.Tensor(features)), targets, beta=1 / 9)
    loss.backward()
    missing.append(np.isnan(layer.weight.grad).sum())
    print(f"{name:<24}loss {loss.item() / 64:<8.3f}gradients that are NaN: ", end="")
    print(f"{missing[-1]} of 32")
assert missing == [0, 0, 16]
try:
    boxes.encode(thin, proposals[:64])
except ValueError as error:
    print(textwrap.fill(f"rcnn: {error}", 88))

# %% degenerate-words [markdown]
# *Another trap.* In the second case, the loss is infinite, but the gradient stays finite, because smooth L1 limits it.
# It decreases the predicted width in every step, without end. In the third case, half of the weights of the layer are
# NaN after one step. The gradient flows on, so all earlier layers become NaN, too. The NaN often appears in a different
# place than its cause. Look for boxes with $x_2 \le x_1$ or $y_2 \le y_1$ in the annotations: `rcnn check` finds them
# before training, `encode` rejects them, and proposals with a side below 0.001 pixels are removed.
#
# ## A number to check
#
# Compute by hand, for the box (10, 20, 30, 60) and the object (15, 15, 55, 55). The box has the sides 20 and 40 and the
# centre (20, 40). The object has the sides 40 and 40 and the centre (35, 35). So $d_x = 15 / 20 =$ **0.75**,
# $d_y = -5 / 40 =$ **-0.125**, $d_w = \log 2 \approx$ **0.693**, $d_h =$ **0**.
#
# Section 5 gives limits for the data: if the IoU of a proposal is at least 0.5, $|d_x|$ and $|d_y|$ are at most
# **0.5**, and $|d_w|$ and $|d_h|$ are at most **0.693**. These limits hold for all images, so they must hold here.

# %% number-check
by_hand = np.array([0.75, -0.125, np.log(2), 0])
encoded = boxes.encode([[15, 15, 55, 55]], [[10, 20, 30, 60]])[0]
largest = np.abs(deltas).max(axis=0)
print("by hand:  ", by_hand.round(3))
print("encode:   ", encoded.round(3))
print("largest |dx|, |dy|, |dw|, |dh| of", len(deltas), "proposals:", largest.round(3))
limits = 0.5, 0.5, np.log(2), np.log(2)
assert np.allclose(encoded, by_hand) and np.all(largest <= limits)

# %% learned [markdown]
# ## What you have learned
#
# - Deltas are shifts in sides of the box, and logarithms of ratios of sides. They do not depend on the scale.
# - The matching rule limits the deltas, so constant weights scale the targets to roughly unit standard deviation.
# - A round trip does not test an encoder. Compare its deltas with numbers that you computed by hand.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Write a seventh wrong pair that passes the round trip. Does `checks.encode` reject it?
# 2. `boxes.MAX_LOG_SCALE` is the clamp. How much can you decrease it before the detections of a page change? How is
#    this related to the last row that the cell above prints? Why is the clamp higher? (Restore it afterwards.)
#
# **Core** (half an hour)
#
# 3. Collect only the proposals whose IoU with an object is at least 0.7. What are the limits now, and which weights are
#    suitable? (Cascade R-CNN increases the threshold from stage to stage, and the weights with it.)
# 4. Use the moved boxes of the second stage as RoIs again: `model.forward` takes `rois` and `roi_images`. (Call it
#    within `with nn.no_grad(), nn.evaluation():`.) Does the mean IoU increase a second time?
# 5. `course.with_and_without("encode", encode)` trains three detectors for 40 steps, the third with swapped deltas.
#    Predict its result. Then replace the mistake by one of section 4, as the third argument. Which one costs most?
#
# **Stretch** (an evening)
#
# 6. *A wrong pair can work.* Take `load_digits()` and the pair with wrong signs. Run the detector within `with
#    rcnn.replace("encode", wrong_encode), rcnn.replace("decode",
#    wrong_decode):`, and compute the AP on 20 pages with `evaluate.evaluate_detections`. Then train it within the
#    same block for 100 steps with `train.fit`, a constant learning rate of 0.001 and no warm-up, call `model.eval()`,
#    and compute the AP again. Which layers must change most? Repeat this with the pair for the logarithm to base 2.

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    The box is (0, 0, 10, 20) and the object is (6, 0, 26, 20). What are dx, dy, dw, dh,
    without weights?
    [ ] 0.6, 0, 0.69, 0
        This is the shift of the left edge. The delta is the shift of the centre: from 5 to
        16.
    [ ] 0.55, 0, 0.69, 0
        The shift is divided by the width of the *box*, because `decode` does not know the
        width of the object.
    [x] 1.1, 0, 0.69, 0
        The centre moves by 11 pixels, and the box is 10 pixels wide. The width doubles, and
        log 2 is 0.69.
    [ ] 1.1, 0, 2, 1
        These are the ratios of the sides. The deltas are their logarithms, log 2 and log 1.

    An image is enlarged by a factor of 2, together with its proposals and objects. How do
    the deltas change?
    [x] Not at all.
        Shifts and sides are doubled, so their quotients stay the same, and so do the ratios
        of the sides.
    [ ] dx and dy are doubled, dw and dh stay the same.
        This would be right for shifts in pixels. The shifts are measured in sides of the
        box, which are doubled, too.
    [ ] dw and dh increase by log 2, dx and dy stay the same.
        The object is twice as wide, but so is the box. Only the ratio of both counts.

    Which of these mistakes does the round trip `decode(encode(gt, box), box)` detect?
    [ ] Both functions use the logarithm to base 2.
        The two mistakes cancel out: the power of 2 is the inverse of this logarithm.
    [ ] Both functions swap dx and dy.
        Two swaps cancel out, so the result is the object again.
    [ ] `encode` divides by 10, 10, 5, 5 instead of multiplying, and `decode` multiplies.
        The factors cancel out, but the deltas are wrong by factors of 100 and 25.
    [x] `encode` multiplies by the weights, and `decode` ignores them.
        This pair is not inverse: the shifts are 10 times too large after decoding.

    The second stage has the weights (10, 10, 5, 5). It predicts dw = 25 for a proposal that
    is 10 pixels wide. How wide is the decoded box?
    [ ] About 1484 pixels
        This is 10 times the exponential of 5, so the clamp is missing.
    [x] 625 pixels
        25 / 5 = 5 is above log(1000/16), so it is limited. The factor is 1000/16 = 62.5.
    [ ] About 23 pixels
        Here, the clamp comes first: 4.135 / 5 = 0.83. But the limit holds for the delta
        after division by its weight.

    You increase the matching threshold of the second stage from 0.5 to 0.6. How large can
    |dx| be for a positive proposal?
    [ ] At most 0.25
        This is (1 - t) / (1 + t), the limit for equal widths. A wider object allows a
        larger shift.
    [ ] At most 0.5, as before
        This is (1 - t) / 2t for t = 0.5. A higher threshold gives a lower limit.
    [x] At most 0.33
        (1 - 0.6) / (2 · 0.6) = 1/3. The deltas become smaller, so larger weights are
        suitable.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 07 trains the RPN to predict deltas. The functions of this notebook are in `rcnn.boxes`. For higher matching
# thresholds, read *Cascade R-CNN* (arXiv 1712.00726). For a loss that compares boxes instead of deltas, read
# *Generalized Intersection over Union* (arXiv 1902.09630).
