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
#     seconds: 300
# ---

# %% question [markdown]
# # Training it all
#
# *Goals.* After this notebook, you can
#
# - compute the losses of an untrained detector by hand;
# - write a training step and test it by overfitting one batch;
# - choose a learning rate and a schedule;
# - read the loss curves of a detector, stage by stage;
# - train a new head on trained weights in few steps.
#
# *Prerequisites.* Notebooks 07 (losses), 08 (proposals) and 10 (the second stage); gradient descent.
#
# *Time.* About two hours, in which the cells run for at most five minutes.
#
# **The question.** All stages are written, and all their weights are random. How do half a million random numbers
# become a detector? How can you tell early in the training whether it works?
#
# A training run repeats one step: take a few images, compute the losses, compute the gradients, change the weights. You
# will write this step. Then you examine the training in the order in which people examine a new detector:
#
# | | look at | question |
# |---|---|---|
# | 1 | the first losses | Are the stages connected correctly? |
# | 2 | overfitting one batch | Can the network learn at all? |
# | 3 | the learning rate | How large should a step be? |
# | 4 | a run on shapes, from random weights to the end | What happens on the way? |
# | 5 | the start of a run on digits | When is patience right? |
# | 6 | trained weights with a new head | When should you not start from random weights? |
#
# *History.* The paper [1] trained the two stages alternately, and also jointly, in one network. Joint training became
# the standard. He, Girshick and Dollár (2018, arXiv 1811.08883) showed that a detector also learns from random weights
# if it trains longer.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083). [3] Kingma, Ba: *Adam*, 2015 (arXiv 1412.6980). [4] Pascanu, Mikolov, Bengio: *On the difficulty of
# training recurrent neural networks*, 2013 (arXiv 1211.5063). [5] Goyal et al.: *Accurate, Large Minibatch SGD*, 2017
# (arXiv 1706.02677). [6] Loshchilov, Hutter: *SGDR*, 2017 (arXiv 1608.03983).

# %% setting-up
import math
import tempfile

import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, evaluate, plot, roi_heads, train
from rcnn.nn import optim

rcnn.set_num_threads(1)  # on small images, more threads save little time
pages = data.Shapes(size=(96, 96))  # 20,000 training pages, each drawn when it is needed
unseen = data.Shapes(60, split="val", size=(96, 96))
assert len(pages) == 20_000 and train.Recipe().steps == 2500


def new_detector(seed=0, classes=pages.classes):
    """Return a small detector with random weights, which depend only on the seed."""
    rcnn.seed(seed)
    return rcnn.faster_rcnn_small(classes, min_size=96)


first_four = [pages[i] for i in range(4)]  # a batch
images, targets = [image for image, _ in first_four], [target for _, target in first_four]
figure = plot.figure(10, 2.6)
for ax, image, target in zip(figure.subplots(1, 4), images, targets, strict=True):
    plot.boxes(
        plot.image(ax, image), target["boxes"], target["labels"], class_names=pages.classes
    )
weights = sum(parameter.data.size for parameter in new_detector().parameters())
assert round(weights, -5) == 500_000
course.show(
    figure,
    "Four training pages with "
    f"{', '.join(str(len(target['labels'])) for target in targets)} objects. Circles, "
    "squares, triangles and crosses of any colour lie on a coloured background, and some "
    "overlap. Each object has a box with its class.",
)

# %% four-losses [markdown]
# ## 1  The first losses
#
# The detector minimises a sum of four losses ([1] equation 1 for the RPN, [2] equation 1 for the second stage):
#
# $$ L = L_\mathrm{cls}^\mathrm{RPN} + L_\mathrm{reg}^\mathrm{RPN} + L_\mathrm{cls}^\mathrm{RoI}
#      + L_\mathrm{reg}^\mathrm{RoI}. $$
#
# | loss | question | over |
# |---|---|---|
# | `rpn_cls_loss` | Does this anchor contain an object? (binary cross-entropy) | sampled anchors, the mean |
# | `rpn_reg_loss` | Where is its box? (smooth L1) | sampled positive anchors, divided by the number sampled |
# | `roi_cls_loss` | Which of the L classes is it? (cross-entropy) | sampled RoIs, the mean |
# | `roi_reg_loss` | Where exactly is its box? (smooth L1) | positive RoIs, divided by the number sampled |
#
# Before the first step, the weights of the last layers are near 0, so all logits are near 0. A logit of 0 is an
# objectness of one half, and L equal logits are L equal probabilities. The cross-entropy is minus the logarithm of the
# probability of the true class. You can therefore predict two of the four losses *without running anything*. If the
# measured losses differ much, find the reason before the first step: initial weights that are too large, a sum instead
# of a mean, or pixels that are a hundred times too bright.
#
# Write down both losses.


# %% first-losses-yours
def first_losses(num_classes):
    """Return two approximate losses before the first step: (rpn_cls_loss, roi_cls_loss).

    num_classes: L, the number of classes with the background. Assume that all logits are 0.
    """
    ### BEGIN SOLUTION
    return math.log(2), math.log(num_classes)
    ### END SOLUTION


# %% first-losses-check points=1
for classes in (pages.classes, data.Digits.classes):
    L = len(classes)
    losses = [
        new_detector(seed, classes).get_loss(images, targets, np.random.default_rng(seed))
        for seed in range(8)
    ]
    for name, guess in zip(("rpn_cls_loss", "roi_cls_loss"), first_losses(L), strict=True):
        measured = np.mean([one[name].item() for one in losses])
        assert abs(measured - guess) < 0.1, (
            f"{L} classes: the {name} of new detectors is not {guess:.2f}, which is the "
            f"loss for a probability of {np.exp(-guess):.3f} of the true class. Which "
            "probability does it have if all logits are 0?"
        )
        print(f"{L:>2} classes, {name}: expected {guess:.3f}, measured {measured:.3f}")

# %% step [markdown]
# ## 2  The step
#
# A step has five parts, and their order matters:
#
# 1. **Clear the gradients** with `optimizer.zero_grad()`. `backward()` *adds* to the existing gradients. That is right
#    within a step, where a weight is used many times, and wrong from one step to the next.
# 2. **Compute the losses.** `model.get_loss(images, targets, rng)` returns five scalar tensors; `rng` draws the sampled
#    anchors and RoIs. If the total is not finite, stop: one NaN in a weight soon makes all weights NaN.
# 3. **Compute the gradients** with `backward()` of the total, which is the sum of the other four losses.
# 4. **Clip.** If the norm of all gradients together, $\lVert g \rVert$, is larger than a bound $m$, multiply all of
#    them by $m / \lVert g \rVert$ ([4] algorithm 1). Then one unusual batch cannot move the weights far.
#    `optim.clip_grad_norm(parameters, m)` clips in place and returns the norm before clipping. `optimizer.parameters`
#    contains all parameters.
# 5. **Change the weights** with `optimizer.step()`.
#
# > **What people get wrong.** If you clip before `backward()` or after `step()`, there is no error and no clipping. If
# > you clip each gradient separately, the direction of the step changes; one common factor keeps it.
#
# > **What people get wrong.** Do not keep loss *tensors* in a list, and do not add them up. Until `backward()`, a
# > tensor holds the graph of its whole pass. If you only print losses, for example on unseen images, every graph stays
# > in memory. `.item()` returns the number.


# %% step-yours
def training_step(model, optimizer, images, targets, max_norm, rng):
    """Run one step; return the five losses and the norm of the gradients before clipping.

    The losses are a dict {name: float}. The norm is that of all gradients together.

    images, targets: the arguments of `model.get_loss`.
    max_norm: the bound of the gradient norm.
    rng: passed to `get_loss`. Call `get_loss` once.

    Gradients from earlier steps have no effect. Raise FloatingPointError if the total loss
    is not finite, before any weight changes.
    """
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    losses = model.get_loss(images, targets, rng)
    values = {name: loss.item() for name, loss in losses.items()}
    if not np.isfinite(values["total_loss"]):
        raise FloatingPointError(f"the losses are {values}")
    losses["total_loss"].backward()
    norm = optim.clip_grad_norm(optimizer.parameters, max_norm)
    optimizer.step()
    return values, norm
    ### END SOLUTION


# %% step-check points=3
checks.training_step(training_step)
print("training_step: correct")

# %% overfit [markdown]
# ### Overfit one batch
#
# This is the cheapest test of a training loop. Start every project with it. Train the detector on the same four pages
# again and again. There is nothing to generalise, so the losses must become almost 0.
#
# - If they do, the gradients have the right direction, and the targets can be learned.
# - If they do not, *more data will not help*. There is a fault; notebook 13 shows how to find it.
# - Look at the detections, too. The losses do not show whether decoding is the inverse of encoding. The right panel
#   does.
# - The test says nothing about new pages. A detector can overfit four pages and fail on the fifth.
#
# A small loss remains, because every step samples other anchors and RoIs. The cell uses your own step.

# %% overfit-check points=2
model, history = new_detector(), {}
optimizer = optim.Adam(model.parameters(), lr=2e-3)
batch = model.make_batch(images)  # resized and normalised once, for all steps
for step in range(150):
    losses, norm = training_step(
        model, optimizer, batch, targets, 5.0, np.random.default_rng(step)
    )
    for name, value in losses.items():
        history.setdefault(name, []).append(value)
first, last = history["total_loss"][0], np.mean(history["total_loss"][-10:])
assert last < first / 10, (
    f"the total loss goes from {first:.2f} to {last:.2f}, so the batch is not overfitted"
)

figure = plot.figure(10, 3.6)
left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
plot.loss_curves(left, history, smoothing=5)
plot.title(
    plot.levels(left, {"log 2": np.log(2), "log 5": np.log(5)}),
    "Overfitting one batch",
    f"total loss from {first:.2f} to {last:.2f}; pale: every step",
)
found = model.predict(images[:1], score_thresh=0.5)[0]
plot.detections(
    right,
    images[0],
    found["boxes"],
    found["scores"],
    found["labels"],
    pages.classes,
    targets[0]["boxes"],
)
plot.title(right, "A page of this batch", "detections with a score of at least 0.5")
course.show(
    figure,
    f"The total loss decreases from {first:.2f} to {last:.2f} in 150 steps. The "
    "classification losses decrease from the first step on; roi_reg_loss increases first. "
    f"On the page, {len(found['labels'])} detections lie on the "
    f"{len(targets[0]['labels'])} objects.",
)

# %% reading-curves [markdown]
# Read the curves from the left. `roi_cls_loss` starts near log 5 and decreases first and fast, although the network has
# learned little: most RoIs are background, and predicting background everywhere takes only a few steps. At the same
# time, `roi_reg_loss` may *increase*. It counts only positive RoIs, and better proposals mean more of them. This is
# progress, although the loss increases.
#
# > **What people get wrong.** Do not judge by the total alone. Four losses show which stage is slow, and their sum
# > hides it.
#
# The library's step does three more things. It can add the gradients of several batches. If a step fails, it restores
# the running statistics of the batch norms, and it names the first stage that is not finite.
#
# How much faster do the kernels make a step? After the source code, a cell computes the losses and the gradient of one
# batch with the NumPy reference and with the kernels. Much of the time is spent in convolutions. The reference computes
# them with a fast library for matrix products, so the ratio is smaller than for IoU or RoIAlign alone.

# %% library-step
course.source(train.train_step)

# %% kernels-ratio
detector = new_detector()
batch = detector.make_batch(images)


def loss_and_norm(batch):
    """Return the total loss and the norm of its gradient, (2,)."""
    detector.zero_grad()
    total = detector.get_loss(batch, targets, np.random.default_rng(0))["total_loss"]
    total.backward()
    return np.array([total.item(), optim.clip_grad_norm(detector.parameters(), np.inf)])


course.compare(loss_and_norm, batch, repeat=3)

# %% rate [markdown]
# ## 3  The learning rate
#
# Gradient descent is $w \leftarrow w - \eta g$. Its most important setting is the learning rate $\eta$. *Momentum*
# replaces $g$ by $v \leftarrow \mu v + g$. With $\mu = 0.9$, this sums about the last ten gradients: common directions
# add up, and different ones cancel. The paper uses momentum with $\eta = 0.001$, and a tenth of it for the last quarter
# of the steps ([1] section 3.1.3). *Adam* divides the averaged gradient of every weight by its typical size ([3]
# algorithm 1). A weight then moves by at most about $\eta$ per step, however large the loss is.
#
# **Predict**: three detectors overfit our four pages with Adam and $\eta$ = 0.00003, 0.002 and 0.1. What do their loss
# curves look like?


# %% rate-three
def overfit_losses(lr, steps=40):
    """Return the total losses (steps,) of a new detector on the four pages."""
    model = new_detector()
    optimizer, losses = optim.Adam(model.parameters(), lr), []
    batch = model.make_batch(images)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model.get_loss(batch, targets, np.random.default_rng(step))["total_loss"]
        loss.backward()
        optimizer.step()  # without clipping
        losses.append(loss.item())
    return losses


curves = {f"rate {lr:f}".rstrip("0"): overfit_losses(lr) for lr in (3e-5, 2e-3, 1e-1)}
low, medium, high = (np.mean(losses[-5:]) for losses in curves.values())
assert medium < high < low and max(curves["rate 0.1"]) > 100
figure = plot.figure(7.5, 3.2)
ax = figure.subplots()
plot.loss_curves(ax, curves, log=True)
plot.title(ax, "Too low, suitable, too high", "total loss on the same four pages")
course.show(
    figure,
    "Total loss in 40 steps with three learning rates. With 0.00003, it decreases slowly "
    f"to {low:.2f}. With 0.002, it decreases to {medium:.2f}. With 0.1, it jumps above "
    f"100 in the first steps, comes back, and stays near {high:.2f}.",
)

# %% schedule [markdown]
# With the low rate, the network learns slowly. With the high rate, the first steps move the weights far away. The loss
# comes back to a plateau, and from there it hardly decreases. A loss that *explodes* and a loss that *does not
# decrease* can have the same cause.
#
# ### A learning rate for every step
#
# No single rate suits a whole run. At the start, the gradients are large, their direction changes with every step, and
# Adam's averages rest on a few batches. The *warm-up* therefore increases the rate from a small value ([5] section
# 2.2). At the end, the weights move randomly around a good place, in proportion to the rate. The rate must therefore
# decrease: here along half a cosine ([6] section 3, without its restarts). $s$ is the step, $S$ the number of steps,
# $W$ the number of warm-up steps, and $f$ the fraction of the rate that is left at the end:
#
# $$ \begin{aligned}
# \eta(s) &= \eta_0 \, w(s) \, c(s), \\
# w(s) &= \begin{cases} 0.001 + 0.999 \, s / W & s < W \\ 1 & s \ge W \end{cases} \\
# c(s) &= f + \tfrac12 (1 - f) \\
# & \qquad \cdot \left( 1 + \cos \left( \pi \min(s / S, 1) \right) \right).
# \end{aligned} $$
#
# Two traps: no warm-up, $W = 0$, and a step after the last.
#
# > **What people get wrong.** A learning rate belongs to a batch size. The gradient is a mean over the batch, and with
# > twice the images it has less noise. With SGD, twice the rate then does about the same work in half the steps ([5]
# > section 2.1).


# %% schedule-yours
def learning_rate(step, steps, base, warmup, final):
    """Return the learning rate of a step, a number.

    step: s, from 0; it may be larger than S. steps: S. base: eta_0.
    warmup: W, which may be 0, and may be larger than S.
    final: f, the fraction of the base rate that is left at step S and after it.
    """
    ### BEGIN SOLUTION
    rise = 1.0 if step >= warmup else 0.001 + 0.999 * step / warmup
    fall = final + (1 - final) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
    return base * rise * fall
    ### END SOLUTION


# %% schedule-check points=2
checks.learning_rate(learning_rate)

at = np.arange(901)
schedules = {
    "warm-up and cosine": (60, 0.01),
    "no warm-up": (0, 0.01),
    "down to a half": (60, 0.5),
}
figure = plot.figure(7.5, 3)
ax = plot.lines(
    figure.subplots(),
    at,
    {
        name: [learning_rate(step, 900, 2e-3, *how) for step in at]
        for name, how in schedules.items()
    },
    "step",
    "learning rate",
)
plot.title(ax, "Your schedule", "900 steps, base rate 0.002")
course.show(
    figure,
    "Learning rate at each of 900 steps. With warm-up, it rises in a straight line to "
    "0.002 within 60 steps, then falls along half a cosine almost to 0. Without warm-up, "
    "it starts at 0.002. The third schedule falls only to 0.001.",
)

# %% to-the-end [markdown]
# ## 4  A whole run on shapes
#
# `train.fit` is the loop around the step. A `Recipe` contains the settings of the training. The recipe, the initial
# weights and the data together decide the result to the last bit. The run has 900 steps of four pages: 3,600 pages,
# each seen once. It stops several times; the detector is saved, examined and resumed. The stops do not change any
# number.
#
# **Predict**: what does the detector learn first: that there is an object, where it is, or which class it has?

# %% shapes-run
recipe = train.Recipe(steps=900, batch_size=4, lr=2e-3, warmup_steps=60)
looks = (0, 50, 100, 200, 500, 900)  # steps after which the detector is evaluated
# Steps after which its proposals on one page are stored.
stops = (0, 50, 100, 150, 200, 300, 500, 900)
number = 7  # this page
wanted = [target for _, target in unseen]
model, traces, aps, ten_best = new_detector(seed=1), {}, {}, []
with tempfile.TemporaryDirectory() as folder:
    for step in stops:
        if step:
            run = train.fit(
                model,
                pages,
                recipe,
                folder,
                resume=step > stops[1],
                stop_at=step,
                progress=False,
            )
        proposals = model.trace([unseen[number][0]]).proposals[0]  # by descending score
        ten_best.append(proposals[:10])
        if step in looks:
            traces[step] = [model.trace([image]) for image, _ in unseen]
            found = [trace.outputs[0] for trace in traces[step]]
            result = evaluate.evaluate_detections(found, wanted, len(unseen.classes))
            aps[step] = result.mean_ap
            print(f"after {step:>3} steps: AP50 on unseen pages {aps[step]:.3f}")

# %% settling [markdown]
# ### Proposals move to the objects
#
# Play the figure, or move its slider. On the left, it shows the ten proposals with the highest scores on one unseen
# page. The dashed boxes are the objects. The coloured boxes are the proposals nearest to each object, and their colours
# show the IoU. The other proposals are white. On the right, each line is an object of this page: the highest IoU with
# one of the ten proposals.
#
# Before the training, the ten proposals are random anchors, because all scores are almost equal. At first they become
# worse: the RPN has learned that almost all anchors are background, and its ranking of the rest is random. Then the
# proposals move to the objects, and finally to their edges.

# %% settling-page
image, target = unseen[number]
background = np.median(image, axis=(0, 1))  # (3,)
contrast = np.linalg.norm(image - background, axis=2, keepdims=True)  # (96, 96, 1)
# (96, 96, 3), in grey, because colours show the IoU
grey = np.repeat(1 - 0.8 * contrast / contrast.max(), 3, axis=2)
overlaps = [boxes.iou(found, target["boxes"]) for found in ten_best]  # (10, G) each
page_best = np.array([iou.max(axis=0) for iou in overlaps])  # (stops, G)


def draw(figure, i):
    """Draw the proposals after a number of steps, and the IoUs up to then."""
    left, right = figure.subplots(1, 2)
    plot.nearest_proposals(
        left, grey, ten_best[i], overlaps[i], target["boxes"], scale=False
    )
    plot.title(left, f"{stops[i]} training steps", "dashed: objects; solid: proposals")
    past = np.where(np.arange(len(stops))[:, None] <= i, page_best, np.nan)  # (stops, G)
    plot.settling(right, stops, past)
    right.scatter(
        [i] * len(page_best[i]),
        page_best[i],
        c=page_best[i],
        vmin=0,
        vmax=1,
        zorder=4,
        clip_on=False,
    )
    plot.title(
        right,
        "Highest IoU of each object",
        "with one of the 10 proposals; dots: colour of the box",
    )


notes = {
    0: "The scores are almost equal, so the proposals are random anchors.",
    50: "The RPN has learned how rare objects are, but not where they are.",
    150: "The proposals move to the objects.",
    900: "The proposals fit the edges of most objects.",
}
page_medians = np.median(page_best, axis=1)  # (stops,)
assert page_medians[1] < page_medians[0] < 0.5 and page_medians[-1] > 0.7
captions = [
    f"{f'After {step} training steps' if step else 'Before the training'}, "
    f"{(iou >= 0.5).sum()} of {len(iou)} objects have a proposal with an IoU of at least "
    f"0.5. The median is {np.median(iou):.2f}. {notes.get(step, '')}"
    for step, iou in zip(stops, page_best, strict=True)
]
course.player(draw, captions, size=(9.5, 4.2), seconds=2)

# %% settling-every-page [markdown]
# One page may be an exception. The graphs below therefore show all objects of all unseen pages: on the left the ten
# best proposals, on the right the detections with a score of at least 0.5.


# %% settling-all
def best_iou(boxes_list):
    """Return the highest IoU of each unseen object with the boxes of its page, (G,)."""
    return np.concatenate(
        [
            boxes.iou(found, target["boxes"]).max(axis=0, initial=0)
            for found, (_, target) in zip(boxes_list, unseen, strict=True)
        ]
    )


figure = plot.figure(11, 3.4)
left, right = figure.subplots(1, 2)
best = [best_iou([t.proposals[0][:10] for t in traces[step]]) for step in looks]
plot.title(plot.settling(left, looks, best), "Ten best proposals", "of any class")
confident = []
for step in looks:
    found = [trace.outputs[0] for trace in traces[step]]
    confident.append(best_iou([one["boxes"][one["scores"] >= 0.5] for one in found]))
plot.title(
    plot.settling(right, looks, confident), "Detections", "with a score of at least 0.5"
)
medians = [np.median(iou) for iou in best]
assert (
    medians[1] < medians[0] < medians[3]
    and medians[3] > 0.6
    and np.median(confident[3]) == 0
)
course.show(
    figure,
    f"Highest IoU of each of {len(best[0])} objects after {', '.join(map(str, looks))} "
    f"steps. With the ten best proposals, the median goes from {medians[0]:.2f} down to "
    f"{medians[1]:.2f} and then up to {medians[-1]:.2f}. With the detections, it is still "
    f"0 after {looks[3]} steps, and {np.median(confident[-1]):.2f} at the end.",
)

# %% shapes-curves
figure = plot.figure(11, 3.8)
left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
plot.loss_curves(left, run.history, smoothing=25)
plot.title(
    plot.levels(left, {"log 5": np.log(5), "log 2": np.log(2)}),
    "Losses",
    f"total from {run.history['total_loss'][0]:.2f} to "
    f"{np.mean(run.history['total_loss'][-25:]):.2f}; pale: every step",
)
plot.loss_curves(right, {"norm of all gradients": run.grad_norms}, smoothing=25)
right.get_legend().remove()
right.set(ylabel="norm of all gradients", ylim=(0, 1.1 * recipe.max_norm))
clipped = np.sum(np.array(run.grad_norms) > recipe.max_norm)
plot.levels(right, {"bound": recipe.max_norm})
plot.title(right, "Gradient norm", f"{clipped} of {recipe.steps} steps are clipped")

losses = np.array(run.history["total_loss"])
total = np.convolve(losses, np.ones(25) / 25, "valid")  # means of 25 steps
fallen = (losses[0] - total[200 - 12]) / (losses[0] - total[-1])
assert fallen > 0.7 and aps[200] < aps[900] / 2 and clipped < 0.01 * recipe.steps
course.show(
    figure,
    "Losses of 900 steps: the total decreases fast in the first 50 steps, then slowly to "
    f"{total[-1]:.2f}. The losses of the RPN are soon near 0; those of the second stage "
    f"decrease until the end. The gradient norm jumps between {min(run.grad_norms):.1f} "
    f"and {max(run.grad_norms):.1f} and has no trend after the first steps.",
)

# %% reading-runs [markdown]
# The stages learn one after the other. After 200 steps, the proposals lie on most objects, but the second stage has
# high scores for few of them. It cannot learn from proposals before there are good ones. This is why training adds the
# ground-truth boxes to its RoIs (notebook 10).
#
# Compare the loss with the AP that was printed above. After 200 steps, the total loss has done more than 70 % of its
# decrease, but the AP is less than half of its final value. In the remaining steps, the detector learns the classes and
# more exact boxes. This changes the loss little, and the AP most. Judge a run by the AP on unseen images. "The loss has
# converged" is a poor reason to stop. The bound of the gradient norm is for rare, unusual batches: here, fewer than 1 %
# of the steps are clipped.
#
# > **What people get wrong.** The loss of four pages is noisy: the pale line jumps from step to step. Compare means
# > over many steps, never two single steps, and fix the seed before you blame a setting.
#
# > **What people get wrong.** If you choose the best of many runs with the unseen images, do not report its AP on the
# > same images. Use a third set of images for the report.
#
# ## 5  The start of a run on digits
#
# There are four classes of shapes, with filled areas and clean edges. There are ten classes of digits, with thin
# strokes. The same network learns digits in 2,500 steps. The cell runs 100 steps, and compares the result with the
# weights of the long run, which are part of rcnn (`rcnn.load_digits()`).

# %% digits-begun
rcnn.seed(0)
begun = rcnn.faster_rcnn_small(data.Digits.classes)
train.fit(begun, data.Digits(), train.Recipe(steps=100, warmup_steps=20), progress=False)
shipped, digits = rcnn.load_digits(), data.Digits(60, split="val")

image, target = digits[7]
figure, digit_aps, counts = plot.figure(10, 4.8), [], []
for ax, name, detector in zip(
    figure.subplots(1, 2), ("100", "2,500"), (begun, shipped), strict=True
):
    ap = evaluate.evaluate(detector, digits, progress=False).mean_ap
    found = detector.predict([image], score_thresh=0.3)[0]
    digit_aps.append(ap)
    counts.append(len(found["labels"]))
    plot.detections(
        ax,
        image,
        found["boxes"],
        found["scores"],
        found["labels"],
        digits.classes,
        target["boxes"],
    )
    plot.title(ax, f"After {name} steps", f"AP50 {ap:.3f} on {len(digits)} unseen pages")
assert max(digit_aps[0], aps[100]) < 0.2 and counts[0] < len(target["labels"]) / 2
course.show(
    figure,
    f"Detections with a score of at least 0.3 on a page with {len(target['labels'])} "
    f"digits. After 100 steps, there are {counts[0]}, and the AP50 on unseen pages is "
    f"{digit_aps[0]:.3f}. After 2,500 steps, there are {counts[1]}, and the AP50 is "
    f"{digit_aps[1]:.3f}.",
)

# %% patience [markdown]
# After 100 steps, the detector finds almost nothing, and nothing is wrong: the detector of shapes also had an AP50
# below 0.2 at that point. If overfitting one batch had failed, more steps would not help. Check in this order: the
# first losses, overfitting one batch, a short run compared with a known one, and only then train longer.
#
# ## 6  Start from trained weights
#
# For a new task, start from trained weights if you can. The backbone and the RPN of the digit detector have learned
# what ink on paper looks like. The check replaces the second stage by one with random weights: the detector then finds
# digits, but does not know their classes. You have **120 steps** of four pages. Choose settings that reach an **AP50 of
# at least 0.92** on unseen pages. To see how far the default settings get, let `settings` return an empty dict first.
#
# `settings()` returns fields of `train.Recipe` as a dict. Three questions: How long is the default warm-up? (200 steps,
# but at most a quarter of all steps.) What do the large first gradients of the random head do to a trained backbone?
# Which learning rate suits the few layers of the head? `help(train.Recipe)` lists the fields. The names of the
# parameters start with `backbone`, `rpn` and `roi_heads`.
#
# If a part is frozen, its batch norms must be frozen, too. Otherwise their running means would follow the new images. A
# *frozen batch norm* multiplies each channel by one number and adds another. `train.fit` takes care of that. The ResNet
# detector of notebook 14 has only frozen batch norms, because one or two large images per batch are too few for
# statistics.


# %% settings-yours
def settings():
    """Return {field of train.Recipe: value}.

    The fields steps, batch_size and seed are given. Do not set them.
    """
    ### BEGIN SOLUTION
    return {"lr": 5e-3, "warmup_steps": 10, "freeze": ("backbone", "rpn")}
    ### END SOLUTION


# %% settings-check points=3
chosen = settings()
assert train.Recipe().warmup_steps == 200  # the default
assert not {"steps", "batch_size", "seed"} & set(chosen), (
    "steps, batch_size and seed are given; do not set them"
)
rcnn.seed(0)
headless = rcnn.load_digits()
config = headless.config
headless.roi_heads = roi_heads.RoIHeads(  # random weights
    config.feat_channels,
    config.num_classes,
    pool_size=config.pool_size,
    hidden_dim=config.hidden_dim,
    dropout=config.dropout,
)
before = evaluate.evaluate(headless, digits, progress=False).mean_ap
recipe = train.Recipe(steps=120, batch_size=4, **chosen)
run = train.fit(headless, data.Digits(), recipe, progress=False)
result = evaluate.evaluate(headless, digits, progress=False)
by_step = run.history["roi_cls_loss"]
assert result.mean_ap >= 0.92, (
    f"AP50 is {result.mean_ap:.3f}, and was {before:.3f} before. roi_cls_loss every 20 "
    f"steps: {np.round(by_step[::20], 2)}. If it decreases slowly: what is the learning "
    f"rate after 60 steps, {recipe.lr_at(60):.2g}? If it decreases fast and then stops: "
    "which parts were good before?"
)

figure = plot.figure(10, 3.4)
left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
fields = [f"{name} = {value}" for name, value in chosen.items() if name != "freeze"]
frozen = ", ".join(chosen.get("freeze", ())) or "nothing"
plot.loss_curves(left, run.history, smoothing=9)
plot.title(left, "Your 120 steps", "; ".join([*fields, f"frozen: {frozen}"]))
plot.title(
    plot.ap_bars(right, result.ap, digits.classes),
    "Average precision",
    f"mean {result.mean_ap:.3f}; before: {before:.3f}",
)
course.show(
    figure,
    f"In 120 steps, the total loss decreases from {run.history['total_loss'][0]:.2f} to "
    f"{np.mean(run.history['total_loss'][-9:]):.2f}. The average precision of the ten "
    f"digits is between {np.nanmin(result.ap):.2f} and {np.nanmax(result.ap):.2f}, with a "
    f"mean of {result.mean_ap:.3f}.",
)

# %% by-hand [markdown]
# ## A number to check
#
# The first losses were only approximately log 2 and log L, because the last layers start with *small* random weights.
# Set these weights to 0, and the losses are exact. On the same pages, with L = 5, the two losses are then
#
# $$ \begin{aligned}
# -\log \tfrac12 &= 0.693147, \\
# -\log \tfrac15 &= 1.609438,
# \end{aligned} $$
#
# whatever the pages show and whatever is sampled. Check them with a pocket calculator; the difference is below
# $10^{-6}$. The last number is the AP50 of the digit detector on 200 unseen pages: **0.985**.

# %% by-hand-check
model = new_detector()
for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
    for parameter in layer.parameters():
        parameter.data[...] = 0
losses = model.get_loss(images, targets, np.random.default_rng(5))
for name, by_hand in (("rpn_cls_loss", math.log(2)), ("roi_cls_loss", math.log(5))):
    print(f"{name}: {losses[name].item():.6f}, by hand {by_hand:.6f}")
    assert abs(losses[name].item() - by_hand) < 1e-6
assert (round(math.log(2), 6), round(math.log(5), 6)) == (0.693147, 1.609438)
result = evaluate.evaluate(shipped, data.Digits(200, split="val"), progress=False)
print(f"AP50 of the digit detector on 200 unseen pages: {result.mean_ap:.3f}")
assert round(result.mean_ap, 3) == 0.985

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
assert round(math.log(21), 2) == 3.04  # in the first answers
course.quiz("""
    A new detector has 20 classes and the background. Before the first step, its
    `roi_cls_loss` is 40. What do you do?
    [ ] Train: an untrained head is always wrong, so its loss is large.
        An untrained head is undecided, not wrong. With 21 equal probabilities, the loss is
        log 21 = 3.04.
    [ ] Choose a lower learning rate.
        There was no step yet, so the learning rate had no effect.
    [x] Find the cause: initial weights, a sum instead of a mean, or wrong pixel values.
        Equal logits give a loss of log 21 = 3.04. A loss of 40 needs large logits or a sum
        over many RoIs.

    The norm of all gradients is 20, and the bound is 5. One element of a gradient is 2.
    What is it after clipping?
    [x] 0.5
        All elements are multiplied by 5 / 20. The direction of the step does not change.
    [ ] 2, because 2 is below the bound.
        The bound is for the norm of all gradients together, not for single elements.
    [ ] 5, because each gradient is scaled to the bound.
        The factor is 5 / 20, so every element becomes smaller.

    You forget `optimizer.zero_grad()`. Which gradient does the third step use?
    [ ] That of the third batch, because `backward()` overwrites the old gradient.
        `backward()` adds to the gradient. Within one pass, it must add, because a weight is
        used many times.
    [x] The sum of the gradients of all three batches.
        The old gradients stay in the sum, as with a momentum of 1. No error is raised.
    [ ] None: the second call of `backward()` is an error.
        Each step has a new graph, so nothing is called twice. That is why this mistake is
        hard to notice.

    You multiply the total loss by 10 and train with Adam, without clipping and without
    weight decay. What changes?
    [ ] The weights move ten times as far in each step.
        This is true for gradient descent without Adam.
    [ ] The weights move a tenth as far in each step.
        Nothing divides by the loss twice. Adam divides by the typical size of the gradient
        once.
    [x] Almost nothing.
        Adam divides the averaged gradient by its typical size, and both are now ten times
        as large.

    After 2,000 of 5,000 steps, the total loss has almost stopped decreasing. On unseen
    pages, the AP50 still increases. What do you do?
    [ ] Stop, because the network has converged.
        Late in the training, a small change of the loss can be a large change of the AP.
    [x] Continue, and look at the AP50 on unseen pages again.
        The AP is the goal, and it still improves.
    [ ] Increase the learning rate, because the loss is flat.
        A higher rate can destroy what the network has learned. The run works.
""")

# %% next [markdown]
# ## What you have learned
#
# - Before a long run, compare the first losses with log 2 and log L, and overfit one batch.
# - A learning rate that is too high and one that is too low can both give a flat loss. Warm up, then decrease the rate.
# - The stages learn one after the other. Judge a run by the AP on unseen images, and start from trained weights.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. COCO has 80 classes. Compute the first two losses of a detector for COCO by hand. Then measure them on our four
#    pages: `new_detector(0, ("background", *map(str, range(80))))`.
# 2. The schedule of the paper is
#    `train.Recipe(steps=900, lr=1e-3, warmup_steps=0, schedule="steps", milestones=(675,))`. Predict its rates at the
#    steps 0, 674 and 675, and compare them with `lr_at`. Draw it next to your schedule.
#
# **Core** (half an hour)
#
# 3. Remove `zero_grad` from your step and overfit the four pages again. How does the curve change? Would you notice it
#    in 900 steps on new pages?
# 4. Overfit four pages with random labels. Do the losses become almost 0? What does that say about the test?
# 5. In section 6, freeze nothing, and train for 120 steps with your learning rate. How do the proposals change?
#
# **Stretch** (an evening)
#
# 6. Train shapes with `optimizer="sgd"` and `lr=0.02`. How do the four curves differ from Adam's after 200 steps?
# 7. Train shapes for 450 steps of eight pages instead of 900 steps of four, once with the same learning rate and once
#    with twice the rate. All three runs see 3,600 pages. Compare their AP50, and repeat with another seed before you
#    conclude anything.
#
# ## Where to go next
#
# Notebook 12 explains average precision, and notebook 13 shows how to find faults. `rcnn/train` contains the loop, the
# recipe and the learning rates. [1] section 3.2 describes the training in the paper.
