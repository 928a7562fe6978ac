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
# # Proposals and NMS
#
# *Goals.* After this notebook, you can
#
# - list the steps that turn the outputs of the RPN into proposals, and give the shape of every array;
# - write non-maximum suppression (NMS), for one group of boxes and for several groups;
# - measure how many objects each step loses;
# - choose the NMS threshold and the two top-N settings, and explain what each choice costs.
#
# *Prerequisites.* Notebooks 01 (IoU), 06 (deltas) and 07 (RPN). You need `argsort` and Boolean indexing in NumPy.
#
# *Time.* About two hours.
#
# **The question.** The region proposal network (RPN) gives each anchor a score and four deltas. The result is thousands
# of boxes, with dozens of similar boxes around each object. Which hundred boxes should the second stage classify?
#
# Nothing in the answer is learned. The steps sort, decode, clip and suppress boxes ([1] section 3.3). Each step can
# lose an object, and the second stage cannot find an object that has no proposal. Therefore this notebook has two
# parts: you write NMS, including the details in which implementations differ, and you measure how many objects each
# step loses.
#
# | step | input | output | setting |
# |---|---|---|---|
# | top-N by objectness, per level | logits $(A_l,)$ | indices $(\min(N, A_l),)$ | `rpn_pre_nms_top_n_test` |
# | decode | deltas and anchors (K', 4) | boxes (K', 4) | |
# | clip | boxes, size of the image | boxes (K', 4) | |
# | remove small boxes | boxes (K', 4) | `candidates[i]` (K, 4) | sides of at least 0.001 pixels are kept |
# | NMS, per level | candidates (K, 4), scores (K,) | indices, by descending score | `rpn_nms_thresh` |
# | top-n per image | indices | `proposals[i]` (P, 4) | `rpn_post_nms_top_n_test` |
#
# N is the number of boxes that the first cut keeps, and n is the number for the second cut. $A_l$ is the number of
# anchors of level $l$. K' and K count the boxes of all levels, before and after the small ones are removed. P is the
# number of proposals. The digit detector of this notebook has only one level.
#
# *History.* R-CNN and Fast R-CNN took about 2,000 boxes per image from Selective Search, an algorithm that is not
# learned. The RPN [1] replaced it. NMS is older than these networks. The algorithm of this notebook is also called
# *greedy* NMS, because it never revises a decision. Later, Soft-NMS [2] changed it, and DETR [3] learned to work
# without it.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Bodla, Singh, Chellappa, Davis: *Soft-NMS*,
# 2017 (arXiv 1704.04503). [3] Carion and others: *End-to-End Object Detection with Transformers*, 2020 (arXiv
# 2005.12872).

# %% setting-up
import time

import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, nms, plot, rpn
from rcnn.course import widgets

model = rcnn.load_digits()
# The detector was not trained on these handwritten digits.
pages = data.Digits(40, split="val")
for name in (
    "rpn_pre_nms_top_n_test",
    "rpn_nms_thresh",
    "rpn_post_nms_top_n_test",
    "box_nms_thresh",
):
    print(f"{name:<26}{getattr(model.config, name)}")

# %% by-hand-text [markdown]
# ## 1  From logits to candidates
#
# The next cell applies the first four steps to one page. The page has 128 × 128 pixels, the stride is 8, there are six
# anchors per cell, and the settings are printed above. (`moved` contains the decoded boxes.) **Predict** the number of
# rows after each step.
#
# The first cut comes *before* decoding. It only needs the logits, and the boxes that it removes need not be decoded. It
# also comes before the sigmoid, because the sigmoid does not change the order.
#
# > **What people get wrong.** Boxes are clipped to the (height, width) of their *image*, not to the size of the padded
# > batch, and x is clipped to the width. A box that is completely outside becomes a line or a point. Its width or
# > height is 0, and the logarithm of 0 in `encode` (notebook 06) is minus infinity. Therefore small boxes are removed
# > *after* clipping.

# %% by-hand-steps
image, target = pages[4]
trace = model.trace([image])
logits, deltas = trace.objectness[0][0], trace.rpn_deltas[0][0]  # (A,), (A, 4)
anchors = trace.anchors[0]  # (A, 4)

best = rpn.top_k(logits, model.config.rpn_pre_nms_top_n_test)  # (K',), by descending logit
moved = boxes.decode(deltas[best], anchors[best])  # (K', 4)
clipped = boxes.clip(moved, trace.image_sizes[0])  # (K', 4)
kept = boxes.remove_small(clipped, 1e-3)  # (K,)
candidates, scores = clipped[kept], 1 / (1 + np.exp(-logits[best][kept]))  # (K, 4), (K,)

steps = {"anchors": anchors, "moved": moved, "clipped": clipped, "candidates": candidates}
for name, array in steps.items():
    print(f"{name:<12}{array.shape}")
print("moved boxes that extend beyond the page:", (moved != clipped).any(axis=1).sum())
print(
    "largest difference from trace.candidates[0]:",
    np.abs(candidates - trace.candidates[0]).max(),
    "pixels",
)
assert len(anchors) == 16 * 16 * 6 and len(moved) == 400 and image.shape[:2] == (128, 128)
assert model.config.rpn_post_nms_top_n_test == 100 and model.config.box_nms_thresh == 0.5

# %% suppression-text [markdown]
# ## 2  Suppression, step by step
#
# *Keep* the candidate with the highest score. *Remove* every other candidate whose IoU with it is greater than a
# threshold $t$. Repeat both steps with the remaining candidates until none is left. If the boxes are sorted by
# descending score, box $j$ is kept exactly if no kept box before it has a high IoU with it:
#
# $$ \begin{aligned}
# \text{kept}_j = \neg\, \exists\, i < j :\ & \text{kept}_i \\
# \wedge\ & \mathrm{IoU}(b_i, b_j) > t .
# \end{aligned} $$
#
# The right side contains $\text{kept}_i$, so this is a recurrence: a removed box does not remove other boxes. Therefore
# the boxes must be processed in order, which makes NMS hard to parallelise.
#
# The figure shows NMS on 12 candidates of our page. Move the sliders `steps` and `threshold`. At which threshold is a
# fourth box kept? <!-- notebook only -->(Without a kernel, there are no sliders. Read the threshold off the figure: it
# is the lowest IoU of a removed box.)<!-- /notebook only -->

# %% suppression-stepper
# (12,), every fifth of the 60 boxes with the highest scores
few = np.argsort(-scores, kind="stable")[:60:5]
assert len(nms.nms(candidates[few], scores[few], 0.5)) == 3
widgets.nms_stepper(candidates[few], scores[few], 0.5, image)

# %% suppression-player-text [markdown]
# The next figure shows the same candidates at a threshold of 0.5, but it keeps a box and removes its duplicates in two
# separate steps. **Predict** before each step: which box is kept, and which boxes does it remove?

# %% suppression-player
ranked, ranked_scores = candidates[few], scores[few]  # (12, 4), (12,), by descending score
ranked_iou = boxes.iou(ranked, ranked)  # (12, 12)
captions = ["All 12 boxes are waiting. They are sorted by descending score."]
# The state of each box, and the box that is kept now.
frames = [(["waiting"] * len(ranked), 0)]
for best in nms.nms(ranked, ranked_scores, 0.5):
    states = [state.replace("now", "before") for state in frames[-1][0]]
    captions.append(
        f"Keep box {best + 1}: it has the highest score of the {states.count('waiting')} "
        "waiting boxes."
    )
    states[best] = "kept now"
    frames.append((states, best))
    waiting = np.flatnonzero(np.array(states) == "waiting")
    removed = waiting[ranked_iou[best, waiting] > 0.5].tolist()
    if not removed:
        highest = ranked_iou[best, waiting].max(initial=0)
        captions[-1] += (
            f" It removes no box: its highest IoU with a waiting box is {highest:.2f}."
        )
        continue
    names = ", ".join(str(rank + 1) for rank in removed)
    captions.append(
        f"Remove the boxes {names}: their IoU with box {best + 1} is greater than 0.5."
    )
    states = [
        "removed now" if rank in removed else state for rank, state in enumerate(states)
    ]
    frames.append((states, best))
captions[-1] += " No box is waiting any more, so NMS ends."


def draw_step(figure, step):
    """Draw the boxes and their scores at one step of NMS."""
    left, right = figure.subplots(1, 2, width_ratios=(1.05, 1))
    states, best = frames[step]
    plot.suppression_legend(plot.suppression_step(left, ranked, states, image), states)
    plot.suppression_queue(right, ranked_scores, states, ranked_iou[best])


assert len(ranked) == 12 and "waiting" not in frames[-1][0]
course.player(draw_step, captions, size=(6.6, 3.4), seconds=3)

# %% nms-text [markdown]
# ## 3  Exercise: NMS
#
# The docstring specifies the function. Two implementations agree only if they agree on these three details:
#
# - **Greater than.** A box whose IoU equals the threshold is not removed. With a threshold of 0, boxes that only touch
#   are both kept. With a threshold of 1, no box is removed.
# - **Equal scores.** These are common: in float32, the sigmoid of every logit above 17 is exactly 1.0. Among boxes with
#   equal scores, the earlier box comes first. Some sorting functions do not keep this order. Reversing an ascending
#   sort also reverses the order of equal scores.
# - **Indices.** The result contains indices into the boxes *as they were passed*, by descending score.


# %% nms-yours
def suppress(box_array, scores, iou_threshold):
    """Return the indices of the kept boxes, by descending score, (K,) integers.

    box_array (N, 4); scores (N,), any numbers, also negative ones. N may be 0; the result
    is then an empty array of integers.
    Process the boxes by descending score; ties keep the earlier box first. Each kept box
    removes all later boxes whose IoU with it is greater than `iou_threshold`. Do not change
    the arguments. `boxes.iou(a, b)` returns the IoU of all pairs, (len(a), len(b)).
    """
    ### BEGIN SOLUTION
    remaining = np.argsort(-np.asarray(scores), kind="stable")  # (N,)
    kept = []
    while len(remaining):
        best, rest = remaining[0], remaining[1:]
        kept.append(best)
        overlaps = boxes.iou(box_array[best : best + 1], box_array[rest])[0]  # (len(rest),)
        remaining = rest[overlaps <= iou_threshold]
    return np.array(kept, np.int64)
    ### END SOLUTION


# %% nms-check points=3
checks.nms(suppress)
limit = model.config.rpn_nms_thresh
yours = suppress(candidates, scores, limit)
if not np.array_equal(yours, nms.nms(candidates, scores, limit)):
    raise checks.CheckFailed(
        "suppress: on the candidates of the page, rcnn keeps other boxes or another order"
    )
print(
    f"suppress: correct; it keeps {len(yours)} of {len(candidates)} candidates at a "
    f"threshold of {limit}"
)

# %% in-detector-text [markdown]
# ### Your NMS in the detector
#
# The detector calls NMS twice: for the proposals, and after the second stage, for the detections of each class. The
# next cell runs the digit detector on six pages, each time with another NMS: that of rcnn, yours, and one with a
# typical mistake: each box is compared only with the box that was kept *last*. The average precision (AP, notebook 12)
# is 1 if all digits are found and no wrong detection has a higher score than a right one.
#
# **Predict:** does the mistake lose digits, or does it keep duplicates? Which AP falls?

# %% in-detector
result = course.with_and_without("nms", suppress)
clear = {
    key: sum(int((found["scores"] > 0.3).sum()) for found in outcome.detections)
    for key, outcome in result.outcomes.items()
}
assert (
    result.ap["mistake"] < result.ap["library"] and clear["mistake"] > 2 * clear["library"]
)
result

# %% edges-text [markdown]
# With the mistake, the AP falls because duplicates count as wrong. There are more than twice as many detections with a
# score above 0.3. Boxes of different digits alternate in the order of the scores. So the box that was kept last is
# often on another digit, and a duplicate stays.
#
# ## 4  Special cases
#
# The two boxes of the first case have an IoU of exactly 1/2. In the second case, the scores are equal, and the boxes
# are passed in both orders: the box that comes first is kept.
#
# The third case is about rounding. The exact IoU is 3/10, which neither float32 nor float64 can store exactly.
# `boxes.iou` returns the nearest float32, which is slightly larger than 3/10. The threshold is Python's number 0.3, a
# float64, which is slightly smaller. So the IoU *is* greater than the threshold. If the threshold were rounded to
# float32 first, the two numbers would be equal. On a CPU, torchvision compares in float64, and so does rcnn. On a GPU,
# torchvision compares in float32. Such cases occur if boxes have integer coordinates.

# %% edges-looked-at
half = np.array([[0, 0, 20, 10], [0, 0, 40, 10]], np.float32)
print(
    "IoU",
    boxes.iou(half[:1], half[1:])[0, 0],
    "; kept at threshold 0.5:",
    nms.nms(half, [0.9, 0.8], 0.5),
)
same = np.array([[0, 0, 20, 10], [2, 0, 22, 10]], np.float32)
first, reversed_first = (
    each[nms.nms(each, [0.7, 0.7], 0.5)] for each in (same, same[::-1])
)
print("equal scores: keeps", first, "; in reverse order", reversed_first)
third = np.array([[0, 0, 10, 10], [0, 0, 3, 10]], np.float32)
overlap = boxes.iou(third[:1], third[1:])[0, 0]
print(
    f"IoU {float(overlap):.10f}; greater than 0.3 in float64: {float(overlap) > 0.3}, "
    f"in float32: {overlap > np.float32(0.3)}; kept:",
    nms.nms(third, [0.9, 0.8], 0.3),
)
assert np.array_equal(first, same[:1]) and np.array_equal(reversed_first, same[1:])
assert (
    float(overlap) > 0.3
    and overlap == np.float32(0.3)
    and len(nms.nms(third, [0.9, 0.8], 0.3)) == 1
)
assert 1 / (1 + np.exp(-np.float32(17))) == 1  # the sigmoid of section 3

# %% recall-text [markdown]
# ## 5  Which step loses objects?
#
# In this section, an object is *covered* if some box has an IoU of at least 0.5 with it. A stricter limit is 0.7. The
# *recall* of a step is the fraction of objects that its boxes cover. Digits on one page hardly overlap, so they are
# easy to separate. Therefore we also use a harder set, the *doubled pages*: each one combines two pages and takes the
# darker pixel of the two. The detector was not trained on such pages.
#
# **Predict:** which step increases the recall, and which steps decrease it?


# %% doubled-pages
class Doubled:
    """Pages i and i + 1 of `pages`, combined into one image."""

    classes = pages.classes

    def __len__(self):
        return len(pages)

    def __getitem__(self, i):
        (one, first), (other, second) = pages[i], pages[(i + 1) % len(pages)]
        return np.minimum(one, other), {
            key: np.concatenate([first[key], second[key]]) for key in first
        }


doubled = Doubled()
figure = plot.figure(9, 3.1)
for ax, number in zip(figure.subplots(1, 3), (3, 12, 18), strict=True):
    sheet, digits = doubled[number]
    plot.boxes(
        plot.image(ax, sheet), digits["boxes"], digits["labels"], class_names=pages.classes
    )
    plot.title(ax, f"Doubled page {number}", f"{len(digits['boxes'])} digits")
overlaps = np.triu(boxes.iou(digits["boxes"], digits["boxes"]), k=1)  # (G, G), of page 18
both = list(np.unravel_index(overlaps.argmax(), overlaps.shape))
assert {pages.classes[label] for label in digits["labels"][both]} == {"7", "8"}
course.show(
    figure,
    "Three doubled pages with their digits and ground-truth boxes. On each page, some "
    "digits lie on top of each other. On doubled page 18, the boxes of a 7 and an 8 have "
    f"an IoU of {overlaps.max():.2f}.",
)

# %% recall-by-step
NAMES = ("anchors", "top-N", "moved", "clipped", "not small", "NMS", "top-n")


def boxes_by_step(trace, i):
    """Return the boxes of image i after each step in NAMES."""
    logits, deltas = trace.objectness[0][i], trace.rpn_deltas[0][i]  # (A,), (A, 4)
    anchors = trace.anchors[0]  # (A, 4)
    best = rpn.top_k(logits, model.config.rpn_pre_nms_top_n_test)
    moved = boxes.decode(deltas[best], anchors[best])
    kept = nms.nms(
        trace.candidates[i], trace.candidate_scores[i], model.config.rpn_nms_thresh
    )
    return (
        anchors,
        anchors[best],
        moved,
        boxes.clip(moved, trace.image_sizes[i]),
        trace.candidates[i],
        trace.candidates[i][kept],
        trace.proposals[i],
    )


def highest_iou(gt_boxes, steps):
    """Return the highest IoU of each object with a box of each of the S steps, (G, S)."""
    return np.stack(
        [boxes.iou(gt_boxes, step).max(axis=1, initial=0) for step in steps], axis=1
    )


objects, traces, counts, best_iou = {}, {}, {}, {}
for name, dataset in (("pages", pages), ("doubled pages", doubled)):
    items = [dataset[i] for i in range(len(dataset))]
    objects[name] = [target["boxes"] for _, target in items]
    traces[name] = model.trace([image for image, _ in items])
    steps = [boxes_by_step(traces[name], i) for i in range(len(items))]
    counts[name] = np.mean([[len(step) for step in each] for each in steps], axis=0)  # (S,)
    by_page = map(highest_iou, objects[name], steps)  # (G, S) for each page
    best_iou[name] = np.concatenate(list(by_page))  # (G, S), for the objects of all pages

# %% recall-pictured
recalls = {
    f"{name}, IoU {limit}": (values >= limit).mean(axis=0)
    for limit in (0.5, 0.7)
    for name, values in best_iou.items()
}
print(f"{'':<10}{'boxes per page':^20}{'recall, IoU 0.5':^20}{'recall, IoU 0.7':^20}")
print(f"{'step':<10}" + 3 * f"{'pages':>10}{'doubled':>10}")
for step, *numbers in zip(NAMES, *counts.values(), *recalls.values(), strict=True):
    row = [f"{number:>10,.0f}" for number in numbers[:2]]
    print(f"{step:<10}" + "".join(row + [f"{number:>10.3f}" for number in numbers[2:]]))

easy, hard, easy_strict, hard_strict = (
    dict(zip(NAMES, row, strict=True)) for row in recalls.values()
)
assert (
    0.2 < easy_strict["anchors"] < 0.3
    and easy["moved"] == easy["top-n"] == easy_strict["top-n"] == 1
)
assert 0.85 < hard_strict["moved"] < hard["moved"] < 1
assert easy["top-N"] == easy["anchors"] and hard["top-N"] < hard["anchors"]
assert hard["top-n"] < hard["NMS"]
assert all(
    each["moved"] == each["clipped"] == each["not small"] for each in (hard, hard_strict)
)
assert hard_strict["moved"] - hard_strict["NMS"] > 2 * (hard["moved"] - hard["NMS"]) > 0
assert all(0.45 < values[5] / values[4] < 0.56 for values in counts.values())

figure = plot.figure(10, 4.4)
ax = plot.recall_steps(figure.subplots(), NAMES, counts["doubled pages"], recalls)
plot.title(
    ax, "Recall after each step", "below each step: mean number of boxes per doubled page"
)
course.show(
    figure,
    "Four lines, for two kinds of pages and two limits. Decoding is the only step that "
    f"raises them: on the pages at an IoU of 0.7, from {easy_strict['top-N']:.2f} to "
    f"{easy_strict['moved']:.2f}. Clipping and removing small boxes change nothing. NMS "
    "and the second cut lower only the lines of the doubled pages, at an IoU of 0.7 from "
    f"{hard_strict['moved']:.2f} to {hard_strict['top-n']:.2f}.",
)

# %% recall-read [markdown]
# Decoding is the step that increases the recall. About a quarter of the digits have an anchor with an IoU of at
# least 0.7. After the anchors are moved, boxes cover all digits of the ordinary pages and most digits of the doubled
# pages. Clipping and removing small boxes lose no object here. The two cuts lose objects only on the doubled pages. NMS
# removes about half of the boxes. It can lose an object in two ways. First, a box of *another* object has a higher
# score and a high IoU with the boxes of this object. Second, the box with the highest score fits the object worse than
# the boxes that it removes. That is why NMS loses more objects at an IoU of 0.7 than at 0.5.
#
# These losses limit the second stage. It moves the boxes once more, but usually not far, and in training it treated
# proposals with an IoU below 0.5 as background. `evaluate.recall_by_stage` computes such a table for any model,
# including its detections.
#
# ## 6  The order of NMS and the second cut
#
# There are two top-N settings, one before NMS and one after it. Would one setting be enough? We could take the n best
# boxes first and apply NMS to them. **Predict** the recall of both orders for n = 10 on an ordinary page, which has
# about six digits.


# %% order-measured
def number_covered(found, gt_boxes):
    """Return how many objects (G, 4) have an IoU of at least 0.5 with a found box."""
    return (boxes.iou(gt_boxes, found).max(axis=1, initial=0) >= 0.5).sum()


print(
    f"{'n':>5}{'':<4}{'NMS, then n best':>18}{'n best, then NMS':>18}   recall at IoU 0.5"
)
for name, trace in traces.items():
    total = len(best_iou[name])
    for n in (10, 20, 40, 100):
        after = before = 0
        scored = zip(trace.candidates, trace.candidate_scores, objects[name], strict=True)
        for found, values, gt_boxes in scored:
            first = rpn.top_k(values, n)
            after += number_covered(found[nms.nms(found, values, 0.7)[:n]], gt_boxes)
            before += number_covered(
                found[first][nms.nms(found[first], values[first], 0.7)], gt_boxes
            )
        print(f"{n:>5}{'':<4}{after / total:>18.3f}{before / total:>18.3f}   {name}")
        assert after >= before
assert 5.5 < len(best_iou["pages"]) / len(pages) < 6.5

# %% threshold-text [markdown]
# A single cut before NMS is not enough: the n best boxes can all be on the clearest digits. Proposals from such a cut
# are also bad for training, because the second stage then sees many copies of a few objects. The cut before NMS only
# saves time (section 8), so it keeps many boxes.
#
# *A trap.* If there are several images or levels, the first cut is made per level, and the second cut over all levels
# of *one image*, not of the batch.
#
# ## 7  The threshold: lost objects and duplicates
#
# With a low threshold, NMS removes boxes that are not duplicates: it treats two overlapping objects as one. With a high
# threshold, it keeps duplicates. No threshold avoids both errors, because NMS does not use the image. Soft-NMS [2]
# lowers scores instead of removing boxes. This reduces the problem, but a threshold for the scores is still needed.
#
# The first plots show two overlapping digits, both a 4, with dashed ground-truth boxes. Each plot contains only those
# boxes that cover one of the two digits and that NMS keeps. The scores of some of these boxes are near 0, so the second
# cut can still remove them.
#
# The last plots count over all pages. NMS *loses* an object if a candidate covers the object, but no kept box does. If
# k kept boxes cover the same object, k - 1 of them are *duplicates*.

# %% threshold-pictured
sheet, digits = doubled[4]
overlaps = boxes.iou(digits["boxes"], digits["boxes"])  # (G, G)
# (2,), digit 2 and the digit with which it has the highest IoU
chosen = np.argsort(overlaps[2])[-2:]
assert [pages.classes[label] for label in digits["labels"][chosen]] == ["4", "4"]
pair = digits["boxes"][chosen]  # (2, 4)
corner = np.array([54, 40, 54, 40])  # of the part of the page that is shown
trace = traces["doubled pages"]
found, values = trace.candidates[4], trace.candidate_scores[4]
figure, shown = plot.figure(10, 3.8), []
for ax, limit in zip(figure.subplots(1, 3), (0.3, 0.5, 0.7), strict=True):
    kept = nms.nms(found, values, limit)
    covering = kept[boxes.iou(found[kept], pair).max(axis=1) >= 0.5]
    lost = (boxes.iou(pair, found[kept]).max(axis=1) < 0.5).sum()
    plot.boxes(
        plot.image(ax, sheet[40:104, 54:116]), pair - corner, color="white", linestyle="--"
    )
    plot.boxes(ax, found[covering] - corner, scores=values[covering], color="#56B4E9")
    plot.title(
        ax, f"Threshold {limit}", f"boxes: {len(covering)}; lost digits: {lost} of 2"
    )
    shown.append((len(covering), int(lost)))
assert values[covering].min() < 0.01
covering, lost = zip(*shown, strict=True)
assert lost == (1, 0, 0) and covering[0] < covering[1] < covering[2]
course.show(
    figure,
    "Two overlapping digits, both a 4, and the boxes that NMS keeps. At threshold 0.3, "
    f"{shown[0][0]} box is left and one digit is lost. At 0.5, {shown[1][0]} boxes cover "
    f"both digits. At 0.7, {shown[2][0]} boxes cover both.",
)


# %% threshold-measured
def lost_and_duplicates(found, values, gt_boxes, limit):
    """Return how many objects of a page NMS loses, and how many duplicates it keeps."""
    overlaps = boxes.iou(found, gt_boxes)  # (K, G)
    kept = overlaps[nms.nms(found, values, limit)]
    before, after = (iou.max(axis=0, initial=0) for iou in (overlaps, kept))  # (G,), (G,)
    lost = (before >= 0.5) & (after < 0.5)  # (G,)
    covering = kept[kept.max(axis=1, initial=0) >= 0.5]  # (boxes that cover an object, G)
    duplicates = (
        len(covering) - len(np.unique(covering.argmax(axis=1))) if len(covering) else 0
    )
    return lost.sum(), duplicates


limits = np.round(np.arange(0.2, 0.91, 0.1), 1)
lost, duplicates = {}, {}
for name, trace in traces.items():
    scored = list(zip(trace.candidates, trace.candidate_scores, objects[name], strict=True))
    sums = [
        np.sum([lost_and_duplicates(*page, limit) for page in scored], axis=0)
        for limit in limits
    ]
    lost[name], duplicates[name] = np.transpose(sums) / len(best_iou[name])
assert not lost["pages"].any() and lost["doubled pages"][0] > 0.1
assert all(values[limits <= 0.4].max() < 0.1 for values in duplicates.values())

figure = plot.figure(10, 3.6)
left, right = figure.subplots(1, 2)
plot.title(
    plot.lines(left, limits, lost, "NMS threshold", "fraction of the objects"),
    "Objects lost by NMS",
)
plot.title(
    plot.lines(right, limits, duplicates, "NMS threshold", "duplicates per object"),
    "Duplicates",
)
course.show(
    figure,
    "On the left, the fraction of objects that NMS loses: always 0 on the pages; on the "
    f"doubled pages, it falls from {lost['doubled pages'][0]:.2f} at threshold 0.2 to "
    f"{lost['doubled pages'][-1]:.2f} at 0.9. On the right, the duplicates per object: "
    f"near 0 up to a threshold of 0.4, then rising to {duplicates['pages'][-1]:.0f} on "
    f"the pages and {duplicates['doubled pages'][-1]:.0f} on the doubled pages.",
)

# %% threshold-read [markdown]
# On the ordinary pages, NMS loses no object, so a low threshold seems best. On the doubled pages, a low threshold loses
# objects. The RPN of the paper uses 0.7 ([1] section 3.3). A remaining duplicate costs only a little time, because the
# second stage applies NMS again, within each class and with a lower threshold (0.5 here and in torchvision). But an
# object that is lost here is lost for good. So the first NMS should keep too many boxes rather than too few.
#
# This answers the question at the top. The second stage classifies the hundred boxes with the highest scores among
# those that NMS keeps. The proposals are constants: no gradient flows through them (notebook 10 explains why).
#
# ## 8  The cost of NMS
#
# In the worst case, no boxes overlap. Then all are kept, and box $j$ is compared with all $j - 1$ boxes before it:
#
# $$ 0 + 1 + \dots + (n - 1) = \frac{n (n - 1)}{2} . $$
#
# Twice as many boxes cost four times as much. That is why the first cut is needed. A photo of 800 × 1216 pixels has
# 242,991 anchors, with three anchors per cell on the five levels of a pyramid. NMS could need $3 \cdot 10^{10}$
# comparisons. If boxes form clusters, NMS is faster, because removed boxes are not compared any more. The plot at the
# end of this section shows the measured times. A dotted line through the last point of each curve shows what the time
# would be if twice as many boxes always cost four times as much.
#
# The next cell shows rcnn's reference. It implements the definition of section 2, one row of comparisons at a time.

# %% nms-reference
cells = sum(-(-800 // 2**k) * -(-1216 // 2**k) for k in (2, 3, 4, 5, 6))  # rounded up
assert 3 * cells == 242_991 and round(3 * cells * (3 * cells - 1) / 2, -9) == 30e9
course.source(nms._nms)

# %% nms-kernel
rng = np.random.default_rng(0)
corner = rng.uniform(0, 1000, (2000, 2))
side = rng.uniform(20, 200, (2000, 2))
many = np.concatenate([corner, corner + side], axis=1)  # (2000, 4)
course.compare(
    nms.nms, many.astype(np.float32), rng.random(2000, np.float32), 0.7, repeat=7
)


# %% growth-measured
def seconds(n, clusters):
    """Return the shortest of three times of NMS for n boxes, separate or in clusters."""
    place = np.arange(n) // (20 if clusters else 1)
    x, y = place % 100 * 12.0, place // 100 * 12.0
    spread = np.stack([x, y, x + 10, y + 10], axis=1).astype(np.float32)  # (n, 4)
    values, times = np.random.default_rng(0).random(n, np.float32), []
    for _ in range(3):
        start = time.perf_counter()
        nms.nms(spread, values, 0.7)
        times.append(time.perf_counter() - start)
    return min(times)


sizes = np.array([500, 1000, 2000, 4000])
measured = {
    "kernel, separate boxes": [seconds(n, clusters=False) for n in sizes],
    "kernel, clusters of 20": [seconds(n, clusters=True) for n in sizes],
}
with rcnn.use_backend("numpy"):
    measured["NumPy, separate boxes"] = [seconds(n, clusters=False) for n in sizes]
figure = plot.figure(8, 3.6)
plot.title(
    plot.growth(figure.subplots(), sizes, measured, power=2),
    "Time of NMS",
    "both axes are logarithmic",
)
course.show(
    figure,
    "The time of NMS for 500 to 4,000 boxes. NumPy is slowest, then the kernel for "
    "separate boxes, then the kernel for clusters of 20 boxes. For many separate boxes, "
    "both curves approach the dotted power law with exponent 2.",
)

# %% levels-text [markdown]
# ## 9  Exercise: NMS within groups
#
# In a feature pyramid, each level has its own candidates, and NMS runs *within* each level: a box of one level does not
# remove a box of another level. After the second stage, NMS runs within each class in the same way. `batched_nms` takes
# the group of each box, (N,) integers. It returns the indices of the kept boxes of all groups, by descending score.
#
# A well-known trick needs only one call of NMS. It numbers the groups 0, 1, 2, ... and adds *number × distance* to all
# coordinates of a group, where the distance is larger than all coordinates. If no coordinate is negative, boxes of
# different groups then do not overlap. On a CPU, torchvision uses this trick for up to a thousand boxes, and processes
# the groups separately if there are more. rcnn always processes the groups separately. The cell after the exercise
# shows why. You may implement either method, but it must work for all coordinates.


# %% batched-yours
def suppress_in_groups(box_array, scores, groups, iou_threshold):
    """Return the indices (K,) of the boxes that NMS within each group keeps.

    The indices are ordered by descending score.
    box_array (N, 4); scores (N,); groups (N,) integers, also negative ones. N may be 0.
    Within a group, the result is that of `nms.nms`, which you may call. Ties keep the
    earlier box first, also if the boxes belong to different groups.
    """
    ### BEGIN SOLUTION
    kept = np.zeros(len(box_array), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        kept[members[nms.nms(box_array[members], scores[members], iou_threshold)]] = True
    order = np.argsort(-scores, kind="stable")
    return order[kept[order]]
    ### END SOLUTION


# %% batched-check points=2
rng = np.random.default_rng()
for trial, count in enumerate((0, 1, *np.repeat(range(2, 9), 30), 200)):
    # Two clusters, with negative and with positive coordinates. Some are very large.
    corner = rng.integers(-40, -25, (count, 2)) + 40.0 * rng.integers(0, 2, (count, 1))
    drawn = np.concatenate([corner, corner + rng.integers(5, 20, (count, 2))], axis=1)
    drawn *= 1e6 if trial % 5 == 4 else 1
    values, group = rng.integers(0, 10, count) / 10, rng.integers(-2, 3, count)
    expected = nms.batched_nms(drawn, values, group, 0.45)
    try:
        got = suppress_in_groups(drawn, values, group, 0.45)
    except (ValueError, IndexError) as error:
        hint = (
            "print the shapes of your arrays"
            if count
            else "N may be 0; an empty array has no maximum"
        )
        raise checks.CheckFailed(
            f"suppress_in_groups: {type(error).__name__} for {count} boxes: {error}\n"
            f"Hint: {hint}"
        ) from None
    if not np.array_equal(got, expected):
        same = sorted(np.ravel(got).tolist()) == sorted(expected.tolist())
        hint = (
            "the boxes are correct, but not their order: "
            "sort all groups together, by descending score"
            if same
            else "are the indices those of box_array, not of one group? Do boxes of "
            "different groups stay separate, even if coordinates are negative or large?"
        )
        raise checks.CheckFailed(
            f"suppress_in_groups: wrong for {count} boxes. The first boxes are\n"
            f"{drawn[:8]}\n"
            f"with scores {values[:8]}\n"
            f"and groups {group[:8]}.\n"
            f"Got {np.ravel(got)[:8]}, expected {expected[:8]}.\n"
            f"Hint: {hint}"
        )
print("suppress_in_groups: correct")

# %% trick-measured
rng, removed, differences, largest = np.random.default_rng(0), 0, 0, 0.0
cluster = np.arange(900) % 60  # the cluster of each box
for _ in range(40):  # images of 1333 pixels with 90 classes
    place, label = rng.uniform(0, 1300, (60, 2)), rng.integers(1, 91, 60)  # of each cluster
    corner = place[cluster] + rng.normal(0, 1.5, (900, 2))
    drawn = np.concatenate([corner, corner + rng.uniform(12, 16, (900, 2))], axis=1).astype(
        np.float32
    )
    values = rng.random(900, np.float32)
    # (900, 1), another number for each class
    shift = (label[cluster] * (drawn.max() + 1)).astype(np.float32)[:, None]
    group_by_group = nms.batched_nms(drawn, values, label[cluster], 0.5)
    differences += len(np.setxor1d(group_by_group, nms.nms(drawn + shift, values, 0.5)))
    removed += len(drawn) - len(group_by_group)
    largest = max(
        largest, float(np.abs(drawn.astype(np.float64) + shift - (drawn + shift)).max())
    )
print(f"the trick rounds coordinates by up to {largest:.4f} pixels")
print(
    f"NMS removes {removed:,} of {len(cluster) * 40:,} boxes; the trick differs for "
    f"{differences}"
)
assert differences > 0 and largest <= 1 / 256 and np.spacing(np.float32(120_000)) == 1 / 128

# %% trick-read [markdown]
# *Another trap.* The trick is not exact. Near 120,000, neighbouring float32 numbers differ by 1/128. The coordinates of
# class 90 are rounded to such numbers, so an IoU that is close to the threshold can change sides. Also, if coordinates
# are negative (for example, before clipping), the distance is too short, and boxes of different groups can overlap.
#
# ## A number to check
#
# Three boxes have the same height and a width of 20. They start at x = 0, 8 and 16. Neighbouring boxes share 12 of 28
# columns, so their IoU is 3/7 = 0.43. The outer two share 4 of 36 columns, so their IoU is 1/9 = 0.11. The scores
# decrease from left to right. By hand: how many boxes are kept at the thresholds 0.1, 0.4 and 0.45? And how many at
# 0.4, if the middle box has the highest score?
#
# At 0.1, the first box removes both others: **1**. At 0.4, it removes only the second box, and the second box then
# removes nothing: **2**. At 0.45, all are kept: **3**. If the middle box has the highest score, **1** is kept at 0.4.

# %% number-checked
row = np.array([[0, 0, 20, 10], [8, 0, 28, 10], [16, 0, 36, 10]], float)
print("IoU", boxes.iou(row[:1], row)[0].round(4))
assert np.allclose(boxes.iou(row[:1], row)[0], [1, 3 / 7, 1 / 9])
for limit, expected in ((0.1, 1), (0.4, 2), (0.45, 3)):
    number = len(nms.nms(row, [0.9, 0.8, 0.7], limit))
    print(f"threshold {limit}: {number} kept")
    assert number == expected
number = len(nms.nms(row, [0.8, 0.9, 0.7], 0.4))
print(f"threshold 0.4, highest score in the middle: {number} kept")
assert number == 1

# %% learned [markdown]
# ## What you have learned
#
# - Proposals result from fixed steps: a cut, decoding, clipping, removing small boxes, NMS, and another cut.
# - NMS keeps the best box and removes its duplicates. Strict comparison, stable order and original indices define it.
# - On crowded pages, NMS and the cuts lose objects. A high threshold loses fewer objects, but keeps duplicates.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Give all candidates the same score. What does NMS keep then, and what determines the order?
# 2. Take the three boxes of "A number to check" at a threshold of 0.1, and move the third box to the right. What is the
#    smallest x at which two boxes are kept? First calculate x, then test it with `nms.nms`.
#
# **Core** (half an hour)
#
# 3. In `boxes_by_step`, pass 100, 50 or 20 to `rpn.top_k`. When does the recall start to decrease, on both kinds of
#    pages?
# 4. Compute all IoUs at once, and remove every box that has an IoU above the threshold with *any* better box, kept or
#    removed. Does `checks.nms` reject this function, and how many objects does it lose on the doubled pages at a
#    threshold of 0.5?
# 5. Call `course.with_and_without("batched_nms", suppress_in_groups)`. Does the AP of six pages reveal the typical
#    mistake, to forget the groups? Then write a function with this mistake, and use `rcnn.replace` and
#    `rcnn.evaluate.evaluate(model, doubled).mean_ap` to measure what the mistake costs on the doubled pages. Which
#    digits are lost?
#
# **Stretch** (an evening)
#
# 6. Instead of removing a box, multiply its score by $1 - \mathrm{IoU}$ and sort again (linear Soft-NMS [2]). Plot lost
#    objects and duplicates as in section 7, with a score threshold instead of the NMS threshold.
# 7. Write NMS without a loop over the boxes. Start with $\text{kept}_j$ = true for all $j$, and apply the formula of
#    section 2 to all boxes at once. Repeat until nothing changes. Why is the result correct? How many rounds do the
#    400 candidates need, and how many are possible in the worst case?

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    A, B and C are boxes with the scores 0.9, 0.8 and 0.7. The IoU of A and B is 0.6, that
    of B and C is 0.6, and that of A and C is 0.2. Which boxes does NMS keep at a threshold
    of 0.5?
    [ ] Only A.
        A removes B. C overlaps strongly only with B, but a removed box does not remove
        other boxes.
    [x] A and C.
        A removes B. Then C is compared with A alone, and 0.2 is not greater than 0.5.
    [ ] A, B and C.
        B is removed, because its IoU with the kept box A is 0.6.

    You pass the logits to `suppress` instead of their sigmoids. How does the result change,
    apart from rounding?
    [ ] Boxes with a negative logit are removed.
        NMS has no score threshold. It compares scores only with each other.
    [ ] More boxes are removed, because the differences between the scores are larger.
        A box is removed because of its IoU with a better box. The size of the difference
        does not matter.
    [x] It does not change.
        The sigmoid is increasing, so the order of the boxes is the same, and NMS uses only
        this order and the IoUs.

    400 candidates form 20 clusters of 20 boxes. Any two boxes of a cluster have an IoU
    above the threshold; boxes of different clusters do not overlap. How many IoUs does the
    reference of section 8 compute?
    [x] 4,180
        The 20 kept boxes are compared with 399, 379, ..., 19 remaining boxes, on average
        with 209.
    [ ] 79,800
        400 · 399 / 2 is the worst case, in which no box is removed.
    [ ] 380
        NMS does not know the clusters, so a kept box is also compared with the remaining
        boxes of other clusters.

    Somebody removes small boxes first and clips the others afterwards: "Clipping only makes
    boxes smaller, so the order does not matter." What is wrong with this?
    [ ] Nothing is wrong.
        A large box outside the image is not small. Clipping then turns it into a line or a
        point.
    [ ] Clipping can enlarge a box beyond the image.
        Clipping moves each coordinate into the image, so no side becomes longer.
    [x] After clipping, boxes with a width or height of 0 can be left.
        `encode` then takes the logarithm of 0. So small boxes must be removed after
        clipping.

    People in a crowd overlap with an IoU of up to 0.6. Which threshold do you choose for
    the NMS of the *proposals*, if the second stage applies NMS again?
    [ ] 0.3, because each person then gets one proposal.
        Two people with an IoU of 0.6 then get one proposal together, and the second stage
        cannot find a person without a proposal.
    [x] 0.7, because a lost person costs more than a duplicate.
        The second stage removes duplicates later, but it cannot bring back a lost object.
    [ ] 1.0, because no object is then lost.
        Nothing is removed then. Duplicates fill the limited number of proposals, so objects
        with lower scores are lost.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 09 reads the features of each proposal. The functions of this notebook are in `rcnn.nms` (also `soft_nms`)
# and `rcnn.rpn.propose`. To run the whole detector with your function, use `with rcnn.replace("nms", suppress):`. For
# further reading, see [2] and [3].
