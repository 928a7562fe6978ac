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
# *Goals.* After this notebook, you can
#
# - describe the layers of the RPN, and bring its outputs into the order of the anchors;
# - derive the two losses and their gradients, and write them without overflow;
# - check any gradient with central differences, and choose the step size;
# - predict the first loss of a training, and recognise a healthy start.
#
# *Prerequisites.* Notebooks 03 (convolutions), 05 (labels) and 06 (deltas). You need logarithms, derivatives and the
# chain rule.
#
# *Time.* About three hours.
#
# **The question.** Each anchor of a page has a label: object, background, or not sampled. Each positive anchor also has
# target deltas. An untrained network predicts a probability of about one half for every anchor. How does it learn to
# predict high probabilities on the digits and low ones elsewhere?
#
# Two losses measure how wrong the network is, and their derivatives show how to improve it. In this notebook, you study
# the *region proposal network* (RPN), derive both losses, write them and their gradients, and check the gradients
# numerically. Then you train the RPN alone and watch how its predictions change.
#
# | array | shape | contents |
# |---|---|---|
# | `features[l]` | $(N, C, H_l, W_l)$ | feature map of level l |
# | `objectness[l]` | $(N, A_l)$ | a logit for each anchor; $A_l = H_l \times W_l \times k$ |
# | `rpn_deltas[l]` | $(N, A_l, 4)$ | deltas for each anchor |
# | `labels` | (A,) | labels of one image: 1 object, 0 background, -1 not sampled |
#
# *History.* Fast R-CNN [2] took its regions from a separate algorithm, Selective Search, which was slower than the
# network itself. Faster R-CNN [1] replaced it by the RPN, which uses the same features as the second stage. RetinaNet
# later extended a head like this one to all classes, without a second stage.
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
# ## 1  The head: a small network for every cell
#
# The input is a feature map $(N, C, H_l, W_l)$. First, a 3 × 3 convolution with C channels and a ReLU combine each cell
# with its neighbours. Then there are two parallel 1 × 1 convolutions ([1] section 3.1). `cls_logits` has k channels,
# one logit for each of the k anchors of a cell. `bbox_pred` has 4k channels, the deltas of these anchors. A 1 × 1
# convolution is a linear layer that is applied to every cell. If there are several levels, all of them use the same
# head.
#
# The classifier in the paper has 2k outputs and a softmax over two classes. rcnn and torchvision use k outputs and a
# sigmoid. Both are equivalent, because a softmax over two logits only depends on their difference.
#
# **Predict:** here, C = 64 and k = 6. How many weights does the head have, including biases?

# %% head-source
for name, parameter in trained.rpn.head.named_parameters():
    print(f"{name:<20}{str(parameter.shape):<18}{parameter.size:>7,}")
total = sum(parameter.size for parameter in trained.rpn.head.parameters())
print(f"{'total':<38}{total:>7,}")
course.source(rpn.RPNHead.forward)

# %% permutation [markdown]
# ## 2  A bug that no shape check can catch
#
# The convolution returns $(N, k, H_l, W_l)$. The anchors are ordered by row, then by column, then by the anchor within
# the cell. So `transpose(0, 2, 3, 1)` must move the channels to the end before `reshape` makes $(N, A_l)$. Without the
# transpose, the reshape also works, and the shape is the same. But then the logits of the first anchor of all cells
# come first, then those of the second anchor. Logit 17 no longer belongs to anchor 17.
#
# The plots show the 20 anchors with the highest logits in both orders, from the same weights.
#
# > **What people get wrong.** Without the transpose, there is no error, and the training loss even decreases, because
# > the network memorises the pages. But on other pages, it finds few digits (exercise 3 at the end). If a
# > detector finds nothing, plot its best anchors before you change the learning rate.

# %% permutation-picture
with nn.no_grad():
    hidden = trained.rpn.head.conv(nn.Tensor(trace.features[0]))  # (N, C, H_l, W_l)
    channels = trained.rpn.head.cls_logits(hidden).data  # (N, k, H_l, W_l)
right = channels.transpose(0, 2, 3, 1).ravel()  # (A_l,)
wrong = channels.ravel()  # (A_l,)

figure = plot.figure(10, 4.8)
orders = {"With transpose": right, "Without transpose": wrong}
mean_iou = []
for ax, (name, logits) in zip(figure.subplots(1, 2), orders.items(), strict=True):
    best = np.argsort(-logits)[:20]
    mean_iou.append(boxes.iou(trace.anchors[0][best], target["boxes"]).max(axis=1).mean())
    plot.proposals(ax, image, trace.anchors[0][best], F.sigmoid_of(logits[best]))
    caption = (
        f"the 20 best anchors; mean of their best IoU with an object: {mean_iou[-1]:.2f}"
    )
    plot.title(ax, f"{name}: shape {logits.shape}", caption)
assert np.array_equal(right, trace.objectness[0][0])
assert mean_iou[0] > 0.5 and mean_iou[1] < 0.2
course.show(
    figure,
    "The 20 anchors with the highest logits, with two orders of the same outputs. With "
    "the transpose, they lie on the digits, and the mean of their best IoU is "
    f"{mean_iou[0]:.2f}. Without it, they are scattered over the page, and the mean is "
    f"{mean_iou[1]:.2f}.",
)

# %% logit [markdown]
# ## 3  Objectness: from a logit to a loss
#
# The head can predict any real number $s$, the *logit*. The sigmoid turns it into a probability,
# $p = \sigma(s) = 1 / (1 + e^{-s})$. Treat the anchors as independent. Then the network assigns to all labels $t_i$ (1
# or 0) together the probability $\prod_i p_i^{t_i} (1 - p_i)^{1 - t_i}$. The best weights maximise this probability.
# They also minimise its negative logarithm, divided by the number $n$ of anchors, which is a sum instead of a product
# ([1] section 3.1.2, $L_{cls}$):
#
# $$ \begin{aligned}
# L = -\frac{1}{n} \sum_i \bigl[ & t_i \log p_i \\
# & + (1 - t_i) \log (1 - p_i) \bigr].
# \end{aligned} $$
#
# This is the *binary cross-entropy*. In exact arithmetic, the formula is enough. In floating point, it is not. The next
# cell computes it as written, for background anchors ($t = 0$), in float32. **Predict** the correct loss for a logit of
# 20.

# %% overflow
as_written, through_p = {}, {}
print("logit           p     loss as written     exact loss     derivative through p")
with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
    for logit in np.array([2, 10, 20, 100, -100], np.float32):
        p = 1 / (1 + np.exp(-logit))
        loss, exact = -np.log(1 - p), np.logaddexp(0, np.float64(logit))
        derivative = (p - 0) / (p * (1 - p)) * (p * (1 - p))  # the chain rule through p
        print(f"{logit:5.0f}  {p:10.8f}{loss:20.5f}{exact:15.5f}{derivative:25.5f}")
        as_written[int(logit)], through_p[int(logit)] = loss, derivative
    assert np.isinf(as_written[20]) and np.isnan([through_p[20], through_p[-100]]).all()
    assert as_written[-100] == 0 and np.isinf(np.exp(np.float32(100)))
assert [round(float(F.sigmoid_of(np.array(x))), 2) for x in (0.0, 1.0)] == [0.5, 0.73]

# %% stable-form [markdown]
# At a logit of 20, $p$ is exactly 1 in float32, so the loss is $-\log 0 = \infty$, and the derivative is 0/0. At -100,
# $e^{100}$ overflows in float32. Here, the loss is correct by chance, but the derivative is NaN. NumPy would also print
# warnings, but the cell switches them off.
#
# The solution is to avoid $p$. Insert $\sigma$ into the loss of one anchor and simplify, for $t = 1$ and $t = 0$:
#
# $$ \begin{aligned}
# -\log \sigma(s) &= \log (1 + e^{-s}), \\
# -\log (1 - \sigma(s)) &= \log (1 + e^{s}).
# \end{aligned} $$
#
# The second form still overflows if $s$ is large, and the first one if $-s$ is large. But one of $e^{s}$ and $e^{-s}$
# is at most 1. Factor the larger one out of the logarithm, so that only $e^{-|s|}$ remains inside. Derive this form
# yourself. NumPy's `log1p(x)` computes $\log(1 + x)$ and is also precise if $x$ is small.
#
# *A trap.* Do not apply the sigmoid twice. Functions whose names contain "with logits" apply it themselves. If you pass
# probabilities, their inputs are between 0 and 1, so $p$ stays between 0.5 and 0.73.


# %% cross-entropy-yours
def binary_cross_entropy(logits, labels):
    """Return the mean binary cross-entropy, a number.

    logits (A,): any real numbers, also very large ones, floats or integers.
    labels (A,): 1 for an object, 0 for background.
    Avoid overflow, and do not limit the loss. If A = 0, the mean is 0. The arguments must
    not change.
    """
    ### BEGIN SOLUTION
    logits = np.asarray(logits, np.float64)
    rest = np.log1p(np.exp(-np.abs(logits)))  # (A,)
    loss = np.maximum(logits, 0) - logits * labels + rest  # (A,)
    return loss.sum() / max(loss.size, 1)
    ### END SOLUTION


# %% cross-entropy-check points=2
checks.binary_cross_entropy(binary_cross_entropy)
print("binary_cross_entropy: correct")

# %% cross-entropy-gradient [markdown]
# ## 4  The gradient of the objectness loss
#
# With $\sigma' = \sigma (1 - \sigma)$, the derivative of $\log \sigma(s)$ is $1 - \sigma(s)$, and the derivative of
# $\log (1 - \sigma(s))$ is $-\sigma(s)$. So for both labels
#
# $$ \frac{\partial L}{\partial s_i} = \frac{\sigma(s_i) - t_i}{n}. $$
#
# This is the prediction minus the label, divided by $n$. Its magnitude is at most $1/n$, even if the prediction is very
# wrong. And it does not vanish for such predictions. In contrast, the derivative of the squared error
# $(\sigma(s) - t)^2$ contains the factor $\sigma'$, which is almost 0 if the network is certain and wrong. Such a
# network would learn almost nothing.
#
# The loss of the RPN uses a random sample of the anchors of each image ([1] section 3.1.3). All other anchors have the
# label -1. The $n$ of the formula is the number of *sampled* anchors. The sigmoid must not overflow, either.
#
# *A trap.* The label -1 is neither 1 nor 0. If you insert it into the formula, the result is $\sigma(s) + 1$. These
# would be the largest derivatives of all, for anchors that should have a derivative of 0.


# %% objectness-gradient-yours
def rpn_loss_gradient(logits, labels):
    """Return the derivative of the objectness loss with respect to each logit, (A,).

    logits (A,): any real numbers, floats or integers. labels (A,): 1 object, 0 background,
    -1 not sampled. The loss is the mean binary cross-entropy over the sampled anchors. If
    no anchor is sampled, all derivatives are 0. A may be 0. The arguments must not change.
    """
    ### BEGIN SOLUTION
    small = np.exp(-np.abs(np.asarray(logits, np.float64)))  # at most 1
    p = np.where(np.asarray(logits) >= 0, 1, small) / (1 + small)
    sampled = np.asarray(labels) >= 0
    return np.where(sampled, p - labels, 0) / max(sampled.sum(), 1)
    ### END SOLUTION


# %% objectness-gradient-check points=2
checks.rpn_loss_gradient(rpn_loss_gradient)
print("rpn_loss_gradient: correct")

# %% differences [markdown]
# ## 5  Check a gradient numerically
#
# A derivation on paper can be wrong, and training can hide the mistake: a step along a wrong gradient often still
# reduces the loss. *Central differences* are a test that does not need the derivation. Change one element of $x$ by a
# small step $h$ in both directions:
#
# $$ \begin{aligned}
# & \frac{f(x + h) - f(x - h)}{2 h} \\
# & \quad = f'(x) + \frac{h^2}{6} f^{(3)}(x) + \dots
# \end{aligned} $$
#
# A difference to one side only has the error $\frac{h}{2} f''(x)$, which is much larger. How small should $h$ be?
# According to the formula, as small as possible. But both values of $f$ are rounded, with an error of about
# $\varepsilon |f|$, where $\varepsilon \approx 10^{-16}$ in float64. Division by $h$ makes this error large if $h$ is
# small. The sum of both errors is smallest where $h^3 = 3 \varepsilon |f| / |f^{(3)}|$. For ordinary functions, this is
# near $h = \varepsilon^{1/3}$, and the error is near $\varepsilon^{2/3}$. **Predict** both numbers for float64 and for
# float32 ($\varepsilon \approx 10^{-7}$). And what happens if you add a step of $10^{-10}$ to a number near 1 in
# float32? You can see the effect at the left end of the curve.

# %% differences-curve
rng = np.random.default_rng(0)
logits, labels = rng.normal(0, 2, 32), rng.integers(0, 2, 32)  # 32 losses of one anchor
exact = F.sigmoid_of(logits) - labels  # (32,)
steps = 10.0 ** np.arange(-12, 0.5, 0.5)


def losses_at(logits, dtype):
    """Return the separate loss of each anchor, (32,), computed in `dtype`."""
    tensors = [nn.Tensor(np.array([logit], dtype)) for logit in logits]
    pairs = zip(tensors, labels, strict=True)
    return np.array([F.binary_cross_entropy_with_logits(t, [k]).item() for t, k in pairs])


def largest_error(step, dtype):
    """Return the largest error of the 32 central differences."""
    difference = losses_at(logits + step, dtype) - losses_at(logits - step, dtype)
    return np.abs(difference / (2 * step) - exact).max()


figure = plot.figure(7.5, 3.8)
ax = figure.subplots()
dtypes = "float64", "float32"
errors = {dtype: [largest_error(step, dtype) for step in steps] for dtype in dtypes}
plot.gradient_errors(ax, steps, errors)
caption = "largest error of 32 central differences"
plot.title(ax, "The error is smallest for a medium step", caption)
best_step = {dtype: steps[np.argmin(values)] for dtype, values in errors.items()}
assert errors["float32"][0] > 0.9
assert 1e-6 < best_step["float64"] < 1e-4 and 1e-3 < best_step["float32"] < 1e-1
course.show(
    figure,
    "Error by step size, both axes logarithmic. Each curve has the shape of a V: the "
    f"error falls up to a step of about {best_step['float64']:.0e} in float64 and "
    f"{best_step['float32']:.0e} in float32, and then both rise along the same line. With "
    "very small steps, float32 has an error of about 1 or more.",
)


# %% differences-yours
def central_differences(function, x, step=1e-5):
    """Return the gradient of `function` at x, computed from its values, in the shape of x.

    function: takes an array with the shape of x, and returns a number.
    x: float64 array of any shape. Afterwards, all its elements must be exactly the same.
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
rng = np.random.default_rng()
for shape, *step in (((5,), 0.5), ((2, 3, 4), 0.01), ((2, 1, 2, 3), 1e-4), ((3, 4),)):
    x, weight = rng.normal(size=(2, *shape))
    before, h = x.copy(), step[0] if step else 1e-5
    where = f"for x of shape {shape} and the step {h}{'' if step else ', the default'}"

    def sines(at, weight=weight):
        return float((weight * np.sin(at)).sum())

    try:
        found = central_differences(sines, x, *step)
    except (ValueError, IndexError) as error:
        raise checks.CheckFailed(
            f"central_differences raises {type(error).__name__} {where}: {error}\n"
            "Hint: x may have any number of axes. np.ndindex(x.shape) lists all indices."
        ) from None
    assert np.shape(found) == shape, (
        f"got a gradient of shape {np.shape(found)} {where}; expected the shape of x"
    )
    assert np.array_equal(x, before), (
        "x has changed; work on a copy, because x + h - h is rounded and can differ from x"
    )
    # Central differences of a sine, not its derivative: they differ if h is large.
    expected = weight * np.cos(x) * np.sin(h) / h
    assert (away := np.abs(found - expected).max()) < 1e-8, (
        f"an element is wrong by {away:.1e} {where}. The function is a sum of sines. "
        "Compute (f(x + h) - f(x - h)) / (2 h) with this step h, for one element at a time"
    )
error = np.abs(found - weight * np.cos(x)).max()
print(f"central_differences: correct, largest error {error:.0e}")

# %% smooth-l-one [markdown]
# ## 6  The box loss: smooth L1
#
# A positive anchor has four target deltas. Let $d$ be the difference between a predicted delta and its target. The
# square $\frac{1}{2} d^2$ has the slope $d$, so one very wrong anchor outweighs all others. The absolute value $|d|$
# has the slope 1 or -1. No anchor dominates, but the prediction does not settle, because the slope next to the target
# is as large as far away. *Smooth L1* ([2] equation 3, there with $\beta = 1$) is quadratic near the target, and linear
# far from it:
#
# $$ \begin{aligned}
# \ell_\beta(d) &= \begin{cases} d^2 / (2 \beta) & |d| < \beta, \\
#   |d| - \beta / 2 & \text{otherwise,} \end{cases} \\
# \ell_\beta'(d) &= \begin{cases} d / \beta & |d| < \beta, \\
#   \mathrm{sign}(d) & \text{otherwise.} \end{cases}
# \end{aligned} $$
#
# At $|d| = \beta$, both parts have the same value and the same slope. Verify this.
#
# **Why $\beta = 1/9$?** The paper does not explain it. Its published code uses this value, written as $\sigma = 3$ with
# $\beta = 1/\sigma^2$, and so do torchvision and rcnn. A likely reason is the size of the deltas. A positive anchor
# overlaps its object well, so its deltas are small, and the RPN does not multiply them by weights. The next cell
# measures them: with $\beta = 1$, all target deltas are in the quadratic part, and their mean slope is a fifth of that
# with $\beta = 1/9$.

# %% smooth-l-one-picture
all_anchors, rng = trace.anchors[0], np.random.default_rng(0)
size = trained.config.rpn_batch_size_per_image
found = [
    rpn.find_targets(all_anchors, objects["boxes"], batch_size=size, rng=rng).deltas
    for _, objects in data.Digits(64)
]
wanted = np.concatenate(found)  # (positive anchors of 64 pages, 4)
mean_slope = {}
for beta in (1, 1 / 9):
    predicted = nn.Tensor(np.zeros_like(wanted), requires_grad=True)
    F.smooth_l1_loss(predicted, wanted, beta).backward()
    mean_slope[beta] = np.abs(predicted.grad).mean()
    below = np.mean(np.abs(wanted) < beta)
    print(
        f"beta {beta:.3f}: {below:.0%} of {wanted.size:,} target deltas are below it",
        end="",
    )
    print(f"; the mean slope is {mean_slope[beta]:.2f}")
print("(mean slope: for predictions of 0)")
assert np.abs(wanted).max() < 1 and round(mean_slope[1 / 9] / mean_slope[1]) == 5
positives = len(wanted) / 64  # per page
assert round(positives) == 8 and positives / size < 0.1

d = np.linspace(-2, 2, 401)


def smooth_at(d, beta):
    """Return the library's smooth L1 for a difference d."""
    return F.smooth_l1_loss(nn.Tensor([d]), [0], beta).item()


betas = {"1": 1, "1/9": 1 / 9}
smooth = {
    f"smooth L1, β = {name}": np.array([smooth_at(x, beta) for x in d])
    for name, beta in betas.items()
}
slopes = {name: np.gradient(values, d) for name, values in smooth.items()}
parts = {  # beyond the loss, each formula is drawn only where the loss does not use it
    "smooth L1": smooth["smooth L1, β = 1"],
    "d²/2, not used": np.where(np.abs(d) >= 1, d**2 / 2, np.nan),
    "|d| - 1/2, not used": np.where(np.abs(d) <= 1, np.abs(d) - 1 / 2, np.nan),
}
figure = plot.figure(11, 3.8)
left, right = figure.subplots(1, 2)
plot.lines(left, d, parts, "d", "loss")
plot.title(left, "The loss with β = 1", "a parabola for |d| < 1, two lines beyond")
plot.lines(right, d, slopes, "d", "slope")
plot.title(right, "The slope", "with β = 1/9, it is larger for small d")
course.show(
    figure,
    "Left: smooth L1 with beta 1 is a parabola between -1 and 1, and a straight line on "
    "each side. The continued parabola rises faster than the lines, and the continued "
    "lines meet in a corner at -1/2. Right: its slope rises from -1 to 1 over the "
    "interval from -1 to 1; with beta 1/9, it rises over an interval nine times shorter.",
)


# %% smooth-l-one-yours
def smooth_l1(prediction, target, beta):
    """Return the sum of smooth L1 over all elements, a number.

    prediction, target (N, 4), floats or integers; N may be 0. beta > 0. Do not divide the
    sum: the caller does this. The arguments must not change.
    """
    ### BEGIN SOLUTION
    d = np.abs(np.asarray(prediction, np.float64) - target)
    return np.where(d < beta, d * d / (2 * beta), d - beta / 2).sum()
    ### END SOLUTION


def smooth_l1_gradient(prediction, target, beta):
    """Return the derivative of this sum with respect to each element of prediction, (N, 4).

    The arguments are those of smooth_l1. At a difference of 0, the slope is 0.
    """
    ### BEGIN SOLUTION
    d = np.asarray(prediction, np.float64) - target
    return np.clip(d / beta, -1, 1)
    ### END SOLUTION


# %% smooth-l-one-check points=4
checks.smooth_l1(smooth_l1)
checks.smooth_l1_gradient(smooth_l1_gradient)
print("smooth_l1 and smooth_l1_gradient: correct")


# %% measured-check points=1
# This check uses all five functions: do your gradients agree with your central differences?
def difference(loss, gradient, x):
    """Return the largest difference between your gradient and your central differences."""
    return np.abs(central_differences(loss, x) - gradient(x)).max()


rng = np.random.default_rng()
labels, wanted_deltas = rng.integers(0, 2, 40), rng.normal(0, 0.3, (5, 4))
differences = {
    "objectness": difference(
        lambda at: binary_cross_entropy(at, labels),
        lambda at: rpn_loss_gradient(at, labels),
        rng.normal(0, 3, 40),
    ),
    "boxes": difference(
        lambda at: smooth_l1(at, wanted_deltas, 1 / 9),
        lambda at: smooth_l1_gradient(at, wanted_deltas, 1 / 9),
        rng.normal(0, 0.3, (5, 4)),
    ),
}
for name, largest in differences.items():
    assert largest < 1e-4, (
        f"{name}: your gradient differs from the derivative of your loss by {largest:.1e}"
    )
    print(f"{name:<10} gradient and loss agree, largest difference {largest:.0e}")

# %% normalisation [markdown]
# ## 7  The sum of both losses
#
# Equation 1 of [1], where $p_i$ is the probability and $t_i$ the deltas of anchor $i$, and a star marks the targets:
#
# $$ \begin{aligned}
# L ={}& \frac{1}{N_{cls}} \sum_i L_{cls}(p_i, p_i^*) \\
# &+ \lambda \frac{1}{N_{reg}} \sum_i p_i^* L_{reg}(t_i, t_i^*).
# \end{aligned} $$
#
# The factor $p_i^*$ means that only positive anchors have a box loss. In the paper, $N_{cls} = 256$ is the number of
# sampled anchors, $N_{reg} \approx 2400$ is the number of cells, and $\lambda = 10$. Since $2400 / 10 = 240$ is almost
# 256, both sums are divided by nearly the same number. rcnn and torchvision divide both by the number of *sampled*
# anchors in the batch, and have no $\lambda$.
#
# *A trap.* A mean of the box loss over the *positive* anchors looks more natural. But then a page with one positive
# anchor has as much influence as a page with fifty. And a page without positive anchors divides 0 by 0. The resulting
# NaN reaches every weight in a single step. In rcnn, the loss is 0 if no anchor is sampled.
#
# The losses have no kernels, because they only need a few NumPy operations on a few hundred sampled anchors. To find
# these anchors, the IoU of *every* anchor with every object is needed, and this function has a kernel. A later cell
# compares its time with that of the reference, for one page.

# %% normalisation-source
course.source(rpn.loss)

# %% training [markdown]
# ## 8  Train the RPN
#
# The next cells train a small detector with random weights on 64 pages. They only use its backbone and the head of the
# RPN. Each step takes two pages, computes the labels and target deltas of their anchors, and moves the weights against
# the gradient of the sum of both losses. *Autograd* computes this gradient: `rcnn.nn` records the operations on
# tensors, and `backward` goes through them in reverse order and multiplies by derivatives such as those that you wrote.
#
# At some steps, the code stores the predictions for a page that is *not* among the 64. It also measures the recall of
# the 20 best proposals on eight such pages: the fraction of digits that one of these proposals covers with an IoU of at
# least 0.5.
#
# **Predict**: a page has 16 × 16 × 6 = 1,536 anchors, and only about eight of them are positive. What do the predictions
# look like after ten steps?

# %% training-setup
rcnn.seed(7)
pages, unseen = data.Digits(64), data.Digits(8, split="val", seed=5)
model = rcnn.faster_rcnn_small(pages.classes)
train, test = list(pages), list(unseen)  # pairs (image, target)
train_images, test_images = (
    model.make_batch([page for page, _ in part]).images for part in (train, test)
)
gt_boxes = [objects["boxes"].astype(np.float32) for _, objects in train]  # (G, 4) each


def rpn_outputs(images):
    """Return objectness (N, A) and deltas (N, A, 4) of the only level, as tensors."""
    (objectness,), (deltas,) = model.rpn.head([model.backbone(nn.Tensor(images))])
    return objectness, deltas


def rpn_losses(chosen, rng):
    """Return the two losses of the RPN on the chosen pages."""
    found = [
        rpn.find_targets(all_anchors, gt_boxes[i], batch_size=size, rng=rng) for i in chosen
    ]
    objectness, deltas = rpn_outputs(train_images[chosen])
    return rpn.loss([objectness], [deltas], found)


course.compare(boxes.iou, all_anchors, gt_boxes[1])


# %% training-loop
def recall_of_best(objectness, deltas):
    """Return the fraction of the unseen digits that the best proposals of a page cover."""
    covered = []
    cuts = {"pre_nms_top_n": 400, "post_nms_top_n": 20}
    outputs = zip(objectness.data, deltas.data, test, strict=True)
    for logits, page_deltas, (_, objects) in outputs:
        best = rpn.propose([logits], [page_deltas], [all_anchors], (128, 128), **cuts)
        iou = boxes.iou(best.boxes, objects["boxes"])  # (20, G)
        covered.append(iou.max(axis=0, initial=0) >= 0.5)
    return np.concatenate(covered).mean()


rcnn.set_num_threads(1)  # the pages are small, so a second thread does not help
rng, maps, objectness_losses = np.random.default_rng(7), {}, []
optimizer = optim.Adam([*model.backbone.parameters(), *model.rpn.parameters()], lr=1e-3)
for step in range(161):
    if step in (0, 10, 30, 80, 120, 160):
        with nn.no_grad():
            model.eval()
            objectness, deltas = rpn_outputs(test_images)
            model.train()
        maps[step] = objectness.data[0], recall_of_best(objectness, deltas)
    cls_loss, reg_loss = rpn_losses(rng.choice(len(train), 2, replace=False), rng)
    objectness_losses.append(cls_loss.item())
    optimizer.zero_grad()
    (cls_loss + reg_loss).backward()
    optimizer.step()
print("objectness loss at every 20th step, from step 0:")
print(*(f"{loss:.3f}" for loss in objectness_losses[::20]))
assert maps[10][0].max() < maps[0][0].max() < 0.1 and maps[160][0].max() > 2  # logits
assert maps[10][1] < 0.2 and maps[160][1] > 0.7  # recall

# %% objectness-by-iteration
figure = plot.figure(11, 6.6)
axes = figure.subplots(2, 3).flat
for ax, (step, (logits, recall)) in zip(axes, maps.items(), strict=True):
    probability = F.sigmoid_of(logits).reshape(16, 16, -1).transpose(2, 0, 1)  # (k, 16, 16)
    plot.objectness(ax, test[0][0], probability)
    caption = f"maximum {probability.max():.3f}; recall of the 20 best {recall:.0%}"
    plot.title(ax, f"Step {step}", caption)
course.show(
    figure,
    "The highest probability in each cell at six steps. Step 0: about one half "
    "everywhere. Step 10: lower everywhere, without a pattern of digits. Step 30: low, a "
    "little higher on the digits. Steps 80 to 160: a few cells on the digits become "
    "bright, and all others stay low. The recall of the 20 best proposals rises from "
    f"{maps[0][1]:.0%} to {maps[160][1]:.0%}.",
)

# %% a-number [markdown]
# The colour of each cell shows the highest probability of its anchors. In the first steps, all probabilities decrease.
# More than nine in ten of the sampled anchors are background. The quickest way to a lower loss is to predict background
# everywhere, which does not need the image. Only later does the network learn *where* the objects are. If you stop at
# step 10, you may think that the network is broken. (Up to half of a sample may be positive, but these pages have too
# few positive anchors.)
#
# This answers the question at the top: the network gets from one half everywhere to high probabilities on the digits by
# two losses, their gradients, and many small steps.
#
# ## A number to check
#
# The weights of the head start as random numbers from a normal distribution with standard deviation 0.01 ([1] section
# 3.1.3), and its biases start at 0. So an untrained network predicts $s \approx 0$ and $p \approx 1/2$. The loss of
# every anchor is then about $\log 2$, **0.693**, for either label. The first loss of any training should be near this
# number. If it is not, find the reason before you continue.
#
# You can also predict the gradient. Each sampled anchor has a derivative of about $\pm 1/(2n)$, negative for positive
# anchors. A bias of `cls_logits` is added to the logits of all cells, so its gradient is the sum over them. For all k
# biases together, with $n^+$ positive and $n^-$ negative anchors, it is $(n^- - n^+) / (2n)$.

# %% a-number-measured
rcnn.seed(1)
fresh = rcnn.faster_rcnn_small(pages.classes)
rng = np.random.default_rng(1)
chosen = rpn.find_targets(all_anchors, gt_boxes[1], batch_size=size, rng=rng)
objectness, deltas = fresh.rpn.head([fresh.backbone(nn.Tensor(train_images[[1]]))])
first, _ = rpn.loss(objectness, deltas, [chosen])
first.backward()
plus, minus = len(chosen.positive), len(chosen.negative)
expected = (minus - plus) / (2 * (plus + minus))
measured = fresh.rpn.head.cls_logits.bias.grad.sum()
print(f"first loss {first.item():.4f}; in section 8: {objectness_losses[0]:.4f}", end="; ")
print(f"log 2 = {np.log(2):.4f}")
print(f"{plus} positive, {minus} negative: (n- - n+) / 2n = {expected:.4f}")
print(f"sum of the gradients of the biases: {measured:.4f}")
assert abs(first.item() - np.log(2)) < 0.01
assert abs(objectness_losses[0] - np.log(2)) < 0.01
assert abs(measured - expected) < 0.01

# %% learned [markdown]
# ## What you have learned
#
# - The RPN is a small convolutional head with two losses: binary cross-entropy for objectness, smooth L1 for deltas.
# - Compute the losses from logits, without probabilities, and check every gradient with central differences.
# - A healthy training starts at a loss of log 2, predicts background everywhere, and only then finds the objects.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Start `cls_logits.bias.data[...]` at -2.2 instead of 0, so that $p = 0.1$ everywhere. Compute the first loss by
#    hand, for 12 positive and 116 negative anchors. Are the predictions at step 10 different?
# 2. Divide the box loss by the number of positive anchors. By which factor do its gradients increase, and what happens
#    on `train[3]`, which has no objects?
#
# **Core** (half an hour)
#
# 3. Remove the transpose from the head (with a subclass of `rpn.RPNHead`) and train again. How far does the loss
#    decrease, and what is the recall?
# 4. Also store the predictions at step 60, once as above and once without `model.eval()`. How do they differ? What does
#    batch norm do in each of the two modes, and why is the difference visible while the weights change quickly?
#
# **Stretch** (an evening)
#
# 5. The *focal loss* (RetinaNet, arXiv 1708.02002) uses all positive and negative anchors instead of a sample. Let
#    $q$ be the probability of the right label: $q = \sigma(s)$ for an object and $\sigma(-s)$ for background. The
#    loss of an anchor is $-\alpha (1 - q)^2 \log q$, with $\alpha = 0.25$ for objects and 0.75 for background. The
#    sum is divided by the number of positive anchors. Derive the gradient, and check it with your central
#    differences. Then train with it: `nn.functional.sigmoid`, `log` and `**` work on tensors, and
#    `rpn.find_targets(...).matches` is -2 for ignored anchors. Compare the recall at steps 10 and 160 with the
#    sample.

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    Four anchors are sampled, and all logits are 0. What is the derivative of the objectness
    loss with respect to the logit of a *positive* anchor?
    [ ] -0.5
        The prediction minus the label is 0.5 - 1 = -0.5, but the loss is a mean over four
        anchors.
    [x] -0.125
        (0.5 - 1) / 4. The derivative is negative, so a step against the gradient increases
        the logit.
    [ ] 0.125
        The sign is wrong: this is the derivative for a negative anchor, whose logit must
        decrease.
    [ ] 0, because a logit of 0 is in the middle
        The derivative is 0 only if the prediction is equal to the label.

    The first loss of a new training is 0.693, as expected. Which of these bugs can you
    exclude?
    [ ] The labels 0 and 1 are swapped.
        With a probability of one half, the loss of an anchor is log 2 for either label.
    [ ] The transpose of the head is missing.
        The logits are in the wrong order, but all are nearly 0. So every order gives log 2.
    [x] The weights of the head start 100 times too large.
        Then the logits are not near 0, and the loss of many anchors differs from log 2.

    The differences between two predicted deltas and their targets are 0.05 and 3. What are
    the slopes of smooth L1 with beta 1/9?
    [x] 0.45 and 1
        0.05 is below beta, so the slope is 0.05 · 9. Beyond beta, it is 1.
    [ ] 0.05 and 3
        These are the slopes of the square. A very wrong box would dominate the gradient.
    [ ] 1 and 1
        These are the slopes of the absolute value. Smooth L1 has a smaller slope near the
        target.
    [ ] 0.05 and 1
        These are the slopes with beta 1.

    You compare your gradient with central differences in float64. The largest error is
    0.01, with each of the steps 1e-3, 1e-4, 1e-5 and 1e-6. What is the reason?
    [ ] The steps are too large.
        Then the error would fall by a factor of 100 whenever the step is ten times smaller.
    [ ] The steps are too small, and rounding dominates.
        Then the error would rise when the step becomes smaller.
    [x] The gradient is wrong.
        The differences agree with each other, so they are near the true derivative. Your
        formula differs from it.

    Someone applies the sigmoid to the logits, and passes the result to a loss "with
    logits". What is the lowest loss that a background anchor can reach?
    [ ] 0
        The loss treats the probability as a logit. It would need a logit far below 0, but a
        probability is at least 0.
    [ ] 0.313
        This is log(1 + exp(-1)), the lowest loss of an anchor with an *object*, at a
        probability of 1.
    [x] 0.693
        The best probability is 0. As a logit, it means one half, and the loss is log 2. No
        anchor can look certain.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 08 turns the outputs of the RPN into proposals. The code of this notebook is in `rcnn.rpn` and
# `rcnn.nn.functional`. For a loss with weights instead of a sample, read *Focal Loss for Dense Object Detection*
# (RetinaNet, arXiv 1708.02002).
