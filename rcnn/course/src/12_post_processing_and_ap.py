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
# *Goals.* After this notebook, you can
#
# - turn the outputs of the second stage into a list of detections;
# - decide which detections are correct;
# - draw a precision-recall curve, and choose a score threshold from it;
# - compute average precision (AP) as PASCAL VOC 2007, VOC 2012 and COCO define it, and say how the three differ.
#
# *Prerequisites.* Notebooks 01 (IoU), 06 (deltas), 08 (NMS) and 10 (the second stage).
#
# *Time.* About 90 minutes.
#
# **The question.** Two detectors return two lists of boxes with scores. One list contains more of the objects, and also
# more errors. Which detector is better? And where should the list end?
#
# The first part of this notebook goes from the arrays of the second stage to a list of detections. The second part
# measures this list: which detections are correct, what *precision* and *recall* are, and how one number summarises
# them. Three such numbers are in use: those of PASCAL VOC 2007, VOC 2012 and COCO. All three are called average
# precision, but they differ. You will compute each of them by hand.
#
# | step | input | output |
# |---|---|---|
# | post-processing | `class_logits` (R, L), `box_deltas` (R, L, 4), `rois` (R, 4) | boxes (D, 4), scores (D,), labels (D,) |
# | assignment, per class | boxes (D, 4), scores (D,), objects (G, 4) | correct or wrong (D,) |
# | curve, per class | correct or wrong (D,), by descending score | precision (D,), recall (D,) |
# | average precision | precision (D,), recall (D,) | a number from 0 to 1 |
#
# *History.* The PASCAL VOC challenge [2] took average precision from text retrieval and read the curve at eleven
# recalls; from 2010 to 2012, it used the area. In 2014, COCO [3] added the mean over ten IoU thresholds. Most papers since
# then report COCO's number.
#
# [1] Girshick: *Fast R-CNN*, 2015 (arXiv 1504.08083). [2] Everingham, Van Gool, Williams, Winn, Zisserman: *The PASCAL
# Visual Object Classes (VOC) Challenge*, 2010. [3] Lin et al.: *Microsoft COCO*, 2014 (arXiv 1405.0312), and the
# evaluation code of the challenge.

# %% setting-up
import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, evaluate, nms, plot
from rcnn.course import widgets

model = rcnn.load_digits()


class Doubled:
    """Doubled pages, as in notebook 08: each pixel is the darker one of two pages."""

    pages = data.Digits(40, split="val")
    classes = pages.classes

    def __len__(self):
        return len(self.pages)

    def __getitem__(self, i):
        (one, first), (other, second) = self.pages[i], self.pages[(i + 1) % len(self)]
        return np.minimum(one, other), {
            key: np.concatenate([first[key], second[key]]) for key in first
        }


doubled = Doubled()  # harder than the pages of the training
images = [image for image, _ in doubled]
detections, targets = evaluate.predictions(model, doubled, progress=False)
digits = sum(len(page["labels"]) for page in targets)
found = sum(len(page["labels"]) for page in detections)
print(f"{len(images)} doubled pages, {digits} digits, {found} detections")

# %% by-hand-text [markdown]
# ## 1  From the outputs of the head to a list
#
# Each of R RoIs has a probability for each of L classes, and a box for each class ([1] section 3). Background gives no
# detection, so there are R × (L - 1) candidates. Four steps follow:
#
# 1. Keep the candidates with a score *greater than* `box_score_thresh`, here 0.05.
# 2. Clip the boxes to the image, and keep those whose sides are both at least 0.01 pixels.
# 3. Apply NMS *within each class* with the threshold `box_nms_thresh`, here 0.5.
# 4. Keep the `box_detections_per_img` detections with the highest scores of all classes, here 100.
#
# **Predict**: how many candidates are left after each step, for a doubled page with 100 RoIs and four digits? The cell
# compares its result with the detections of the model. The function of the library is `roi_heads.detect`.

# %% by-hand-steps
trace, config = model.trace([images[17]]), model.config
powers = np.exp(trace.class_logits - trace.class_logits.max(axis=1, keepdims=True))
scores = (powers / powers.sum(axis=1, keepdims=True))[:, 1:].reshape(-1)  # (R * (L - 1),)
decoded = boxes.decode(trace.box_deltas, trace.rois, config.bbox_reg_weights)  # (R, L, 4)
found = decoded[:, 1:].reshape(-1, 4)  # (R * (L - 1), 4)
labels = np.tile(np.arange(1, trace.class_logits.shape[1]), len(trace.rois))
all_candidates = boxes.clip(found, trace.image_sizes[0]), scores, labels

likely = np.flatnonzero(scores > config.box_score_thresh)
found, scores, labels = (array[likely] for array in all_candidates)
large = boxes.remove_small(found, 1e-2)
kept = nms.batched_nms(found[large], scores[large], labels[large], config.box_nms_thresh)
keep = large[kept]
best = keep[: config.box_detections_per_img]
counts = [len(array) for array in (all_candidates[1], likely, large, keep, best)]
print("all candidates, high scores, large boxes, after NMS, best:", *counts)
difference = np.abs(found[best] - trace.detections[0]["boxes"]).max()
print("largest difference from the model's boxes:", difference, "pixels")
assert (len(trace.rois), len(targets[17]["labels"])) == (100, 4) and difference < 1e-3
print("batched_nms of all candidates:")
course.compare(nms.batched_nms, *all_candidates, config.box_nms_thresh)

# %% per-class-text [markdown]
# ## 2  Why NMS works within each class
#
# Two objects of different classes may overlap, like a rider and a horse, or two digits here. Both boxes are correct.
# Two overlapping boxes of *one* class are more likely to show the same object. NMS therefore compares only boxes of the
# same class.
#
# This has a cost: a digit that looks like two classes gets a box of each class, and one of them is wrong. NMS over all
# classes would keep only the box with the higher score. The figure shows the detections with scores above 0.3. The mean
# AP in its titles is over all doubled pages. **Predict** which of the two is higher.


# %% per-class-pictured
def select(page, rows):
    """Return the detections of a page in some rows."""
    return {key: array[rows] for key, array in page.items()}


def mean_ap(pages, **options):
    """Return the mean AP of detections on the doubled pages."""
    result = evaluate.evaluate_detections(pages, targets, len(doubled.classes), **options)
    return result.mean_ap


over_all = [
    select(page, nms.nms(page["boxes"], page["scores"], 0.5)) for page in detections
]
assert mean_ap(detections) > mean_ap(over_all)
zero, six = doubled.classes.index("0"), doubled.classes.index("6")
likely_six, likely_zero = (
    detections[17]["scores"][detections[17]["labels"] == label].max()
    for label in (six, zero)
)
assert six in targets[17]["labels"] and 0.9 < likely_six < likely_zero
assert six not in over_all[17]["labels"][over_all[17]["scores"] > 0.3]
figure = plot.figure(10, 4.9)
for ax, pages, name in zip(
    figure.subplots(1, 2),
    (detections, over_all),
    ("NMS within each class", "NMS over all classes"),
    strict=True,
):
    page = select(pages[17], pages[17]["scores"] > 0.3)
    plot.detections(
        ax,
        images[17],
        page["boxes"],
        page["scores"],
        page["labels"],
        doubled.classes,
        targets[17]["boxes"],
    )
    plot.title(ax, name, f"mean AP over all pages {mean_ap(pages):.3f}")
course.show(
    figure,
    f"Doubled page 17 with {len(targets[17]['labels'])} digits. With NMS within each "
    "class, a 6 and a 0 have boxes at the same place, and so have a 4 and a 0. With NMS "
    "over all classes, only the box with the higher score is left at each place, and the "
    f"6 is lost. The mean AP over all pages is {mean_ap(detections):.3f} within each "
    f"class and {mean_ap(over_all):.3f} over all classes.",
)

# %% cut-text [markdown]
# NMS within each class has the higher AP, and the figure shows a reason. The loop of the 6 looks like a 0, and this 0
# has a higher score than the 6. Within each class, both boxes stay: one is correct, the other is wrong. Over all
# classes, the 0 removes the 6, and the digit is lost.
#
# ## 3  Why the score threshold is so low
#
# You would not show a user a box with a score of 0.05. But average precision uses the *order* of the detections. A
# detection with a low score is at the end of the list. If it is correct, recall increases. If it is wrong, it is behind
# all others and does not change their precision. A score threshold can therefore only lower the AP. A threshold of 0.05
# lowers it a little, and saves time.
#
# > **What people get wrong.** Do not measure AP with the threshold that you use for display. The AP is lower, and the
# > comparison of two detectors is not fair, because their scores may not mean the same. For display, choose the
# > threshold from the curve, as in section 6.

# %% cut-measured
print(f"{'threshold':>9}{'detections per page':>22}{'mean AP':>10}")
uncut, aps = model.predict(images, score_thresh=0), []
for cut in (0, 0.01, 0.05, 0.2, 0.5, 0.9):
    pages = [select(page, page["scores"] > cut) for page in uncut]
    aps.append(mean_ap(pages))
    print(
        f"{cut:>9}{np.mean([len(page['labels']) for page in pages]):>22.1f}{aps[-1]:>10.3f}"
    )
assert aps == sorted(aps, reverse=True)

# %% assign-text [markdown]
# ## 4  Correct or wrong
#
# Consider the detections of one class in one image, and the objects of this class. VOC assigns them greedily ([2]
# section 4.2):
#
# - Process the detections **by descending score**.
# - Compare each detection with the one object that it **overlaps most**.
# - The detection is correct if their IoU is **at least** the threshold, and no earlier detection was correct for this
#   object. ([2] says that the IoU must exceed 50 %. The code of the challenge accepts exactly 50 %.)
#
# All other detections are wrong: those with too low an IoU, those without any object, and duplicates.
#
# > **What people get wrong.** A duplicate is wrong. It is neither half correct nor ignored, and this is why NMS matters
# > for AP. A wrong detection claims no object: the object stays free for the next detection.
#
# COCO differs in one point: there, a detection takes the best of the objects that are still *free*. Write VOC's rule,
# which `evaluate.evaluate_detections` also follows. Two traps: the order of the result, and `argmax` of an array
# without elements.


# %% assign-yours
def assign(box_array, scores, gt_boxes, iou_threshold):
    """Return which detections are correct, (D,) bool, in the order of box_array.

    box_array: (D, 4), the detected boxes of one class in one image; D may be 0.
    scores: (D,), any numbers, also negative ones.
    gt_boxes: (G, 4), the objects of this class; G may be 0.

    Process the detections by descending score; ties keep the first. Compare each one with
    the object that it overlaps most, of equal IoUs with the first object. It is correct if
    that IoU is at least iou_threshold and no earlier detection was correct for the same
    object. The arguments must not change. `boxes.iou(a, b)` returns the IoU of all pairs,
    (len(a), len(b)).
    """
    ### BEGIN SOLUTION
    correct = np.zeros(len(box_array), bool)
    if len(gt_boxes) == 0:
        return correct
    overlaps = boxes.iou(box_array, gt_boxes)  # (D, G)
    claimed = np.zeros(len(gt_boxes), bool)
    for d in np.argsort(-np.asarray(scores), kind="stable"):
        g = overlaps[d].argmax()
        if overlaps[d, g] >= iou_threshold and not claimed[g]:
            correct[d] = claimed[g] = True
    return correct
    ### END SOLUTION


# %% assign-check points=2
checks.assign(assign)
print("assign: correct")

# %% curve-text [markdown]
# ## 5  Precision and recall
#
# Go down the list of one class. Among the first $n$ detections, $r_n$ are correct, and there are $G$ objects in total:
#
# $$ \text{precision}_n = \frac{r_n}{n}, \qquad \text{recall}_n = \frac{r_n}{G} . $$
#
# Each detection adds one point to the curve. A correct detection moves the point to the right by $1 / G$, and up if the
# precision is below 1. A wrong detection moves it straight down. Recall never decreases, and precision jumps. The
# figure shows all 8s of one doubled page: the boxes, the list and the curve. Follow detection 5 through all three
# panels.

# %% curve-tied
EIGHT, number = doubled.classes.index("8"), 31
eights = select(detections[number], detections[number]["labels"] == EIGHT)
objects = targets[number]["boxes"][targets[number]["labels"] == EIGHT]
wanted = {"boxes": objects, "labels": np.full(len(objects), EIGHT)}
result = evaluate.evaluate_detections([eights], [wanted], len(doubled.classes))
recall, precision = result.recall[EIGHT], result.precision[EIGHT]  # (D,), (D,)
correct = np.diff(recall, prepend=0) > 0  # (D,), by descending score, like the detections
figure = plot.figure(10.5, 4)
left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 0.8, 1.1))
plot.title(
    plot.ranked_boxes(left, images[number], eights["boxes"], correct, objects),
    "The 8s of a page",
    f"dashed: {len(objects)} objects; tags: ranks",
)
plot.title(
    plot.ranking(middle, eights["scores"], correct), "The list", "by descending score"
)
plot.title(
    plot.ranked_curve(right, recall, precision, correct),
    "The curve",
    f"AP {result.ap[EIGHT]:.3f}",
)
assert correct.tolist() == [True] * 3 + [False] * 3 + [True] and len(objects) == 4
course.show(
    figure,
    f"Seven detections of the digit 8 on a doubled page with {len(objects)} of them. The "
    "first three are correct, and the curve moves right at precision 1. Detections 4, 5 "
    "and 6 are wrong, and the curve moves down at recall 0.75. Detection 7 is correct; "
    f"the curve ends at recall 1 with precision {precision[-1]:.2f}.",
)

# %% threshold-text [markdown]
# ## 6  A score threshold is a point on the curve
#
# The user of a detector needs a score threshold. Each threshold is one point on the curve: the detections above it
# count, and those below it are removed. Move the sliders<!-- notebook only --> (in a notebook with a kernel)<!-- /notebook only -->.
# Which threshold would you choose if a wrong box costs as much as a missed digit? Which one, if a person looks at every
# box anyway?

# %% threshold-explorer
widgets.score_threshold(images, detections, targets, EIGHT, "8", index=31)

# %% averages-text [markdown]
# ## 7  One number, in three ways
#
# The first step removes the zigzag. The interpolated precision at a recall $\rho$ is the best precision at this recall
# *or a higher one*, and 0 if the recall is never reached:
#
# $$ p(\rho) = \max_{n:\ \text{recall}_n \ge \rho} \text{precision}_n . $$
#
# - **VOC 2007**, eleven points ([2] section 4.2): $\ \frac{1}{11} \sum_{k=0}^{10} p(k / 10)$.
# - **VOC 2012** (since 2010), all points: the area $\int_0^1 p(\rho)\, d\rho$, a sum of rectangles.
# - **COCO**, 101 points: $\ \frac{1}{101} \sum_{k=0}^{100} p(k / 100)$.
#
# An example: there are two objects and three detections. The first and the third detection are correct. The recalls are
# 1/2, 1/2, 1, and the precisions are 1, 1/2, 2/3. So $p = 1$ up to recall 1/2, and $p = 2/3$ beyond.
#
# - VOC 2012: $\frac12 \cdot 1 + \frac12 \cdot \frac23 = 0.833$.
# - VOC 2007 reads 1 at six recalls (0 to 0.5) and 2/3 at five: $(6 + 5 \cdot \frac23) / 11 = 0.848$.
# - COCO reads 1 at 51 recalls and 2/3 at 50: $(51 + 50 \cdot \frac23) / 101 = 0.835$.


# %% averages-pictured
def averages(outcomes, num_objects):
    """Return the APs (VOC 2007, VOC 2012, COCO) of detections that are correct or wrong."""
    outcomes = np.array(outcomes)
    aside = num_objects + np.arange(len(outcomes))  # places without an object
    place = np.where(outcomes, np.cumsum(outcomes) - 1, aside)  # (D,)
    left = 40.0 * np.arange(num_objects + len(outcomes))[:, None]
    corners = left * [1, 0, 1, 0] + [0, 0, 20, 20]
    scores = np.linspace(1, 0.5, len(outcomes))
    page = [{"boxes": corners[place], "scores": scores, "labels": np.ones(len(place), int)}]
    objects = [{"boxes": corners[:num_objects], "labels": np.ones(num_objects, int)}]
    voc = [
        evaluate.evaluate_detections(page, objects, 2, method=m).ap[1]
        for m in ("voc2007", "voc2012")
    ]
    return *voc, evaluate.evaluate_coco(page, objects, 2).ap50[1]


assert np.round(averages([True, False, True], 2), 3).tolist() == [0.848, 0.833, 0.835]
precision, recall = evaluate.precision_recall([True, False, True], num_objects=2)
figure = plot.figure(10, 3.4)
ways = (
    ("VOC 2007: eleven recalls", np.arange(11) / 10),
    ("VOC 2012: the area", None),
    ("COCO: 101 recalls", np.arange(101) / 100),
)
for ax, (name, recalls) in zip(figure.subplots(1, 3), ways, strict=True):
    plot.interpolation(ax, recall, precision, recalls)
    plot.title(ax, name, "grey dots: the detections")
course.show(
    figure,
    "Three panels with the same interpolated precision: 1 up to recall 0.5, then 0.67 up "
    "to recall 1. VOC 2007 reads it at eleven recalls, VOC 2012 computes the area below "
    "it, and COCO reads it at 101 recalls.",
)


# %% hand-yours
def by_hand():
    """Return three APs that you computed on paper: (VOC 2007, VOC 2012, COCO).

    There are four objects and five detections. By descending score, the detections are:
    correct, wrong, correct, correct, wrong. Write fractions, such as 51 / 101.
    """
    ### BEGIN SOLUTION
    return (3 + 5 * 3 / 4) / 11, 1 / 4 + 2 / 4 * 3 / 4, (26 + 50 * 3 / 4) / 101
    ### END SOLUTION


# %% hand-check points=2
measured = averages([True, False, True, True, False], num_objects=4)
for name, yours, expected in zip(
    ("VOC 2007", "VOC 2012", "COCO"), by_hand(), measured, strict=True
):
    if not abs(yours - expected) < 1e-9:
        verdict = "too high" if yours > expected else "too low"
        raise checks.CheckFailed(
            f"{name}: {yours:.4f} is {verdict}. First write down the five points of the "
            "curve. Then write down p. Then count how many of the recalls lie on each "
            "step of p."
        )
print("by_hand: correct;", ", ".join(f"{value:.4f}" for value in measured))

# %% average-text [markdown]
# The differences are small, but the differences between detectors are also small. Eleven points are coarse: in a class
# with few objects, one detection can change the AP by 1/11. Now write all three.
#
# > **What people get wrong.**
# >
# > - If you join the points by straight lines (trapezoids), you count recalls that no detection reaches.
# > - If you use the precision *at* a recall instead of the best one beyond it, one early error counts many times.
# > - `np.arange(0, 1.1, 0.1)` contains 0.30000000000000004, and a recall of 3/10 does not reach this number.
# >   `np.arange(11) / 10` is exact. COCO's own code has this fault at ten of its 101 recalls, first at 0.35.
# >   `evaluate.evaluate_coco` reproduces it, to return the same numbers. The check accepts both versions.


# %% average-yours
def average_precision(recall, precision, method):
    """Return the average precision of a curve, a number from 0 to 1.

    recall, precision: (D,), after 1, 2, ..., D detections; the recall never decreases; D
    may be 0.
    method: "voc2007", "voc2012" or "coco".

    If D is 0, it is 0. If the recall is NaN because there are no objects, it is NaN. The
    arguments must not change.
    """
    ### BEGIN SOLUTION
    recall, precision = np.asarray(recall, float), np.asarray(precision, float)
    if np.isnan(recall).any():
        return np.nan
    # (D + 1,): p, and 0 after the last
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    if method == "voc2012":
        return float(np.diff(recall, prepend=0) @ best[:-1])
    steps = {"voc2007": 10, "coco": 100}[method]
    # The first point that reaches each recall.
    first = np.searchsorted(recall, np.arange(steps + 1) / steps)
    return float(best[first].mean())
    ### END SOLUTION


# %% average-check points=3
checks.average_precision(average_precision)
print("average_precision: correct for all three methods")
too_high = np.flatnonzero(np.arange(101) / 100 < evaluate.coco.RECALLS)
assert len(too_high) == 10 and too_high[0] == 35 and np.arange(0, 1.1, 0.1)[3] > 0.3

# %% whole-text [markdown]
# ## 8  The whole measure, from your two functions
#
# The assignment runs page by page, because a detection can only find an object of its own image. Then the detections
# of *all* pages form one list by descending score, and that list has one curve. The check does this with your
# functions for each digit, and compares the result with `evaluate.evaluate_detections`.
#
# > **What people get wrong.** The mean of the APs of single images is a different number. Most images contain one or
# > two objects of a class, and the AP of one object can only be 1, 1/2, 1/3, ... or 0.

# %% whole-check points=2
official = evaluate.evaluate_detections(detections, targets, len(doubled.classes))
print(f"{'digit':<7}{'objects':>8}{'detections':>12}{'yours':>8}{'rcnn':>8}")
for label in range(1, len(doubled.classes)):
    correct, scores = [], []
    for page, target in zip(detections, targets, strict=True):
        own = select(page, page["labels"] == label)
        wanted = target["boxes"][target["labels"] == label]
        correct.append(assign(own["boxes"], own["scores"], wanted, 0.5))
        scores.append(own["scores"])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    count = official.num_objects[label]
    curve = evaluate.precision_recall(np.concatenate(correct)[order], count)
    yours, expected = average_precision(curve[1], curve[0], "voc2012"), official.ap[label]
    print(
        f"{doubled.classes[label]:<7}{count:>8}{len(order):>12}"
        f"{yours:>8.4f}{expected:>8.4f}"
    )
    if not abs(yours - expected) < 1e-9:
        raise checks.CheckFailed(
            f"digit {label - 1}: {yours:.4f}, expected {expected:.4f}. "
            "Do the checks of assign and of average_precision pass?"
        )

# %% coco-text [markdown]
# ## 9  COCO: ten thresholds and other differences
#
# At an IoU threshold of 0.5, a box can be twice as wide as the object, or shifted by a third of the object's width, and
# still be correct. COCO takes the mean over the thresholds 0.5, 0.55, ..., 0.95, so that a more exact box gives a
# higher AP ([3]). "AP" without a number means this mean; "AP50" and "AP75" mean a single threshold. COCO also uses at
# most 100 detections per class and image, and reports separate numbers for small, medium and large objects. VOC's own
# code adds 1 to the sides of a box; COCO and rcnn do not. The first cell shows the core of the library's code, for all
# ten thresholds (T) at once.

# %% coco-source
course.source(evaluate.coco._curves)

# %% coco-thresholds
coco = evaluate.evaluate_coco(detections, targets, len(doubled.classes))
# (T,), means over recalls and classes
by_threshold = coco.precision[:, :, 1:, 0, -1].mean(axis=(1, 2))
print({name: round(coco.numbers[name], 3) for name in ("AP", "AP50", "AP75")})
voc = {method: round(mean_ap(detections, method=method), 3) for method in evaluate.METHODS}
print("mean AP:", voc)
assert np.allclose(boxes.iou([[0, 0, 30, 10]], [[0, 0, 60, 10], [10, 0, 40, 10]]), 0.5)
figure = plot.figure(6.5, 3.2)
ax = plot.lines(
    figure.subplots(),
    evaluate.coco.IOU_THRESHOLDS,
    {"AP": by_threshold},
    "IoU threshold",
    "mean AP",
    levels=[coco.numbers["AP"]],
)
ax.set_ylim(0, 1)
plot.title(ax, "AP at each of COCO's thresholds", "dotted: their mean")
falls = np.diff(by_threshold)
assert (falls < 0).all() and evaluate.coco.IOU_THRESHOLDS[falls.argmin()] > 0.79
course.show(
    figure,
    f"The mean AP decreases with the IoU threshold, from {by_threshold[0]:.2f} at 0.5 to "
    f"{by_threshold[-1]:.2f} at 0.95. It decreases fastest above 0.8. The mean of the ten "
    f"values is {coco.numbers['AP']:.2f}.",
)

# %% flags-text [markdown]
# ## 10  Ignored objects and empty classes
#
# - **difficult** (VOC): the object need not be found. A detection of it is neither correct nor wrong.
# - **crowd** (COCO): one box around many objects that were not separated. Any number of detections may lie in it, and
#   they are neither correct nor wrong. The criterion is not the IoU, but the fraction of the *detection* inside the
#   box.
# - **a class without objects**: its recall is 0/0. Its AP is **NaN**, not 0, and the mean ignores it. COCO's own code
#   writes -1 and excludes it from the mean.
#
# The cell evaluates one page with two objects of class 1 and none of class 2. The first object is found. The second has
# no flag or one of the two flags, and is missed, found twice, or found only in a corner. **Predict** the AP of class 1
# in the nine cases.

# %% flags-looked-at
objects = {
    "boxes": np.array([[0, 0, 20, 20], [40, 0, 80, 40]], float),
    "labels": np.array([1, 1]),
}
seconds = {
    "missed": [],
    "found twice": [[40, 0, 80, 40], [41, 0, 81, 40]],
    "in a corner": [[42, 2, 52, 12]],
}
print("second object  flag        AP of class 1   of class 2    mean")
for name, second in seconds.items():
    # The last box is of class 2.
    found = np.array([*second, [0, 0, 20, 20], [90, 0, 99, 9]], float)
    page = {
        "boxes": found,
        "scores": np.linspace(0.9, 0.7, len(found)),
        "labels": np.array([1] * (len(found) - 1) + [2]),
    }
    for flag in ("none", "difficult", "crowd"):
        flags = {} if flag == "none" else {flag: np.array([False, True])}
        result = evaluate.evaluate_detections([page], [objects | flags], 3)
        numbers = f"{result.ap[1]:>13.3f}{result.ap[2]:>13.3f}{result.mean_ap:>8.3f}"
        print(f"{name:<15}{flag:<12}{numbers}")
        assert np.isnan(result.ap[2])

# %% number-text [markdown]
# ## A number to check
#
# What does a duplicate cost? There is one object with two detections, both with an IoU above 0.5. The first detection
# is correct and the second is wrong. The recalls are 1, 1, the precisions 1, 1/2, and the AP is **1**: this duplicate
# costs nothing.
#
# Now there are two objects, and the duplicate of the first comes before the detection of the second: correct, wrong,
# correct. This is the example of section 7, with AP **0.833** = 5/6. With $k$ duplicates in between, the last precision
# is $2 / (k + 2)$ and the AP is $\frac12 + \frac{1}{k + 2}$. For $k = 8$, it is **0.6**.

# %% number-checked
assert averages([True, False], num_objects=1)[1] == 1
place = np.array([[0, 0, 20, 20], [40, 0, 60, 20]], float)
for k in (0, 1, 2, 8):
    page = {
        "boxes": place[[0] * (k + 1) + [1]],
        "scores": np.linspace(0.9, 0.5, k + 2),
        "labels": np.ones(k + 2, int),
    }
    result = evaluate.evaluate_detections(
        [page], [{"boxes": place, "labels": np.ones(2, int)}], 2
    )
    print(f"{k} duplicates: AP {result.ap[1]:.4f}, by the formula {0.5 + 1 / (k + 2):.4f}")
    assert np.isclose(result.ap[1], 0.5 + 1 / (k + 2))

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
objects = {"boxes": place, "labels": np.ones(2, int)}
shifted = {
    **objects,
    "boxes": place + [2, 0, 2, 0],
    "scores": np.array([0.9, 0.8]),
}  # by a tenth of the width
shifted_coco = evaluate.evaluate_coco([shifted], [objects], 2).numbers
assert round(shifted_coco["AP"], 9) == 0.7 and shifted_coco["AP50"] == 1
assert averages([True, True, False], num_objects=4)[1] == 0.5
course.quiz("""
    One object has two detections: the first with score 0.8 and IoU 0.7, the second with
    score 0.6 and IoU 0.9. Which one is correct at an IoU threshold of 0.5?
    [ ] The second one, because its box is better.
        The assignment goes by score. The IoU only has to reach the threshold.
    [ ] Both, because both reach the threshold.
        An object counts once. Otherwise a detector could gain AP by repeating its boxes.
    [x] The first one, because its score is higher.
        It claims the object. The second one is then a duplicate, which is wrong.

    There are four objects. By descending score, the detections are: correct, correct,
    wrong. What is the AP of VOC 2012?
    [x] 0.5
        The interpolated precision is 1 up to recall 2/4, and 0 beyond, because no detection
        gets there.
    [ ] 0.67, because two of three detections are correct.
        This is the precision at the end of the list. It ignores the two missed objects.
    [ ] 1, because the two best detections are correct.
        The precision is 1 there, but half of the objects are never found.

    A colleague raises the score threshold from 0.05 to 0.5. The precision increases from
    0.5 to 0.8. "So the AP increases, too." Is this right?
    [ ] Yes, because AP is an average of precisions.
        It averages the precision over the recalls. The threshold removes the end of the
        curve and leaves the rest as it is.
    [x] No, the AP can only decrease or stay the same.
        The removed detections come last in the list. If one of them was correct, the curve
        loses this recall.
    [ ] Nobody can know without the data.
        One thing is certain for any data: the beginning of the list stays the same, and
        nothing is added to its end.

    A detector has AP 0.8 and 0.6 for two classes. A third class has no objects in the
    images. What is the mean AP?
    [ ] 0.47, because the AP of the third class is 0.
        An AP of 0 would say that its objects are missed. There are none.
    [ ] NaN, because the mean of NaN is NaN.
        The AP of the third class is NaN, but the mean ignores it.
    [x] 0.7
        Only classes with objects count. Say how many they are when you compare detectors.

    A detector finds all objects with the right classes and no other boxes. Each box is
    shifted by a tenth of the object's width. What are AP50 and COCO's AP?
    [ ] Both are 1, because every object is found.
        This is true at a threshold of 0.5 only. The IoU of such a box is 0.9 / 1.1 = 0.82.
    [x] AP50 is 1, and AP is 0.7.
        The IoU is 0.9 / 1.1 = 0.82. It reaches seven of the ten thresholds: 0.5, 0.55, ...,
        0.8.
    [ ] Both are 0.82, the IoU of the boxes.
        At each threshold, a box is either correct or wrong. How far its IoU is from the
        threshold has no effect.
""")

# %% next [markdown]
# ## What you have learned
#
# - Post-processing keeps candidates above a low score threshold, applies NMS within each class, and keeps the best.
# - A detection is correct if it is the first, by descending score, that overlaps its object enough. Duplicates are
#   wrong.
# - AP summarises the precision-recall curve in one number, and its definition must be named with it. The user chooses a
#   point on the curve, which decides where the list ends.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Multiply all scores by 0.5, or take their square roots. Predict which numbers of section 7 and which thresholds of
#    section 6 change.
# 2. Give every detection the score 1. The order is then that of the pages. What is the mean AP?
#
# **Core** (half an hour)
#
# 3. Write `batched_nms(boxes, scores, groups, iou_threshold)` with a single call of `nms.nms`: move the boxes of each
#    class so far that they cannot overlap those of another class. Then run the detector with it: in a block
#    `with rcnn.replace("batched_nms", batched_nms):`, compute `mean_ap(model.predict(images))`. It must not change. How
#    much does it change if your function ignores `groups`?
# 4. For each digit, find the threshold that makes precision and recall equal. Are the ten thresholds similar?
# 5. `model.predict(images, nms_thresh=1.0)` removes no duplicates. Predict its mean AP before you measure it.
#
# **Stretch** (an evening)
#
# 6. How exact is a mean AP that is measured on 40 doubled pages? Draw 40 of them with replacement, evaluate their
#    detections and targets, and repeat this 200 times. Between which two numbers do 95 % of the mean APs lie? The two
#    mean APs of section 2 come from the same pages, so do the same for their difference. Is it above 0 in 95 % of the
#    draws?
# 7. Change `assign` to COCO's rule: a detection takes the best of the objects that are still free. Construct two
#    objects and two detections for which the two rules differ. Does any detection of our pages change?
#
# ## Where to go next
#
# Notebook 13 uses these measurements to find faults. `rcnn/roi_heads.py` contains the post-processing, and
# `rcnn/evaluate` the measures. [2] section 4.2 explains why VOC uses AP.
