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
# # Matching and sampling
#
# *Goals.* After this notebook, you can
#
# - decide for each anchor whether it is positive, negative or ignored, and say which object it is matched to;
# - write `match` and `sample` so that they are right for ties, thresholds that are met exactly, and images without
#   objects;
# - explain why the loss uses a sample of the anchors, and how the thresholds change the training targets.
#
# *Prerequisites.* Notebooks 01 (IoU) and 04 (anchors). You need logarithms and the derivative of a simple function.
#
# *Time.* About two hours.
#
# **The question.** For a page of 128 × 128 pixels, the region proposal network (RPN) predicts 1,536 times whether an
# anchor contains an object. To train the RPN, we need the correct answer for each anchor, but the annotation of this
# page contains only five boxes. What is the correct answer for each of the 1,536 anchors? And is each answer equally
# important?
#
# | array | shape | contents |
# |---|---|---|
# | `all_anchors` | (A, 4) | the anchors of a page |
# | `objects` | (G, 4) | the ground-truth boxes of a page; G may be 0 |
# | `iou` | (A, G) | intersection over union; a row for each anchor, a column for each object |
# | `matches` | (A,) | for each anchor: the index of its object, -1 for background, or -2 for ignored |
# | `labels` | (A,) | 1 positive, 0 negative, -1 ignored |
# | `positive`, `negative` | (P,), (N,) | indices of the anchors in the sample |
#
# *History.* The rules of this notebook come from Faster R-CNN [1]. The earlier R-CNN and Fast R-CNN had no anchors.
# They applied thresholds to boxes from a separate algorithm. Later detectors mainly changed the matching (ATSS) or
# replaced the sampling by a loss with weights (RetinaNet).
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083).

# %% setting-up
import numpy as np

import rcnn
from rcnn import anchors, boxes, checks, course, data, matching, plot

rcnn.set_num_threads(1)  # the arrays are small, so a second thread does not help
pages = data.Digits(300, seed=4)
drawn = [pages[i] for i in range(len(pages))]  # pairs (image, target)
generator = anchors.AnchorGenerator((14, 24, 40), (1, 1.7))
all_anchors = generator((128, 128), [(16, 16)])[0]  # (1536, 4)
all_iou = [boxes.iou(all_anchors, target["boxes"]) for _, target in drawn]  # (A, G) each

image, target = drawn[3]
objects, iou = target["boxes"], all_iou[3]
print("objects", objects.shape, " all_anchors", all_anchors.shape, " iou", iou.shape)
assert iou.shape == (1536, 5)

# %% threshold [markdown]
# ## 1  Thresholds alone
#
# The simplest rule compares the best IoU of each anchor with two thresholds ([1] section 3.1.2). The anchor is positive
# if its best IoU is at least 0.7. It is negative if its best IoU is below 0.3. In between, it is ignored.
#
# **Predict first:** the left plot shows the best anchor of each object. How many of the five objects have a positive
# anchor?

# %% threshold-picture
figure = plot.figure(10, 4.2)
left, right = figure.subplots(1, 2)
plot.best_anchors(left, image, objects, all_anchors[iou.argmax(axis=0)], iou.max(axis=0))
plot.title(left, "The best anchor of each object", f"out of {len(all_anchors):,} anchors")
plot.match_bands(right, iou.max(axis=1), high=0.7, low=0.3)
plot.title(right, "Best IoU of each anchor", "dashed lines: the thresholds 0.3 and 0.7")

best = np.concatenate(
    [page.max(axis=0) for page in all_iou if page.shape[1]]
)  # all objects
print("objects whose best IoU is below 0.7:")
print(f"  on this page {(iou.max(axis=0) < 0.7).sum()} of {len(objects)}")
print(f"  on {len(drawn)} pages {np.mean(best < 0.7):.0%} of {len(best):,}")
assert (np.histogram(iou.max(axis=1), [0, 0.3, 0.7, 1.01])[0] == [1402, 133, 1]).all()
assert (iou.max(axis=0) < 0.7).sum() == 4 and 0.74 < np.mean(best < 0.7) < 0.78
course.show(
    figure,
    "Left: five digits, each with its best anchor; the IoUs are "
    f"{iou.max(axis=0).min():.2f} to {iou.max():.2f}, and only one reaches 0.7. Right: a "
    "histogram of the best IoU of all 1,536 anchors on a logarithmic axis; most anchors "
    "are below 0.3, 133 are ignored, and one is positive.",
)

# %% best-rule [markdown]
# With this rule, three quarters of all digits have no positive anchor. All anchors on these digits are ignored or
# negative, so the network would never learn to find them. Therefore the paper has another rule, which it lists first
# ([1] section 3.1.2): **the anchor with the highest IoU with an object is also positive**, even if this IoU is low.
#
# ## 2  The exact rules
#
# Let $o_{ag}$ be the IoU of anchor $a$ with object $g$. Let $m_a = \max_g o_{ag}$ be the best IoU of the anchor, and
# $g_a$ the first object with this IoU. Let $b_g = \max_a o_{ag}$ be the best IoU of the object. Then
#
# $$ \begin{aligned} & \text{matches}_a = \\ & \quad \begin{cases}
# g_a & \text{if } m_a \ge 0.7, \\
# g_a & \text{if } o_{ag} = b_g > 0 \text{ for some } g, \\
# -1 & \text{otherwise, if } m_a < 0.3, \\
# -2 & \text{otherwise.} \end{cases} \end{aligned} $$
#
# The paper leaves some cases open, and implementations differ:
#
# | case | [1] | torchvision | rcnn |
# |---|---|---|---|
# | the IoU equals the high threshold | "higher than 0.7" is positive | positive | positive |
# | the IoU equals the low threshold | "lower than 0.3" is negative | ignored | ignored |
# | several anchors share the best IoU of an object | "anchor/anchors" | all positive | all positive |
# | the best anchor of object g has a higher IoU with another object | not specified | matched to the other object | matched to the other object |
# | an object that overlaps no anchor | not specified | every anchor with IoU 0 is positive | forces no anchor |
# | no objects | not specified | `Matcher` raises an error; the RPN does not call it | every anchor is background |
# | anchors that extend beyond the image | not used in training (section 3.3) | used | used |
#
# > **What people get wrong.** *Ignored is not negative*: the network should not learn that an anchor on half a digit is
# > background. And *index 0 is an object*: `matches > 0` forgets the first object of every image.


# %% match-yours
def match(iou, high, low, force_best=False):
    """Return the index of the object that each anchor is matched to, (A,) integers.

    iou (A, G). The best object of an anchor is the object with the highest IoU; ties keep
    the first object. An anchor is matched to its best object if their IoU is at least
    `high`. It is -1 (background) if the IoU is below `low`, and -2 (ignored) in between.
    force_best: also match every anchor that has the highest IoU of some object, including
    ties. Such an anchor is matched to its own best object. An object whose highest IoU is 0
    forces no anchor. Without objects (G = 0), every anchor is -1. Without anchors (A = 0),
    the result is empty. Do not change `iou`.
    """
    ### BEGIN SOLUTION
    iou = np.asarray(iou)
    if iou.size == 0:
        return np.full(len(iou), -1)
    best, highest = iou.argmax(axis=1), iou.max(axis=1)  # (A,), (A,)
    matches = np.where(highest >= high, best, np.where(highest < low, -1, -2))  # (A,)
    if force_best:
        top = iou.max(axis=0)  # (G,)
        forced = ((iou == top) & (top > 0)).any(axis=1)  # (A,)
        matches[forced] = best[forced]
    return matches
    ### END SOLUTION


# %% match-check points=3
checks.match(match)
print("match: correct")

figure = plot.figure(10, 4.9)
for ax, force_best in zip(figure.subplots(1, 2), (False, True), strict=True):
    yours = np.asarray(match(iou, 0.7, 0.3, force_best))  # (A,)
    plot.matched_anchors(ax, image, all_anchors, yours, objects)
    found = len(np.unique(yours[yours >= 0]))
    name = "With the best-anchor rule" if force_best else "Thresholds alone"
    plot.title(ax, name, f"{found} of {len(objects)} objects have a positive anchor")
course.show(
    figure,
    "The positive anchors of a page with five digits. Left, with thresholds alone: a "
    "single positive anchor, on one of the digits. Right, with the best-anchor rule: six "
    "positive anchors, at least one on every digit. In both, orange dots of ignored "
    "anchors lie on and around the digits, and grey dots of negative anchors elsewhere.",
)

# %% own-match-text [markdown]
# In the plots, positive anchors are boxes. The other anchors are dots at their centres, and the six anchors of a cell
# share a centre. With the best-anchor rule, the five objects have six positive anchors. One object lies midway between
# the centres of two anchors, and both have the same IoU with it.
#
# ### Your `match` in the detector
#
# A trained detector does not match, so the next cell first trains three digit detectors for 40 more steps: with the
# library's `match`, with yours, and with a typical mistake. The mistake matches every anchor and every RoI (region of
# interest: a proposal of the RPN, whose class the second stage learns) to its best object, even if they do not overlap.
# **Predict** what the third detector learns, and what it then finds on the page.

# %% own-match
matched = course.with_and_without("match", match)
assert matched.ap["mistake"] < 0.9 < matched.ap["library"]
matched

# %% corners [markdown]
# For the third detector, every anchor on a page with a digit is positive, and so is every RoI. It sees background only
# on empty pages, so it learns to predict digits next to digits. Its average precision (AP, notebook 12) falls within 40
# steps.
#
# ## 3  Four special cases
#
# **Predict** the result of each call before you run it. The thresholds are 0.7 and 0.3. In the third matrix, no anchor
# reaches 0.7 with object 1. Does the best-anchor rule give it an anchor?

# %% corners-shown
here = matching.match(iou, 0.7, 0.3, force_best=True)
assert (here >= 0).sum() == 6 and (iou == iou.max(axis=0)).sum(axis=0).max() == 2  # one tie
cases = {  # name: (matrix, force_best)
    "exactly at both thresholds": ([[0.7], [0.3]], False),
    "two anchors tie": ([[0.5], [0.5], [0.2]], True),
    "two objects share one best anchor": ([[0.6, 0.5], [0.2, 0.1]], True),
    "no anchor overlaps object 1": ([[0.8, 0.0], [0.1, 0.0], [0.0, 0.0]], True),
}
results = {}
for name, (matrix, force_best) in cases.items():
    matrix = np.array(matrix)
    results[name] = matching.match(matrix, 0.7, 0.3, force_best).tolist()
    print(f"{name:<35}{results[name]}")
    if force_best:
        everywhere = (matrix == matrix.max(axis=0)).any(axis=1)
        print(f"{'  anchors that torchvision forces':<35}{np.flatnonzero(everywhere)}")

assert list(results.values()) == [[0, -2], [0, 0, -1], [0, -1], [0, -1, -1]]

ten, seven = np.float32([[0, 0, 10, 1]]), np.float32([[0, 0, 7, 1]])  # pixels
seven_tenths = boxes.iou(ten, seven)[0, 0]
print("7/10 in float32 >= 0.7:", bool(seven_tenths >= 0.7), end="; ")
print("converted to float64:", float(seven_tenths) >= 0.7)
assert seven_tenths >= 0.7 and float(seven_tenths) < 0.7

# %% corners-text [markdown]
# In the third case, anchor 0 is the best anchor of both objects. It has a higher IoU with object 0, and an anchor can
# be matched to one object only. So object 1 has no anchor. Other rules are possible: in SSD, the object that forces an
# anchor also gets this anchor. Here, object 1 would then have an anchor, and object 0 would have none. The problem
# occurs if objects overlap and there are few anchors. The next cell counts how often it occurs if each cell has only
# one anchor and the objects are overlapping shapes. The plot shows one such object.
#
# In the fourth case, torchvision compares all IoUs of object 1 with its best IoU, which is 0. All three anchors are
# equal to it, so all are forced. An object that is very small or outside the image could therefore make all anchors of
# an image positive. rcnn requires an IoU above 0.
#
# *Another trap.* The number 0.7 has no exact binary form. The float32 nearest to 0.7 is smaller than the float64
# nearest to 0.7. Whether an IoU of exactly 7/10 reaches the threshold depends on a conversion, as the last printed line
# shows. Compare in the dtype in which the IoU was computed.

# %% orphan
single = anchors.AnchorGenerator((32,), (1,))((128, 128), [(16, 16)])[0]  # (256, 4)
dataset = data.Shapes(300, seed=1)
shapes = [page for page in dataset if len(page[1]["boxes"])]
unmatched = []  # (page, object, its best anchor, the object that this anchor is matched to)
for number, (_, target) in enumerate(shapes):
    overlaps = boxes.iou(single, target["boxes"])  # (256, G)
    found = matching.match(overlaps, 0.7, 0.3, force_best=True)
    for index in set(range(overlaps.shape[1])) - set(found.tolist()):
        its_best = overlaps[:, index].argmax()
        unmatched.append((number, index, its_best, found[its_best]))
total = sum(len(target["boxes"]) for _, target in shapes)
print(f"objects without an anchor: {len(unmatched)} of {total:,}")

number, index, its_best, taken_by = unmatched[0]
crowded, target = shapes[number]
both = target["boxes"][[index, taken_by]]
missed, other = (dataset.classes[target["labels"][i]] for i in (index, taken_by))
of_both = boxes.iou(single[[its_best]], both)[0]  # (2,)
figure = plot.figure(5, 5)
ax = figure.subplots()
plot.best_anchors(ax, crowded, both[:1], single[[its_best]], of_both[:1])
caption = f"its best anchor has a higher IoU with the {other}: {of_both[1]:.2f}"
plot.title(ax, f"The {missed} has no positive anchor", caption)
course.show(
    figure,
    f"A {missed} on a {other}. The best anchor of the {missed} contains it and a part of "
    f"the {other}: its IoU is {of_both[0]:.2f} with the {missed}, and {of_both[1]:.2f} "
    f"with the {other}.",
)

# %% reference [markdown]
# ## 4  The library's implementation
#
# The slow part is the matrix of IoUs. The next cell compares the kernel for IoUs with its NumPy reference. The matching
# itself consists of a few NumPy operations and has no kernel.

# %% reference-source
every = np.concatenate([target["boxes"] for _, target in drawn[:50]])  # of fifty pages
print("boxes.iou, anchors", all_anchors.shape, "objects", every.shape)
course.compare(boxes.iou, all_anchors, every)
course.source(matching.match, matching.best_for_some_object)

# %% nothing [markdown]
# ## 5  A page without objects
#
# A page without objects is an ordinary training image: all of its anchors are background. But its IoU matrix has no
# columns. **Predict** the shape of the matrix, and what `iou.max(axis=1)` does with it.

# %% nothing-shown
blank = next(i for i, (_, target) in enumerate(drawn) if not len(target["boxes"]))
objects_of = drawn[blank][1]["boxes"]
print("page", blank, " objects", objects_of.shape, " iou", all_iou[blank].shape)
try:
    all_iou[blank].max(axis=1)
except ValueError as error:
    print("max:", error)
print("match:", np.unique(matching.match(all_iou[blank], 0.7, 0.3, force_best=True)))

# %% labels [markdown]
# Now combine the steps: compute the labels from the boxes. The RPN has no classes, so each label is 1, 0 or -1. Section
# 6 draws the sample from these labels.


# %% labels-yours
def anchor_labels(anchors, objects):
    """Return the RPN's label of each anchor, (A,): 1 positive, 0 negative, -1 ignored.

    anchors (A, 4); objects (G, 4), where G may be 0. Use `boxes.iou` and your `match`.
    The thresholds are 0.7 and 0.3, with the best-anchor rule.
    """
    ### BEGIN SOLUTION
    matches = match(boxes.iou(anchors, objects), 0.7, 0.3, force_best=True)  # (A,)
    return np.where(matches >= 0, 1, np.where(matches == -1, 0, -1))  # (A,)
    ### END SOLUTION


# %% labels-check points=2
fresh = data.Digits(40, seed=int(np.random.default_rng().integers(10_000, 1_000_000)))
page_boxes = [fresh[i][1]["boxes"] for i in range(len(fresh))]
for objects_of in [*page_boxes, np.zeros((0, 4), np.float32)]:
    got = np.asarray(anchor_labels(all_anchors, objects_of))
    overlaps = boxes.iou(all_anchors, objects_of)
    expected = matching.match(overlaps, 0.7, 0.3, force_best=True)
    where = f"on a page with {len(objects_of)} objects"
    if got.shape != expected.shape:
        raise checks.CheckFailed(
            f"anchor_labels: got shape {got.shape} {where}, expected {expected.shape}"
        )
    for name, members, label in (
        ("matched to object 0", expected == 0, 1),
        ("matched to an object", expected > 0, 1),
        ("background", expected == -1, 0),
        ("ignored", expected == -2, -1),
    ):
        if (got[members] != label).any():
            raise checks.CheckFailed(
                f"anchor_labels: {where}, an anchor that is {name} has the label "
                f"{got[members][got[members] != label][0]}, expected {label}\n"
                "Hint: match returns indices, -1 and -2. Which label belongs to each of "
                "them? And did you turn the best-anchor rule on?"
            )
print("anchor_labels: correct on 40 new pages and on an empty page")

# %% imbalance [markdown]
# ## 6  Almost all anchors are background
#
# In this section, the *labelled* anchors are the positive and the negative ones, without the ignored ones. **Predict
# first:** a network predicts "no object" for every anchor. For which fraction of the labelled anchors is it right?

# %% imbalance-shown
matches = [matching.match(page, 0.7, 0.3, force_best=True) for page in all_iou]
kinds = [[(m >= 0).sum(), (m == -2).sum(), (m == -1).sum()] for m in matches]
counts = np.array(kinds)  # (300, 3)
positives, ignored, negatives = counts.mean(axis=0)
share = positives / (positives + negatives)
lowest = -share * np.log(share) - (1 - share) * np.log(1 - share)
logit = np.log(share / (1 - share))
print(f'"no object" is right for {1 - share:.2%} of the labelled anchors')
print(f"negative anchors per positive anchor: {negatives / positives:.0f}")
print(f"best constant: probability {share:.4f}, logit {logit:.1f}, loss {lowest:.3f}")
assert round(negatives / positives) == 179 and round(lowest, 3) == 0.034
assert round(negatives / 1536, 2) == 0.92

figure = plot.figure(9, 1.7)
ax = plot.match_shares(figure.subplots(), counts.mean(axis=0)[None], ["mean of the pages"])
course.show(
    figure,
    f"One bar of all anchors of a page: {negatives:.0f} negative anchors fill 92 % of it "
    f"and {ignored:.0f} ignored anchors nearly all of the rest; the part of the "
    f"{positives:.1f} positive anchors is barely visible.",
)

# %% imbalance-text [markdown]
# Assume that the network predicts the same number $s$ for every anchor. The sigmoid turns this number, the *logit*,
# into the probability $\sigma(s)$. There are P positive and N negative anchors. The loss of an anchor is the
# *cross-entropy*: minus the logarithm of the probability of the correct answer (notebook 07). Its derivative with
# respect to $s$ is $\sigma(s) - 1$ for a positive anchor and $\sigma(s)$ for a negative anchor. At $s = 0$, these are
# $-\frac12$ and $+\frac12$. In the sum over all anchors, the negative anchors outweigh the positive ones, 179 to 1, so
# each training step decreases the logit. The sum is 0 where
#
# $$ \begin{aligned}
# P \, (\sigma(s) - 1) + N \, \sigma(s) &= 0, \\
# \text{so} \quad \sigma(s) &= \frac{P}{P + N}.
# \end{aligned} $$
#
# There, the mean loss is 0.034, although the network has learned nothing about any image. Everything else that it
# learns can reduce the mean loss by at most 0.034, and nearly all terms of the mean belong to negative anchors.
# Therefore the loss uses a *sample* of 256 random anchors per image ([1] section 3.1.3). **At most half** of them are
# positive, and negative anchors fill the rest.
#
# Why must the choice be random? The plots show the first 128 negative anchors, and 128 random ones:

# %% first-come
zeros = [np.flatnonzero(m == -1) for m in matches]  # ascending, of each page
rng = np.random.default_rng(0)
choices = {
    "The first 128 negative anchors": zeros[3][:128],
    "128 random negative anchors": rng.choice(zeros[3], 128, replace=False),
}


def rows_of(chosen):
    """Return the rows of the feature map that contain the chosen anchors."""
    return np.unique(chosen // (16 * 6))  # 16 cells in a row, 6 anchors in a cell


figure = plot.figure(10, 4.9)
for ax, (name, chosen) in zip(figure.subplots(1, 2), choices.items(), strict=True):
    shown = np.concatenate([np.flatnonzero(matches[3] >= 0), chosen])
    plot.matched_anchors(ax, image, all_anchors[shown], matches[3][shown], objects)
    plot.title(ax, name, f"in {len(rows_of(chosen))} of 16 rows of the feature map")
assert all(rows_of(page[:128]).max() <= 2 for page in zeros)  # in the first three rows
course.show(
    figure,
    "The chosen negative anchors as dots. Left, the first 128: all are at the upper edge "
    f"of the page, in {len(rows_of(zeros[3][:128]))} rows. Right, 128 random ones: they "
    "are distributed over the whole page, between the digits.",
)

# %% sampling [markdown]
# The anchors are ordered by row. On every page, the first 128 negative anchors are in the first three rows, at the
# upper edge of the page. The network would never see background from the rest of the page.
#
# *Two more traps.* First, `np.random.choice` uses a random state that the whole program shares. Any other code that
# uses this state changes the result, so the run cannot be reproduced. `sample` takes a `np.random.Generator` and uses
# no other randomness. Second, negative anchors replace missing positive ones, but not the other way round. If an image
# has few negative anchors, its sample stays smaller than `size`.


# %% sample-yours
def sample(labels, size, positive_fraction, rng):
    """Return (positive, negative), the ascending indices of at most `size` random anchors.

    Both are arrays of integers, also if they are empty.
    labels (A,): 1 and above are positive, 0 is negative, and anchors with labels below 0
    are never chosen. A may be 0. Do not change `labels`.
    Choose as many positive anchors as possible, but at most int(size * positive_fraction).
    Negative anchors fill the sample up to `size`, if there are enough of them.
    rng: a np.random.Generator, the only source of randomness. Draw without replacement, so
    that all sets of the same number of anchors are equally likely.
    """
    ### BEGIN SOLUTION
    labels = np.asarray(labels)
    positive, negative = np.flatnonzero(labels >= 1), np.flatnonzero(labels == 0)
    count = min(len(positive), int(size * positive_fraction))
    rest = min(len(negative), size - count)
    return (
        np.sort(rng.choice(positive, count, replace=False)),
        np.sort(rng.choice(negative, rest, replace=False)),
    )
    ### END SOLUTION


# %% sample-check points=3
checks.sample(sample)
print("sample: correct")

page_labels = [np.where(m >= 0, 1, np.where(m == -1, 0, -1)) for m in matches]
rows = [counts.mean(axis=0)]
for size in (256, 64, 16):
    rng = np.random.default_rng(0)
    chosen = [sample(labels, size, 0.5, rng) for labels in page_labels]
    rows.append(np.mean([(len(p), 0, len(n)) for p, n in chosen], axis=0))
figure = plot.figure(9, 2.8)
names = ["all anchors", "sample of 256", "sample of 64", "sample of 16"]
ax = plot.match_shares(figure.subplots(), np.array(rows), names)
course.show(
    figure,
    "Four bars with the shares of positive and negative anchors. Of all anchors, a barely "
    "visible part is positive. In a sample of 256, 3 % are positive; in a sample of 64, "
    "about an eighth; in a sample of 16, two fifths.",
)

# %% ignored [markdown]
# A sample that is half positive and half negative is the ideal, but a page of digits has only about eight positive
# anchors. A sample of 256 contains all of them. They are 3 % of the sample, instead of 0.6 % of all labelled anchors. A
# smaller sample is better balanced, but contains less of the page. (The digit detector samples 128 anchors.)
#
# The next figure shows all steps, from the anchors to the sample. Before each step, **predict** which anchors it
# changes.

# %% all-steps
by_threshold, final = (matching.match(iou, 0.7, 0.3, forced) for forced in (False, True))
labels_of_page = np.where(final >= 0, 1, np.where(final == -1, 0, -1))
rng = np.random.default_rng(0)
in_sample = np.concatenate(matching.sample(labels_of_page, 256, 0.5, rng))
nothing = np.zeros(len(all_anchors), bool)
steps = [  # matches so far, and the anchors that are decided
    (by_threshold, nothing),
    (by_threshold, by_threshold == -1),
    (by_threshold, (by_threshold == -1) | (by_threshold >= 0)),
    (final, (by_threshold == -1) | (final >= 0)),
    (final, ~nothing),
    (final, np.isin(np.arange(len(final)), in_sample)),
]
captions = [
    "No anchor is decided, so none is drawn. There are 1,536 anchors, 6 in each of 16 × "
    "16 cells.",
    "The best IoU of 1,402 anchors is below 0.3. They are negative: they must predict "
    "background.",
    "The best IoU of one anchor is at least 0.7. It is positive, but four objects still "
    "have no anchor.",
    "The best-anchor rule adds five positive anchors. Each object now has at least one.",
    "The other 128 anchors are ignored. They lie on the digits and near them, and no loss "
    "includes them.",
    "The sample contains all 6 positive and 250 random negative anchors. Only these 256 "
    "are in the loss.",
]
numbers = [
    [(m[done] >= 0).sum(), (m[done] == -2).sum(), (m[done] == -1).sum()]
    for m, done in steps
]
assert numbers[1:4] == [[0, 0, 1402], [1, 0, 1402], [6, 0, 1402]]
assert numbers[4:] == [[6, 128, 1402], [6, 0, 250]] and numbers[0] == [0, 0, 0]


def draw(figure, step):
    """Draw the anchors that are decided after a step, and the number of each kind."""
    left, right = figure.subplots(1, 2)
    found, decided = steps[step]
    plot.matched_anchors(left, image, all_anchors[decided], found[decided], objects)
    positive, ignored, negative = numbers[step]
    waiting = len(all_anchors) - positive - ignored - negative
    bars = {"not decided" if step < 5 else "not sampled": waiting}
    bars |= {"negative": negative, "ignored": ignored, "positive": positive}
    plot.funnel(right, bars)
    right.set(
        xlim=(0.5, 4000), xlabel="anchors (logarithmic)"
    )  # the same axis in all steps


course.player(draw, captions, size=(9, 4.4), seconds=3)

# %% ignored-text [markdown]
# ## 7  The purpose of the ignored anchors
#
# No loss includes the ignored anchors. What would happen if they were negative? The next cell compares them with the
# positive anchors.

# %% ignored-shown
highest = np.concatenate([page.max(axis=1, initial=0) for page in all_iou])  # (300 × 1536,)
of_all = np.concatenate(matches)  # (300 × 1536,)
middle, positive = highest[of_all == -2], highest[of_all >= 0]
print(f"ignored anchors per positive anchor: {len(middle) / len(positive):.0f}")
print("best IoU with an object:")
print(f"  ignored anchors:  mean {middle.mean():.2f}, largest {middle.max():.4f}")
print(f"  positive anchors: mean {positive.mean():.2f}, smallest {positive.min():.4f}")
better = np.mean(middle > np.quantile(positive, 0.1))
print(f"{better:.0%} of the ignored anchors fit better than a tenth of the positive ones")
assert round(positives) == 8 and round(positives / 256, 2) == 0.03
sampled = [  # the positive part of a sample of 64 and of 16
    np.mean([min((m >= 0).sum(), size // 2) for m in matches]) / size for size in (64, 16)
]
assert abs(sampled[0] - 1 / 8) < 0.01 and abs(sampled[1] - 2 / 5) < 0.03
assert round(share, 3) == 0.006
assert rcnn.load_digits().config.rpn_batch_size_per_image == 128
assert round(len(middle) / len(positive)) == 14 and 0.2 < better < 0.3

# %% thresholds [markdown]
# If the ignored anchors were negative, each positive anchor would have 14 negative anchors that also lie on a digit. A
# quarter of these 14 would fit better than the worst tenth of the positive anchors. The network cannot distinguish the
# two groups, because their features look alike.
#
# ## 8  Other thresholds
#
# **Predict first** for each pair of thresholds: are there more or fewer positive anchors, and do they fit better or
# worse? The second stage of the detector uses 0.5 for both thresholds and no best-anchor rule, so it ignores nothing.
# (In [2] section 2.3, the high threshold is also 0.5, and negative boxes have an IoU of at least 0.1.)

# %% thresholds-moved
trials = [(0.7, 0.3, True), (0.5, 0.3, True), (0.5, 0.5, False), (0.9, 0.1, True)]
figure = plot.figure(10, 9.8)
results = []  # positive and ignored anchors per page, objects without one, mean IoU
print("            best     positive   ignored    IoU of the   objects without")
print("thresholds  anchor   anchors    anchors    positive     a positive anchor")
for ax, (high, low, force_best) in zip(figure.subplots(2, 2).flat, trials, strict=True):
    each = [matching.match(page, high, low, force_best) for page in all_iou]  # (A,) each
    positive = np.mean([(m >= 0).sum() for m in each])
    ignored = np.mean([(m == -2).sum() for m in each])
    pairs = zip(all_iou, each, strict=True)
    fits = np.concatenate([page.max(axis=1, initial=0)[m >= 0] for page, m in pairs])
    missing = 1 - sum(len(np.unique(m[m >= 0])) for m in each) / len(best)
    numbers = f"{positive:8.1f}{ignored:11.1f}{fits.mean():14.2f}{missing:20.1%}"
    print(f"{high}, {low}    {'yes' if force_best else 'no':<9}{numbers}")
    results.append((positive, ignored, missing, fits.mean()))
    here = matching.match(iou, high, low, force_best)
    assert (here >= 0).sum() == (6 if high > 0.5 else 19)
    plot.matched_anchors(ax, image, all_anchors, here, objects)
    rule = "with the best-anchor rule" if force_best else "thresholds alone"
    plot.title(ax, f"Thresholds {high} and {low}", rule)
assert round(results[1][0] / results[0][0]) == 3 and round(1 / results[2][2]) == 7
assert results[1][3] < results[0][3] and results[2][3] < results[0][3]
assert results[3][0] < results[0][0] and round(results[3][1] / 1536, 1) == 0.3
assert np.mean(fits < 0.9) > 0.95  # with 0.9, almost all positive anchors are forced
course.show(
    figure,
    "The same page with four pairs of thresholds. With 0.7 and 0.3, there are six "
    "positive anchors. With 0.5 and 0.3, there are 19, and several boxes lie around each "
    "digit. With 0.5 and 0.5, there are the same 19, but no ignored anchors. With 0.9 and "
    "0.1, there are six again, and dots of ignored anchors surround the digits widely.",
)

# %% number [markdown]
# With 0.5 instead of 0.7, there are three times as many positive anchors, and they fit less well. Without the
# best-anchor rule, one digit in seven still has no positive anchor. With 0.9, almost all positive anchors are forced.
# With a low threshold of 0.1, about a third of all anchors are ignored. The remaining negative anchors are far from all
# digits, so they teach the network little.
#
# This answers the question at the top. The correct answer for an anchor is *object*, *background*, or *not asked*. The
# answers are not equally important: only a sample enters the loss, in which the few positive anchors have a larger
# share.
#
# ## A number to check
#
# A square object with a side of 40 pixels coincides with an anchor of the same size. The stride is 4. Which anchors
# reach an IoU of 0.7? An anchor that is moved by $(d_x, d_y)$ shares $(40 - d_x)(40 - d_y)$ pixels with the object:
#
# | moved by | intersection | union | IoU |
# |---|---|---|---|
# | (4, 0) | 1440 | 3200 - 1440 = 1760 | 0.82 |
# | (4, 4) | 1296 | 1904 | 0.68 |
# | (8, 0) | 1280 | 1920 | 0.67 |
#
# So there are **5** positive anchors: the anchor itself and its left, right, upper and lower neighbours. Now move the
# object by (2, 2), to the middle between four centres. These four anchors have an IoU of 1444 / 1756 = 0.82. The next
# anchors are moved by 6 and 2, and have an IoU of 1292 / 1908 = 0.68. So there are **4** positive anchors. Finally, use
# a stride of 8, with the object on a centre again. Then there is **1** positive anchor.

# %% number-check
square = np.array([[-20.0, -20, 20, 20]])
by_hand = {(4, 0): 0.82, (4, 4): 0.68, (8, 0): 0.67, (2, 2): 0.82, (6, 2): 0.68}
for (x, y), value in by_hand.items():
    assert boxes.iou(square, square + [x, y, x, y]).round(2) == value
for step, moved, expected in ((4, 0, 5), (4, 2, 4), (8, 0, 1)):
    grid = anchors.grid_anchors(square, (41, 41), (step, step))  # (1681, 4)
    overlap = boxes.iou(grid, square + 20 * step + moved)  # (1681, 1)
    number = (matching.match(overlap, 0.7, 0.3, force_best=True) >= 0).sum()
    print(f"stride {step}, moved by ({moved}, {moved}): {number} positive")
    assert number == expected

# %% learned [markdown]
# ## What you have learned
#
# - Two thresholds and the best-anchor rule make each anchor positive, negative or ignored.
# - Most anchors are background, so the loss uses a random sample, in which positive anchors are more frequent.
# - Details decide: ties, IoUs equal to a threshold, objects without anchors, and images without objects.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. How many positive anchors does the object of 40 pixels have with a stride of 2? First compute the number by hand:
#    the IoU is a function of $(40 - d_x)(40 - d_y)$ alone.
# 2. Draw 1,000 samples of the page above. How often is each negative anchor drawn? Which number do you expect, and
#    which deviations from it can be chance?
#
# **Core** (half an hour)
#
# 3. Remove the best-anchor rule, and count by size which digits have no positive anchor. With which high threshold do
#    95 % of them have one, and how well do these positive anchors fit?
# 4. Remove the anchors that extend beyond the page, as [1] section 3.3 does. Which objects lose their best anchor?
# 5. In section 3, some shapes have no anchor. Write the rule of SSD: the object that forces an anchor also gets it. How
#    many objects have no anchor now? What happens if two objects have the same best anchor? SciPy's
#    `scipy.optimize.linear_sum_assignment(-iou)` finds the assignment with the largest sum of IoUs, in which no anchor
#    is used twice. Compare.
#
# **Stretch** (an evening)
#
# 6. ATSS (arXiv 1912.02424) needs no fixed thresholds. For each object, take the anchors of the 9 cells whose centres
#    are nearest. Their IoUs with the object have a mean and a standard deviation, and the sum of both is the threshold
#    of this object. An anchor is positive if it reaches this threshold and if its centre lies in the object. If several
#    objects claim an anchor, the highest IoU wins. Write it, and compare the number of positive anchors for small and
#    for large digits with those of `match`. Which digits still have none, and why?

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    Four anchors have these IoUs with two objects: (0.75, 0.10), (0.40, 0.25), (0.20, 0.28)
    and (0.05, 0.02). What is `match(iou, 0.7, 0.3, force_best=True)`?
    [ ] `[0, -2, -1, -1]`
        The best IoU of object 1 is 0.28. The best-anchor rule makes this anchor positive,
        although it is below 0.3.
    [x] `[0, -2, 1, -1]`
        Anchor 0 reaches 0.7. Anchor 1 is between the thresholds. Anchor 2 is the best
        anchor of object 1.
    [ ] `[0, -1, 1, -1]`
        The best IoU of anchor 1 is 0.40, between the thresholds. It is ignored, not
        negative.
    [ ] `[0, 0, 1, -1]`
        Anchor 1 overlaps object 0 by 0.40, but anchor 0 is the best anchor of this object.

    A page has 3 positive, 60 ignored and 100 negative anchors. How many anchors does
    `sample(labels, 256, 0.5, rng)` return?
    [ ] 256: 128 positive and 128 negative
        Only 3 anchors are positive, and `sample` draws without replacement.
    [ ] 6: 3 positive and 3 negative
        At most half of the sample is positive, but negative anchors may be more than half.
    [ ] 163: 3 positive and 160 others
        Ignored anchors are never chosen, even if the sample is not full.
    [x] 103: 3 positive and 100 negative
        There are fewer anchors than the sample may contain, so all positive and all
        negative ones are chosen.

    In a training set, an object has no positive anchor, although `force_best` is true. Its
    highest IoU with an anchor is 0.37. Is this a bug?
    [x] Not necessarily. Its best anchor can have a higher IoU with another object.
        An anchor is matched to its own best object only. Then another object gets the
        anchor that this object forces.
    [ ] Yes. The best-anchor rule gives each object an anchor of its own.
        It makes an anchor positive for each object, but two objects can share their best
        anchor.
    [ ] No. An IoU of 0.37 is below the threshold of 0.7.
        This would be right without the best-anchor rule. The rule exists for these objects.

    You lower the high threshold from 0.7 to 0.5. The low threshold stays at 0.3. What
    happens to the number of negative anchors?
    [ ] It increases.
        Negative anchors have a best IoU below 0.3, and this threshold has not changed.
    [ ] It decreases, because there are more positive anchors.
        The new positive anchors were ignored before, not negative.
    [x] It stays the same.
        The new positive anchors have a best IoU between 0.5 and 0.7. Before, they were
        ignored, unless they were forced.

    Someone writes `labels = np.where(matches > 0, 1, 0)`. Which labels are wrong?
    [ ] Only those of anchors that are matched to object 0.
        These are wrong, but there are others: -2 is not greater than 0, either.
    [ ] Only those of ignored anchors.
        These are wrong, but there are others: index 0 is an object, too.
    [x] Those of ignored anchors, and of anchors that are matched to object 0.
        Both become 0, so the network learns that they are background. On pages with one
        object, no anchor is positive.
    [ ] Those of all anchors with -1.
        These are background, and their label is 0.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 06 computes what a positive anchor must predict: four numbers that lead from the anchor to its object. The
# functions of this notebook are in `rcnn.matching`, and `rcnn.rpn.find_targets` calls them. For other ways to match and
# to sample, read *Bridging the Gap Between Anchor-based and Anchor-free Detection* (ATSS, arXiv 1912.02424) and *Focal
# Loss for Dense Object Detection* (RetinaNet, arXiv 1708.02002).
