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
#     seconds: 90
# ---

# %% question [markdown]
# # The RPN and its losses
#
# **The question.** Every anchor of a page has been told what it should have said: object, background, or nothing at
# all; and if object, where it lies. An untrained network says one half everywhere. How does it get from there to a
# map that is bright on the digits and dark beside them?
#
# By two numbers that say how wrong it is, and by their derivatives. This notebook builds the *region proposal network*
# (RPN), derives both of its losses, lets you write them with their gradients, checks the gradients by measurement, and
# then trains the RPN alone, to watch the map change.
#
# | array | shape | what it holds |
# |---|---|---|
# | `features[l]` | (N, C, H_l, W_l) | a level of the backbone |
# | `objectness[l]` | (N, A_l) | a logit for each anchor, A_l = H_l × W_l × k |
# | `rpn_deltas[l]` | (N, A_l, 4) | how each anchor is to be moved |
# | `labels` | (A,) | of one image: 1 object, 0 background, -1 not sampled |
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083).

# %% setting-up
import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, nn, plot, rpn
from rcnn.nn import functional as F
from rcnn.nn import optim

trained = rcnn.load_digits()  # its weights come with the package
image, target = data.Digits(split="val")[178]
trace = trained.trace([image])
print("features[0]  ", trace.features[0].shape)
print("objectness[0]", trace.objectness[0].shape)
print("rpn_deltas[0]", trace.rpn_deltas[0].shape)

# %% head [markdown]
# ## 1  The head: one small network, asked at every cell
#
# In: a map (N, C, H_l, W_l). A 3 × 3 convolution with C channels and a ReLU look at each cell and its neighbours. Then
# two 1 × 1 convolutions stand side by side: `cls_logits` with k channels, a logit for each anchor of the cell, and
# `bbox_pred` with 4k, the deltas of each ([1] section 3.1). A 1 × 1 convolution is a linear layer that is applied at
# every cell alike. With several levels, the same head reads all of them.
#
# The paper's classifier has 2k outputs and a softmax over two classes. rcnn and torchvision have k outputs and a
# sigmoid. A softmax over two logits depends on their difference alone, so one number per anchor says as much.
#
# **Predict** before you run the next cell: C = 64 and k = 6 here. How many weights does the head have, biases included?

# %% head-source
for name, parameter in trained.rpn.head.named_parameters():
    print(f"{name:<20}{str(parameter.shape):<18}{parameter.size:>7,}")
print(f"{'together':<38}{sum(parameter.size for parameter in trained.rpn.head.parameters()):>7,}")
course.source(rpn.RPNHead.forward)

# %% permutation [markdown]
# ## 2  A mistake that no shape betrays
#
# A convolution gives (N, k, H_l, W_l). Anchors are listed by row, column, anchor of the cell. So the channels must move
# to the end, by `transpose(0, 2, 3, 1)`, before `reshape` makes (N, A_l) of it. Without the `transpose` the reshape
# works as well, and the shape is the same: (N, A_l). But now all cells of the first anchor come first, then all of the
# second, and logit number 17 belongs to another anchor than anchor number 17.
#
# The plot shows the 20 anchors with the highest logits in both orders, from the same weights.
#
# > **What people get wrong.** Nothing raises an error here, and the loss even falls. In a training as in section 8,
# > but without the transpose, it fell from 0.69 to about 0.1 in 360 steps, for the net learned its pages by heart. Of
# > the digits on other pages, the proposals covered about one in ten all the while. When a detector finds nothing,
# > draw its best anchors before you change the learning rate.

# %% permutation-picture
with nn.no_grad():
    hidden = trained.rpn.head.conv(nn.Tensor(trace.features[0]))  # (N, C, H_l, W_l)
    channels = trained.rpn.head.cls_logits(hidden).data  # (N, k, H_l, W_l)
right, wrong = channels.transpose(0, 2, 3, 1).reshape(1, -1)[0], channels.reshape(1, -1)[0]  # (A_l,) both

figure = plot.figure(10, 4.8)
orders = {"With transpose": right, "Without": wrong}
for ax, (name, logits) in zip(figure.subplots(1, 2), orders.items(), strict=True):
    best = np.argsort(-logits)[:20]
    overlap = boxes.iou(trace.anchors[0][best], target["boxes"]).max(axis=1)  # (20,)
    plot.proposals(ax, image, trace.anchors[0][best], F.sigmoid_of(logits[best]))
    plot.title(
        ax,
        f"{name}: shape {logits.shape}",
        f"the 20 best anchors; mean IoU with an object {overlap.mean():.2f}",
    )
figure

# %% logit [markdown]
# ## 3  Objectness: from a logit to a loss
#
# The head may say any real number $s$, the *logit*. The sigmoid makes a probability of it:
# $p = \sigma(s) = 1 / (1 + e^{-s})$. If the anchors are taken as independent, the probability that the net gives to all
# labels $t_i$, 1 or 0, is $\prod_i p_i^{t_i} (1 - p_i)^{1 - t_i}$. The best weights make it as large as possible. Its
# negative logarithm, divided by the number $n$ of anchors, is as small as possible for the same weights, and a sum is
# easier than a product ([1] section 3.1.2, $L_{cls}$):
#
# $$ L = -\frac{1}{n} \sum_i \left[ t_i \log p_i + (1 - t_i) \log (1 - p_i) \right]. $$
#
# This is *binary cross-entropy*. On paper it is done. On a computer it is not: run the next cell, which computes this
# formula as it stands, for anchors of the background ($t = 0$), in float32. What should the loss of a logit of 20 be?

# %% overflow
with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
    for logit in np.array([2, 10, 20, 100, -100], np.float32):
        p = 1 / (1 + np.exp(-logit))
        as_written = -np.log(1 - p)
        through_p = (p - 0) / (p * (1 - p)) * (p * (1 - p))  # the derivative, by the chain rule through p
        exact = np.logaddexp(0, np.float64(logit))
        print(
            f"logit {logit:5.0f}: p {p:.8f}, loss as written {as_written:9.5f}, exact {exact:9.5f}, "
            f"derivative through p {through_p:8.5f}"
        )

# %% stable-form [markdown]
# At 20, $p$ is already 1 in float32, and $\log 0$ is infinite. The derivative is 0/0. At -100, $e^{100}$ is too large
# for float32: the loss happens to survive it, the derivative does not, and NumPy would warn if it had not been told to
# be silent.
#
# The remedy is never to compute $p$. Put $\sigma$ into the loss of one anchor and simplify, for $t = 1$ and $t = 0$:
#
# $$ -\log \sigma(s) = \log (1 + e^{-s}), \qquad -\log (1 - \sigma(s)) = \log (1 + e^{s}). $$
#
# The second still overflows where $s$ is large, the first where $-s$ is. But of $e^{s}$ and $e^{-s}$ one is at most 1:
# take the larger of 0 and the exponent out of the logarithm, and only $e^{-|s|}$ is left. Carry this through by
# yourself. NumPy's `log1p(x)` is $\log(1 + x)$, exact for small $x$ as well.
#
# > **What people get wrong.** A sigmoid too much. A function that is named "with logits" applies the sigmoid itself; if
# > probabilities are passed, it sees numbers between 0 and 1 only, and its $p$ never leaves [0.5, 0.73].


# %% cross-entropy-yours
def binary_cross_entropy(logits, labels):
    """The mean binary cross-entropy, a number.

    logits (A,): any real numbers, of any size, whole ones too. labels (A,): 1 for an object, 0 for
    background. Nothing may overflow, and no loss may be cut off. The mean over no anchors is 0.
    """
    ### BEGIN SOLUTION
    logits = np.asarray(logits, np.float64)
    loss = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))  # (A,)
    return loss.sum() / max(loss.size, 1)
    ### END SOLUTION


# %% cross-entropy-check points=2
checks.binary_cross_entropy(binary_cross_entropy)
print("binary_cross_entropy: right")

# %% cross-entropy-gradient [markdown]
# ## 4  Its gradient
#
# With $\sigma' = \sigma (1 - \sigma)$, the derivative of $\log \sigma(s)$ is $1 - \sigma(s)$, and that of
# $\log (1 - \sigma(s))$ is $-\sigma(s)$. So for either label
#
# $$ \frac{\partial L}{\partial s_i} = \frac{\sigma(s_i) - t_i}{n}. $$
#
# What the net said, minus what it should have said. It cannot exceed $1/n$ however wrong the net is, and it does not
# vanish where the net is badly wrong: had we taken the squared error $(\sigma(s) - t)^2$, the factor $\sigma'$ would
# have stayed, and a net that is sure and wrong would learn nothing.
#
# In the RPN, most anchors have no part in the loss: a random sample of each image does ([1] section 3.1.3), and the
# rest get the label -1. The $n$ of the formula is the number *sampled*, and the sigmoid must not overflow, either.
#
# > **What people get wrong.** A label of -1 is neither 1 nor 0. Put into the formula it gives $\sigma(s) + 1$, the
# > strongest push of all, to anchors that should not be pushed.


# %% objectness-gradient-yours
def rpn_loss_gradient(logits, labels):
    """The derivative of the objectness loss with respect to each logit, (A,).

    logits (A,): any real numbers. labels (A,): 1 object, 0 background, -1 not sampled. The loss is the
    mean binary cross-entropy over the sampled anchors. If none was sampled, all derivatives are 0.
    """
    ### BEGIN SOLUTION
    small = np.exp(-np.abs(np.asarray(logits, np.float64)))  # at most 1
    p = np.where(np.asarray(logits) >= 0, 1, small) / (1 + small)
    sampled = np.asarray(labels) >= 0
    return np.where(sampled, p - labels, 0) / max(sampled.sum(), 1)
    ### END SOLUTION


# %% objectness-gradient-check points=2
checks.rpn_loss_gradient(rpn_loss_gradient)
print("rpn_loss_gradient: right")

# %% differences [markdown]
# ## 5  Do not believe a gradient: measure it
#
# A derivative that was derived on paper can be wrong, and training will hide it: a wrong gradient often still goes
# downhill. There is a test that knows nothing of the derivation: the *central differences* with which notebook 03 tested
# a convolution. Move one element of $x$ by a small step $h$ either way and see what the function does:
#
# $$ \frac{f(x + h) - f(x - h)}{2 h} = f'(x) + \frac{h^2}{6} f^{(3)}(x) + \dots $$
#
# The difference to one side only would be off by $\frac{h}{2} f''(x)$, which is much more. How small should $h$ be?
# The formula says: as small as possible. But both values of $f$ are rounded, by about $\varepsilon |f|$, with
# $\varepsilon \approx 10^{-16}$ in float64, and that error is divided by $h$. The sum of both errors is smallest where
# $h^3 = 3 \varepsilon |f| / |f^{(3)}|$: near $h = \varepsilon^{1/3}$ for a function of ordinary size, with an error
# near $\varepsilon^{2/3}$. **Predict** both for float64 and for float32 ($\varepsilon \approx 10^{-7}$). And what does
# a step of $10^{-10}$ do to a number of the size of 1 in float32? Look for it at the left end of the curve.

# %% differences-curve
rng = np.random.default_rng(0)
logits, labels = rng.normal(0, 2, 32), rng.integers(0, 2, 32)  # 32 losses, of one anchor each
exact = F.sigmoid_of(logits) - labels  # (32,)
steps = 10.0 ** np.arange(-12, 0.5, 0.5)


def losses_at(moved, dtype):
    "The loss of each anchor by itself, (32,), computed in `dtype`."
    return np.array(
        [
            F.binary_cross_entropy_with_logits(nn.Tensor(np.array([logit], dtype)), [label]).item()
            for logit, label in zip(moved, labels, strict=True)
        ]
    )


def worst_error(step, dtype):
    "The largest error of the 32 central differences."
    difference = losses_at(logits + step, dtype) - losses_at(logits - step, dtype)
    return np.abs(difference / (2 * step) - exact).max()


figure = plot.figure(7.5, 3.8)
ax = figure.subplots()
errors = {dtype: [worst_error(step, dtype) for step in steps] for dtype in ("float64", "float32")}
plot.gradient_errors(ax, steps, errors)
plot.title(ax, "Neither too large a step nor too small", "the worst of 32 central differences")
figure


# %% differences-yours
def central_differences(function, x, step=1e-5):
    """The gradient of `function` at x, found from its values alone, in the shape of x.

    function: takes an array of x's shape, gives a number. x: float64, of any shape; it is the same
    afterwards, to the last digit.
    """
    ### BEGIN SOLUTION
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[place] = step
        gradient[place] = (function(x + move) - function(x - move)) / (2 * step)
    return gradient
    ### END SOLUTION


# %% differences-check points=2
x, weight = np.random.default_rng().normal(size=(2, 3, 4))
before = x.copy()
found = central_differences(lambda at: float((weight * np.sin(at)).sum()), x)
assert np.shape(found) == x.shape, f"x has the shape {x.shape}, its gradient {np.shape(found)}"
assert np.array_equal(x, before), "x has changed: work on a copy (x + h - h is rounded, and may not be x)"
off = np.abs(found - weight * np.cos(x)).max()
assert off < 2e-8, f"off by {off:.1e} on a sum of sines; with a step of 1e-5 either way, 1e-10 is usual"
print(f"central_differences: right, to {off:.0e}")

# %% smooth-l-one [markdown]
# ## 6  The boxes: smooth L1
#
# A positive anchor should also have said four deltas. Let $d$ be the difference between one that it said and the one
# that it should have said. The square, $\frac{1}{2} d^2$, has a slope of $d$: one anchor that is badly off outweighs
# all others. The absolute value, $|d|$, has a slope of 1 or -1: it never outweighs, but it does not settle either, for
# it pushes as hard next to the target as far away. *Smooth L1* ([2] equation 3, there with $\beta = 1$) is the one
# near the target and the other far from it:
#
# $$ \ell_\beta(d) = \begin{cases} d^2 / (2 \beta) & |d| < \beta \\ |d| - \beta / 2 & \text{elsewhere} \end{cases}
# \qquad \ell_\beta'(d) = \begin{cases} d / \beta & |d| < \beta \\ \mathrm{sign}(d) & \text{elsewhere.} \end{cases} $$
#
# At $|d| = \beta$ both forms have the same height and the same slope; check it.
#
# **Why 1/9?** The paper does not say; its published code has it, written as $\sigma = 3$ with
# $\beta = 1/\sigma^2$, and torchvision and rcnn keep it. A likely reason is the size of the deltas. A positive anchor
# overlaps its object well, so its deltas are small, and the RPN's are not multiplied by weights. The next cell measures
# them: with $\beta = 1$ all of them would lie on the parabola, and be pushed a fifth as hard as with $\beta = 1/9$.

# %% smooth-l-one-picture
all_anchors, rng, size = trace.anchors[0], np.random.default_rng(0), trained.config.rpn_batch_size_per_image
found = [
    rpn.find_targets(all_anchors, objects["boxes"], batch_size=size, rng=rng).deltas
    for _, objects in data.Digits(64)
]
wanted = np.concatenate(found)  # (positive anchors of 64 pages, 4)
for beta in (1, 1 / 9):
    said = nn.Tensor(np.zeros_like(wanted), requires_grad=True)
    F.smooth_l1_loss(said, wanted, beta).backward()
    below = np.mean(np.abs(wanted) < beta)
    print(
        f"beta {beta:.3f}: {below:.0%} of {wanted.size:,} wanted deltas are below it; where 0 was said, "
        f"the mean slope is {np.abs(said.grad).mean():.2f}"
    )

d = np.linspace(-1.5, 1.5, 601)
curves = {"d²/2": d**2 / 2, "|d|": np.abs(d)}
for name, beta in (("smooth, β = 1", 1), ("smooth, β = 1/9", 1 / 9)):
    curves[name] = np.array([F.smooth_l1_loss(nn.Tensor([x]), [0], beta).item() for x in d])
figure = plot.figure(11, 3.6)
left, right = figure.subplots(1, 2)
plot.title(plot.lines(left, d, curves, "d", "loss"), "Loss")
slopes = {name: np.gradient(values, d) for name, values in curves.items()}
plot.title(plot.lines(right, d, slopes, "d", "slope"), "Its slope", "how hard a delta is pushed")
figure


# %% smooth-l-one-yours
def smooth_l1(prediction, target, beta):
    """The sum of smooth L1 over all elements, a number.

    prediction, target (N, 4): N may be 0. beta > 0. No mean: what the sum is divided by is for the
    caller to say.
    """
    ### BEGIN SOLUTION
    d = np.abs(np.asarray(prediction, np.float64) - target)
    return np.where(d < beta, d * d / (2 * beta), d - beta / 2).sum()
    ### END SOLUTION


def smooth_l1_gradient(prediction, target, beta):
    """The derivative of that sum with respect to each element of the prediction, (N, 4)."""
    ### BEGIN SOLUTION
    d = np.asarray(prediction, np.float64) - target
    return np.clip(d / beta, -1, 1)
    ### END SOLUTION


# %% smooth-l-one-check points=4
checks.smooth_l1(smooth_l1)
checks.smooth_l1_gradient(smooth_l1_gradient)
print("smooth_l1 and smooth_l1_gradient: right")


# %% measured-check points=1
# All five functions together: is what you derived what you measure?
def off(loss, gradient, x):
    "The largest difference between your gradient of your loss and your measurement of it."
    return np.abs(central_differences(loss, x) - gradient(x)).max()


rng = np.random.default_rng()
labels, wanted_deltas = rng.integers(0, 2, 40), rng.normal(0, 0.3, (5, 4))
off_by = {
    "objectness": off(
        lambda at: binary_cross_entropy(at, labels),
        lambda at: rpn_loss_gradient(at, labels),
        rng.normal(0, 3, 40),
    ),
    "boxes": off(
        lambda at: smooth_l1(at, wanted_deltas, 1 / 9),
        lambda at: smooth_l1_gradient(at, wanted_deltas, 1 / 9),
        rng.normal(0, 0.3, (5, 4)),
    ),
}
for name, largest in off_by.items():
    assert largest < 1e-4, f"{name}: off by {largest:.1e}; your gradient is not the derivative of your loss"
    print(f"{name:<10} gradient and loss agree to {largest:.0e}")

# %% normalisation [markdown]
# ## 7  The two together: divided by what?
#
# Equation 1 of [1], with $p_i$ the probability and $t_i$ the deltas of anchor $i$, and stars for what should be:
#
# $$ L = \frac{1}{N_{cls}} \sum_i L_{cls}(p_i, p_i^*) + \lambda \frac{1}{N_{reg}} \sum_i p_i^* L_{reg}(t_i, t_i^*). $$
#
# The factor $p_i^*$ says that only positive anchors have a box to learn. In the paper $N_{cls} = 256$ is the number
# sampled, $N_{reg} \approx 2400$ the number of cells, and $\lambda = 10$. Since $2400 / 10 = 240$ is nearly 256, both
# sums are divided by about the number sampled. rcnn and torchvision say so outright: both losses are divided by the
# number *sampled* in the batch, and there is no $\lambda$.
#
# > **What people get wrong.** The mean over the *positive* anchors looks more natural for the boxes. But a page with
# > one positive anchor would then push it as hard as a page with fifty pushes all of its own together, and a page
# > without any divides by 0. That NaN reaches every weight in a single step. Here nothing sampled gives a loss of 0.
#
# The losses need no kernel: they are a few NumPy operations on the few hundred anchors that were sampled. To find
# these, the IoU of *every* anchor with every object is needed, and that has one. Its ratio is printed below, for one
# page.

# %% normalisation-source
course.source(rpn.loss)

# %% training [markdown]
# ## 8  Watch it learn
#
# A small detector with random weights, 64 pages, and of its parts only the backbone and the RPN's head. A step takes
# two pages, finds which anchors should have said what, and moves the weights against the gradient of the sum of both
# losses. That gradient is found by *autograd*: `rcnn.nn` records what is computed from tensors, and `backward` goes
# back through it, multiplying by derivatives such as those that you have written.
#
# Every so often, the map of a page that is *not* among the 64 is kept, and on eight such pages the recall of the 20
# best proposals is measured: the share of all digits that one of them covers with an IoU of at least 0.5.
#
# **Predict**: there are 16 × 16 × 6 = 1536 anchors a page, some ten of them positive. What will the map look like after
# ten steps?

# %% training-setup
rcnn.seed(7)
pages, unseen = data.Digits(64), data.Digits(8, split="val", seed=5)
model = rcnn.faster_rcnn_small(pages.classes)
train, test = list(pages), list(unseen)  # each (image, target), drawn once
train_images, test_images = (model.make_batch([page for page, _ in part]).images for part in (train, test))
true_boxes = [objects["boxes"].astype(np.float32) for _, objects in train]  # per page (G, 4)


def rpn_says(images):
    "Objectness and deltas of the one level: Tensors (N, A) and (N, A, 4)."
    (objectness,), (deltas,) = model.rpn.head([model.backbone(nn.Tensor(images))])
    return objectness, deltas


def rpn_losses(chosen, rng):
    "The two losses of the RPN on these pages."
    found = [rpn.find_targets(all_anchors, true_boxes[i], batch_size=size, rng=rng) for i in chosen]
    objectness, deltas = rpn_says(train_images[chosen])
    return rpn.loss([objectness], [deltas], found)


course.compare(boxes.iou, all_anchors, true_boxes[1])


# %% training-loop
def recall_of_best(objectness, deltas):
    "The share of the unseen digits that one of the 20 best proposals of their page covers."
    covered = []
    for logits, moves, (_, objects) in zip(objectness.data, deltas.data, test, strict=True):
        best = rpn.propose(
            [logits], [moves], [all_anchors], (128, 128), pre_nms_top_n=400, post_nms_top_n=20
        )
        covered.append(boxes.iou(best.boxes, objects["boxes"]).max(axis=0, initial=0) >= 0.5)
    return np.concatenate(covered).mean()


rcnn.set_num_threads(1)  # of pages so small, a second thread hardly gains
rng, maps, objectness_losses = np.random.default_rng(7), {}, []
optimizer = optim.Adam([*model.backbone.parameters(), *model.rpn.parameters()], lr=1e-3)
for step in range(161):
    if step in (0, 10, 30, 80, 120, 160):
        with nn.no_grad():
            model.eval()
            objectness, deltas = rpn_says(test_images)
            model.train()
        maps[step] = objectness.data[0], recall_of_best(objectness, deltas)
    cls_loss, reg_loss = rpn_losses(rng.choice(len(train), 2, replace=False), rng)
    objectness_losses.append(cls_loss.item())
    optimizer.zero_grad()
    (cls_loss + reg_loss).backward()
    optimizer.step()
print("objectness loss at the steps 0, 20, 40, ...:", *(f"{loss:.3f}" for loss in objectness_losses[::20]))

# %% objectness-by-iteration
figure = plot.figure(11, 6.6)
for ax, (step, (logits, recall)) in zip(figure.subplots(2, 3).flat, maps.items(), strict=True):
    probability = F.sigmoid_of(logits).reshape(16, 16, -1).transpose(2, 0, 1)  # (k, H_l, W_l)
    plot.objectness(ax, test[0][0], probability)
    caption = f"highest {probability.max():.3f}; recall of 20 proposals a page {recall:.0%}"
    plot.title(ax, f"Step {step}", caption)
figure

# %% a-number [markdown]
# Each cell shows the largest probability of its anchors. At first everything goes dark. More than nine in ten of the
# sampled anchors are background, and the quickest way to a lower loss is to say so everywhere, which needs no look at
# the page. Only then does the net learn *where* not to. That is the way from one half everywhere to the map: two numbers,
# their gradients, and many small steps. Whoever stops at step 10 believes that the net is broken. (Half of a sample may
# be positive; on these pages there are not nearly so many positive anchors.)
#
# ## A number to check
#
# The head begins with weights from a normal distribution of deviation 0.01 ([1] section 3.1.3) and biases of 0. So an
# untrained net says about $s = 0$ and $p = 1/2$, and the loss of every anchor, of either label, is $\log 2$,
# **0.693**. The first loss of any training should be about this. If it is not, look for the reason before you train on.
#
# The gradient can be foretold as well. Every sampled anchor has a derivative of about $\pm 1/(2n)$, negative for the
# positive ones. A bias of `cls_logits` is added to the logits of all cells, so its gradient is the sum over them; over
# the k biases together, with $n^+$ positive and $n^-$ negative anchors, it is $(n^- - n^+) / (2n)$.

# %% a-number-measured
rcnn.seed(1)
fresh = rcnn.faster_rcnn_small(pages.classes)
chosen = rpn.find_targets(all_anchors, true_boxes[1], batch_size=size, rng=np.random.default_rng(1))
objectness, deltas = fresh.rpn.head([fresh.backbone(nn.Tensor(train_images[[1]]))])
first, _ = rpn.loss(objectness, deltas, [chosen])
first.backward()
plus, minus = len(chosen.positive), len(chosen.negative)
print(f"first loss {first.item():.4f}; above it was {objectness_losses[0]:.4f}; log 2 = {np.log(2):.4f}")
print(f"{plus} positive, {minus} negative: (n- - n+) / 2n = {(minus - plus) / (2 * (plus + minus)):.4f}")
print(f"sum of the biases' gradient:       {fresh.rpn.head.cls_logits.bias.grad.sum():.4f}")

# %% next [markdown]
# ## To try
#
# 1. Start `cls_logits.bias.data[...]` at -2.2 instead of 0, so that $p = 0.1$ everywhere. What is the first loss, by
#    hand, for 12 positive and 116 negative anchors? Is the map at step 10 another?
# 2. Leave the transpose out of the head (subclass `rpn.RPNHead`) and train again. How far does the loss fall, and
#    what becomes of the recall?
# 3. Divide the boxes' loss by the number of positive anchors. How much larger are its gradients, and what happens on
#    `train[3]`, which is blank?
# 4. Keep the map of step 60 as well, once as it is and once without `model.eval()`. How do the two differ? What does
#    batch norm do otherwise in the two modes, and why does it show while the weights still move fast?
