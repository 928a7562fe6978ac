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
# **The question.** For a page of 128 × 128 pixels the region proposal network answers 1,536 times: does this anchor
# hold an object? To train it, somebody must know the right answers. The annotation holds five boxes. What is the right
# answer for each of the 1,536 anchors, and do all of them matter alike?
#
# | array | shape | what it is |
# |---|---|---|
# | `laid` | (A, 4) | the anchors of a page |
# | `objects` | (G, 4) | its true boxes; G may be 0 |
# | `iou` | (A, G) | intersection over union: rows are anchors, columns are objects |
# | `matches` | (A,) | the index of each anchor's object, or -1 for background, or -2 for ignored |
# | `labels` | (A,) | 1 positive, 0 negative, -1 ignored |
# | `positive`, `negative` | (P,), (N,) | indices of the anchors that are drawn for the loss |
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083).

# %% setting-up
import numpy as np

import rcnn
from rcnn import anchors, boxes, checks, course, data, matching, plot

rcnn.set_num_threads(1)  # the arrays are small: a second thread would spend its time waiting
pages = data.Digits(300, seed=4)
drawn = [pages[i] for i in range(len(pages))]  # each (image, target), drawn once
laid = anchors.AnchorGenerator((14, 24, 40), (1, 1.7))((128, 128), [(16, 16)])[0]  # (1536, 4)
all_iou = [boxes.iou(laid, target["boxes"]) for _, target in drawn]  # of each page (A, G)

image, target = drawn[3]
objects, iou = target["boxes"], all_iou[3]
print("objects", objects.shape, " laid", laid.shape, " iou", iou.shape)

# %% threshold [markdown]
# ## 1  A threshold, and what it forgets
#
# The plain rule: an anchor is positive if it overlaps some object well, by an IoU of 0.7 or more; negative if it overlaps
# none by as much as 0.3. Between the two it is neither ([1] section 3.1.2).
#
# **Predict first:** the plot shows the best anchor of each object. How many of the five objects have a positive one?

# %% threshold-picture
figure = plot.figure(10, 4.2)
left, right = figure.subplots(1, 2)
plot.best_anchors(left, image, objects, laid[iou.argmax(axis=0)], iou.max(axis=0))
plot.title(left, "The best anchor of each object", f"{len(laid):,} anchors")
plot.match_bands(right, iou.max(axis=1), high=0.7, low=0.3)
plot.title(right, "Each anchor's best IoU", "dashed: the thresholds 0.3 and 0.7")

best = np.concatenate([page.max(axis=0) for page in all_iou if page.shape[1]])  # of every object
print(
    f"objects without an anchor of 0.7: {(iou.max(axis=0) < 0.7).sum()} of 5 on this page, "
    f"{np.mean(best < 0.7):.0%} of {len(best):,} on {len(drawn)} pages"
)
figure

# %% best-rule [markdown]
# Three quarters of all digits would never be shown to the network as objects: every anchor on them is ignored, or even
# negative. Nothing would teach it to find them. So there is a second rule ([1] section 3.1.2, where it is
# the first): **the anchor with the highest IoU with an object is positive, too**, whatever that IoU is.
#
# ## 2  The rules, exactly
#
# Write $o_{ag}$ for the IoU of anchor $a$ with object $g$, and $m_a = \max_g o_{ag}$, reached first at $g_a$. Then
#
# $$ \text{matches}_a = \begin{cases}
# g_a & m_a \ge 0.7 \quad \text{or} \quad o_{ag} = \max_{a'} o_{a'g} > 0 \text{ for some } g \\
# -1 & \text{else, if } m_a < 0.3 \\
# -2 & \text{else.} \end{cases} $$
#
# | case | [1] | torchvision | rcnn |
# |---|---|---|---|
# | IoU equal to the high threshold | "higher than 0.7" | positive | positive |
# | IoU equal to the low threshold | "lower than 0.3" is negative | ignored | ignored |
# | several anchors share an object's best IoU | "anchor/anchors" | all positive | all positive |
# | an anchor forced by object g overlaps another one more | open | matched to the other one | matched to the other one |
# | an object that no anchor overlaps | open | every anchor that ties at 0 is positive | forces nothing |
# | no objects | open | an error in `Matcher`; the RPN avoids it | every anchor is background |
# | anchors that reach beyond the image | left out of training (section 3.3) | take part | take part |
#
# > **What people get wrong.** *Ignored is not negative*: an anchor on half a digit should not learn to say no. And
# > *index 0 is an object*: `matches > 0` forgets the first object of every image.


# %% match-yours
def match(iou, high, low, force_best=False):
    """The index of the object that each anchor is matched to, (A,) whole numbers.

    iou (A, G). An anchor's best object is the first of those that it overlaps most.
    It is matched to that object if their IoU is at least `high`; it is -1 (background) if the IoU
    is below `low`, and -2 (ignored) in between.
    force_best: every anchor that has the highest IoU that some object has, ties included, is matched
    to its own best object, too. An object that no anchor overlaps (IoU 0) forces nothing.
    Without objects (G = 0) every anchor is -1. Without anchors the answer is empty. `iou` stays as it is.
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
print("match: right")

figure = plot.figure(10, 4.9)
for ax, force_best in zip(figure.subplots(1, 2), (False, True), strict=True):
    yours = np.asarray(match(iou, 0.7, 0.3, force_best))  # (A,)
    plot.matched_anchors(ax, image, laid, yours, objects)
    served = len(np.unique(yours[yours >= 0]))
    name = "With the best-anchor rule" if force_best else "Thresholds alone"
    plot.title(ax, name, f"{served} of {len(objects)} objects have a positive anchor")
figure

# %% corners [markdown]
# Five objects and, with the rule, six positive anchors: one object lies midway between two centres, so that two anchors
# tie for it.
#
# ## 3  Four corner cases, by hand
#
# **Predict** the answer of each call before you run it. In the third matrix, object 1 is what the rule is for. Does it
# get an anchor?

# %% corners-shown
cases = {
    "exactly at both thresholds": ([[0.7], [0.3]], False),
    "two anchors tie": ([[0.5], [0.5], [0.2]], True),
    "the best anchor is another's": ([[0.6, 0.5], [0.2, 0.1]], True),
    "nobody overlaps object 1": ([[0.8, 0.0], [0.1, 0.0], [0.0, 0.0]], True),
}
for name, (matrix, force_best) in cases.items():
    matrix = np.array(matrix)
    print(f"{name:<30}{matching.match(matrix, 0.7, 0.3, force_best)}")
    if force_best:
        everywhere = (matrix == matrix.max(axis=0)).any(axis=1)
        print(f"{'  torchvision would force':<30}{np.flatnonzero(everywhere)}")

tenths = boxes.iou(np.float32([[0, 0, 10, 1]]), np.float32([[0, 0, 7, 1]]))  # (1, 1), 7 pixels of 10
print(
    "7/10 in float32 >= 0.7:",
    bool((tenths >= 0.7).all()),
    " the same widened to float64:",
    bool((tenths.astype(float) >= 0.7).all()),
)

# %% corners-text [markdown]
# In the third case anchor 0 is the best that object 1 has. But it overlaps object 0 more, and an anchor can be matched
# only once: object 1 goes without. A rule that gives the anchor to the object that forced it, as SSD's does, would
# serve object 1, and here leave object 0 without. It happens where objects overlap and anchors are few. The next cell
# counts how often, with a single anchor per cell on overlapping shapes, and shows one that goes without.
#
# In the fourth case torchvision's comparison with a best IoU of 0 holds for all three anchors. An object so tiny or so
# far outside that nothing overlaps it would turn all background of its image into positives. rcnn asks for more
# than 0.
#
# > **What people get wrong.** 0.7 is no binary fraction. The float32 nearest to it is below the float64 nearest to it, so
# > an IoU of exactly 7/10 passes or fails depending on a conversion: the last line above. Compare in the type in which
# > the IoU was computed.

# %% orphan
single = anchors.AnchorGenerator((32,), (1,))((128, 128), [(16, 16)])[0]  # (256, 4)
shapes = [page for page in data.Shapes(300, seed=1) if len(page[1]["boxes"])]
orphans = []  # (page, object, its best anchor, what that is matched to)
for number, (_, target) in enumerate(shapes):
    overlaps = boxes.iou(single, target["boxes"])  # (256, G)
    found = matching.match(overlaps, 0.7, 0.3, force_best=True)
    for orphan in set(range(overlaps.shape[1])) - set(found.tolist()):
        its_best = overlaps[:, orphan].argmax()
        orphans.append((number, orphan, its_best, found[its_best]))
print(f"without an anchor: {len(orphans)} of {sum(len(target['boxes']) for _, target in shapes):,} objects")

number, orphan, its_best, taken_by = orphans[0]
crowded, both = shapes[number][0], shapes[number][1]["boxes"][[orphan, taken_by]]
of_both = boxes.iou(single[[its_best]], both)[0]  # (2,)
figure = plot.figure(5, 5)
ax = plot.best_anchors(figure.subplots(), crowded, both[:1], single[[its_best]], of_both[:1])
plot.title(
    ax,
    "An object that goes without, and its best anchor",
    f"which has an IoU of {of_both[1]:.2f} with another object, and is matched to that",
)
figure

# %% reference [markdown]
# ## 4  The library's own
#
# The matrix of IoUs is what costs; its kernel runs beside the reference below. The matching itself is a handful of NumPy
# operations over that matrix, and has no kernel.

# %% reference-source
every = np.concatenate([target["boxes"] for _, target in drawn[:50]])  # of fifty pages at once
print("boxes.iou, anchors", laid.shape, "objects", every.shape)
course.compare(boxes.iou, laid, every)
course.source(matching.match, matching.best_for_some_object)

# %% nothing [markdown]
# ## 5  A page without objects
#
# It is an ordinary page, and a useful one: all of its anchors are background, and the network should say so. But the
# matrix has no columns. **Predict:** its shape, and what `iou.max(axis=1)` does with it.

# %% nothing-shown
blank = next(i for i, (_, target) in enumerate(drawn) if not len(target["boxes"]))
print("page", blank, " objects", drawn[blank][1]["boxes"].shape, " iou", all_iou[blank].shape)
try:
    all_iou[blank].max(axis=1)
except ValueError as error:
    print("max:", error)
print("match:", np.unique(matching.match(all_iou[blank], 0.7, 0.3, force_best=True)))

# %% labels [markdown]
# Join it: from boxes to labels. The RPN knows no classes, so each label is 1, 0 or -1. From such labels the anchors will
# be drawn that enter the loss (section 6).


# %% labels-yours
def anchor_labels(anchors, objects):
    """The RPN's label of each anchor (A, 4), (A,): 1 positive, 0 negative, -1 ignored.

    objects (G, 4), G may be 0. Thresholds 0.7 and 0.3, with the best-anchor rule.
    Use `boxes.iou` and your `match`.
    """
    ### BEGIN SOLUTION
    matches = match(boxes.iou(anchors, objects), 0.7, 0.3, force_best=True)  # (A,)
    return np.where(matches >= 0, 1, np.where(matches == -1, 0, -1))  # (A,)
    ### END SOLUTION


# %% labels-check points=2
fresh = data.Digits(40, seed=int(np.random.default_rng().integers(10_000, 1_000_000)))
for objects_of in [fresh[i][1]["boxes"] for i in range(len(fresh))] + [np.zeros((0, 4), np.float32)]:
    got = np.asarray(anchor_labels(laid, objects_of))
    sure = matching.match(boxes.iou(laid, objects_of), 0.7, 0.3, force_best=True)
    where = f"on a page with {len(objects_of)} objects"
    if got.shape != sure.shape:
        raise checks.CheckFailed(f"anchor_labels: shape {got.shape} {where}; {sure.shape} is expected")
    for name, members, label in (
        ("matched to object 0", sure == 0, 1),
        ("matched to an object", sure > 0, 1),
        ("background", sure == -1, 0),
        ("ignored", sure == -2, -1),
    ):
        if (got[members] != label).any():
            raise checks.CheckFailed(
                f"anchor_labels: {where} an anchor that is {name} has the label "
                f"{got[members][got[members] != label][0]}\n"
                "Hint: is an index a label already? Which rules apply?"
            )
print("anchor_labels: right, on 40 fresh pages and on an empty one")

# %% imbalance [markdown]
# ## 6  Almost everything is background
#
# **Predict first:** a network that says "no object" whatever it sees: how many of the labelled anchors does it get right?

# %% imbalance-shown
matches = [matching.match(page, 0.7, 0.3, force_best=True) for page in all_iou]
counts = np.array([[(m >= 0).sum(), (m == -2).sum(), (m == -1).sum()] for m in matches])  # (300, 3)
positives, ignored, negatives = counts.mean(axis=0)
share = positives / (positives + negatives)
print(
    f"always saying no is right for {1 - share:.2%} of the labelled anchors; "
    f"negatives per positive: {negatives / positives:.0f}"
)
print(
    f"the best constant: probability {share:.4f}, logit {np.log(share / (1 - share)):.1f}, "
    f"loss {-share * np.log(share) - (1 - share) * np.log(1 - share):.3f}"
)

figure = plot.figure(9, 1.7)
ax = plot.match_shares(figure.subplots(), counts.mean(axis=0)[None], ["a page, on average"])
figure

# %% imbalance-text [markdown]
# Let the network give one and the same number $s$ everywhere, of which the sigmoid makes a probability $\sigma(s)$;
# such an $s$ is called a *logit*. There are P positives and N negatives. The derivative of the cross-entropy is
# $\sigma(s) - 1$ for a positive anchor and $\sigma(s)$ for a negative one (notebook 07). At $s = 0$ that is $-\frac12$
# and $+\frac12$: the sum over all anchors pushes the logit down with a weight of N against P, 179 against 1. It comes
# to rest where
#
# $$ P \, (\sigma(s) - 1) + N \, \sigma(s) = 0 \quad\Longleftrightarrow\quad \sigma(s) = \frac{P}{P + N}. $$
#
# There the mean loss is 0.034 and nothing about any image is known. All that remains to be gained by learning to see is
# 0.034 at most, and nearly every term of the mean belongs to a negative. So the loss is taken on a *sample* ([1] section
# 3.1.3): of each image 256 anchors at random, **at most half** of them positive; negatives fill the rest.
#
# What is a random choice worth? Here are the first 128 negatives in the order of the anchors, and 128 at random:

# %% first-come
labels = np.where(matches[3] >= 0, 1, np.where(matches[3] == -1, 0, -1))  # (A,)
zeros = np.flatnonzero(labels == 0)  # (N,), rising
choices = {
    "The first 128 negatives": zeros[:128],
    "128 negatives at random": np.random.default_rng(0).choice(zeros, 128, replace=False),
}
figure = plot.figure(10, 4.9)
for ax, (name, chosen) in zip(figure.subplots(1, 2), choices.items(), strict=True):
    shown = np.concatenate([np.flatnonzero(labels == 1), chosen])
    plot.matched_anchors(ax, image, laid[shown], matches[3][shown], objects)
    plot.title(ax, name, f"on {len(np.unique(laid[chosen][:, [1, 3]].sum(axis=1)))} rows of the map")
figure

# %% sampling [markdown]
# The order of the anchors is by row. The first 128 negatives are the upper edge of the page, on every page, at every
# step: the network would never be told about the rest.
#
# > **What people get wrong.** Chance without a source. A choice by `np.random.choice` comes from a state that the whole
# > program shares: whatever else draws from it changes the run, and nobody can repeat one part alone. `sample` takes a
# > `np.random.Generator`, and draws from nothing else. And *positives that run short are made up for by negatives*, but
# > not the other way round: a batch of many positives and few negatives stays small.


# %% sample-yours
def sample(labels, size, positive_fraction, rng):
    """(positive, negative): indices of a random sample of at most `size` anchors, each rising.

    labels (A,): 1 and above positive, 0 negative, below 0 never chosen.
    At most int(size * positive_fraction) are positive; negatives fill up to `size`, if there are
    enough of them.
    rng: the np.random.Generator from which alone the choice is drawn, without repetition,
    every candidate and every set of them as likely as every other.
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
print("sample: right")

kinds = [np.where(m >= 0, 1, np.where(m == -1, 0, -1)) for m in matches]
rows = [counts.mean(axis=0)]
for size in (256, 64, 16):
    rng = np.random.default_rng(0)
    chosen = [sample(one, size, 0.5, rng) for one in kinds]
    rows.append(np.mean([(len(positive), 0, len(negative)) for positive, negative in chosen], axis=0))
figure = plot.figure(9, 2.8)
names = ["all anchors", "sample of 256", "sample of 64", "sample of 16"]
ax = plot.match_shares(figure.subplots(), np.array(rows), names)
figure

# %% ignored [markdown]
# Half and half is what the paper hopes for. A page of digits has eight positive anchors or so, and a sample of 256 holds
# them all: 3 % of what enters the loss, instead of 0.6 %. (The digit detector samples 128.) A smaller
# sample is better balanced and sees less.
#
# ## 7  What the ignored ones are good for
#
# They are there to be left out. Suppose they were not, and everything below 0.7 that is not forced were negative:

# %% ignored-shown
highest = np.concatenate([page.max(axis=1, initial=0) for page in all_iou])  # (300 × 1536,)
of_all = np.concatenate(matches)  # (300 × 1536,)
middle, positive = highest[of_all == -2], highest[of_all >= 0]
print(f"ignored anchors per positive one: {len(middle) / len(positive):.0f}")
print(f"best IoU of the ignored:  mean {middle.mean():.2f}, largest {middle.max():.4f}")
print(f"best IoU of the positive: mean {positive.mean():.2f}, smallest {positive.min():.4f}")
print(
    f"ignored anchors that fit better than the worst tenth of the positive ones: "
    f"{np.mean(middle > np.quantile(positive, 0.1)):.0%}"
)

# %% thresholds [markdown]
# Fourteen anchors that lie on a digit would say *no* for each one that says *yes*, and some of them fit better than
# anchors that were made positive because an object had no other. To the network the two look alike.
#
# ## 8  Moving the thresholds
#
# **Predict first** for each pair: more or fewer positives, and better or worse ones? The second stage of the detector
# uses 0.5 for both and no best-anchor rule, so nothing is ignored there ([2] section 2.3 has 0.5, and negatives from
# 0.1 on).

# %% thresholds-moved
trials = [(0.7, 0.3, True), (0.5, 0.3, True), (0.5, 0.5, False), (0.9, 0.1, True)]
figure = plot.figure(11, 3.1)
print("thresholds   best anchor   positive   ignored   IoU of the positive   objects without one")
for ax, (high, low, force_best) in zip(figure.subplots(1, 4), trials, strict=True):
    each = [matching.match(page, high, low, force_best) for page in all_iou]  # of each page (A,)
    positive = np.mean([(m >= 0).sum() for m in each])
    ignored = np.mean([(m == -2).sum() for m in each])
    fits = [page.max(axis=1, initial=0)[m >= 0] for page, m in zip(all_iou, each, strict=True)]
    fit = np.concatenate(fits).mean()
    served = sum(len(np.unique(m[m >= 0])) for m in each)
    rule = "yes" if force_best else "no"
    print(
        f"{high}, {low}     {rule:<11}{positive:11.1f}{ignored:10.1f}{fit:22.2f}"
        f"{1 - served / len(best):22.1%}"
    )
    plot.matched_anchors(ax, image, laid, matching.match(iou, high, low, force_best), objects)
    plot.title(ax, f"{high} and {low}", "best-anchor rule" if force_best else "thresholds alone")
figure

# %% number [markdown]
# From 0.7 to 0.5 there are three times as many positives, and they fit less well. Without the best-anchor rule one
# digit in seven has none even then. At 0.9 hardly any but the forced ones are left, and a low threshold of 0.1 takes a
# third of all anchors out of training: what is left as background is far from any digit, and teaches little.
#
# So the right answer for an anchor is *yes*, *no*, or that it is not asked. And they do not matter alike: of those with
# an answer only a sample enters the loss, in which the few that say *yes* weigh more than their number.
#
# ## A number to check
#
# A square object of 40 pixels lies exactly on an anchor of its shape, and the stride is 4. Which anchors reach 0.7?
# Moved by $(d_x, d_y)$, an anchor shares $(40 - d_x)(40 - d_y)$ pixels with the object:
#
# | moved by | shared | union | IoU |
# |---|---|---|---|
# | (4, 0) | 1440 | 3200 - 1440 = 1760 | 0.82 |
# | (4, 4) | 1296 | 1904 | 0.68 |
# | (8, 0) | 1280 | 1920 | 0.67 |
#
# The anchor itself, and one to the left, right, top and bottom: **5** positives. Now the object moves by (2, 2), midway
# between four centres. By hand: all four have 1444 / 1756 = 0.82, the next ones (moved by 6 and 2) 1292 / 1908 = 0.68, so
# there are **4**. And with a stride of 8 instead of 4, and the object back on a centre? **1**.

# %% number-check
square = np.array([[-20.0, -20, 20, 20]])
for step, moved in ((4, 0), (4, 2), (8, 0)):
    grid = anchors.grid_anchors(square, (41, 41), (step, step))  # (1681, 4)
    overlap = boxes.iou(grid, square + 20 * step + moved)  # (1681, 1)
    found = matching.match(overlap, 0.7, 0.3, force_best=True)
    print(f"stride {step}, moved by {moved}: {(found >= 0).sum()} positive")

# %% next [markdown]
# ## To try
#
# 1. How many positives does the object of 40 pixels have with a stride of 2? By hand first: the IoU is a function of
#    $(40 - d_x)(40 - d_y)$ alone.
# 2. Leave out the best-anchor rule, and count by size which digits have no positive anchor. Which high threshold serves
#    95 % of them, and what do its positives look like?
# 3. Leave out the anchors that reach beyond the page, as [1] section 3.3 does. Which objects lose their best anchor?
# 4. Draw 1,000 samples of the page above. How often is each negative anchor drawn? What should the number be, and how far
#    from it is still chance?
