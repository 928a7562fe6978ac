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
#     seconds: 20
# ---

# %% question [markdown]
# # One image, end to end
#
# **The question.** The shape of what a convolutional network gives depends on the shape of what it is given, and on
# nothing else. A page of handwriting holds any number of digits, in any place, of any size. How can such a network list
# them?
#
# Faster R-CNN asks the same small questions at a fixed number of places, and throws most of the answers away. First, at
# every place: *is there something here?* Then, at the most promising places only: *what is it, and where are its edges?*
# This notebook follows one page through all stages. Every array on the way has a name, which is an attribute of the
# `Trace` that `model.trace` returns, and a shape:
#
# | | stage | comes in | comes out | source |
# |---|---|---|---|---|
# | 1 | transform | image (h, w, 3) | `batch` (N, 3, H, W) | [1] section 3.3 |
# | 2 | backbone | `batch` | `features[l]` (N, C, H_l, W_l) | [1] section 3.1 |
# | 3 | anchors | the sizes of `batch` and `features` | `anchors[l]` (A_l, 4) | [1] section 3.1.1 |
# | 4 | RPN head | `features` | `objectness[l]` (N, A_l), `rpn_deltas[l]` (N, A_l, 4) | [1] section 3.1 |
# | 5 | proposals | the arrays of 3 and 4 | `candidates[i]` (K_i, 4), `proposals[i]` (P_i, 4) | [1] section 3.3 |
# | 6 | RoIAlign | `features`, `rois` (R, 4) | `pooled` (R, C, ph, pw) | [3] section 3 |
# | 7 | head | `pooled` | `class_logits` (R, L), `box_deltas` (R, L, 4) | [2] section 2 |
# | 8 | detections | `rois` and the arrays of 7 | `outputs[i]`: boxes (D_i, 4), scores (D_i,), labels (D_i,) | [2] section 3 |
#
# N counts the images (index `i`), C channels, A anchors, R regions of interest, and L classes with the background as
# class 0. The index `l` counts the levels of the backbone, of which there is one here. A box is `x1, y1, x2, y2` in
# pixels; a size is (height, width).
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083). [3] He, Gkioxari, Dollár, Girshick: *Mask R-CNN*, 2017 (arXiv 1703.06870). [4] Everingham, Van Gool,
# Williams, Winn, Zisserman: *The PASCAL Visual Object Classes (VOC) Challenge*, 2010.

# %% the-page
import numpy as np

import rcnn
from rcnn import anchors, boxes, data, plot
from rcnn.evaluate import evaluate

model = rcnn.load_digits()  # its weights come with the package
pages = data.Digits(split="val")  # no glyph on these pages was ever trained on
image, target = pages[178]

figure = plot.figure(9, 4.4)
left, right = figure.subplots(1, 2)
plot.title(plot.image(left, image), "What comes in", f"an image {image.shape}, {image.dtype}")
plot.boxes(plot.image(right, image), target["boxes"], target["labels"], class_names=pages.classes)
plot.title(right, "What should come out", f"boxes {target['boxes'].shape}, labels {target['labels'].shape}")
figure

# %% predict [markdown]
# ## Predict first
#
# The size of the image and the settings that the next cell prints decide almost all shapes. You also need to know that
# the backbone holds three convolutions of stride 2, and that one page is traced. How many candidates and proposals there
# are depends on what is on the page: for these, give the largest number that the settings allow, and go on with it.
#
# Write the shapes down before you go on, each in numbers like `(1, 2, 3)`; the docstring has the letters of the table
# above. The stages print the shapes of their arrays as they come, and a cell near the end compares.

# %% settings
for name in (
    "min_size",
    "max_size",
    "feat_channels",
    "anchor_sizes",
    "aspect_ratios",
    "rpn_pre_nms_top_n_test",
    "rpn_nms_thresh",
    "rpn_post_nms_top_n_test",
    "pool_size",
    "num_classes",
    "bbox_reg_weights",
    "box_score_thresh",
    "box_nms_thresh",
    "box_detections_per_img",
):
    print(f"{name:<26}{getattr(model.config, name)}")


def show(name, array):
    "Prints the array's name, shape and dtype."
    print(f"{name:<22}{str(array.shape):<20}{array.dtype}")


# %% predictions
def predict_shapes():
    """The shape that you expect of each array, by its name, as a tuple of whole numbers.

    "batch" (N, 3, H, W), "features[0]" (N, C, H_l, W_l), "anchors[0]" (A_l, 4), "objectness[0]" (N, A_l),
    "rpn_deltas[0]" (N, A_l, 4), "candidates[0]" (K_i, 4) and "proposals[0]" (P_i, 4), both the largest
    possible, "pooled" (R, C, ph, pw), where R is the sum of all P_i, "class_logits" (R, L),
    "box_deltas" (R, L, 4).
    """
    ### BEGIN SOLUTION
    rows, columns = 128 // 8, 128 // 8
    in_all = rows * columns * 3 * 2
    return {
        "batch": (1, 3, 128, 128),
        "features[0]": (1, 64, rows, columns),
        "anchors[0]": (in_all, 4),
        "objectness[0]": (1, in_all),
        "rpn_deltas[0]": (1, in_all, 4),
        "candidates[0]": (400, 4),
        "proposals[0]": (100, 4),
        "pooled": (100, 64, 5, 5),
        "class_logits": (100, 11),
        "box_deltas": (100, 11, 4),
    }
    ### END SOLUTION


# %% transform [markdown]
# ## 1  Transform: from an image to a batch
#
# In: an image (h, w, 3), 8-bit colours. Out: `batch` (N, 3, H, W), float32, and the size of each image within it,
# `image_sizes`.
#
# The image is scaled so that its shorter side has `min_size` pixels ([1] section 3.3), unless the longer one would
# exceed `max_size` ([2] section 5.2). From each channel, in [0, 1], a mean is subtracted, and the rest is divided by a
# standard deviation. Zeros at the right and at the bottom bring both sides to a multiple of 32, and all images of a
# batch to one size.
#
# `model.trace` runs the whole detector once and keeps everything. It is given the target as well, for what the notebook
# shows of training; detection does not look at it.
#
# > **What people get wrong.** The mean and the deviation are constants, `image_mean` and `image_std` of the settings, and
# > not those of the image at hand. And the axes change order: an image is (h, w, 3), a batch is (N, 3, H, W), a size
# > is (height, width), but a box begins with x.

# %% transform-shapes
trace = model.trace([image], [target], rng=np.random.default_rng(0))
show("batch", trace.batch)
show("images[0]", trace.images[0])  # the same to look at, without normalisation and padding
print(f"{'image_sizes[0]':<22}{trace.image_sizes[0]}")

figure = plot.figure(10, 3.1)
colours = "red", "green", "blue"
for ax, channel, colour in zip(figure.subplots(1, 3), trace.batch[0], colours, strict=True):
    plot.feature_map(ax, channel[None], max_channels=1, quantity="value")
    spread = f"mean {channel.mean():.2f}, standard deviation {channel.std():.2f}"
    plot.title(ax, f"images[0], {colour}", spread)
figure

# %% backbone [markdown]
# ## 2  Backbone: from pixels to features
#
# In: `batch` (N, 3, H, W). Out: for every level l a *feature map* `features[l]` (N, C, H_l, W_l), C numbers for each of
# its cells. A backbone with a pyramid has several levels, and each array of the stages 3 and 4 then has an entry per
# level. This one has a single level.
#
# Each of the three convolutions of stride 2 halves both sides, so that one step on the map is a step of $2^3 = 8$ pixels:
# the *stride* is 8. From here on the detector knows what the map holds. It does not look at the image again.
#
# > **What people get wrong.** A cell does not see 8 × 8 pixels only. Every 3 × 3 convolution widens what it sees, and the
# > later ones widen it by whole strides. So a cell can judge a digit that is several times larger than its stride.

# %% backbone-shapes
show("features[0]", trace.features[0])
features = trace.features[0][0]  # (C, H_l, W_l), of our page
stride = anchors.measure_stride(trace.batch.shape[2:], features.shape[1:])
print("stride (rows, columns):", stride)

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.feature_map(left, features)
plot.title(left, "How active each cell is", f"mean over the {len(features)} channels")
plot.feature_map(right, features, max_channels=16)
plot.title(right, "The first 16 channels", "on one scale")
figure

# %% anchors [markdown]
# ## 3  Anchors: a fixed list of boxes to ask about
#
# In: the sizes of `batch` and of `features[l]`. Out: `anchors[l]` (A_l, 4), where A_l = H_l × W_l × k.
#
# An anchor is a box of given area and aspect ratio. Every cell has k of them, one for each pair of `anchor_sizes` and
# `aspect_ratios` (height / width), and from cell to cell they move by the stride ([1] section 3.1.1). Their order is row,
# column, then anchor of the cell, with the ratio outermost and the size innermost. Before you run the cell: where do you
# expect anchor 0 of row 3, column 5? Its area is the square of the first size.
#
# > **What people get wrong.** Anchors are neither learned nor predicted: every page of this size has the same ones. The
# > first are centred on the image's corner (0, 0), not half a stride inside, because a convolution of stride 2 and
# > padding 1 has its first centre there. So many anchors reach beyond the image.

# %% anchors-shapes
show("anchors[0]", trace.anchors[0])
cell = anchors.cell_anchors(model.config.anchor_sizes, model.config.aspect_ratios)  # (k, 4), around (0, 0)
rows, columns, k = *features.shape[1:], len(cell)
print(f"H_l × W_l × k = {rows} × {columns} × {k} = {rows * columns * k}")
by_cell = trace.anchors[0].reshape(rows, columns, k, 4)  # (H_l, W_l, k, 4)
print("row 3, column 5, anchor 0:", by_cell[3, 5, 0])

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.title(plot.cell_anchors(left, cell, stride), "The anchors of a cell", f"{cell.shape}")
plot.anchor_level(right, image, trace.anchors[0])
plot.title(right, "All centres, and the anchors of one cell", f"{trace.anchors[0].shape}")
figure

# %% rpn [markdown]
# ## 4  RPN head: is there something here?
#
# In: `features[l]` (N, C, H_l, W_l). Out: `objectness[l]` (N, A_l), one number for each anchor, and `rpn_deltas[l]`
# (N, A_l, 4), how to move it.
#
# The head of the *region proposal network* is a 3 × 3 convolution and, after it, two 1 × 1 convolutions side by side with
# k and 4k channels ([1] section 3.1). They treat all cells alike, so a digit is found as well in one place as in another.
# Objectness is a logit $s$; the probability that the anchor holds an object is $\sigma(s) = 1 / (1 + e^{-s})$. The deltas
# $d_x, d_y, d_w, d_h$ are relative to the anchor's centre $(x_a, y_a)$, width $w_a$ and height $h_a$ ([1] section 3.1.2,
# equation 2):
#
# $$ x = x_a + d_x w_a, \qquad y = y_a + d_y h_a, \qquad w = w_a e^{d_w}, \qquad h = h_a e^{d_h}. $$
#
# Each panel below belongs to one anchor of the cell. Look for a small and a large digit in all of them.
#
# > **What people get wrong.** The RPN knows no classes: it says *something*, not *a seven*. And its convolution gives
# > (N, k, H_l, W_l). The channels must move to the end before this becomes (N, A_l), or the logits are in another order
# > than the anchors, which no shape betrays.

# %% rpn-shapes
show("objectness[0]", trace.objectness[0])
show("rpn_deltas[0]", trace.rpn_deltas[0])
probability = 1 / (1 + np.exp(-trace.objectness[0][0]))  # (A_l,)
maps = probability.reshape(rows, columns, k).transpose(2, 0, 1)  # (k, H_l, W_l)

shape = len(model.config.aspect_ratios), len(model.config.anchor_sizes)
figure = plot.figure(10, 3.3 * shape[0])
for ax, one, (x1, y1, x2, y2) in zip(figure.subplots(*shape).flat, maps, cell, strict=True):
    plot.objectness(ax, image, one, image_size=trace.batch.shape[2:])
    plot.title(ax, f"{y2 - y1:g} × {x2 - x1:g}", "height × width of the anchor, pixels")
figure

# %% matching [markdown]
# ### Aside: what the RPN was taught
#
# In training, every anchor is held against the true boxes, the *ground truth*. In: the anchors of all levels (A, 4) and
# `gt_boxes[i]` (G_i, 4). Out: `anchor_matches[i]` (A,): the index of an anchor's object, or -1 for background, or -2 for
# neither.
#
# An anchor is positive where its IoU (intersection over union) with some object is at least 0.7, or the highest that any
# anchor has with that object; negative where it is below 0.3 with all objects; and ignored in between ([1] section 3.1.2).
# A random sample of the positive and the negative ones, at most half of it positive, enters the loss (section 3.1.3).
#
# > **What people get wrong.** Ignored is not negative: many of the ignored anchors lie on a digit, and would teach the
# > network that digits are background. And a 0 in `anchor_matches` is the first *object*, not the background.

# %% matching-shapes
show("gt_boxes[0]", trace.gt_boxes[0])
show("anchor_matches[0]", trace.anchor_matches[0])
positive, negative = trace.sampled_anchors[0]
show("sampled_anchors[0][0]", positive)
show("sampled_anchors[0][1]", negative)

all_anchors, matches = np.concatenate(trace.anchors), trace.anchor_matches[0]  # (A, 4), (A,)
sampled = np.concatenate([positive, negative])
figure = plot.figure(10, 5)
left, right = figure.subplots(1, 2)
plot.matched_anchors(left, image, all_anchors, matches, trace.gt_boxes[0])
plot.title(left, "All anchors", f"matches {matches.shape}")
plot.matched_anchors(right, image, all_anchors[sampled], matches[sampled], trace.gt_boxes[0])
plot.title(right, "The sample that the loss looks at", f"matches {matches[sampled].shape}")
figure

# %% proposals [markdown]
# ## 5  Proposals: the best boxes, each once
#
# In: anchors, objectness and deltas. Out, for each image i: `candidates[i]` (K_i, 4) and, chosen from these,
# `proposals[i]` (P_i, 4), with their probabilities `candidate_scores[i]` (K_i,) and `proposal_scores[i]` (P_i,).
#
# The `rpn_pre_nms_top_n_test` anchors with the highest objectness are moved by their deltas and clipped to the image. What
# then has no width or no height is dropped; the rest are the candidates. Many of them lie on the same digit. So
# *non-maximum suppression* (NMS) takes the best, removes all others whose IoU with it exceeds `rpn_nms_thresh`, takes the
# best that is left, and so on. The first `rpn_post_nms_top_n_test` that were taken are the proposals. (NMS and the cut
# after it are in [1] section 3.3; the cut before it is in the published code.)
#
# From here on the content of a page has a say in the shapes. And no gradient flows back through the boxes: the second
# stage takes the proposals as given ([1] section 3.2).
#
# > **What people get wrong.** The order of the two cuts. One comes before NMS, which compares pairs, so that its cost
# > grows with the square of the number. The other must come after it, or copies of a single digit could fill the list.

# %% proposals-shapes
show("candidates[0]", trace.candidates[0])
show("candidate_scores[0]", trace.candidate_scores[0])
print("left by NMS:", trace.num_after_nms[0])
show("proposals[0]", trace.proposals[0])
show("proposal_scores[0]", trace.proposal_scores[0])

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.proposals(left, image, trace.candidates[0], trace.candidate_scores[0], top=len(trace.candidates[0]))
plot.title(left, "Candidates", f"{trace.candidates[0].shape}, before NMS")
plot.proposals(right, image, trace.proposals[0], trace.proposal_scores[0])
plot.title(right, "Proposals", f"{trace.proposals[0].shape}, after it")
figure

# %% roi-align [markdown]
# ## 6  RoIAlign: one shape for boxes of all shapes
#
# In: `features[l]` (N, C, H_l, W_l) and the *regions of interest*, which are the proposals of all images in a row: `rois`
# (R, 4), with the index of each one's image in `roi_images` (R,) and of its level in `roi_levels` (R,). Out: `pooled`
# (R, C, ph, pw).
#
# The layers to come need one fixed shape. So each RoI, whatever its sides, is divided into ph × pw bins. A bin is read at
# 2 × 2 points, each interpolated bilinearly between the four cells around it, and the mean of the four values is the
# bin's ([3] section 3). The plot follows one RoI, the one whose class will turn out to be the most certain.
#
# > **What people get wrong.** RoIs are in pixels, the map is in cells. Coordinates are multiplied by `roi_scales[l]`, one
# > over the stride, and *not rounded*. The older RoIPool ([2] section 2.1) rounds them to whole cells, and half a cell is
# > half a stride of pixels.

# %% roi-align-shapes
for name in ("rois", "roi_images", "roi_levels", "pooled"):
    show(name, getattr(trace, name))
powers = np.exp(trace.class_logits - trace.class_logits.max(axis=1, keepdims=True))
class_probability = powers / powers.sum(axis=1, keepdims=True)  # (R, L), stage 7 explains it
roi = int(class_probability[:, 1:].max(axis=1).argmax())
in_cells = trace.rois[roi] * trace.roi_scales[0]
print(f"RoI {roi}: {trace.rois[roi].round(1)} pixels, {in_cells.round(2)} cells")

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.sample_points(
    left,
    np.abs(features).mean(axis=0),
    trace.rois[roi],
    trace.roi_scales[0],
    trace.output_size,
    trace.sampling_ratio,
    trace.aligned,
)
plot.title(left, f"RoI {roi} on the map", "orange: the RoI and its bins; white: the points that are read")
plot.pooled_features(right, trace.pooled[roi], 36)
plot.title(right, f"pooled[{roi}]", f"36 of {trace.pooled[roi].shape}")
figure

# %% head [markdown]
# ## 7  Head: what is it, and where are its edges?
#
# In: `pooled` (R, C, ph, pw). Out: `class_logits` (R, L) and `box_deltas` (R, L, 4).
#
# Two fully connected layers read the pooled features of a RoI, and two more, side by side, give the answers ([2] section
# 2). The softmax of a row $z$ of `class_logits`, $p_c = e^{z_c} / \sum_j e^{z_j}$, holds the probabilities of the L
# classes. The deltas are those of stage 4, from the RoI to the object, but separate for each class, and they are divided
# by `bbox_reg_weights` before use. In training the head sees a sample of the proposals, joined by the true boxes:
# `sampled_rois[i]` (S_i, 4) with the classes `sampled_labels[i]` (S_i,) that it should name ([2] section 2.3).
#
# The plot shows the RoIs for which some digit is likelier than background, before and after their deltas.
#
# > **What people get wrong.** Label 0 is the background, so the digit 7 has the label 8. And in training the deltas to be
# > learned are multiplied by the weights by which they are divided here: whoever does only one of the two has boxes that
# > move five to ten times too far, or hardly at all.

# %% head-shapes
show("class_logits", trace.class_logits)
show("box_deltas", trace.box_deltas)
show("sampled_rois[0]", trace.sampled_rois[0])
show("sampled_labels[0]", trace.sampled_labels[0])
chances = zip(pages.classes, class_probability[roi], strict=True)
print(f"RoI {roi}:", ", ".join(f"{name} {chance:.3f}" for name, chance in chances))

best = class_probability[:, 1:].argmax(axis=1) + 1  # (R,), the likeliest digit of each RoI
score = class_probability[np.arange(len(best)), best]  # (R,)
chosen = np.flatnonzero(score > class_probability[:, 0])
deltas = trace.box_deltas[chosen, best[chosen]]  # (chosen, 4)
moved = boxes.decode(deltas, trace.rois[chosen], model.config.bbox_reg_weights)

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.proposals(left, image, trace.rois[chosen], score[chosen])
plot.title(
    left, "RoIs that hold a digit", f"{len(chosen)} of {len(best)}; score: the probability of that digit"
)
plot.proposals(right, image, moved, score[chosen])
plot.title(right, "The same RoIs, moved", "each by the deltas of its digit")
figure

# %% detections [markdown]
# ## 8  Detections: one box per digit
#
# In: `rois`, `class_logits`, `box_deltas`. Out, for each image i: `detections[i]`, a dict of `boxes` (D_i, 4), `scores`
# (D_i,) and `labels` (D_i,); and `outputs[i]`, the same in the pixels of the image that was passed in. The latter is
# what `model.predict` returns.
#
# Every RoI offers a box for each class but the background. Those whose score does not exceed `box_score_thresh` are
# dropped; NMS runs within each class, at `box_nms_thresh`; and the best `box_detections_per_img` of all classes remain
# ([2] section 3). The left plot shows what there is without the cut by score.
#
# > **What people get wrong.** The cut is low because average precision, below, wants the doubtful detections as well. For
# > a person's eyes it should be higher. And since NMS runs within a class, a digit that might be a 4 or a 9 can leave two
# > boxes.

# %% detections-shapes
found = trace.outputs[0]
for name, array in found.items():
    show(f"outputs[0]['{name}']", array)
uncut = model.predict([image], score_thresh=0)[0]
sure = found["scores"] >= 0.5

figure = plot.figure(10, 4.8)
left, right = figure.subplots(1, 2)
plot.proposals(left, image, uncut["boxes"], uncut["scores"])
plot.title(left, "Without a cut by score", f"boxes {uncut['boxes'].shape}")
plot.detections(
    right,
    image,
    found["boxes"][sure],
    found["scores"][sure],
    found["labels"][sure],
    pages.classes,
    target["boxes"],
)
plot.title(right, "Detections", f"{sure.sum()} of {len(sure)}, those with a score of at least 0.5")
figure

# %% funnel [markdown]
# ## The funnel, and the whole way on one strip
#
# How many boxes there are after each step. The first number is the same for every page of this size, and the last one
# depends on what is written on it. This answers the question at the top. The network's part has fixed shapes: it asks
# about every anchor and every RoI. What turns the answers into a list of any length is not learned at all: it sorts, cuts
# and suppresses.

# %% funnel-picture
figure = plot.figure(8, 3)
plot.funnel(figure.subplots(), trace.counts())
figure

# %% strip
plot.trace_strip(trace, class_names=pages.classes)

# %% precision-recall [markdown]
# ## How good is it?
#
# One page proves little. Take 40 unseen pages, and sort all detections of one class by falling score. A detection is right
# if its IoU with an object of its class is at least 0.5 and no earlier detection has claimed that object. Of the first $n$
# detections, *precision* is the share that is right, and *recall* is the share of all objects that they find. The
# *average precision* (AP) is the area under the curve of the two, where at each recall the best precision at that recall
# or a higher one counts. (So it is in VOC from 2010 on. [4] section 4.2 takes the same precision at eleven recalls;
# notebook 12 has both.)
#
# The curves are those of the best, the middle and the worst class. 40 pages hold about two dozen objects of each class,
# so every miss is a visible step; `rcnn demo` measures on 200 pages.
#
# > **What people get wrong.** A second box on a digit that was found already is not half right: it is wrong. So NMS
# > matters for the measure, and not only to the eye.

# %% precision-recall-curves
result = evaluate(model, data.Digits(40, split="val"), progress=False)
print(f"mean AP over the classes, at IoU 0.5, on 40 unseen pages: {result.mean_ap:.3f}")

figure = plot.figure(7, 4.2)
ax = figure.subplots()
by_ap = np.argsort(-result.ap[1:]) + 1  # labels, the best first
for label in by_ap[[0, len(by_ap) // 2, -1]]:
    plot.precision_recall(
        ax, result.recall[label], result.precision[label], f"digit {pages.classes[label]}", result.ap[label]
    )
figure

# %% by-hand [markdown]
# ## A number to check
#
# Nothing was hidden on the way. Take the RoI that was followed, its likeliest digit, and the deltas for that digit; move
# the RoI by them, and clip it to the page. This is the first of the detections, so the difference must be **0**.
#
# And do by eye what the detector does: add up the digits on the page. The sum should be the one that is printed. The last
# cell holds your predictions against the shapes that came out.

# %% by-hand-check
label = class_probability[roi, 1:].argmax() + 1
mine = boxes.decode(trace.box_deltas[[roi], label], trace.rois[[roi]], model.config.bbox_reg_weights)
mine = boxes.clip(mine, trace.image_sizes[0])  # (1, 4)
first = trace.detections[0]

print("by hand:             digit", pages.classes[label], mine[0].round(2))
print("first detection:     digit", pages.classes[first["labels"][0]], first["boxes"][0].round(2))
print("largest difference: ", np.abs(mine[0] - first["boxes"][0]).max(), "pixels")
print("sum of the digits:  ", sum(int(pages.classes[label]) for label in found["labels"][sure]))

# %% predictions-check points=2
found_shapes = {
    "batch": trace.batch,
    "features[0]": trace.features[0],
    "anchors[0]": trace.anchors[0],
    "objectness[0]": trace.objectness[0],
    "rpn_deltas[0]": trace.rpn_deltas[0],
    "candidates[0]": trace.candidates[0],
    "proposals[0]": trace.proposals[0],
    "pooled": trace.pooled,
    "class_logits": trace.class_logits,
    "box_deltas": trace.box_deltas,
}
predicted = predict_shapes()
assert isinstance(predicted, dict), "predict_shapes returns a dict: a name, and the shape that goes with it"
wrong = [name for name, array in found_shapes.items() if tuple(predicted.get(name, ())) != array.shape]
assert not wrong, f"not as predicted: {', '.join(wrong)}; which setting, or which stage, decides these?"
print("all", len(found_shapes), "shapes as predicted")

# %% next [markdown]
# ## To try
#
# 1. Trace two pages at once: `model.trace([pages[0][0], pages[1][0]])`. Which shapes have another first number, which
#    lists have another entry, and what is as it was?
# 2. Some pages are blank. Find one by its target. What does its funnel look like, and which shapes hold a 0?
# 3. Trace the page twice as large, `image.repeat(2, axis=0).repeat(2, axis=1)`. Why are `batch` and `anchors` as they
#    were, and what differs between `detections` and `outputs`?
# 4. Which shapes would change with five aspect ratios instead of two? Which weights of the network would?
