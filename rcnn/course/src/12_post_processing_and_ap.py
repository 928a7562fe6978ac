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
# # Post-processing and average precision
#
# **The question.** A detector gives a list of boxes with scores, and another detector gives another list. Which is
# better? One finds more and errs more; the other says little and is right. And who decides where the list ends?
#
# The first part goes from the second stage's arrays to that list. The second part measures it: which detections are
# right, what *precision* and *recall* are, and how one number comes of them. There are three such numbers in use, of
# PASCAL VOC 2007, VOC 2012 and COCO. They are called the same and differ, as you will compute by hand.
#
# | | comes in | comes out |
# |---|---|---|
# | post-processing | `class_logits` (R, L), `box_deltas` (R, L, 4), `rois` (R, 4) | boxes (D, 4), scores (D,), labels (D,) |
# | assignment, per class | boxes (D, 4), scores (D,), objects (G, 4) | right or wrong (D,) |
# | curve, per class | right or wrong (D,), by falling score | precision (D,), recall (D,) |
# | average precision | precision (D,), recall (D,) | a number from 0 to 1 |
#
# [1] Girshick: *Fast R-CNN*, 2015 (arXiv 1504.08083). [2] Everingham, Van Gool, Williams, Winn, Zisserman:
# *The PASCAL Visual Object Classes (VOC) Challenge*, 2010. [3] Lin et al.: *Microsoft COCO*, 2014 (arXiv 1405.0312), and
# the challenge's evaluation code.

# %% setting-up
import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, evaluate, nms, plot
from rcnn.course import widgets

model = rcnn.load_digits()


class Doubled:
    """Two pages on one sheet, the darker ink winning, as in notebook 08: harder than what was learned."""

    pages = data.Digits(40, split="val")
    classes = pages.classes

    def __len__(self):
        return len(self.pages)

    def __getitem__(self, i):
        (one, first), (other, second) = self.pages[i], self.pages[(i + 1) % len(self)]
        return np.minimum(one, other), {key: np.concatenate([first[key], second[key]]) for key in first}


sheets = Doubled()
images = [image for image, _ in sheets]
detections, targets = evaluate.predictions(model, sheets, progress=False)
print(
    len(images),
    "sheets,",
    sum(len(t["labels"]) for t in targets),
    "digits,",
    sum(len(d["labels"]) for d in detections),
    "detections",
)

# %% by-hand-text [markdown]
# ## 1  From the head's answers to a list
#
# Each of R RoIs has a probability for each of L classes, and for each class a box of its own ([1] section 3). So there
# are R × (L - 1) candidates; the background is none. Of these stay
#
# 1. those with a score *greater than* `box_score_thresh`, here 0.05;
# 2. clipped to the image, those with both sides of at least 0.01 pixels;
# 3. what NMS leaves, *within each class*, at `box_nms_thresh`, here 0.5;
# 4. the best `box_detections_per_img` of all classes together, here 100.
#
# Predict how many are left after each step, for a sheet with 100 RoIs and four digits. The last line compares with
# the detections of the model; `roi_heads.detect` is the same in the library.

# %% by-hand-steps
trace, config = model.trace([images[17]]), model.config
powers = np.exp(trace.class_logits - trace.class_logits.max(axis=1, keepdims=True))
scores = (powers / powers.sum(axis=1, keepdims=True))[:, 1:].reshape(-1)  # (R * (L - 1),)
found = boxes.decode(trace.box_deltas, trace.rois, config.bbox_reg_weights)[:, 1:].reshape(-1, 4)
labels = np.tile(np.arange(1, trace.class_logits.shape[1]), len(trace.rois))
all_candidates = boxes.clip(found, trace.image_sizes[0]), scores, labels

likely = np.flatnonzero(scores > config.box_score_thresh)
found, scores, labels = (array[likely] for array in all_candidates)
large = boxes.remove_small(found, 1e-2)
stay = large[nms.batched_nms(found[large], scores[large], labels[large], config.box_nms_thresh)]
best = stay[: config.box_detections_per_img]
left = (all_candidates[1], likely, large, stay, best)
print("candidates, likely, large, after NMS, best:", *map(len, left))
print("largest difference:", np.abs(found[best] - trace.detections[0]["boxes"]).max(), "pixels")
print("batched_nms of all candidates:")
course.compare(nms.batched_nms, *all_candidates, config.box_nms_thresh)

# %% per-class-text [markdown]
# ## 2  Why suppression keeps to a class
#
# Two objects of different classes may share a place: a rider and a horse, or here two digits. Their boxes overlap, and
# both are right. Two boxes of *one* class in one place are more likely the same object twice. So the label decides who
# may remove whom.
#
# The price: a digit that might be a 4 or a 9 leaves two boxes, one of them wrong. Below, what is drawn has a score
# above 0.3; the numbers are over all sheets. Guess first which way they go.


# %% per-class-pictured
def only(page, rows):
    "The detections of a page in some rows."
    return {key: array[rows] for key, array in page.items()}


def mean_ap(pages, **options):
    "Of detections on the sheets."
    return evaluate.evaluate_detections(pages, targets, len(sheets.classes), **options).mean_ap


over_all = [only(page, nms.nms(page["boxes"], page["scores"], 0.5)) for page in detections]
figure = plot.figure(10, 4.9)
for ax, pages, name in zip(
    figure.subplots(1, 2),
    (detections, over_all),
    ("NMS within each class", "NMS over all classes"),
    strict=True,
):
    page = only(pages[17], pages[17]["scores"] > 0.3)
    plot.detections(
        ax,
        images[17],
        page["boxes"],
        page["scores"],
        page["labels"],
        sheets.classes,
        targets[17]["boxes"],
    )
    plot.title(ax, name, f"mean AP over all sheets {mean_ap(pages):.3f}")
figure

# %% cut-text [markdown]
# ## 3  Why the score cut is so low
#
# Nobody would show a user a box that is 5 % likely. But the list is made to be measured, and average precision looks at
# the *order* of the detections. A doubtful one at the end of the list can find another object; if it is wrong, it comes
# after all the others and takes nothing from them. So every cut can only lower the number, and 0.05 is where it costs
# little and still spares time.
#
# > **What people get wrong.** Measuring with the cut that looks good. The measure falls, and two detectors with the
# > same cut are not compared fairly either, for their scores need not mean the same. For showing, choose the cut from
# > the curve, as in section 6.

# %% cut-measured
print(f"{'cut':>6}{'detections per sheet':>22}{'mean AP':>10}")
uncut = model.predict(images, score_thresh=0)
for cut in (0, 0.01, 0.05, 0.2, 0.5, 0.9):
    pages = [only(page, page["scores"] > cut) for page in uncut]
    print(f"{cut:>6}{np.mean([len(page['labels']) for page in pages]):>22.1f}{mean_ap(pages):>10.3f}")

# %% assign-text [markdown]
# ## 4  Right or wrong
#
# Take the detections of one class, on one image, and its objects. The rule is greedy ([2] section 4.2):
#
# - the detections have their turns **by falling score**;
# - each is held against the one object that it **overlaps most**;
# - it is right if their IoU is **at least** the threshold, and no detection before it was right with this object. ([2]
#   writes that it must exceed 50 %; the challenge's own code is content with exactly 50 %.)
#
# Everything else is wrong: too little overlap, no object at all, and also a second box on an object that was found.
#
# > **What people get wrong.** Duplicates do not count as half right or as nothing; they are wrong, which is why NMS
# > matters to the measure. And a detection that is wrong claims nothing: the object stays free for the next.
#
# COCO differs in one point: there a detection takes the best of the objects that are still *free*. Write VOC's rule,
# which is what `evaluate.evaluate_detections` follows. Two traps: the order of the answer, and NumPy's `argmax` where
# there is no object.


# %% assign-yours
def assign(box_array, scores, gt_boxes, iou_threshold):
    """Which detections are right: (D,) bool, in the order in which the boxes were given.

    box_array (D, 4), scores (D,), gt_boxes (G, 4), all of one class and one image; D or G may be 0. By
    falling score, of equal scores the earlier first, each detection is held against the object that it
    overlaps most. It is right if that IoU is at least iou_threshold and no detection before it was right
    with the same object. `boxes.iou(a, b)` gives the IoU of all pairs, (len(a), len(b)).
    """
    ### BEGIN SOLUTION
    right = np.zeros(len(box_array), bool)
    if len(gt_boxes) == 0:
        return right
    overlaps = boxes.iou(box_array, gt_boxes)  # (D, G)
    taken = np.zeros(len(gt_boxes), bool)
    for d in np.argsort(-np.asarray(scores), kind="stable"):
        g = overlaps[d].argmax()
        if overlaps[d, g] >= iou_threshold and not taken[g]:
            right[d] = taken[g] = True
    return right
    ### END SOLUTION


# %% assign-check points=2
checks.assign(assign)
print("assign: right")

# %% curve-text [markdown]
# ## 5  Precision and recall
#
# Go down the list of a class. After $n$ detections, of which $r_n$ are right, with $G$ objects in all,
#
# $$ \text{precision}_n = \frac{r_n}{n}, \qquad \text{recall}_n = \frac{r_n}{G} . $$
#
# Each detection is one point. One that is right moves the point to the right, by $1 / G$, and up (unless the precision
# is 1 already); one that is wrong moves it straight down. So recall never falls, and precision jumps. Below are all 8s
# of one sheet: the boxes, the list, the curve. Follow number 5 through all three.

# %% curve-tied
EIGHT, number = sheets.classes.index("8"), 31
eights = only(detections[number], detections[number]["labels"] == EIGHT)
objects = targets[number]["boxes"][targets[number]["labels"] == EIGHT]
wanted = {"boxes": objects, "labels": np.full(len(objects), EIGHT)}
result = evaluate.evaluate_detections([eights], [wanted], len(sheets.classes))
recall, precision = result.recall[EIGHT], result.precision[EIGHT]  # (D,), (D,)
correct = np.diff(recall, prepend=0) > 0  # (D,), by falling score, as the detections are
figure = plot.figure(10.5, 4)
left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 0.8, 1.1))
plot.title(
    plot.ranked_boxes(left, images[number], eights["boxes"], correct, objects),
    "The 8s of a sheet",
    f"dashed: {len(objects)} objects; tags: ranks",
)
plot.title(plot.ranking(middle, eights["scores"], correct), "The list", "by falling score")
plot.title(plot.ranked_curve(right, recall, precision, correct), "The curve", f"AP {result.ap[EIGHT]:.3f}")
figure

# %% threshold-text [markdown]
# ## 6  A threshold is a point on the curve
#
# Whoever uses a detector needs a cut. Each cut is one point: everything above it counts, everything below is as if it
# were not there. In a live notebook, move `threshold` and `index`. Where would you cut if a wrong box costs as much as a
# missed digit? Where, if a person looks at every box anyway?

# %% threshold-explorer
widgets.score_threshold(images, detections, targets, EIGHT, "8", index=31)

# %% averages-text [markdown]
# ## 7  One number, in three ways
#
# First the zigzag is removed. What counts at a recall $\rho$ is the best precision that is reached there *or further
# right*, and 0 where the recall is never reached:
#
# $$ p(\rho) = \max_{n:\ \text{recall}_n \ge \rho} \text{precision}_n . $$
#
# - **VOC 2007**, eleven points ([2] section 4.2): $\ \frac{1}{11} \sum_{k=0}^{10} p(k / 10)$.
# - **VOC 2012** (from 2010 on), all points: the area $\int_0^1 p(\rho)\, d\rho$, a sum of rectangles.
# - **COCO**, 101 points: $\ \frac{1}{101} \sum_{k=0}^{100} p(k / 100)$.
#
# An example: two objects, and three detections, of which the first and the third are right. Recalls 1/2, 1/2, 1;
# precisions 1, 1/2, 2/3. So $p = 1$ up to recall 1/2, and 2/3 beyond. VOC 2012: $\frac12 \cdot 1 + \frac12 \cdot
# \frac23 = 0.833$. VOC 2007 reads 1 at six recalls (0 to 0.5) and 2/3 at five: $(6 + 5 \cdot \frac23) / 11 = 0.848$.
# COCO reads 1 at 51 and 2/3 at 50: $(51 + 50 \cdot \frac23) / 101 = 0.835$.

# %% averages-pictured
precision, recall = evaluate.precision_recall([True, False, True], num_objects=2)
figure = plot.figure(10, 3.4)
ways = (
    ("VOC 2007: eleven recalls", np.arange(11) / 10),
    ("VOC 2012: the area", None),
    ("COCO: 101 recalls", np.arange(101) / 100),
)
for ax, (name, recalls) in zip(figure.subplots(1, 3), ways, strict=True):
    plot.title(plot.interpolation(ax, recall, precision, recalls), name, "grey dots: the detections")
figure


# %% hand-yours
def by_hand():
    """(VOC 2007, VOC 2012, COCO): three average precisions that you worked out with pencil and paper.

    Five detections, by falling score: right, wrong, right, right, wrong. There are four objects. Write
    fractions, such as 51 / 101.
    """
    ### BEGIN SOLUTION
    return (3 + 5 * 3 / 4) / 11, 1 / 4 + 2 / 4 * 3 / 4, (26 + 50 * 3 / 4) / 101
    ### END SOLUTION


# %% hand-check points=2
place = np.array([[40 * i, 0, 40 * i + 20, 20] for i in range(6)], float)  # four objects, two empty places
page = {"boxes": place[[0, 4, 1, 2, 5]], "scores": np.arange(5, 0, -1) / 5, "labels": np.ones(5, int)}
page, objects = [page], [{"boxes": place[:4], "labels": np.ones(4, int)}]
measured = [
    evaluate.evaluate_detections(page, objects, 2, method=method).ap[1] for method in ("voc2007", "voc2012")
] + [evaluate.evaluate_coco(page, objects, 2).ap50[1]]
for name, mine, true in zip(("VOC 2007", "VOC 2012", "COCO"), by_hand(), measured, strict=True):
    if not abs(mine - true) < 1e-9:
        verdict = "too much" if mine > true else "too little"
        raise checks.CheckFailed(
            f"{name}: {mine:.4f} is {verdict}. Write down the five points first, "
            "then p, then how many of the recalls lie on each of its steps"
        )
print("by_hand: right;", ", ".join(f"{value:.4f}" for value in measured))

# %% average-text [markdown]
# The differences are small, but so are the differences between detectors. Eleven points are coarse: a class with few
# objects can gain or lose a whole eleventh by one detection. Now write all three.
#
# > **What people get wrong.** Joining the points by straight lines (trapezoids) gives credit for recalls that no
# > detection reaches. Taking the precision *at* a recall in place of the best beyond it charges one early mistake again
# > and again. And `np.arange(0, 1.1, 0.1)` holds 0.30000000000000004, which a recall of 3/10 does not reach:
# > `np.arange(11) / 10` does not have that fault. COCO's own code has it at ten of its 101 recalls, 0.35 the first, and
# > `evaluate.evaluate_coco` has it too, to give the same numbers. The check takes either.


# %% average-yours
def average_precision(recall, precision, method):
    """The average precision of a curve, a number from 0 to 1.

    recall, precision (D,): after 1, 2, ..., D detections; the recall does not fall. method: "voc2007",
    "voc2012" or "coco". Without a point (D = 0) it is 0. Where the recall is NaN, for there was no
    object, it is NaN.
    """
    ### BEGIN SOLUTION
    recall, precision = np.asarray(recall, float), np.asarray(precision, float)
    if np.isnan(recall).any():
        return np.nan
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)  # (D + 1,): p, and 0 beyond the last
    if method == "voc2012":
        return float(np.diff(recall, prepend=0) @ best[:-1])
    steps = {"voc2007": 10, "coco": 100}[method]
    first = np.searchsorted(recall, np.arange(steps + 1) / steps)  # the first point that reaches it
    return float(best[first].mean())
    ### END SOLUTION


# %% average-check points=3
checks.average_precision(average_precision)
print("average_precision: right, three ways")

# %% whole-text [markdown]
# ## 8  The whole measure, from your two functions
#
# All sheets: assignment runs sheet by sheet, because a detection can only find an object of its own image. Then the
# detections of *all* sheets go into one list by falling score, and that list has one curve. The check below does this
# with your functions for each digit and compares with `evaluate.evaluate_detections`.
#
# > **What people get wrong.** The mean of the AP of single images is another number. Most images hold one or two
# > objects of a class, and the AP of one object can only be 1, 1/2, 1/3, ... or 0.

# %% whole-check points=2
official = evaluate.evaluate_detections(detections, targets, len(sheets.classes))
print(f"{'digit':<7}{'objects':>8}{'detections':>12}{'yours':>8}{'rcnn':>8}")
for label in range(1, len(sheets.classes)):
    right, scores = [], []
    for page, target in zip(detections, targets, strict=True):
        own, wanted = only(page, page["labels"] == label), target["boxes"][target["labels"] == label]
        right.append(assign(own["boxes"], own["scores"], wanted, 0.5))
        scores.append(own["scores"])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    curve = evaluate.precision_recall(np.concatenate(right)[order], official.num_objects[label])
    mine = average_precision(curve[1], curve[0], "voc2012")
    print(
        f"{sheets.classes[label]:<7}{official.num_objects[label]:>8}{len(order):>12}{mine:>8.4f}"
        f"{official.ap[label]:>8.4f}"
    )
    if not abs(mine - official.ap[label]) < 1e-9:
        raise checks.CheckFailed(
            f"digit {label - 1}: {mine:.4f}, expected {official.ap[label]:.4f}. "
            "Do the checks of assign and of average_precision pass?"
        )

# %% coco-text [markdown]
# ## 9  COCO: ten thresholds, and what else differs
#
# With an IoU of 0.5 a box may be twice as wide as the object, or a third of its width beside it, and still be right.
# COCO takes the mean over the thresholds 0.5, 0.55, ..., 0.95, so that a tight box is worth more ([3]). "AP" without a
# number means this mean, "AP50" and "AP75" a single threshold. Besides, COCO looks at the best 100 detections of a
# class in an image, and has numbers for small, medium and large objects. And VOC's own kit adds 1 to the sides of a
# box, which COCO and rcnn do not. This is the core of the library's code, for all ten thresholds (T) at once:

# %% coco-source
course.source(evaluate.coco._curves)

# %% coco-thresholds
coco = evaluate.evaluate_coco(detections, targets, len(sheets.classes))
by_threshold = coco.precision[:, :, 1:, 0, -1].mean(axis=(1, 2))  # (T,): over recalls and classes
print({name: round(coco.numbers[name], 3) for name in ("AP", "AP50", "AP75")})
voc = {method: round(mean_ap(detections, method=method), 3) for method in evaluate.METHODS}
print("mean AP:", voc)
figure = plot.figure(6.5, 3.2)
ax = plot.lines(
    figure.subplots(),
    evaluate.coco.IOU_THRESHOLDS,
    {"AP": by_threshold},
    "IoU threshold",
    "mean AP",
    levels=[coco.numbers["AP"]],
)
plot.title(ax, "AP at each of COCO's thresholds", "dotted: their mean")
figure

# %% flags-text [markdown]
# ## 10  What does not count
#
# - **difficult** (VOC): need not be found. A detection of it is neither right nor wrong.
# - **crowd** (COCO): one box round many objects that nobody separated. Any number of detections may lie in it, without
#   being right or wrong; what counts is the share of the *detection* inside it, not the IoU.
# - **no objects of a class**: the recall is 0/0. Its AP is **NaN**, not 0, and the mean leaves it out. COCO's own code
#   writes -1, and takes care not to average it.
#
# Below: one page, two objects of class 1, and none of class 2. The first object is found. The second has a flag or has
# none, and is missed, found twice, or found in a corner only. Predict the AP of class 1 in the nine cases.

# %% flags-looked-at
objects = {"boxes": np.array([[0, 0, 20, 20], [40, 0, 80, 40]], float), "labels": np.array([1, 1])}
seconds = {
    "missed": [],
    "found twice": [[40, 0, 80, 40], [41, 0, 81, 40]],
    "in a corner": [[42, 2, 52, 12]],
}
for name, second in seconds.items():
    found = np.array([*second, [0, 0, 20, 20], [90, 0, 99, 9]], float)  # the last is of class 2
    page = {
        "boxes": found,
        "scores": np.linspace(0.9, 0.7, len(found)),
        "labels": np.array([1] * (len(found) - 1) + [2]),
    }
    for flag in ("none", "difficult", "crowd"):
        flags = {} if flag == "none" else {flag: np.array([False, True])}
        result = evaluate.evaluate_detections([page], [objects | flags], 3)
        print(
            f"second object {name:<12} flag {flag:<10} AP of class 1 {result.ap[1]:.3f}, "
            f"of class 2 {result.ap[2]:.3f}, mean {result.mean_ap:.3f}"
        )

# %% number-text [markdown]
# So the question at the top has two answers. Of two lists, the one with the higher AP is better, by a measure that has
# to be named with the number. And where the list ends is for its user to decide, on the curve.
#
# ## A number to check
#
# What a duplicate costs. One object, and two detections of it, both with an IoU above 0.5. Right is the first,
# wrong the second: recalls 1, 1, precisions 1, 1/2, and so AP **1**. The duplicate costs nothing. Now there are two
# objects, and the duplicate of the first stands before the detection of the second: right, wrong, right. That is the
# example of section 7: **0.833** = 5/6. With $k$ duplicates in between, the last precision is $2 / (k + 2)$, and AP
# is $\frac12 + \frac{1}{k + 2}$. For $k = 8$ that is **0.6**.

# %% number-checked
place = np.array([[0, 0, 20, 20], [40, 0, 60, 20]], float)
for k in (0, 1, 2, 8):
    page = {
        "boxes": place[[0] * (k + 1) + [1]],
        "scores": np.linspace(0.9, 0.5, k + 2),
        "labels": np.ones(k + 2, int),
    }
    result = evaluate.evaluate_detections([page], [{"boxes": place, "labels": np.ones(2, int)}], 2)
    print(f"{k} duplicates: AP {result.ap[1]:.4f}, by the formula {0.5 + 1 / (k + 2):.4f}")

# %% next [markdown]
# ## To try
#
# 1. Multiply all scores of the detections by 0.5, or take their square roots. Which of the numbers change, and why?
# 2. Give every detection the score 1. The order is then that of the sheets. What is left of the mean AP?
# 3. Find a cut for each digit that makes precision and recall equal. Are the ten cuts alike?
# 4. `model.predict(images, nms_thresh=1.0)` suppresses nothing. Guess its mean AP before you measure it.
