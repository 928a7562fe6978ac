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
# **The question.** The region proposal network has scored every anchor and said how to move it. That is thousands of
# boxes, and around each object lie dozens that all mean the same one. Which hundred should the second stage look at?
#
# Nothing in the answer is learned. It sorts, cuts, moves, clips and suppresses ([1] section 3.3), and any of these
# steps can lose an object for good: what is not proposed is never found. So this notebook does two things. You write
# the heart of it, *non-maximum suppression* (NMS), with the details on which implementations differ. And you measure,
# step by step, what is lost where.
#
# | step | comes in | comes out | setting |
# |---|---|---|---|
# | top-N by objectness, per level | logits (A_l,) | indices (min(N, A_l),) | `rpn_pre_nms_top_n_test` |
# | decode | deltas, anchors (K', 4) | boxes (K', 4) | |
# | clip | boxes, size of the image | boxes (K', 4) | |
# | drop the small ones | boxes (K', 4) | `candidates[i]` (K, 4) | sides from 0.001 pixels on stay |
# | NMS, per level | candidates (K, 4), scores (K,) | indices, best first | `rpn_nms_thresh` |
# | top-n of the image | indices | `proposals[i]` (P, 4) | `rpn_post_nms_top_n_test` |
#
# N and n are the numbers of the two cuts. A_l is the number of anchors of level l; K' and K count the boxes of all
# levels before and after the small ones are dropped, and P those that are proposed.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Bodla, Singh, Chellappa, Davis: *Soft-NMS*,
# 2017 (arXiv 1704.04503).

# %% setting-up
import time

import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, nms, plot, rpn
from rcnn.course import widgets

model = rcnn.load_digits()
pages = data.Digits(40, split="val")  # no glyph on these pages was ever trained on
for name in ("rpn_pre_nms_top_n_test", "rpn_nms_thresh", "rpn_post_nms_top_n_test", "box_nms_thresh"):
    print(f"{name:<26}{getattr(model.config, name)}")

# %% by-hand-text [markdown]
# ## 1  From logits to candidates
#
# One page, and the first four steps by hand. Predict the number of rows that each leaves before you run the cell: the
# page has 128 × 128 pixels, the stride is 8, there are six anchors per cell, and the settings are above.
#
# The top-N comes *before* decoding. It needs the logits only, it changes nothing about the rest, and a box that cannot
# be chosen need not be computed. It also comes before the sigmoid, which does not change an order.
#
# > **What people get wrong.** Clipping goes to the size of the *image within the batch*, (height, width), not to that
# > of the padded batch; and x is clipped by the width. A box that lies wholly outside becomes a line or a point. It has
# > no area, and the logarithm of its width is minus infinity: that is why the small ones are dropped *after* clipping.

# %% by-hand-steps
image, target = pages[4]
trace = model.trace([image])
logits, deltas = trace.objectness[0][0], trace.rpn_deltas[0][0]  # (A,), (A, 4)
anchors = trace.anchors[0]  # (A, 4)

best = rpn.top_k(logits, model.config.rpn_pre_nms_top_n_test)  # (K',), by falling score
moved = boxes.decode(deltas[best], anchors[best])  # (K', 4)
clipped = boxes.clip(moved, trace.image_sizes[0])  # (K', 4)
kept = boxes.remove_small(clipped, 1e-3)  # (K,)
candidates, scores = clipped[kept], 1 / (1 + np.exp(-logits[best][kept]))  # (K, 4), (K,)

steps = {"anchors": anchors, "moved": moved, "clipped": clipped, "candidates": candidates}
for name, array in steps.items():
    print(f"{name:<12}{array.shape}")
print("moved boxes that reach beyond the page:", (moved != clipped).any(axis=1).sum())
print("off trace.candidates[0] by at most", np.abs(candidates - trace.candidates[0]).max(), "pixels")

# %% suppression-text [markdown]
# ## 2  Suppression, one step at a time
#
# Of the candidates take the one with the best score and *keep* it. *Remove* every other whose IoU with it is greater
# than a threshold $t$. Take the best that is still waiting, and go on until none is. With the boxes sorted by falling
# score, box $j$ stays exactly if no box that stays before it overlaps it too much:
#
# $$ \text{stays}_j = \neg\, \exists\, i < j : \ \text{stays}_i \ \wedge\ \mathrm{IoU}(b_i, b_j) > t . $$
#
# The right side holds $\text{stays}_i$ itself, so this is a recurrence and not a formula: a box that was removed
# removes nothing. That is what makes the procedure greedy, and hard to run in parallel.
#
# Below are 12 of the candidates on our page. In a live notebook, move `steps` and `threshold`. At which threshold does
# a fourth box survive? (Where nothing moves, read it off the list: it is the removed box with the smallest IoU.)

# %% suppression-stepper
few = np.argsort(-scores, kind="stable")[:60:5]  # (12,): every fifth of the best sixty
widgets.nms_stepper(candidates[few], scores[few], 0.5, image)

# %% nms-text [markdown]
# ## 3  Write it
#
# The docstring is the contract. Three places in it decide whether two implementations agree:
#
# - **greater than.** An IoU of exactly the threshold does not remove. With a threshold of 0, boxes that merely touch
#   both stay; with 1, nothing is ever removed.
# - **equal scores.** They are not rare: a sigmoid in float32 says 1.0 for every logit above about 17. Of equals the
#   earlier box comes first. Not every way of sorting keeps that order, and reversing a rising sort turns it round.
# - **indices.** The answer points into the boxes *as they were given*, best first.


# %% nms-yours
def suppress(box_array, scores, iou_threshold):
    """Indices of the boxes that stay, best score first: (K,).

    box_array (N, 4), scores (N,): any numbers, negative ones too. The boxes have their turns by falling
    score, of equal scores the earlier one first. Each box that stays removes all that come after it and
    whose IoU with it is greater than iou_threshold. N may be 0. The arguments are left as they are.
    `boxes.iou(a, b)` gives the IoU of all pairs, (len(a), len(b)).
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
mine = suppress(candidates, scores, limit)
if not np.array_equal(mine, nms.nms(candidates, scores, limit)):
    raise checks.CheckFailed("of the page's candidates rcnn keeps others, or the same in another order")
print(f"suppress: right; of {len(candidates)} candidates {len(mine)} stay at a threshold of {limit}")

# %% edges-text [markdown]
# ## 4  The edges, looked at
#
# The first pair below has an IoU of exactly 1/2. The second has equal scores and is given in both orders: whichever
# comes first stays. The third case is about numbers. Its IoU is 3/10, computed in float32, and the threshold is the
# Python number 0.3, a double. The float32 nearest to 3/10 is a little larger than the double, so this IoU *is* greater.
# If the threshold is rounded to float32 first, the two are equal. On a CPU torchvision compares as doubles, and so does
# rcnn; on a GPU torchvision has the threshold in float32. Where boxes have whole coordinates such cases come up.

# %% edges-looked-at
half = np.array([[0, 0, 20, 10], [0, 0, 40, 10]], np.float32)
print("IoU", boxes.iou(half[:1], half[1:])[0, 0], " at threshold 0.5 stay", nms.nms(half, [0.9, 0.8], 0.5))
same = np.array([[0, 0, 20, 10], [2, 0, 22, 10]], np.float32)
print(
    "equal scores: stays",
    same[nms.nms(same, [0.7, 0.7], 0.5)],
    "and turned round",
    same[::-1][nms.nms(same[::-1], [0.7, 0.7], 0.5)],
)
third = np.array([[0, 0, 10, 10], [0, 0, 3, 10]], np.float32)
overlap = boxes.iou(third[:1], third[1:])[0, 0]
print(
    f"IoU {float(overlap):.10f}; greater than 0.3? As doubles {float(overlap) > 0.3}, "
    f"as float32 {overlap > np.float32(0.3)}; stay",
    nms.nms(third, [0.9, 0.8], 0.3),
)

# %% recall-text [markdown]
# ## 5  What is lost where
#
# An object is *reached* if some box has an IoU of at least 0.5 with it, or, more strictly, 0.7. The share of objects
# that are reached is the recall of a step. The digits of a page hardly overlap each other, which makes life easy. So
# here is a second, harder set: two pages written over each other, the darker ink winning. The detector was never
# trained on such pages.
#
# Predict: which step raises the recall, and which ones lower it?


# %% doubled-pages
class Doubled:
    """Page i and page i + 1 of `pages` on one sheet."""

    classes = pages.classes

    def __len__(self):
        return len(pages)

    def __getitem__(self, i):
        (one, first), (other, second) = pages[i], pages[(i + 1) % len(pages)]
        return np.minimum(one, other), {key: np.concatenate([first[key], second[key]]) for key in first}


doubled = Doubled()
figure = plot.figure(10, 3.4)
for ax, number in zip(figure.subplots(1, 3), (3, 12, 18), strict=True):
    sheet, digits = doubled[number]
    plot.boxes(plot.image(ax, sheet), digits["boxes"], digits["labels"], class_names=pages.classes)
    plot.title(ax, f"Doubled page {number}", f"{len(digits['boxes'])} digits")
figure

# %% recall-by-step
NAMES = ("anchors", "top-N", "moved", "clipped", "not small", "NMS", "top-n")


def boxes_by_step(trace, i):
    "The boxes of image i after each of the steps in NAMES."
    logits, deltas, anchors = trace.objectness[0][i], trace.rpn_deltas[0][i], trace.anchors[0]
    best = rpn.top_k(logits, model.config.rpn_pre_nms_top_n_test)
    moved = boxes.decode(deltas[best], anchors[best])
    stay = nms.nms(trace.candidates[i], trace.candidate_scores[i], model.config.rpn_nms_thresh)
    return (
        anchors,
        anchors[best],
        moved,
        boxes.clip(moved, trace.image_sizes[i]),
        trace.candidates[i],
        trace.candidates[i][stay],
        trace.proposals[i],
    )


def nearest(gt_boxes, steps):
    "The IoU of each object with the nearest box of each of the S steps: (G, S)."
    return np.stack([boxes.iou(gt_boxes, step).max(axis=1, initial=0) for step in steps], axis=1)


objects, traces, counts, best_iou = {}, {}, {}, {}
for name, dataset in (("pages", pages), ("doubled pages", doubled)):
    items = [dataset[i] for i in range(len(dataset))]
    objects[name] = [target["boxes"] for _, target in items]
    traces[name] = model.trace([image for image, _ in items])
    steps = [boxes_by_step(traces[name], i) for i in range(len(items))]
    counts[name] = np.mean([[len(step) for step in each] for each in steps], axis=0)  # (S,)
    by_page = zip(objects[name], steps, strict=True)
    best_iou[name] = np.concatenate([nearest(gt_boxes, each) for gt_boxes, each in by_page])  # (G, S)

# %% recall-pictured
recalls = {
    f"{name}, IoU {limit}": (values >= limit).mean(axis=0)
    for limit in (0.5, 0.7)
    for name, values in best_iou.items()
}
print(f"{'':<22}" + "".join(f"{name:>11}" for name in NAMES))
for name, values in counts.items():
    print(f"{'boxes, ' + name:<22}" + "".join(f"{value:>11,.0f}" for value in values))
for name, values in recalls.items():
    print(f"{name:<22}" + "".join(f"{value:>11.3f}" for value in values))

figure = plot.figure(10, 4.4)
ax = plot.recall_steps(figure.subplots(), NAMES, counts["doubled pages"], recalls)
plot.title(ax, "Recall after each step", "under each step: boxes per doubled page, on average")
figure

# %% recall-read [markdown]
# Moving the anchors is what makes boxes of them: about a quarter of the digits have an anchor with an IoU of 0.7, and
# once the anchors are moved, all digits of the pages are reached and most of the doubled ones. Clipping and dropping
# the small ones cost nothing here. The two cuts cost something only where the page is crowded. NMS halves the list, and
# can lose an object in two ways: a box of *another* object, with a better score, overlaps its boxes too much; or the
# box with the best score fits it worse than those that it removes. The second way shows at 0.7 more than at 0.5.
#
# These numbers nearly limit everything that follows. The second stage moves its boxes once more, but only a little, and
# a proposal with an IoU below 0.5 was background when it learned. `evaluate.recall_by_stage` draws up the same account
# for any model, detections included.
#
# ## 6  The order of the two cuts
#
# There are two numbers of boxes in the settings, one before NMS and one after it. Could one do with the second alone,
# that is, take the best n first and suppress afterwards? Predict for n = 10 on an ordinary page, which holds six digits
# on average.
#
# > **What people get wrong.** "Top n" after sorting looks the same on both sides of NMS. But before it, the n best
# > boxes can all lie on the clearest digit. In training, too, the second stage would see copies of a few objects. And
# > with several images or levels: the first cut is made per level, the second over all levels of *one image*, not of
# > the batch.


# %% order-measured
def reached(found, gt_boxes):
    "How many of gt_boxes (G, 4) some box of `found` reaches at an IoU of 0.5."
    return (boxes.iou(gt_boxes, found).max(axis=1, initial=0) >= 0.5).sum()


print(f"{'n':>5}{'':<4}{'NMS, then n best':>18}{'n best, then NMS':>18}")
for name, trace in traces.items():
    total = len(best_iou[name])
    for n in (10, 20, 40, 100):
        after = before = 0
        scored = zip(trace.candidates, trace.candidate_scores, objects[name], strict=True)
        for found, values, gt_boxes in scored:
            first = rpn.top_k(values, n)
            after += reached(found[nms.nms(found, values, 0.7)[:n]], gt_boxes)
            before += reached(found[first][nms.nms(found[first], values[first], 0.7)], gt_boxes)
        print(f"{n:>5}{'':<4}{after / total:>18.3f}{before / total:>18.3f}   {name}")

# %% threshold-text [markdown]
# ## 7  The threshold: what is lost, and what stays double
#
# A low threshold removes boxes that are not copies: two objects that overlap are taken for one. A high threshold lets
# copies live. There is no value that does neither, since NMS does not know what it sees. Soft-NMS [2] lowers scores
# instead of removing boxes, which moves the problem and does not end it.
#
# The plots show a 4 on a 4. Drawn are the boxes that reach one of the two and outlive NMS.

# %% threshold-pictured
sheet, digits = doubled[4]
overlaps = boxes.iou(digits["boxes"], digits["boxes"])  # (G, G)
pair = digits["boxes"][np.argsort(overlaps[2])[-2:]]  # (2, 4): digit 2 and the one that it overlaps most
corner = np.array([54, 40, 54, 40])  # of the part of the page that is shown
found, values = traces["doubled pages"].candidates[4], traces["doubled pages"].candidate_scores[4]
figure = plot.figure(10, 4)
for ax, limit in zip(figure.subplots(1, 3), (0.3, 0.5, 0.7), strict=True):
    stays = nms.nms(found, values, limit)
    reaching = stays[boxes.iou(found[stays], pair).max(axis=1) >= 0.5]
    lost = (boxes.iou(pair, found[stays]).max(axis=1) < 0.5).sum()
    plot.boxes(plot.image(ax, sheet[40:104, 54:116]), pair - corner, color="white", linestyle="--")
    plot.boxes(ax, found[reaching] - corner, scores=values[reaching], color="#56B4E9")
    plot.title(ax, f"Threshold {limit}", f"boxes: {len(reaching)}; digits (dashed): 2, lost: {lost}")
figure


# %% threshold-measured
def lost_and_double(found, values, gt_boxes, limit):
    "Of one page: objects that only NMS loses, and boxes that stay on an object beside another one."
    overlaps = boxes.iou(found, gt_boxes)  # (K, G)
    stays = overlaps[nms.nms(found, values, limit)]
    lost = (overlaps.max(axis=0, initial=0) >= 0.5) & (stays.max(axis=0, initial=0) < 0.5)  # (G,)
    reaching = stays[stays.max(axis=1, initial=0) >= 0.5]  # (boxes that reach an object, G)
    further = len(reaching) - len(np.unique(reaching.argmax(axis=1))) if len(reaching) else 0
    return lost.sum(), further


limits = np.round(np.arange(0.2, 0.91, 0.1), 1)
lost, double = {}, {}
for name, trace in traces.items():
    scored = list(zip(trace.candidates, trace.candidate_scores, objects[name], strict=True))
    sums = [np.sum([lost_and_double(*page, limit) for page in scored], axis=0) for limit in limits]
    lost[name], double[name] = np.transpose(sums) / len(best_iou[name])

figure = plot.figure(10, 3.6)
left, right = figure.subplots(1, 2)
plot.title(plot.lines(left, limits, lost, "NMS threshold", "share of the objects"), "Lost by NMS")
plot.title(plot.lines(right, limits, double, "NMS threshold", "further boxes per object"), "Double")
figure

# %% threshold-read [markdown]
# On ordinary pages nothing is ever lost, and low thresholds look free. On the doubled ones they are not. The paper's
# RPN takes 0.7 ([1] section 3.3): a copy too many costs a little time and is removed after the second stage, where NMS
# runs once more with a lower threshold (0.5 here, as in torchvision), within each class; an object lost here is lost.
# So the first NMS leans to one side and the second to the other.
#
# That answers the question at the top. The second stage looks at the hundred best of the boxes that are left when each
# that stays has removed its copies, all worse ones that overlap it by more than 0.7. It takes them as plain numbers: no
# gradient flows back through a proposal (notebook 10 says why).
#
# ## 8  What it costs
#
# In the worst case no box overlaps another. Then all stay, and box $j$ is compared with all $j - 1$ before it:
#
# $$ 0 + 1 + \dots + (n - 1) = \frac{n (n - 1)}{2} . $$
#
# Twice as many boxes cost four times as much. This, and not decoding, is what the first cut is for. A photo of 800 ×
# 1216 pixels has 242,991 anchors on the five levels of a pyramid, with three per cell: up to thirty thousand million
# comparisons. Where boxes come in heaps it is cheaper, since what has been
# removed is compared no more.
#
# This is rcnn's reference. It is the definition of section 2, a row of comparisons at a time:

# %% nms-reference
course.source(nms._nms)

# %% nms-kernel
rng = np.random.default_rng(0)
corner = rng.uniform(0, 1000, (2000, 2))
many = np.concatenate([corner, corner + rng.uniform(20, 200, (2000, 2))], axis=1)  # (2000, 4)
course.compare(nms.nms, many.astype(np.float32), rng.random(2000, np.float32), 0.7, repeat=7)


# %% growth-measured
def seconds(n, heaps):
    "The shortest of three times that NMS takes for n boxes: all apart, or in heaps of twenty."
    place = np.arange(n) // (20 if heaps else 1)
    x, y = place % 100 * 12.0, place // 100 * 12.0
    spread = np.stack([x, y, x + 10, y + 10], axis=1).astype(np.float32)  # (n, 4)
    values, times = np.random.default_rng(0).random(n, np.float32), []
    for _ in range(3):
        begun = time.perf_counter()
        nms.nms(spread, values, 0.7)
        times.append(time.perf_counter() - begun)
    return min(times)


sizes = np.array([500, 1000, 2000, 4000])
measured = {
    "kernel, boxes apart": [seconds(n, heaps=False) for n in sizes],
    "kernel, heaps of 20": [seconds(n, heaps=True) for n in sizes],
}
with rcnn.use_backend("numpy"):
    measured["NumPy, boxes apart"] = [seconds(n, heaps=False) for n in sizes]
figure = plot.figure(8, 3.6)
plot.title(plot.growth(figure.subplots(), sizes, measured, power=2), "Time of NMS", "both axes logarithmic")
figure

# %% levels-text [markdown]
# ## 9  Level by level
#
# With a feature pyramid every level has its own candidates, and suppression runs *within* each level: a box of one
# level never removes one of another. (After the second stage the same is done with classes in place of levels.)
# `batched_nms` takes the group of each box, (N,) integers, and gives indices over all groups, best score first.
#
# There is a well-known trick that needs only one NMS. Move each group by its own multiple of a distance that is larger
# than any coordinate; as long as no coordinate is negative, boxes of different groups then cannot overlap. torchvision
# does so for up to a thousand boxes (on a CPU), and goes group by group beyond. rcnn always goes group by group: you will
# see why. Write it either way, but for any coordinates.


# %% batched-yours
def suppress_in_groups(box_array, scores, groups, iou_threshold):
    """Indices of the boxes that stay when each group keeps to itself, best score first: (K,).

    box_array (N, 4), scores (N,), groups (N,) integers, negative ones too. Within a group it is `nms.nms`,
    which you may call; of equal scores the earlier box comes first, whatever its group. N may be 0.
    """
    ### BEGIN SOLUTION
    stays = np.zeros(len(box_array), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        stays[members[nms.nms(box_array[members], scores[members], iou_threshold)]] = True
    order = np.argsort(-scores, kind="stable")
    return order[stays[order]]
    ### END SOLUTION


# %% batched-check points=2
rng = np.random.default_rng()
for count in (0, 1, *np.repeat(range(2, 9), 30), 200):
    corner = rng.integers(-40, -10, (count, 2)).astype(float)  # few boxes reach beyond 0
    drawn = np.concatenate([corner, corner + rng.integers(5, 20, (count, 2))], axis=1)
    marks, group = rng.integers(0, 10, count) / 10, rng.integers(-2, 3, count)
    wanted = nms.batched_nms(drawn, marks, group, 0.45)
    got = suppress_in_groups(drawn, marks, group, 0.45)
    if not np.array_equal(got, wanted):
        same = sorted(np.ravel(got).tolist()) == sorted(wanted.tolist())
        hint = (
            "the right boxes in a wrong order: it goes by falling score, whatever the group"
            if same
            else "do groups keep apart, also where coordinates are negative?"
        )
        raise checks.CheckFailed(
            f"of {count} boxes, the first of which are\n{drawn[:8]}\nwith scores {marks[:8]}\n"
            f"and groups {group[:8]},\ngot {np.ravel(got)[:8]}, expected {wanted[:8]}\n"
            f"Hint: {hint}"
        )
print("suppress_in_groups: right")

# %% trick-measured
rng, removed, differ, largest = np.random.default_rng(0), 0, 0, 0.0
heap = np.arange(900) % 60  # the heap of each box
for _ in range(40):  # images of 1333 pixels with 90 classes
    place, label = rng.uniform(0, 1300, (60, 2)), rng.integers(1, 91, 60)  # of each heap
    corner = place[heap] + rng.normal(0, 1.5, (900, 2))
    drawn = np.concatenate([corner, corner + rng.uniform(12, 16, (900, 2))], axis=1).astype(np.float32)
    values = rng.random(900, np.float32)
    shift = (label[heap] * (drawn.max() + 1)).astype(np.float32)[:, None]  # (900, 1), each class elsewhere
    group_by_group = nms.batched_nms(drawn, values, label[heap], 0.5)
    differ += len(np.setxor1d(group_by_group, nms.nms(drawn + shift, values, 0.5)))
    removed += len(drawn) - len(group_by_group)
    largest = max(largest, float(np.abs(drawn.astype(np.float64) + shift - (drawn + shift)).max()))
print(f"the trick rounds coordinates by up to {largest:.4f} pixels;")
print(f"of {len(heap) * 40:,} boxes {removed:,} should go, and for {differ} it decides otherwise")

# %% trick-read [markdown]
# > **What people get wrong.** The trick is not exact. At 120,000 two neighbouring float32 numbers lie 1/128 apart, so
# > the boxes of class 90 are rounded to that, and an IoU close to the threshold falls on the other side. And with
# > negative coordinates, before clipping, the distance is too short: boxes of different groups meet.
#
# ## A number to check
#
# Three boxes of the same height, 20 wide, begin at 0, 8 and 16. Neighbours share 12 of 28, an IoU of 3/7 = 0.43; the
# outer two share 4 of 36, which is 1/9 = 0.11. The scores fall from left to right. By hand: how many stay at the
# thresholds 0.1, 0.4 and 0.45? And at 0.4, if the middle one has the best score?
#
# At 0.1 the first removes both others: **1**. At 0.4 it removes the second only, and the second, once removed, removes
# nothing: **2**. At 0.45 all stay: **3**. With the best score in the middle, 0.4 leaves **1**.

# %% number-checked
row = np.array([[0, 0, 20, 10], [8, 0, 28, 10], [16, 0, 36, 10]], float)
print("IoU", boxes.iou(row[:1], row)[0].round(4))
for limit in (0.1, 0.4, 0.45):
    print(f"threshold {limit}: {len(nms.nms(row, [0.9, 0.8, 0.7], limit))} stay")
print(f"threshold 0.4, best in the middle: {len(nms.nms(row, [0.8, 0.9, 0.7], 0.4))} stays")

# %% next [markdown]
# ## To try
#
# 1. Lower `rpn_pre_nms_top_n_test` to 100 or 50 (`rcnn.load_digits()` again, and pass `rpn.top_k` another number in
#    `boxes_by_step`). When does the recall begin to fall, on both kinds of pages?
# 2. Give all candidates the same score. What does NMS keep then, and which order decides?
# 3. Where a box would be removed, multiply its score by $1 - \mathrm{IoU}$ instead and sort again (linear Soft-NMS
#    [2]). Draw its "lost" and "double" beside those of section 7, with a cut by score in place of the threshold.
# 4. Compute all IoUs at once, and drop every box that any better one overlaps by more than the threshold, whether that
#    one stays or not. Does `checks.nms` reject it, and how many objects does it lose on the doubled pages?
