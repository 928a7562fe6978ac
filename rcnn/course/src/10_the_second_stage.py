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
#     seconds: 60
# ---

# %% question [markdown]
# # The second stage
#
# **The question.** The first stage proposes boxes and says *something*. A second one looks at each proposal and says
# *what*, and where exactly. It must learn this from boxes that the first stage makes, while the first stage is still
# learning itself. From which boxes, then? What is the right answer for a box that shows half a digit? And when the
# second stage is wrong, whose fault is it: may it blame the first?
#
# | array | shape | what it holds |
# |---|---|---|
# | `proposals` | (P, 4) | of one image, from the RPN, in pixels |
# | `gt_boxes`, `gt_labels` | (G, 4), (G,) | the true boxes and their classes, 1 .. L-1 |
# | `rois` | (R, 4) | the regions of interest that are learned from |
# | `labels` | (R,) | the class of each, 0 for background |
# | `deltas` | (R, 4) | from each RoI to its object, 0 for background |
# | `class_logits` | (R, L) | what the head says of each RoI |
# | `box_deltas` | (R, L, 4) | how it would move each RoI, for every class |
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083). [3] Dai, He, Sun: *Instance-aware Semantic Segmentation via Multi-task Network Cascades*, 2016 (arXiv
# 1512.04412).

# %% setting-up
import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, matching, nn, plot, roi, roi_heads

pages = data.Digits(16)
images, targets = [image for image, _ in pages], [target for _, target in pages]
rcnn.seed(0)
detectors = {"untrained": rcnn.faster_rcnn_small(pages.classes), "trained": rcnn.load_digits()}
traces = {
    name: model.trace(images, targets, rng=np.random.default_rng(0)) for name, model in detectors.items()
}
config = detectors["trained"].config
for name in (
    "box_fg_iou_thresh",
    "box_bg_iou_thresh",
    "box_batch_size_per_image",
    "box_positive_fraction",
    "bbox_reg_weights",
    "num_classes",
):
    print(f"{name:<26}{getattr(config, name)}")

# %% true-boxes [markdown]
# ## 1  Why the true boxes join the proposals
#
# At the first step, proposals are anchors that were chosen as good as at random and hardly moved. A RoI counts as an
# object if its IoU with one is at least 0.5 (`box_fg_iou_thresh`). **Predict**: of the digits on these 16 pages, for
# how many does an untrained RPN have such a proposal among the 100 that it makes of a page?
#
# A digit without a single good proposal teaches the second stage nothing, neither its class nor its box. The remedy is
# in no equation, but in the published code of [2] and [1] and in most that came after: in training, the true boxes are
# appended to the proposals (*appended ground truth*). Then there is a good box for each object, an exact one.
#
# > **What people get wrong.** Appending the true boxes at *test* time, by a code path that both share. The measured
# > precision is then splendid, and means nothing.

# %% true-boxes-measured
for name, trace in traces.items():
    overlaps = [boxes.iou(found, true) for found, true in zip(trace.proposals, trace.gt_boxes, strict=True)]
    best = np.concatenate([overlap.max(axis=0, initial=0) for overlap in overlaps])  # (G,) of all pages
    good = sum(int((overlap.max(axis=1, initial=0) >= 0.5).sum()) for overlap in overlaps)
    print(
        f"{name:<10} {np.mean(best >= 0.5):4.0%} of {len(best)} digits have a proposal; {good:3d} of "
        f"{sum(map(len, overlaps)):,} proposals show a digit, {good + len(best):3d} with the true boxes"
    )

# %% sampler [markdown]
# ## 2  From which boxes the second stage learns
#
# Most proposals show nothing. If all were learned from, the background would drown the objects, so a sample is drawn
# for each image ([2] section 2.3). In order:
#
# 1. The **candidates** are the P proposals and the G true boxes.
# 2. Each is **matched** to the object with which its IoU is highest: positive from `fg_iou_thresh` on, background
#    below `bg_iou_thresh`, ignored in between. Both are 0.5 by default, so nothing is. And nothing is forced: the
#    true boxes already see to it that no object goes without.
# 3. The **sample** has at most `batch_size` RoIs (512 by default, 128 here), of which at most the share
#    `positive_fraction` = 1/4 is positive. Background fills the rest.
# 4. The **label** of a positive RoI is its object's class. A positive RoI's **deltas** lead to its object, multiplied by
#    the second stage's weights (section 4). Background has label 0 and deltas of 0.
#
# In [2], background needs an IoU of at least 0.1, so that it shows a bit of an object and is hard to tell from one.
# torchvision and rcnn draw from everything below 0.5, as later code did.
#
# You have written `match`, `sample`, `iou` and `encode` before. Here you may use rcnn's: `boxes.iou`;
# `matching.match(iou, high, low)`, which gives for each box the index of its object, -1 for background, -2 for ignored;
# `matching.sample(labels, size, fraction, rng)`, which gives the chosen indices of labels above 0 and those of labels
# that are 0, and never chooses a label below 0; and `boxes.encode(gt_boxes, rois, weights)`.
#
# > **What people get wrong.** The class of an object is `gt_labels[index]`, not the index; and -1 is a valid index in
# > NumPy: it reads the *last* object without complaint. Look out for images without objects, where there is nothing to
# > index at all.


# %% roi-targets-yours
def roi_targets(
    proposals,
    gt_boxes,
    gt_labels,
    *,
    fg_iou_thresh,
    bg_iou_thresh,
    batch_size,
    positive_fraction,
    weights,
    rng,
):
    """The RoIs of one image to learn from: rois (R, 4), labels (R,), deltas (R, 4), row by row.

    proposals (P, 4), gt_boxes (G, 4), gt_labels (G,): P and G may be 0. weights: four, of dx, dy, dw, dh.
    rng: a np.random.Generator, from which the sample is drawn. Label and deltas are 0 for background. The
    rows may come in any order, the same in all three.
    """
    ### BEGIN SOLUTION
    candidates = np.concatenate([proposals, gt_boxes])  # (P + G, 4)
    overlap = boxes.iou(candidates, gt_boxes)  # (P + G, G)
    matches = matching.match(overlap, fg_iou_thresh, bg_iou_thresh)
    is_object = matches >= 0
    labels = np.where(matches == -1, 0, -1)
    labels[is_object] = gt_labels[matches[is_object]]
    positive, negative = matching.sample(labels, batch_size, positive_fraction, rng)
    chosen = np.concatenate([positive, negative])
    deltas = np.zeros((len(chosen), 4))
    objects = gt_boxes[matches[positive]]
    deltas[: len(positive)] = boxes.encode(objects, candidates[positive], weights)
    return candidates[chosen], labels[chosen], deltas
    ### END SOLUTION


# %% roi-targets-check points=3
checks.roi_targets(roi_targets)
page = traces["trained"].proposals[1], targets[1]["boxes"], targets[1]["labels"]
settings = {
    "fg_iou_thresh": config.box_fg_iou_thresh,
    "bg_iou_thresh": config.box_bg_iou_thresh,
    "batch_size": config.box_batch_size_per_image,
    "positive_fraction": config.box_positive_fraction,
    "weights": config.bbox_reg_weights,
}
found = roi_targets(*page, **settings, rng=np.random.default_rng())
print("roi_targets: right; on page 1:", *map(np.shape, found))

# %% roi-targets-source
# How rcnn does it. The chosen rows are sorted, so that the RoIs stay in the order of the proposals.
course.source(roi_heads.find_targets)

# %% batch [markdown]
# ## 3  A batch, by class
#
# What the second stage is shown of one page, each RoI stretched to a square as RoIAlign does it. The first ones of each
# class are drawn. With the untrained RPN (left), about half of what the objects' rows hold are the true boxes themselves.
# With the trained one (right) most digits come in several slightly different cuts, which is what the second stage has to
# cope with later.
#
# Look at the background on the right. Much of it shows parts of digits. Nobody labelled these by hand: that a box with
# an IoU of 0.4 *is* background is a decision, and it is what teaches the head that a part is not the whole.

# %% batch-picture
names = ["background", *(f"digit {name}" for name in pages.classes[1:])]
figure = plot.figure(12, 3.7)
for ax, (name, trace) in zip(figure.subplots(1, 2), traces.items(), strict=True):
    rois, labels = trace.sampled_rois[1], trace.sampled_labels[1]
    plot.roi_batch(ax, images[1], rois, labels, names, most=9)
    plot.title(ax, f"RPN {name}", f"{len(rois)} RoIs, {np.sum(labels > 0)} of them on objects")
figure

# %% weights [markdown]
# ## 4  The weights of the deltas
#
# A proposal that counts as an object is nearly right already, so the deltas that remain are small, and so would be the
# box loss beside the class loss. [2] (section 2.3) moves and scales them to a mean of 0 and a variance of 1 over the
# training set. The published code of [1] has fixed numbers instead: means of 0 and deviations of 0.1, 0.1, 0.2 and 0.2,
# which detectors have used ever since. rcnn and torchvision write the inverse, `bbox_reg_weights` = (10, 10, 5, 5), and
# multiply. Notebook 06 derived such numbers from the rule of matching, and found that they fit what a trained RPN
# proposes. **Predict**: do they fit the proposals of an untrained one, too, which are little more than anchors?
#
# > **What people get wrong.** The weights belong to both directions: `encode` multiplies by them, `decode` divides. And
# > only in the second stage: the RPN's deltas have weights of 1.

# %% weights-measured
for name, trace in traces.items():
    found = []
    for proposals, true in zip(trace.proposals, trace.gt_boxes, strict=True):
        matches = matching.match(boxes.iou(proposals, true), 0.5, 0.5)  # (P,)
        on_object = matches >= 0
        found.append(boxes.encode(true[matches[on_object]], proposals[on_object]))
    deviation = np.concatenate(found).std(axis=0)  # (4,)
    print(
        f"{name:<10} deviation of dx, dy, dw, dh: {deviation.round(2)}, "
        f"with weights {(deviation * config.bbox_reg_weights).round(2)}"
    )

# %% head [markdown]
# They fit both. Whoever made the proposals, the same rule of matching has chosen them, and it bounds the deltas.
#
# ## 5  The head: a class, and a box for each class
#
# In: `pooled` (R, C, ph, pw). Two fully connected layers with ReLU, then two side by side ([2] section 2): L logits,
# and 4L deltas, *class-wise boxes*. For a RoI that shows a 7, the head says how it would move the box if this were a 1,
# if it were a 2, and so on. In detection each class that passes the cut by score uses its own four numbers.
#
# Why not one box for all classes? A class has a typical shape. If half a digit is visible, the best guess at the whole
# depends on which digit it is. It costs little: 4L outputs of the last layer. Some detectors do without, and lose
# little.
#
# > **What people get wrong.** `box_deltas` has four numbers for class 0, too, which no loss trains and nothing reads;
# > in [2] there are none. They are there so that `box_deltas[r, label]` needs no subtraction. Who leaves them out and
# > forgets the subtraction trains the box of the neighbouring class.

# %% head-source
model = detectors["untrained"]
for name, parameter in model.roi_heads.named_parameters():
    print(f"{name:<32}{str(parameter.shape):<14}{parameter.size:>8,}")
course.source(roi_heads.FastRCNNPredictor, roi_heads.loss)

# %% loss [markdown]
# ## 6  Its loss, and the gradient of it
#
# Let RoI $r$ have the label $u_r$, logits $z_r$ and probabilities $p_{rc} = e^{z_{rc}} / \sum_j e^{z_{rj}}$; and let
# $d_{rci}$ be element $i$ of the deltas that it says for class $c$, $v_{ri}$ of those that it should say. Over all $R$
# RoIs of the batch ([2] equation 1, with $\lambda = 1$):
#
# $$ L = -\frac{1}{R} \sum_r \log p_{r u_r} \;+\; \frac{1}{R} \sum_{r:\, u_r \geq 1} \sum_{i=1}^{4}
# \ell_\beta (d_{r u_r i} - v_{ri}), \qquad \beta = 1/9. $$
#
# In the second sum there is one class per RoI, the true one. All other deltas may be anything: the loss does not
# contain them, so they get no gradient from this RoI. And the second sum runs over objects only, yet is divided by $R$:
# an object counts the same whether there are few of them or many. (The $\beta$ of [2] is 1; rcnn follows torchvision.)
#
# For the first term, from $\log p_{ru} = z_{ru} - \log \sum_j e^{z_{rj}}$,
#
# $$ \frac{\partial L}{\partial z_{rc}} = \frac{p_{rc} - [c = u_r]}{R}, $$
#
# what it said minus what it should have said, as for the RPN. The second you can write down from the slope of smooth
# L1, which is $\mathrm{clip}(d/\beta, -1, 1)$. Write both for whole arrays. The background is a class as any other in
# the first, and has no part in the second. And $e^{z}$ can overflow: a softmax does not change if the same number is
# taken from a whole row.


# %% head-loss-gradient-yours
def head_loss_gradient(class_logits, box_deltas, labels, deltas):
    """The derivatives of that loss with respect to class_logits (R, L) and to box_deltas (R, L, 4).

    Both in the shapes of what they belong to. labels (R,): true classes, 0 for background. deltas (R, 4):
    what should be said for the true class. beta is 1/9. R may be 0; logits may be of any size.
    """
    ### BEGIN SOLUTION
    count, rows = max(len(labels), 1), np.arange(len(labels))
    powers = np.exp(class_logits - np.max(class_logits, axis=1, keepdims=True))  # (R, L)
    of_logits = powers / powers.sum(axis=1, keepdims=True)
    of_logits[rows, labels] -= 1
    of_deltas, objects = np.zeros(np.shape(box_deltas)), np.flatnonzero(labels > 0)
    difference = box_deltas[objects, labels[objects]] - deltas[objects]  # (objects, 4)
    of_deltas[objects, labels[objects]] = np.clip(9 * difference, -1, 1)
    return of_logits / count, of_deltas / count
    ### END SOLUTION


# %% head-loss-gradient-check points=3
checks.head_loss_gradient(head_loss_gradient)
print("head_loss_gradient: right")

# %% by-class [markdown]
# ## 7  One class of eleven
#
# The gradient of the box loss on a real batch, from the untrained head. Each row is a RoI, each column a class; what is
# not white gets a gradient. Rows of background are white all over.

# %% by-class-picture
trace = traces["untrained"]
few = {
    "fg_iou_thresh": config.box_fg_iou_thresh,
    "bg_iou_thresh": config.box_bg_iou_thresh,
    "batch_size": 24,  # so that the rows can be seen
    "positive_fraction": config.box_positive_fraction,
    "weights": config.bbox_reg_weights,
}
page = trace.proposals[1], trace.gt_boxes[1], trace.gt_labels[1]
sample = roi_heads.find_targets(*page, **few, rng=np.random.default_rng(2))
class_logits, box_deltas = model.forward(images[1:2], sample.rois, np.zeros(len(sample.rois), int))
of_boxes = nn.Tensor(box_deltas.data, requires_grad=True)  # the same numbers, cut off from the network
_, reg_loss = roi_heads.loss(class_logits, of_boxes, [sample])
reg_loss.backward()

figure = plot.figure(7, 4.4)
ax = figure.subplots()
plot.gradient_by_class(ax, of_boxes.grad, sample.labels, pages.classes)
plot.title(ax, "Gradient of the box loss", f"box_deltas {of_boxes.shape}; outlined: the true class")
figure

# %% flow [markdown]
# ## 8  Where gradients flow
#
# The detector is trained as one network, on the sum of four losses. **Predict** for each of the three parts that learn
# (backbone, RPN head, RoI heads): from which losses does it get a gradient? The next cell calls `backward` on the
# losses of each stage alone and measures what arrives.


# %% flow-picture
def gradient_norms(loss_names, parts):
    "The norm of the gradient that the sum of these losses gives to each part, by name."
    losses = model.get_loss(images[:4], targets[:4], rng=np.random.default_rng(0))
    model.zero_grad()
    sum(losses[name] for name in loss_names).backward()
    grads = {
        name: [p.grad for p in part.parameters() if p.grad is not None] for name, part in parts.items()
    }
    return {name: np.sqrt(sum(float((grad**2).sum()) for grad in found)) for name, found in grads.items()}


stages = {"backbone": model.backbone, "rpn": model.rpn, "roi_heads": model.roi_heads}
figure = plot.figure(9.4, 4.2)
plot.gradient_flow(
    figure.subplots(),
    {
        "rpn": gradient_norms(["rpn_cls_loss", "rpn_reg_loss"], stages),
        "roi": gradient_norms(["roi_cls_loss", "roi_reg_loss"], stages),
    },
)
figure

# %% flow-table
head, predictor = model.rpn.head, model.roi_heads.box_predictor
layers = {
    "backbone": model.backbone,
    "RPN: conv": head.conv,
    "RPN: cls_logits": head.cls_logits,
    "RPN: bbox_pred": head.bbox_pred,
    "RoI: box_head": model.roi_heads.box_head,
    "RoI: cls_score": predictor.cls_score,
    "RoI: bbox_pred": predictor.bbox_pred,
}
names = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss")
figure = plot.figure(10, 2.8)
ax = figure.subplots()
plot.gradient_table(ax, {name: gradient_norms([name], layers) for name in names})
plot.title(ax, "Norm of each gradient", "row: which loss; column: the parameters that receive it")
figure

# %% cut [markdown]
# ## 9  The cut
#
# The losses of the second stage reach the backbone through the pooled features, and stop there. (The backbone of this
# untrained detector hears far more from them than from the RPN.) To the RPN's head they give exactly 0, although it
# made the boxes under which the features were pooled. In rcnn the cut is one word: proposals are computed from `.data`
# of the RPN's answers, plain arrays that remember nothing.
#
# Is there nothing to pass on, then? Take one RoI of the trained detector, move it sideways, and look at its loss. If
# the curve has a slope, then there is a derivative with respect to the box, and it is being ignored.

# %% cut-measured
model, trace = detectors["trained"], traces["trained"]
true_box, true_label = trace.gt_boxes[1][0], int(trace.gt_labels[1][0])
shifts = np.linspace(-9, 9, 145)  # pixels
moved = true_box + shifts[:, None] * [1, 0, 1, 0]  # (145, 4)
with nn.no_grad():
    class_logits, _ = model.forward(images[1:2], moved, np.zeros(len(moved), int))  # (145, L)
log_p = class_logits.data - np.logaddexp.reduce(class_logits.data, axis=1, keepdims=True)  # (145, L)
overlap = boxes.iou(moved, true_box[None])[:, 0]  # (145,)
kept, background = -log_p[:, true_label], -log_p[:, 0]
at = int(np.flatnonzero(overlap >= 0.5)[-1])
print(
    f"shift {shifts[at]:.2f} pixels, IoU {overlap[at]:.3f}: the class loss is {kept[at]:.2f}, its slope "
    f"{(kept[at + 1] - kept[at - 1]) / (shifts[at + 1] - shifts[at - 1]):.2f} per pixel"
)

figure = plot.figure(8.5, 3.6)
ax = figure.subplots()
curves = {"label kept": kept, "label as matched": np.where(overlap >= 0.5, kept, background)}
plot.lines(ax, shifts, curves, "shift of the RoI, pixels", "class loss")
plot.title(ax, "The loss of one RoI as its box moves", "as matched: background where the IoU is below 0.5")
figure

# %% why-cut [markdown]
# There is a slope. So "the proposals have no gradient" is not true, and [1] does not claim it. Section 3.2 calls the
# usual way *approximate* joint training, for it "ignores the derivative w.r.t. the proposal boxes' coordinates that are
# also network responses". Why, then, does everybody ignore it?
#
# - **It was not to be had.** RoIPool rounds a RoI to whole cells, so its derivative with respect to the box is 0
#   almost everywhere and undefined elsewhere. A pooling that has one came with [3], "RoI warping". RoIAlign has one
#   as well, by its bilinear weights, but neither torchvision nor rcnn computes it.
# - **Most of the choice has none.** Which proposals exist is decided by sorting, cutting and suppression. No small
#   change of a weight changes that, and a larger one changes it at a jump.
# - **The answer moves with the question.** The label of a RoI depends on its box. The curve "label as matched" jumps
#   where the IoU crosses 0.5, and far from the object it is low again: a box could lower the second stage's loss by
#   *leaving* its object, to be an easy background. The derivative with the label kept knows nothing of this.
# - **The RPN has a teacher.** Its own losses say where its boxes should go. In [1], approximate joint training gave
#   results close to alternating training and took 25 to 50% less time.
#
# These are reasons for leaving a term out, not a proof that it is small. The cascade of [3] passes it on, and works. Yet
# it is the answer to the last of the questions at the top: in Faster R-CNN the second stage may blame itself and the
# backbone, and not the RPN. (The others were answered in section 2: it learns from a sample of the proposals and the
# true boxes, and half a digit is background where the IoU is below 0.5.)
#
# > **What people get wrong.** Forgetting the cut where the framework does not make it. Decoded boxes that still hang
# > on the graph enter the targets of the second stage, for `encode` takes the RoI as well, and the RPN is then taught
# > to move its boxes to where the second stage's answer happens to fit. No message says so; a table as the one above
# > does.

# %% kernel [markdown]
# ## 10  What it costs
#
# The sampler, the losses and the head are a few array operations and matrix products. The work that is particular to
# this stage is pooling, forward and backward, once per RoI. Here for the sampled RoIs of the 16 pages:

# %% kernel-measured
features, rois = trace.features[0], np.concatenate(trace.sampled_rois)
roi_images = np.repeat(np.arange(16), [len(sampled) for sampled in trace.sampled_rois])
print(f"roi_align of {len(rois):,} RoIs on maps {features.shape}")
course.compare(roi.roi_align, features, rois, roi_images, (5, 5), 1 / 8)
print("\nand its gradient")
grad = np.random.default_rng(0).normal(size=(len(rois), 64, 5, 5)).astype(np.float32)
course.compare(roi.roi_align_backward, grad, rois, roi_images, features.shape, 1 / 8)

# %% a-number [markdown]
# ## A number to check
#
# A head whose last layer is all zeros says 1/11 for each of the 11 classes, whatever it is shown. Its class loss is
# $\log 11$, **2.398**, on any batch. The derivative with respect to the bias of class $c$ is the sum of the gradient
# over the RoIs: $1/11 - R_c/R$, with $R_c$ RoIs of that class. Count the background in the batch, and you know that
# number before it is computed.
#
# An untrained head is not quite that. rcnn and torchvision begin with PyTorch's weights for linear layers, which are
# larger than the 0.01 of the papers, so the first class loss is near $\log 11$ only: usually somewhat above it.

# %% a-number-measured
model = detectors["untrained"]
losses = model.get_loss(images[:4], targets[:4], rng=np.random.default_rng(0))
print(f"untrained: roi_cls_loss {losses['roi_cls_loss'].item():.3f}, log 11 = {np.log(11):.3f}")

logits = nn.Tensor(np.zeros((24, 11)), requires_grad=True)
cls_loss, _ = roi_heads.loss(logits, nn.Tensor(np.zeros((24, 11, 4))), [sample])
cls_loss.backward()
background = int(np.sum(sample.labels == 0))
print(
    f"all zeros: class loss {cls_loss.item():.3f}; {background} of 24 RoIs are background: "
    f"1/11 - {background}/24 = {1 / 11 - background / 24:.4f}, computed {logits.grad[:, 0].sum():.4f}"
)

# %% next [markdown]
# ## To try
#
# 1. Set `positive_fraction` to 1 in `few` and draw the batch again. What becomes of the share of background, and
#    what would the head learn to say about an empty patch of paper?
# 2. Take the background from IoU 0.1 on, as in [2]: `bg_iou_thresh` cannot say that. What would you have to change
#    in your `roi_targets`?
# 3. Put a function of your own in the place of `roi_heads.find_targets`, one that gives
#    `roi_heads.RoITargets(*roi_targets(...))`, and train on `pages` for some steps with `rcnn.train.fit`.
# 4. Move the RoI of section 9 up and down instead, or make it larger. Is its loss lowest where the IoU is highest?
