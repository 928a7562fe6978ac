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
# *Goals.* After this notebook, you can
#
# - explain why training adds the ground-truth boxes to the proposals;
# - compute the RoIs, labels and deltas from which the second stage learns;
# - derive the gradient of the second stage's loss;
# - say which loss gives a gradient to which part of the detector, and which gradient Faster R-CNN ignores.
#
# *Prerequisites.* Notebooks 01 (IoU), 05 (matching and sampling), 06 (deltas), 07 (losses) and 09 (RoIAlign); the chain
# rule.
#
# *Time.* About 90 minutes.
#
# **The question.** The RPN proposes boxes that may contain *some* object. The second stage predicts the class of each
# proposal and a better box. It learns from proposals, and the RPN that makes the proposals is still learning itself.
# Which boxes does the second stage learn from? What is the target of a box that shows half a digit? Does an error of
# the second stage also change the RPN?
#
# | array | shape | content |
# |---|---|---|
# | `proposals` | (P, 4) | the boxes from the RPN for one image, in pixels |
# | `gt_boxes`, `gt_labels` | (G, 4), (G,) | the ground-truth boxes and their classes, 1 .. L-1 |
# | `rois` | (R, 4) | the sampled regions of interest (RoIs) |
# | `labels` | (R,) | the class of each RoI, 0 for background |
# | `deltas` | (R, 4) | the target deltas from each RoI to its object, 0 for background |
# | `class_logits` | (R, L) | the predicted logits of each RoI |
# | `box_deltas` | (R, L, 4) | the predicted deltas of each RoI, for every class |
#
# *History.* R-CNN (2014) trained its classifiers and its box regressors one after the other. Fast R-CNN [2] put both
# into one network with one loss, and this is the second stage of Faster R-CNN [1]. Cascade R-CNN (2018) later used
# several such stages, each with a higher IoU threshold than the one before.
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
detectors = {
    "untrained": rcnn.faster_rcnn_small(pages.classes),
    "trained": rcnn.load_digits(),
}
traces = {
    name: model.trace(images, targets, rng=np.random.default_rng(0))
    for name, model in detectors.items()
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
assert config.box_batch_size_per_image == 128 and config.bbox_reg_weights == (10, 10, 5, 5)
assert config.box_positive_fraction == 1 / 4 and config.num_classes == 11

# %% true-boxes [markdown]
# ## 1  Add the ground-truth boxes to the proposals
#
# Before the first step, the RPN's scores are almost random and its deltas are almost 0, so the proposals are little
# more than random anchors. A RoI is positive if its IoU with an object is at least 0.5 (`box_fg_iou_thresh`).
# **Predict**: an untrained RPN makes 100 proposals for each of the 16 pages. How many of the digits on these pages have
# a proposal with an IoU of at least 0.5?
#
# If a digit has no such proposal, the second stage learns neither its class nor its box. The code published with [2]
# and [1], and most code after it, therefore adds the ground-truth boxes to the proposals in training (*appended ground
# truth*). Each object then has at least one RoI that fits it exactly. No equation in the papers shows this step.
#
# > **What people get wrong.** If training and testing share this code, the ground-truth boxes are also added at *test*
# > time. The measured precision is then very high and means nothing.

# %% true-boxes-measured
shares = {}
for name, trace in traces.items():
    overlaps = [
        boxes.iou(found, true)
        for found, true in zip(trace.proposals, trace.gt_boxes, strict=True)
    ]
    # (G,) of all pages
    best = np.concatenate([overlap.max(axis=0, initial=0) for overlap in overlaps])
    good = sum(int((overlap.max(axis=1, initial=0) >= 0.5).sum()) for overlap in overlaps)
    shares[name] = np.mean(best >= 0.5)
    assert all(len(overlap) == 100 for overlap in overlaps)
    print(f"{name:<10} {shares[name]:4.0%} of {len(best)} digits have a good proposal")
    count = f"{good} of {sum(map(len, overlaps)):,} proposals are positive"
    print(f"{'':<10} {count}, {good + len(best)} with the ground truth")
assert shares["untrained"] < 0.6 and shares["trained"] == 1

# %% sampler [markdown]
# ## 2  The targets of the second stage
#
# Most proposals are background. If the loss used all of them, the background would dominate it. The detector therefore
# draws a sample for each image ([2] section 2.3), in four steps:
#
# 1. The **candidates** are the P proposals and the G ground-truth boxes.
# 2. Each candidate is **matched** to the object with which its IoU is highest. It is positive if this IoU is at least
#    `fg_iou_thresh`, background if it is below `bg_iou_thresh`, and otherwise ignored. Both thresholds are 0.5 by
#    default, so no candidate is ignored. There is no best-anchor rule, because each object already has its own
#    ground-truth box among the candidates.
# 3. The **sample** contains at most `batch_size` RoIs (512 by default, 128 here). At most the fraction
#    `positive_fraction` = 1/4 of `batch_size` is positive. Background fills the rest.
# 4. The **label** of a positive RoI is the class of its object. Its **deltas** lead from the RoI to its object,
#    multiplied by the weights of the second stage (section 4). A background RoI has the label 0 and deltas of 0.
#
# In [2], a background RoI must have an IoU of at least 0.1 with an object: such a box shows a part of an object and is
# hard to classify. torchvision and rcnn draw background from all candidates below 0.5, as most later code does.
#
# You have written `match`, `sample`, `iou` and `encode` in earlier notebooks. Use the functions of rcnn here:
#
# - `boxes.iou(a, b)` returns the IoU of all pairs.
# - `matching.match(iou, high, low)` returns for each box the index of its object, -1 for background, or -2 for ignored.
# - `matching.sample(labels, size, fraction, rng)` returns the sampled indices of positive labels (above 0) and those of
#   background labels (0). It never samples a negative label.
# - `boxes.encode(gt_boxes, rois, weights)` returns the deltas.
#
# > **What people get wrong.** The class of an object is `gt_labels[index]`, not the index. The index -1 is valid in
# > NumPy: it reads the *last* object without an error. In an image without objects there is nothing to index.


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
    """Return a sample of the RoIs of one image: rois (R, 4), labels (R,), deltas (R, 4).

    proposals: (P, 4); P may be 0.
    gt_boxes, gt_labels: (G, 4), (G,); G may be 0.
    weights: the factors of dx, dy, dw, dh.
    rng: the np.random.Generator that draws the sample, without replacement.

    The rois are unchanged rows of the candidates; equal candidates are not merged. The
    labels are integers. Label and deltas are 0 for background. The rows may be in any
    order, but it must be the same order in all three arrays. The arguments must not change.
    """
    ### BEGIN SOLUTION
    candidates = np.concatenate([proposals, gt_boxes])  # (P + G, 4)
    overlap = boxes.iou(candidates, gt_boxes)  # (P + G, G)
    matches = matching.match(overlap, fg_iou_thresh, bg_iou_thresh)  # (P + G,)
    positive = matches >= 0
    labels = np.where(matches == -1, 0, -1)
    labels[positive] = gt_labels[matches[positive]]
    foreground, background = matching.sample(labels, batch_size, positive_fraction, rng)
    chosen = np.concatenate([foreground, background])  # (R,)
    deltas = np.zeros((len(chosen), 4))
    objects = gt_boxes[matches[foreground]]
    deltas[: len(foreground)] = boxes.encode(objects, candidates[foreground], weights)
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
print("roi_targets: correct; on page 1:", *map(np.shape, found))

# %% in-detector-text [markdown]
# ### Your targets in the detector
#
# Only training calls this stage. So the next cell first trains the digit detector for 40 more steps, each time with
# other targets: those of rcnn, yours, and targets with a typical mistake, which uses the *index* of an object as its
# class. Then it measures the average precision (AP, notebook 12) on six pages. The AP is 1 if all digits are found and
# no wrong detection has a higher score than a right one.
#
# **Predict:** does a detector that is trained with the mistake still find the digits? Does it find their classes?

# %% in-detector
result = course.with_and_without("roi_targets", roi_targets)
val_pages = data.Digits(6, split="val")  # the pages of the result
true_boxes = [val_pages[i][1]["boxes"] for i in range(len(val_pages))]
for key in ("library", "mistake"):
    detections = result.outcomes[key].detections
    pairs = zip(true_boxes, detections, strict=True)
    best = np.concatenate(
        [boxes.iou(true, found["boxes"]).max(axis=1, initial=0) for true, found in pairs]
    )
    highest = max(found["scores"].max(initial=0) for found in detections)
    print(
        f"{key:<8} {np.mean(best >= 0.5):4.0%} of the digits have a box; the highest "
        f"score is {highest:.2f}"
    )
    assert np.mean(best >= 0.5) > 0.9
assert result.ap["mistake"] < 0.7 < 0.9 < result.ap["library"] and highest < 0.5
result

# %% in-detector-read [markdown]
# The detector that is trained with the mistake still has a box for nearly every digit, because the RPN and the deltas
# have right targets. But the class of an image's first object is now always 1, that of the second is 2, and so on. The
# head cannot see this order, so it becomes uncertain: no score reaches 0.5. (The figure shows only detections with a
# score of at least 0.3.) No loss is NaN, and no shape is wrong.

# %% roi-targets-source
# The same function in rcnn. It sorts the sampled rows, so that the RoIs stay in the order
# of the proposals.
course.source(roi_heads.find_targets)

# %% batch [markdown]
# ## 3  A batch, class by class
#
# The figure shows the sampled RoIs of one page. Each RoI is stretched to a square, as in RoIAlign, and only the first
# RoIs of each class are drawn. With the untrained RPN, about half of the positive RoIs are ground-truth boxes. With the
# trained RPN, most digits have several RoIs that differ slightly. The second stage meets such RoIs at test time.
#
# Look at the background with the trained RPN. Many of these RoIs show a part of a digit. Nobody labelled them by hand:
# the threshold decides that a box with an IoU of 0.4 is background. From these RoIs, the head learns to tell a part of
# a digit from a whole digit.

# %% batch-picture
names = ["background", *(f"digit {name}" for name in pages.classes[1:])]
figure = plot.figure(7, 7.4)
for ax, (name, trace) in zip(figure.subplots(2, 1), traces.items(), strict=True):
    rois, labels = trace.sampled_rois[1], trace.sampled_labels[1]
    plot.roi_batch(ax, images[1], rois, labels, names, most=9)
    plot.title(
        ax, f"RPN {name}", f"{len(rois)} RoIs, {np.sum(labels > 0)} of them positive"
    )
assert (
    0.4 < len(targets[1]["boxes"]) / np.sum(traces["untrained"].sampled_labels[1] > 0) < 0.6
)
course.show(
    figure,
    "The RoIs of one page, cut out and sorted by class. With the untrained RPN, most "
    "background RoIs show empty paper, and there are few RoIs of each digit. With the "
    "trained RPN, most background RoIs show parts of digits, and most digits have several "
    "RoIs with slightly different borders.",
)

# %% weights [markdown]
# ## 4  The weights of the deltas
#
# A positive RoI is already close to its object, so its deltas are small. Without scaling, the box loss would also be
# small compared with the classification loss. [2] (section 2.3) normalises the deltas to mean 0 and variance 1 over the
# training set. The code published with [1] has constants instead: mean 0 and standard deviations 0.1, 0.1, 0.2 and 0.2.
# Most detectors still use these constants. rcnn and torchvision store their inverse, `bbox_reg_weights` =
# (10, 10, 5, 5), and multiply. Notebook 06 derived such numbers from the matching rule, and showed that they fit the
# proposals of a trained RPN. **Predict**: do they also fit the proposals of an untrained RPN?
#
# > **What people get wrong.** Use the weights in both directions: `encode` multiplies by them, and `decode` divides by
# > them. Use them in the second stage only: the weights of the RPN are 1.

# %% weights-measured
for name, trace in traces.items():
    found = []
    for proposals, true in zip(trace.proposals, trace.gt_boxes, strict=True):
        matches = matching.match(boxes.iou(proposals, true), 0.5, 0.5)  # (P,)
        positive = matches >= 0
        found.append(boxes.encode(true[matches[positive]], proposals[positive]))
    deviation = np.concatenate(found).std(axis=0)  # (4,)
    scaled = deviation * config.bbox_reg_weights
    print(f"{name:<10} standard deviation of dx, dy, dw, dh: {deviation.round(2)}")
    print(f"{'':<10} multiplied by the weights: {scaled.round(2)}")
    assert (np.abs(scaled - 1) < 0.25).all()

# %% head [markdown]
# They fit both: all scaled deviations are between 0.75 and 1.25. The matching rule selected both sets of proposals, and
# this rule limits how large the deltas can be.
#
# ## 5  The head: one class, and one box for each class
#
# The input is `pooled` (R, C, ph, pw). Two fully connected layers with ReLU follow, and then two output layers side by
# side ([2] section 2): L logits, and 4L deltas for *class-wise boxes*. For a RoI that shows a 7, the head predicts the
# box in case the digit is a 1, the box in case it is a 2, and so on. A detection uses the box of its own class.
#
# Why does each class have its own box? Classes have typical shapes. If half of a digit is visible, the best guess of
# the whole box depends on the digit. The cost is small: 4L outputs of the last layer. Some detectors predict one box
# for all classes.
#
# > **What people get wrong.** `box_deltas` also has four numbers for class 0, which no loss trains and no code reads;
# > in [2] they do not exist. With them, `box_deltas[r, label]` needs no subtraction. If you leave them out and forget
# > the subtraction, you train the box of the neighbouring class.

# %% head-source
model = detectors["untrained"]
for name, parameter in model.roi_heads.named_parameters():
    print(f"{name:<32}{str(parameter.shape):<14}{parameter.size:>8,}")
course.source(roi_heads.FastRCNNPredictor, roi_heads.loss)

# %% loss [markdown]
# ## 6  The loss and its gradient
#
# RoI $r$ has the label $u_r$, the logits $z_r$ and the probabilities $p_{rc} = e^{z_{rc}} / \sum_j e^{z_{rj}}$. Element
# $i$ of its predicted deltas for class $c$ is $d_{rci}$, and element $i$ of its target deltas is $v_{ri}$. Over all $R$
# RoIs of the batch ([2] equation 1, with $\lambda = 1$), the loss is
#
# $$ \begin{aligned}
# L = {} & -\frac{1}{R} \sum_r \log p_{r u_r} \\
# & + \frac{1}{R} \sum_{r:\, u_r \geq 1} \sum_{i=1}^{4} \ell_\beta (d_{r u_r i} - v_{ri}) ,
# \end{aligned} $$
#
# with $\beta = 1/9$. The second term contains one class of each RoI, the true one. The deltas of the other classes do
# not occur in the loss, so they get no gradient from this RoI. The second term is a sum over the positive RoIs, but it
# is divided by the number of all RoIs, $R$. An object therefore has the same weight whether the sample contains few or
# many objects. ($\beta$ is 1 in [2]; rcnn follows torchvision.)
#
# From $\log p_{ru} = z_{ru} - \log \sum_j e^{z_{rj}}$ follows the gradient of the first term,
#
# $$ \frac{\partial L}{\partial z_{rc}} = \frac{p_{rc} - [c = u_r]}{R}, $$
#
# the predicted probability minus the target, as for the RPN. Derive the gradient of the second term from the slope of
# smooth L1, $\mathrm{clip}(d/\beta, -1, 1)$. Then write both for whole arrays. In the first term, background is a class
# like any other. In the second term, background does not occur. Note that $e^{z}$ can overflow: a softmax does not
# change if you subtract the same number from a whole row.


# %% head-loss-gradient-yours
def head_loss_gradient(class_logits, box_deltas, labels, deltas):
    """Return the gradients of the loss: (R, L) for class_logits, (R, L, 4) for box_deltas.

    class_logits: (R, L), of any size; R may be 0.
    box_deltas: (R, L, 4)
    labels: (R,), the true classes, 0 for background.
    deltas: (R, 4), the target deltas for the true class.

    beta is 1/9. A RoI is background because of its label, not because its deltas are 0.
    The arguments must not change.
    """
    ### BEGIN SOLUTION
    count, rows = max(len(labels), 1), np.arange(len(labels))
    powers = np.exp(class_logits - np.max(class_logits, axis=1, keepdims=True))  # (R, L)
    logit_grad = powers / powers.sum(axis=1, keepdims=True)
    logit_grad[rows, labels] -= 1
    delta_grad, positive = np.zeros(np.shape(box_deltas)), np.flatnonzero(labels > 0)
    difference = box_deltas[positive, labels[positive]] - deltas[positive]  # (positive, 4)
    delta_grad[positive, labels[positive]] = np.clip(9 * difference, -1, 1)
    return logit_grad / count, delta_grad / count
    ### END SOLUTION


# %% head-loss-gradient-check points=3
checks.head_loss_gradient(head_loss_gradient)
print("head_loss_gradient: correct")

# %% by-class [markdown]
# ## 7  One class of eleven
#
# The figure shows the gradient of the box loss for a real sample and the untrained head. Each row is a RoI and each
# column a class. White cells get no gradient. The rows of background RoIs are white everywhere.

# %% by-class-picture
trace = traces["untrained"]
few = {
    "fg_iou_thresh": config.box_fg_iou_thresh,
    "bg_iou_thresh": config.box_bg_iou_thresh,
    "batch_size": 24,  # few rows, so that each row is visible
    "positive_fraction": config.box_positive_fraction,
    "weights": config.bbox_reg_weights,
}
page = trace.proposals[1], trace.gt_boxes[1], trace.gt_labels[1]
sample = roi_heads.find_targets(*page, **few, rng=np.random.default_rng(2))
class_logits, box_deltas = model.forward(
    images[1:2], sample.rois, np.zeros(len(sample.rois), int)
)
# The same numbers, without the graph of the network.
of_boxes = nn.Tensor(box_deltas.data, requires_grad=True)
_, reg_loss = roi_heads.loss(class_logits, of_boxes, [sample])
reg_loss.backward()
assert (of_boxes.grad[sample.labels == 0] == 0).all()

figure = plot.figure(7, 4.4)
ax = figure.subplots()
plot.gradient_by_class(ax, of_boxes.grad, sample.labels, pages.classes)
plot.title(
    ax, "Gradient of the box loss", f"box_deltas {of_boxes.shape}; outlined: the true class"
)
positive = int(np.sum(sample.labels > 0))
course.show(
    figure,
    f"A table of 24 RoIs and 11 classes. Only {positive} cells have a gradient: the cell "
    f"of the true class in the row of each of the {positive} positive RoIs. The rows of "
    f"the {24 - positive} background RoIs are empty.",
)

# %% flow [markdown]
# ## 8  Where gradients flow
#
# The detector is one network, and it is trained on the sum of four losses. **Predict** for each of its three parts
# (backbone, RPN head, RoI heads): which losses give it a gradient? The next cell calls `backward` on the losses of each
# stage separately and measures the gradients. The table after it does the same for single losses and layers.


# %% flow-picture
def gradient_norms(loss_names, parts):
    """Return the gradient norm of the sum of some losses for each part: {name: norm}."""
    losses = model.get_loss(images[:4], targets[:4], rng=np.random.default_rng(0))
    model.zero_grad()
    sum(losses[name] for name in loss_names).backward()
    grads = {
        name: [p.grad for p in part.parameters() if p.grad is not None]
        for name, part in parts.items()
    }
    return {
        name: np.sqrt(sum(float((grad**2).sum()) for grad in found))
        for name, found in grads.items()
    }


stages = {"backbone": model.backbone, "rpn": model.rpn, "roi_heads": model.roi_heads}
norms = {
    "rpn": gradient_norms(["rpn_cls_loss", "rpn_reg_loss"], stages),
    "roi": gradient_norms(["roi_cls_loss", "roi_reg_loss"], stages),
}
assert norms["roi"]["rpn"] == norms["rpn"]["roi_heads"] == 0
assert norms["roi"]["backbone"] > 10 * norms["rpn"]["backbone"]
figure = plot.figure(9.4, 4.2)
plot.gradient_flow(figure.subplots(), norms)
course.show(
    figure,
    "The detector as a diagram with gradient norms. The RPN losses reach the RPN head "
    f"({norms['rpn']['rpn']:.2g}) and the backbone ({norms['rpn']['backbone']:.2g}). The "
    f"RoI losses reach the RoI heads ({norms['roi']['roi_heads']:.2g}) and, through "
    f"RoIAlign, the backbone ({norms['roi']['backbone']:.2g}). Two crosses mark the path "
    "through the proposals, which carries no gradient: the RPN head gets 0 from the RoI "
    "losses.",
)

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
by_loss = {name: gradient_norms([name], layers) for name in names}
plot.gradient_table(ax, by_loss)
plot.title(
    ax, "Norm of each gradient", "row: the loss; column: the layers that get the gradient"
)
for name, norm_by_layer in by_loss.items():
    reached = {layer for layer, norm in norm_by_layer.items() if norm > 0}
    stage = "RPN" if name.startswith("rpn") else "RoI"
    assert "backbone" in reached and all(
        layer.startswith(stage) for layer in reached - {"backbone"}
    )
    # The backbone, the common layers of the stage, and one output layer.
    assert len(reached) == 3
course.show(
    figure,
    "A table of four losses and seven groups of layers. All four losses give the backbone "
    "a gradient. Each loss gives a gradient only to the head of its own stage. There, a "
    "class loss does not reach the layer that predicts boxes, and a box loss does not "
    "reach the layer that predicts classes.",
)

# %% cut [markdown]
# ## 9  The gradient that Faster R-CNN ignores
#
# The losses of the second stage reach the backbone through the pooled features. In this untrained detector, the
# backbone gets a gradient from them that is more than ten times as large as the gradient from the RPN losses. But the
# RPN head gets a gradient of exactly 0 from them, although its boxes decide which features are pooled. In rcnn, one
# word causes this: the proposals are computed from `.data` of the RPN's outputs, and `.data` is an array without a
# graph.
#
# Is the ignored gradient 0 anyway? Take one RoI of the trained detector, move it sideways, and look at its loss. If the
# curve has a slope, there is a derivative with respect to the box, and the detector ignores it.

# %% cut-measured
model, trace = detectors["trained"], traces["trained"]
true_box, true_label = trace.gt_boxes[1][0], int(trace.gt_labels[1][0])
shifts = np.linspace(-9, 9, 145)  # pixels
moved = true_box + shifts[:, None] * [1, 0, 1, 0]  # (145, 4)
with nn.no_grad():
    class_logits, _ = model.forward(images[1:2], moved, np.zeros(len(moved), int))
logits = class_logits.data  # (145, L)
log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)  # (145, L)
overlap = boxes.iou(moved, true_box[None])[:, 0]  # (145,)
constant, background = -log_p[:, true_label], -log_p[:, 0]
at = int(np.flatnonzero(overlap >= 0.5)[-1])
slope = (constant[at + 1] - constant[at - 1]) / (shifts[at + 1] - shifts[at - 1])
print(
    f"shift {shifts[at]:.2f} pixels, IoU {overlap[at]:.3f}: "
    f"the class loss is {constant[at]:.2f}, its slope {slope:.2f} per pixel"
)
assert slope > 1

figure = plot.figure(8.5, 3.6)
ax = figure.subplots()
curves = {
    "constant label": constant,
    "matched label": np.where(overlap >= 0.5, constant, background),
}
plot.lines(ax, shifts, curves, "shift of the RoI, pixels", "class loss")
plot.title(
    ax,
    "The loss of one RoI as its box moves",
    "matched label: background if the IoU is below 0.5",
)
course.show(
    figure,
    "The class loss of a RoI that moves by up to 9 pixels. With a constant label, it is "
    "near 0 in the middle and rises steeply on both sides, on the left to "
    f"{constant[0]:.1f}. With the matched label, it jumps back to nearly 0 where the IoU "
    "falls below 0.5.",
)

# %% why-cut [markdown]
# The curve has a slope. The statement "proposals have no gradient" is therefore wrong, and [1] does not make it.
# Section 3.2 of [1] calls the usual method *approximate* joint training, because it "ignores the derivative w.r.t. the
# proposal boxes' coordinates that are also network responses". There are four reasons for ignoring it:
#
# - **It was not available.** RoIPool rounds a RoI to whole cells. Its derivative with respect to the box is 0 almost
#   everywhere and undefined elsewhere. [3] introduced "RoI warping", a pooling with a useful derivative. RoIAlign has
#   such a derivative, too, through its bilinear weights, but neither torchvision nor rcnn computes it.
# - **Most of the selection has no derivative.** Sorting, thresholds and NMS decide which proposals exist. A small
#   change of a weight does not change that selection, and a larger change makes it jump.
# - **The target depends on the box.** The label of a RoI depends on its IoU. The curve "matched label" jumps where the
#   IoU crosses 0.5, and it is low again far from the object. A box could lower the loss by *leaving* its object and
#   becoming easy background. The derivative with a constant label does not contain this effect.
# - **The RPN has its own losses.** They already move its boxes to the objects. In [1], approximate joint training gave
#   results close to those of alternating training, and took 25 to 50 % less time.
#
# These are reasons to ignore the term. They do not prove that the term is small. The cascade of [3] uses it, and works.
#
# The questions at the top now have answers. The second stage learns from a sample of the proposals and the ground-truth
# boxes. A box that shows half a digit is background if its IoU is below 0.5. An error of the second stage changes the
# second stage and the backbone, but not the RPN head.
#
# > **What people get wrong.** In a framework that does not cut this path for you, decoded boxes keep their graph. They
# > enter the targets of the second stage, because `encode` also takes the RoI. The loss then moves the boxes of the RPN
# > to where the second stage's prediction happens to fit. There is no error message, but a table like the one above
# > shows it.

# %% kernel [markdown]
# ## 10  Running time
#
# The sampler, the losses and the head need a few array operations and matrix products. The work that only this stage
# does is pooling, forward and backward, for each RoI. The cell measures it for the sampled RoIs of the 16 pages.

# %% kernel-measured
features, rois = trace.features[0], np.concatenate(trace.sampled_rois)
roi_images = np.repeat(np.arange(16), [len(sampled) for sampled in trace.sampled_rois])
print(f"roi_align of {len(rois):,} RoIs on maps {features.shape}")
course.compare(roi.roi_align, features, rois, roi_images, (5, 5), 1 / 8)
print("\nroi_align_backward of the same RoIs")
grad = np.random.default_rng(0).normal(size=(len(rois), 64, 5, 5)).astype(np.float32)
course.compare(roi.roi_align_backward, grad, rois, roi_images, features.shape, 1 / 8)

# %% a-number [markdown]
# ## A number to check
#
# If all weights and biases of the last layer are 0, the head predicts a probability of 1/11 for each of the 11 classes.
# Its class loss is $\log 11$ = **2.398** on any batch. The derivative with respect to the bias of class $c$ is the sum
# of the gradient over the RoIs, $1/11 - R_c/R$, where $R_c$ RoIs have the class $c$. Count the background RoIs of the
# batch and compute this number before you run the cell.
#
# An untrained head is not exactly like that. rcnn and torchvision use PyTorch's default initialisation for linear
# layers, and its weights are larger than the standard deviation of 0.01 in the papers. The first class loss is
# therefore only near $\log 11$.

# %% a-number-measured
model = detectors["untrained"]
losses = model.get_loss(images[:4], targets[:4], rng=np.random.default_rng(0))
first = losses["roi_cls_loss"].item()
print(f"untrained: roi_cls_loss {first:.3f}, log 11 = {np.log(11):.3f}")

logits = nn.Tensor(np.zeros((24, 11)), requires_grad=True)
cls_loss, _ = roi_heads.loss(logits, nn.Tensor(np.zeros((24, 11, 4))), [sample])
cls_loss.backward()
background = int(np.sum(sample.labels == 0))
print(
    f"all zeros: class loss {cls_loss.item():.3f}; {background} of 24 RoIs are background"
)
derivative = 1 / 11 - background / 24
print(f"1/11 - {background}/24 = {derivative:.4f}, computed {logits.grad[:, 0].sum():.4f}")
assert round(cls_loss.item(), 3) == 2.398
assert np.isclose(logits.grad[:, 0].sum(), derivative)

# %% learned [markdown]
# ## What you have learned
#
# - In training, the ground-truth boxes join the proposals, and a balanced sample of both gets labels and deltas.
# - The loss uses the logits of all classes, but only the deltas of the true class.
# - The losses of the second stage train the RoI heads and the backbone. Proposals are constants, so the RPN head gets
#   no gradient from these losses.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Set `positive_fraction` to 1 in `few` and draw the sample of section 7 again, first with the proposals of the
#    untrained detector, then with those of the trained one. How does the fraction of background change? What would the
#    head learn about empty paper?
# 2. Repeat "A number to check" for the bias of the digit 9. Count its RoIs in the figure of section 7, calculate the
#    derivative, and compare with `logits.grad`.
#
# **Core** (half an hour)
#
# 3. Require an IoU of at least 0.1 for background, as in [2]. `bg_iou_thresh` cannot express that. What would you
#    change in your `roi_targets`? Test it with `course.with_and_without`.
# 4. Leave the ground-truth boxes out of the candidates, and use `course.with_and_without` again. Why does the AP not
#    fall? Look at section 1: for which detector would it be different?
# 5. Move the RoI of section 9 up and down, or enlarge it. Is its loss lowest where its IoU is highest?
#
# **Stretch** (an evening)
#
# 6. Decode the deltas of the true class for all positive proposals of the trained detector. Then use the new boxes as
#    RoIs: call `model.forward` and decode again. How much does the mean IoU with the objects rise in the first pass,
#    and how much in the second? What would a cascade have to train differently, so that the second pass helps more?
# 7. For each positive RoI of a page, measure the slope of its class loss with a constant label, as in section 9. How
#    often does the negative slope point in the direction of the target `dx`?

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    `batch_size` is 128 and `positive_fraction` is 0.25. An image has 10 positive candidates
    and 300 candidates that are background. What does the sample contain?
    [ ] 32 positive RoIs, some of them twice, and 96 background RoIs.
        The fraction is an upper limit. The sample never contains a candidate twice.
    [ ] 10 positive and 30 background RoIs.
        This keeps the ratio of 1 to 3, but the sampler fills the batch with background.
    [x] 10 positive and 118 background RoIs.
        Fewer than 32 candidates are positive, so all of them are taken, and background
        fills the rest.

    In the first training step, no proposal has an IoU of at least 0.5 with a small object,
    and somebody forgot to append the ground-truth boxes. What happens?
    [ ] The proposal with the highest IoU becomes positive anyway.
        This is the best-anchor rule of the RPN. The second stage does not use it.
    [x] The second stage does not learn from this object in this step.
        No RoI has the class of the object. RoIs that show it are background.
    [ ] `encode` fails, because the object has no RoI.
        Only positive RoIs are encoded. The object is never looked up, and no error appears.

    There are 10 RoIs and 5 classes including the background, and all logits are 0. What is
    the derivative of the class loss with respect to the logit of a RoI's true class?
    [x] -0.08
        The probability of each class is 1/5, so the derivative is (0.2 - 1) / 10.
    [ ] 0.02
        This is the derivative for a class that is not the true one: 0.2 / 10.
    [ ] -0.8
        The loss is the mean over 10 RoIs, so the derivative of one RoI is divided by 10.

    A RoI shows a 7, but the head gives the class 1 the highest probability. Which deltas of
    this RoI get a gradient?
    [ ] Those of class 1, because a detection uses the box of the predicted class.
        This is true at test time. The loss uses the true class.
    [ ] Those of all classes, weighted with their probabilities.
        The box loss does not contain the probabilities.
    [x] Those of class 7.
        The box loss contains only the deltas of the true class, whatever the head predicts.

    "The RPN head gets no gradient from the losses of the second stage, because these losses
    do not depend on the positions of the proposals." Is this right?
    [ ] Yes. The pooled features depend only on the backbone.
        They also depend on the RoI: section 9 moves a RoI, and its loss changes.
    [x] No. The losses depend on the positions, but the detector ignores this derivative.
        The proposals are computed from `.data`, so they are constants in the graph.
    [ ] No. The RPN head gets a gradient from them through the backbone.
        Gradients flow backwards, from the losses into the backbone. The RPN head lies on
        another branch.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 11 trains all stages together. `rcnn/roi_heads.py` is the second stage of rcnn, and `rcnn/model.py` connects
# the stages. Section 3.2 of [1] compares the ways to train them.
