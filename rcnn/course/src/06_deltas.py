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
# **The question.** An anchor lies on a digit, but not exactly: a little too far left, and too small. The network has
# seen what is under it and knows better. In which four numbers should it say where the digit really is?
#
# It says so twice, in the same terms. The RPN moves anchors, and the second stage moves proposals. The four numbers are
# called *deltas*, $d_x, d_y, d_w, d_h$. In training the right ones are computed from the boxes (`encode`), and the
# network learns to give them; afterwards what it gives is made into boxes (`decode`). You will write both.
#
# | function | comes in | comes out |
# |---|---|---|
# | `encode(gt_boxes, boxes)` | two arrays (N, 4), row by row | `deltas` (N, 4) |
# | `decode(deltas, boxes)` | `deltas` (N, 4), or (N, L, 4) for L classes; `boxes` (N, 4) | boxes, in the shape of `deltas` |
#
# Both take four `weights` besides, of which section 5 speaks.
#
# [1] Girshick, Donahue, Darrell, Malik: *Rich feature hierarchies*, 2014 (arXiv 1311.2524). [2] Girshick: *Fast R-CNN*,
# 2015 (arXiv 1504.08083). [3] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497).

# %% setting-up
import timeit

import numpy as np

import rcnn
from rcnn import anchors, boxes, checks, course, data, matching, nn, plot

rcnn.seed(0)
rcnn.set_num_threads(1)  # pages are small: a second thread would spend its time waiting for the first
model = rcnn.load_digits()
pages = data.Digits(split="val")
image, target = pages[178]
make_anchors = anchors.AnchorGenerator(model.config.anchor_sizes, model.config.aspect_ratios)
(grid,) = make_anchors((128, 128), [(16, 16)])  # (A, 4), one level of 16 × 16 cells

matches = matching.match(boxes.iou(grid, target["boxes"]), high=0.7, low=0.3, force_best=True)  # (A,)
positive = np.flatnonzero(matches >= 0)
figure = plot.figure(5.5, 5.8)
ax = plot.moves(figure.subplots(), image, grid[positive], target["boxes"][matches[positive]])
plot.title(ax, "Positive anchors, and where they have to go", f"{len(positive)} of {len(grid)} anchors")
figure

# %% relative [markdown]
# ## 1  Why not in pixels?
#
# The plain answer would be four differences of coordinates. But the features of a box do not say how large it is.
# RoIAlign (notebook 09) makes every RoI, large or small, into the same $5 \times 5$ bins, and the RPN has one set of
# weights for each shape of anchor, which is at home at one size only. What can be seen in the bins is *the digit begins
# one bin from the left*, a **fraction** of the box. So the shift of the centre is told in sides of the box to start from
# (width $w_a$, height $h_a$, centre $x_a, y_a$), with $x, y, w, h$ for the object ([1] appendix C, [3] section 3.1.2):
#
# $$ d_x = \frac{x - x_a}{w_a}, \qquad d_y = \frac{y - y_a}{h_a}. $$
#
# The next cell collects what the second stage of the trained detector has to learn on 60 pages: its proposals, each
# with the object that it overlaps by at least 0.5. Predict: how do the shifts grow with the size of the proposal, in
# pixels and in sides?

# %% collect
starts, goals, said = [], [], []  # proposals, their objects, and what the trained network says of them
for number in range(60):
    page, target = pages[number]
    trace = model.trace([page], [target], rng=np.random.default_rng(0))
    matches = matching.match(boxes.iou(trace.rois, trace.gt_boxes[0]), high=0.5, low=0.5)  # (R,)
    on_digit = np.flatnonzero(matches >= 0)
    starts.append(trace.rois[on_digit])
    goals.append(trace.gt_boxes[0][matches[on_digit]])
    said.append(trace.box_deltas[on_digit, trace.gt_labels[0][matches[on_digit]]])  # of the right class
starts, goals, said = (np.concatenate(each) for each in (starts, goals, said))  # (N, 4) each

pixels = boxes.convert(goals, "xyxy", "cxcywh")[:, :2] - boxes.convert(starts, "xyxy", "cxcywh")[:, :2]
deltas = boxes.encode(goals, starts)  # (N, 4)
side = np.sqrt(boxes.area(starts))
print(f"{'side of the proposal':<24}{'number':>8}{'shift in pixels':>18}{'shift in sides':>18}")
for low, high in ((0, 16), (16, 24), (24, 36), (36, 128)):
    some = (side >= low) & (side < high)
    print(f"{low:>3} to {high:>3} pixels{some.sum():>17}", end="")
    print(f"{pixels[some].std():>18.2f}{deltas[some, :2].std():>18.3f}")

# %% logarithm [markdown]
# The two columns on the right are standard deviations. In pixels a proposal of 40 is off by far more than one of 12; in
# sides they are nearly alike. A network that says sides can treat all sizes by one rule.
#
# ## 2  Why logarithms?
#
# For the sides a difference makes no more sense than for the centre, so it will be the ratio $w / w_a$. But in which
# form? Three are thinkable, and here is what they say of an object half as wide as the box, as wide, and twice as wide:
#
# | | half | equal | twice | what can go wrong |
# |---|---|---|---|---|
# | $w / w_a$ | 0.5 | 1 | 2 | a network that says nothing (0) says *width 0* |
# | $w / w_a - 1$ | -0.5 | 0 | 1 | below -1 the width is negative, and the two errors do not count alike |
# | $\log(w / w_a)$ | -0.69 | 0 | 0.69 | neither |
#
# The logarithm makes halving and doubling equally large. Its inverse, $w = w_a e^{d_w}$, is a positive width for *any*
# real number that the last layer may give. And *do nothing* is 0, where a layer with small random weights begins. So
#
# $$ d_w = \log\frac{w}{w_a}, \qquad d_h = \log\frac{h}{h_a}. $$
#
# These, with $d_x$ and $d_y$, are the four numbers of the question.

# %% logarithm-picture
d = np.linspace(-3, 2, 101)
figure = plot.figure(8, 3.6)
ax = figure.subplots()
factors = {"exp(d)": np.exp(d), "1 + d": 1 + d, "d": d}
plot.lines(ax, d, factors, "what the network says, d", "width / width before", levels=(0, 1))
plot.title(ax, "How much wider the box becomes", "dotted: no width left, and as before")
figure

# %% encode-words [markdown]
# ### Exercise: `encode`
#
# In: objects and boxes, both (N, 4), the first row with the first row and so on; and four `weights`, by which the
# deltas are multiplied at the end (section 5 says why). Out: (N, 4), in the order $d_x, d_y, d_w, d_h$.
#
# It has two lines of mathematics, and four places to go wrong. Which of the two boxes is divided by? Ask what is known
# when the deltas are *decoded*. What is shifted, a corner or the centre? Which logarithm? And is the weight inside or
# outside of it?


# %% encode-yours
def encode(gt_boxes, boxes, weights=(1, 1, 1, 1)):
    """The deltas dx, dy, dw, dh, (N, 4), that lead from boxes[i] to gt_boxes[i]; both are (N, 4), xyxy.

    dx, dy: the shift of the centre, in widths and heights of boxes[i].
    dw, dh: the natural logarithm of how many times wider and higher it becomes.
    Each is multiplied by its weight; none has a limit. All sides are above 0. N may be 0.
    No argument is changed.
    """
    ### BEGIN SOLUTION
    gt_boxes, boxes = np.asarray(gt_boxes, float), np.asarray(boxes, float)
    gt_sides, sides = gt_boxes[:, 2:] - gt_boxes[:, :2], boxes[:, 2:] - boxes[:, :2]  # (N, 2), (N, 2)
    shift = (gt_boxes[:, :2] + gt_sides / 2 - boxes[:, :2] - sides / 2) / sides
    return np.concatenate([shift, np.log(gt_sides / sides)], axis=1) * weights
    ### END SOLUTION


# %% encode-check points=2
checks.encode(encode)
print("encode: right")

# %% clamp [markdown]
# ## 3  The clamp
#
# `decode` goes back: $x = x_a + d_x w_a$ and $w = w_a e^{d_w}$, and likewise for y and h. A positive width for any
# number is a promise that floating point breaks. An untrained or diverging network may say 100, and $e^{100} \approx
# 2.7 \cdot 10^{43}$, while the largest float32 is $3.4 \cdot 10^{38}$. So $d_w$ and $d_h$ are capped at
#
# $$ \log\frac{1000}{16} \approx 4.135, $$
#
# a factor of 62.5: enough to make 1000 pixels of a box of 16. The papers do not mention it. It came with the public
# implementations, and torchvision and rcnn have it. The cap is for decoding alone, it is one-sided (a side may become
# as small as it likes), and $d_x, d_y$ have none.
#
# The next cell decodes without it, in float32. Before you run it: the last three boxes are infinitely wide. What
# becomes of them when they are clipped to a page of 128 × 128 pixels? And what is the IoU of such a box with itself?


# %% clamp-measured
def decode_without_cap(deltas, start):
    "The boxes (N, 4) that deltas (N, 4) make of one box (4,), in float32."
    x, y, w, h = boxes.convert([start], "xyxy", "cxcywh")[0].astype(np.float32)
    centre = deltas[:, :2] * (w, h) + (x, y)
    half = np.exp(deltas[:, 2:]) * (w, h) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


start, dw = [56, 56, 72, 72], np.array([0, 1, 4, 10, 100, 1000, 1e6], np.float32)
told = np.stack([0 * dw, 0 * dw, dw, dw], axis=1)  # (7, 4)
with np.errstate(over="ignore", invalid="ignore"):
    bare = decode_without_cap(told, start)
    with_itself = np.diag(boxes.iou(bare, bare))
capped = boxes.decode(told, np.repeat([start], len(told), axis=0))
widths = [each[:, 2] - each[:, 0] for each in (bare, boxes.clip(bare, (128, 128)), capped)]
names = ("dw = dh", "width, no cap", "IoU with itself", "width, clipped", "width, capped")
print("{:>9}{:>16}{:>18}{:>16}{:>16}".format(*names))
for row in zip(dw, widths[0], with_itself, *widths[1:], strict=True):
    print("{:>9g}{:>16.4g}{:>18.3g}{:>16.4g}{:>16.4g}".format(*row))

# %% decode-words [markdown]
# With infinite areas the union is $\infty + \infty - \infty$, which is NaN, and so is the IoU. A NaN is greater than no
# threshold: even copies of such a box do not suppress each other. Clipping hides the rest. Infinite boxes become
# ordinary boxes of the whole page, with whatever score they had. Nothing has failed, and nothing says that something is
# wrong.
#
# ### Exercise: `decode`
#
# The inverse of `encode`, and the cap. In: deltas (N, 4), or (N, L, 4) where the second stage gives a row for each of L
# classes; boxes (N, 4); weights. Out: boxes in the shape of the deltas.
#
# Mind the order: the weights are undone first, and what is capped is what goes into the exponential. For (N, L, 4)
# every row of a box starts from the same box: what must the shape of its sides be, so that (N, L, 2) can be multiplied
# by it?


# %% decode-yours
def decode(deltas, boxes, weights=(1, 1, 1, 1)):
    """The boxes, xyxy, that `deltas` (N, 4) or (N, L, 4) make of `boxes` (N, 4), in the shape of `deltas`.

    Undoes `encode`: divides by the weights, then caps dw and dh, and only these, at log(1000/16)
    from above. Boxes may leave the image. N may be 0. No argument is changed.
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
print("decode: right")
moved = decode(said, starts, model.config.bbox_reg_weights)
for name, each in (("as proposed", starts), ("moved by your decode", moved)):
    print(f"mean IoU of proposals and their digits, {name}: {np.diag(boxes.iou(each, goals)).mean():.3f}")

# %% reference [markdown]
# ## 4  The same in the library
#
# The two public functions check what they are given and are otherwise what you wrote. They work in float32 where the
# boxes are float32, with the same cap as torchvision.
#
# There is no kernel beside them, and the cell measures why none is needed: what takes so small a part of a page's time
# could be made infinitely fast, and nobody would notice.

# %% reference-source
many = trace.rpn_deltas[0][0]  # (A, 4), what the RPN says of a page
alone = min(timeit.repeat(lambda: boxes.decode(many, trace.anchors[0]), number=20, repeat=5)) / 20
whole = min(timeit.repeat(lambda: model.predict([image]), number=1, repeat=5))
print(f"decoding all {len(many)} anchors of a page: {alone * 1e6:.0f} µs")
print(f"the whole detector: {whole * 1e3:.1f} ms, of which this is {alone / whole:.1%}")
course.source(boxes.encode, boxes.decode, boxes._centre_and_sides)

# %% round-trip [markdown]
# ### A test that proves nothing
#
# `decode(encode(gt, box), box)` must give `gt`. It is the first test that comes to mind, and often the last. Take any
# invertible function $T$ of the deltas, and let a wrong encoder apply it and a wrong decoder undo it:
#
# $$ D\bigl(T^{-1}(T(E(g)))\bigr) = D(E(g)) = g. $$
#
# $T$ cancels. A round trip proves that the decoder undoes the encoder, and nothing about what was encoded. Here are six
# encoders, each with the decoder that a person with the same misunderstanding would write, and before them the right
# one. In the last column, the decoders read what the trained network says of its proposals, which it learned in the
# right terms. Guess first which of the six does the least harm.


# %% round-trip-six
def pixels_of(start):
    "What turns shifts in sides into shifts in pixels, (N, 4)."
    return np.concatenate([boxes.convert(start, "xyxy", "xywh")[:, 2:], np.ones((len(start), 2))], axis=1)


def ratios(d):
    return np.concatenate([d[:, :2], np.exp(d[:, 2:])], axis=1)


def logs(d):
    return np.concatenate([d[:, :2], np.log(np.maximum(d[:, 2:], 1e-3))], axis=1)


two = np.array([1, 1, np.log(2), np.log(2)])
pairs = {  # what is done to the right deltas d, and what undoes it; s: boxes to start from, w: weights
    "nothing is wrong": (lambda d, s, w: d, lambda d, s, w: d),
    "logarithm to base 2": (lambda d, s, w: d / two, lambda d, s, w: d * two),
    "height before width": (lambda d, s, w: d[:, [0, 1, 3, 2]], lambda d, s, w: d[:, [0, 1, 3, 2]]),
    "no logarithm": (lambda d, s, w: ratios(d / w) * w, lambda d, s, w: logs(d / w) * w),
    "signs turned round": (lambda d, s, w: -d, lambda d, s, w: -d),
    "shift in pixels": (lambda d, s, w: d * pixels_of(s), lambda d, s, w: d / pixels_of(s)),
    "weights forgotten": (lambda d, s, w: d / w, lambda d, s, w: d * w),
}


# %% round-trip-table
def verdict(encoder):
    "What checks.encode says of an encoder."
    try:
        checks.encode(encoder)
    except checks.CheckFailed:
        return "rejected"
    return "passes"


def mean_iou(moved):
    return np.diag(boxes.iou(moved, goals)).mean()


weights = model.config.bbox_reg_weights
print(f"{'the misunderstanding':<28}{'round trip':>12}{'checks.encode':>15}{'mean IoU after moving':>24}")
for name, (there, back) in pairs.items():

    def wrong_encode(gt, start, weights=(1, 1, 1, 1), there=there):
        return there(boxes.encode(gt, start, weights), start, np.asarray(weights))

    trip = back(wrong_encode(goals, starts, weights), starts, weights)
    error = np.abs(boxes.decode(trip, starts, weights) - goals).max()
    moved = boxes.decode(back(said, starts, weights), starts, weights)
    trip_says = "passes" if error < 1e-3 else "fails"
    print(f"{name:<28}{trip_says:>12}{verdict(wrong_encode):>15}{mean_iou(moved):>24.3f}")
print(f"{'the proposals, not moved':<55}{mean_iou(starts):>24.3f}")

# %% normalise [markdown]
# All six pass the round trip, so `checks.encode` compares the numbers themselves. A network that is trained with a
# wrong pair may even work. What breaks is everything that relies on the meaning of the four numbers: a network trained
# by somebody else, as in the table, the cap, and the balance of the losses.
#
# ## 5  Why 0.1 and 0.2
#
# The second stage multiplies its deltas by the weights $(10, 10, 5, 5)$ before the loss, and divides by them before
# decoding. This is a division by $(0.1, 0.1, 0.2, 0.2)$, which stand for standard deviations: what is to be learned
# shall have a deviation of about 1 ([2] section 2.3). Then the loss of the boxes is of the order of the loss of the
# classes, and neither drowns the other. The original implementation first measured the deviations on the training
# data; later it had these four numbers fixed, since proposals change while the RPN learns. What makes them about as
# large as this, on any data?
#
# The rule of matching. A proposal is only asked to move if its IoU with the object is at least $t = 0.5$. On one
# axis, take a box of length 1 and an object of length $g = e^{d_w}$, whose centre is $d_x$ away:
#
# - equal lengths: $\frac{1 - d_x}{1 + d_x} \ge t$, so $|d_x| \le \frac{1 - t}{1 + t} = \frac13$;
# - one inside the other: $e^{-|d_w|} \ge t$, so $|d_w| \le \log\frac1t = \log 2 \approx 0.69$;
# - the most shift of all: an object as long as can be, $g = 1/t$, with the box at one end of it:
#   $|d_x| \le \frac{1 - t}{2t} = \frac12$.
#
# The IoU of two boxes is at most that of their intervals along either axis, so this holds for boxes as well. Shifts are
# bounded, stretches too, and at equal lengths a stretch has about twice the room of a shift. This is the factor between
# 0.1 and 0.2. Before you run the cell: inside which of the white lines must all the dots lie?

# %% bounds-picture
dx, dw = np.linspace(-0.7, 0.7, 141), np.linspace(-1, 1, 161)
told = np.array([[x, 0, w, 0] for w in dw for x in dx])  # (161 * 141, 4)
unit = np.array([[0.0, 0, 1, 1]])
surface = boxes.iou(boxes.decode(told, np.repeat(unit, len(told), axis=0)), unit).reshape(len(dw), len(dx))

figure = plot.figure(7, 4.6)
ax = figure.subplots()
plot.iou_surface(
    ax,
    surface,
    dx,
    dw,
    "dx, widths of the box",
    "dw, natural logarithm of the ratio",
    levels=(0.5, 0.7),
    points=deltas[::3, [0, 2]],
)
plot.title(
    ax,
    "What the matching rule leaves to learn",
    "IoU of a box with itself moved by dx and dw; dots: one proposal in three",
)
figure

# %% histograms
wanted = boxes.encode(goals, starts, model.config.bbox_reg_weights)  # (N, 4)
figure = plot.figure(11, 3.6)
left, right = figure.subplots(1, 2)
plot.delta_histograms(left, deltas, limit=0.8)
plot.title(left, "Before the weights", f"raw deltas {deltas.shape}")
plot.delta_histograms(right, wanted, limit=4, unit=True)
plot.title(right, "After the weights", "10, 10, 5, 5")
figure

# %% deviations [markdown]
# Mind the two axes. On the left, the shifts are about half as wide as the stretches. On the right, where the axis is
# five times as long, all four have about the width of the normal distribution, though more of them lie near 0 than it
# says. Next, the numbers: what the weights should be by the data, for the proposals and for the positive anchors, and
# what the loss would be of a network that says 0 throughout, that is, that leaves all boxes as they are. The loss is
# smooth L1 with beta 1/9, as in training (notebook 07). To compare: the cross-entropy over 11 classes begins at $\log
# 11 \approx 2.4$, and as at most a quarter of the sampled RoIs are objects, a quarter of what is printed counts.

# %% deviations-measured
rpn = []  # what the RPN has to learn
for number in range(60):
    objects = pages[number][1]["boxes"]
    matches = matching.match(boxes.iou(grid, objects), high=0.7, low=0.3, force_best=True)
    positive = np.flatnonzero(matches >= 0)  # none on a page without objects
    rpn.append(boxes.encode(objects[matches[positive]], grid[positive]))


def loss_of_zero(wanted):
    "Smooth L1 of deltas that are all 0, mean over the boxes."
    return nn.functional.smooth_l1_loss(nn.Tensor(0 * wanted), wanted, beta=1 / 9).item() / len(wanted)


print(f"{'deviation of':<24}{'dx':>8}{'dy':>8}{'dw':>8}{'dh':>8}{'loss of 0':>12}")
raw = {"proposals, raw": deltas, "positive anchors, raw": np.concatenate(rpn)}
for name, each in {**raw, "proposals, weighted": wanted}.items():
    print(f"{name:<24}", *(f"{value:>7.3f}" for value in each.std(axis=0)), f"{loss_of_zero(each):>11.3f}")
print(f"{'1 / weights':<24}{0.1:>8}{0.1:>8}{0.2:>8}{0.2:>8}")

# %% weights [markdown]
# The weights were chosen for photographs, and fit handwritten digits: the rule of matching, which is the same for both,
# says more about the deltas than the images do. Without the weights, the loss of the boxes would begin at a thirtieth
# of that of the classes; with them, at a third. The RPN uses its deltas as they are, with weights 1, in torchvision as
# here. There the cross-entropy of two classes begins at only $\log 2 \approx 0.69$, and up to half of the sampled
# anchors are objects.
#
# > **What people get wrong.** The weights of the two stages: $(1, 1, 1, 1)$ for the RPN, $(10, 10, 5, 5)$ for the
# > second stage, and in each the same ones for `encode` and `decode`. Whoever divides by $(0.1, 0.1, 0.2, 0.2)$ where
# > another multiplies by $(10, 10, 5, 5)$ does the same; whoever *multiplies* by 0.1 and 0.2 is wrong by factors of 100
# > and 25. The table of the round trips shows what forgotten weights do to a good network: it would do better not to
# > move its boxes.
#
# ## 6  Boxes that have no deltas
#
# A box without width cannot be encoded from, for $d_x$ divides by it, nor to, for the logarithm of 0 is $-\infty$. One
# such box among many thousands is enough. The next cell takes an encoder that does not look, 64 pairs of boxes, and one
# linear layer that is to learn the deltas. First all is well. Then one object has no width. Then that object is a RoI,
# too, for the second stage adds the true boxes to its proposals (notebook 10). Predict the loss, and how many of the
# layer's 32 weights have a gradient that is no number.


# %% degenerate
def encode_unchecked(gt, start):
    gt, start = boxes.convert(gt, "xyxy", "cxcywh"), boxes.convert(start, "xyxy", "cxcywh")
    with np.errstate(divide="ignore", invalid="ignore"):
        shift, ratio = (gt[:, :2] - start[:, :2]) / start[:, 2:], gt[:, 2:] / start[:, 2:]
        return np.concatenate([shift, np.log(ratio)], axis=1)


thin, own = goals[:64].copy(), starts[:64].copy()
thin[7, 2] = thin[7, 0]
own[7] = thin[7]
features = np.random.default_rng(0).standard_normal((64, 8), dtype=np.float32)
cases = {
    "all is well": (goals[:64], starts[:64]),
    "object 7 has no width": (thin, starts[:64]),
    "box 7 is that object": (thin, own),
}
for name, (gt, start) in cases.items():
    layer = nn.Linear(8, 4)
    loss = nn.functional.smooth_l1_loss(layer(nn.Tensor(features)), encode_unchecked(gt, start), beta=1 / 9)
    loss.backward()
    missing = np.isnan(layer.weight.grad).sum()
    print(f"{name:<24}loss {loss.item() / 64:<8.3f}gradients that are NaN: {missing} of 32")
try:
    boxes.encode(thin, starts[:64])
except ValueError as error:
    print("rcnn says:", error)

# %% degenerate-words [markdown]
# > **What people get wrong.** NaN from degenerate boxes. From the object alone, the loss is infinite while the gradient
# > stays finite (smooth L1 limits it), and pulls the width towards 0 for ever. With the object as a RoI, half of the
# > layer is NaN after one step, and so is all that lies before it, for the gradient goes on through it. The message, if
# > there is one, comes from somewhere else, and so it is no use to look for the NaN where it shows. Look for boxes with
# > $x_2 \le x_1$ in the annotations: `rcnn check` finds them before training, `encode` refuses them, and proposals with
# > a side below 0.001 pixels are dropped.
#
# ## A number to check
#
# By hand: a box 10, 20, 30, 60 and an object 15, 15, 55, 55. The box has the sides 20 and 40 and the centre (20, 40);
# the object has the sides 40 and 40 and the centre (35, 35). So $d_x = 15 / 20 =$ **0.75**, $d_y = -5 / 40 =$
# **-0.125**, $d_w = \log 2 \approx$ **0.693**, $d_h =$ **0**.
#
# And by the data: section 5 says that no proposal with an IoU of at least 0.5 can have $|d_x|$ or
# $|d_y|$ above **0.5**, or $|d_w|$ or $|d_h|$ above **0.693**. That is a statement about every image ever matched,
# and must hold here.

# %% number-check
print("by hand:  [0.75 -0.125 0.693 0]")
print("encode:  ", boxes.encode([[15, 15, 55, 55]], [[10, 20, 30, 60]])[0].round(3))
print("largest |dx|, |dy|, |dw|, |dh| of", len(deltas), "proposals:", np.abs(deltas).max(axis=0).round(3))

# %% next [markdown]
# ## To try
#
# 1. Collect the proposals that have an IoU of at least 0.7 with an object instead. What do the bounds become, and what
#    should the weights be? (Cascades of detectors raise the threshold from stage to stage, and the weights with it.)
# 2. Feed the boxes that the second stage has moved into it again, as RoIs: `model.forward` takes `rois`. Does the mean
#    IoU rise a second time?
# 3. `boxes.MAX_LOG_SCALE` is the cap. How low can you set it until the detections of a page change, and what has that
#    to do with the last row printed above? Why is it higher all the same?
# 4. Write a seventh wrong pair that passes the round trip, and try whether `checks.encode` finds it.
