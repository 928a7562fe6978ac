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
# *Goals.* After this notebook, you can
#
# - name the eight stages of Faster R-CNN, with the input and the output of each;
# - predict the shape of every array from the size of the image and the settings;
# - trace an image through a detector, and look at any array on the way;
# - say which parts of the detector are learned, and which parts only sort, cut and suppress.
#
# *Prerequisites.* Python and NumPy arrays. You need not know convolutions (notebook 03 explains them).
#
# *Time.* About two hours.
#
# *Images.* Most notebooks use drawn pages of digits, on which everything runs in minutes. Real photographs appear in
# notebooks 02, 04, 14 and 15.
#
# **The question.** The shape of a convolutional network's output depends only on the shape of its input. A page of
# handwriting contains any number of digits, at any position and of any size. How can such a network list them?
#
# Faster R-CNN asks the same questions at a fixed number of positions, and discards most of the answers. First, at
# every position: *is there an object?* Then, at the most promising positions only: *what is it, and where are its
# edges?* This notebook follows one page through all stages. `model.trace` returns a `Trace`. Each array is an
# attribute of it:
#
# | | stage | input | output | source |
# |---|---|---|---|---|
# | 1 | transform | image (h, w, 3) | `batch` (N, 3, H, W) | [1] section 3.3 |
# | 2 | backbone | `batch` | `features[l]` $(N, C, H_l, W_l)$ | [1] section 3.1 |
# | 3 | anchors | the sizes of `batch` and `features` | `anchors[l]` $(A_l, 4)$ | [1] section 3.1.1 |
# | 4 | RPN head | `features` | `objectness[l]` $(N, A_l)$, `rpn_deltas[l]` $(N, A_l, 4)$ | [1] section 3.1 |
# | 5 | proposals | the arrays of 3 and 4 | `candidates[i]` $(K_i, 4)$, `proposals[i]` $(P_i, 4)$ | [1] section 3.3 |
# | 6 | RoIAlign | `features`, `rois` (R, 4) | `pooled` (R, C, ph, pw) | [3] section 3 |
# | 7 | head | `pooled` | `class_logits` (R, L), `box_deltas` (R, L, 4) | [2] section 2 |
# | 8 | detections | `rois` and the arrays of 7 | `outputs[i]`: boxes $(D_i, 4)$, scores $(D_i,)$, labels $(D_i,)$ | [2] section 3 |
#
# N is the number of images, C of channels, A of anchors, R of regions of interest, and L of classes, including the
# background as class 0. Image $i$ has $K_i$ candidates, $P_i$ proposals and $D_i$ detections. The index $l$ counts
# the levels of the backbone; here, there is only one. A box is `x1, y1, x2, y2` in pixels; a size is (height, width).
#
# *History.* R-CNN (2014) ran a network on each region that a separate algorithm proposed. Fast R-CNN [2] shares one
# feature map among all regions. Faster R-CNN [1] also learns to propose the regions, and Mask R-CNN [3] added
# RoIAlign.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083). [3] He, Gkioxari, Dollár, Girshick: *Mask R-CNN*, 2017 (arXiv 1703.06870). [4] Everingham, Van Gool,
# Williams, Winn, Zisserman: *The PASCAL Visual Object Classes (VOC) Challenge*, 2010.

# %% the-page
import numpy as np

import rcnn
from rcnn import anchors, boxes, course, data, plot
from rcnn.evaluate import evaluate

model = rcnn.load_digits()  # its weights are part of the package
pages = data.Digits(split="val")  # none of these handwritten digits was used in training
image, target = pages[178]

figure = plot.figure(9, 4.4)
left, right = figure.subplots(1, 2)
plot.title(plot.image(left, image), "Input", f"an image {image.shape}, {image.dtype}")
plot.image(right, image)
plot.boxes(right, target["boxes"], target["labels"], class_names=pages.classes)
caption = f"boxes {target['boxes'].shape}, labels {target['labels'].shape}"
plot.title(right, "Expected output", caption)
course.show(
    figure,
    f"Left: a grey page with {len(target['boxes'])} handwritten digits of different "
    "sizes. Right: the same page, with a box around each digit and its class next to the "
    "box.",
)

# %% predict [markdown]
# ## Predict first
#
# The size of the image and the settings below determine almost all shapes. You also need three facts:
#
# - the backbone has three convolutions with stride 2, and each of them halves the height and the width;
# - every cell of the feature map has one anchor for each pair of `anchor_sizes` and `aspect_ratios`;
# - only one page is traced.
#
# The numbers of candidates and proposals depend on the page. For these, predict the largest number that the settings
# allow, and use it for the later shapes.
#
# Write down all shapes in numbers, such as `(1, 2, 3)`. The docstring contains the letters of the table above. Each
# stage prints the shapes of its arrays, and a cell near the end compares them with your predictions.

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
    "Print the name, shape and dtype of an array."
    print(f"{name:<22}{str(array.shape):<20}{array.dtype}")


# %% predictions
def predict_shapes():
    """Return a dict that maps each name to the shape that you expect, a tuple of integers.

    "batch" (N, 3, H, W), "features[0]" (N, C, H_l, W_l), "anchors[0]" (A_l, 4),
    "objectness[0]" (N, A_l), "rpn_deltas[0]" (N, A_l, 4), "candidates[0]" (K_i, 4) and
    "proposals[0]" (P_i, 4), both with the largest possible number, "pooled" (R, C, ph, pw),
    where R is the sum of all P_i, "class_logits" (R, L), "box_deltas" (R, L, 4).
    """
    ### BEGIN SOLUTION
    rows, columns = 128 // 8, 128 // 8
    total = rows * columns * 3 * 2
    return {
        "batch": (1, 3, 128, 128),
        "features[0]": (1, 64, rows, columns),
        "anchors[0]": (total, 4),
        "objectness[0]": (1, total),
        "rpn_deltas[0]": (1, total, 4),
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
# Input: an image (h, w, 3) with 8-bit colours. Output: `batch` (N, 3, H, W), float32, and the size of each image in
# it, `image_sizes`.
#
# The image is resized so that its shorter side has `min_size` pixels ([1] section 3.3), unless the longer side would
# then exceed `max_size` ([2] section 5.2). Each channel is scaled to [0, 1] and normalised: a mean is subtracted, and
# the difference is divided by a standard deviation. Zeros at the right and at the bottom give all images of the batch
# the same size; both sides are multiples of 32.
#
# `model.trace` runs the whole detector once and keeps all arrays. It also takes the target, because this notebook
# shows a part of the training. Detection does not use the target.
#
# > **What people get wrong.** The mean and the standard deviation are constants (`image_mean` and `image_std` of the
# > settings). They are not computed from the image. Also, the order of the axes changes: an image is (h, w, 3), a
# > batch is (N, 3, H, W), a size is (height, width), and a box starts with x.

# %% transform-shapes
trace = model.trace([image], [target], rng=np.random.default_rng(0))
show("batch", trace.batch)
show("images[0]", trace.images[0])  # the resized image, without normalisation and padding
print(f"{'image_sizes[0]':<22}{trace.image_sizes[0]}")
assert 0.7 < np.median(trace.batch) < 0.9 and trace.batch.min() < -0.5  # paper and ink

figure = plot.figure(10, 3.1)
colours = "red", "green", "blue"
for ax, channel, colour in zip(figure.subplots(1, 3), trace.batch[0], colours, strict=True):
    plot.feature_map(ax, channel[None], max_channels=1, quantity="value")
    spread = f"mean {channel.mean():.2f}, standard deviation {channel.std():.2f}"
    plot.title(ax, f"batch[0], {colour}", spread)
course.show(
    figure,
    "The red, green and blue channels of the batch look alike, because the page is grey. "
    "After normalisation, the paper has values of about 0.8, and the ink has negative "
    "values.",
)

# %% backbone [markdown]
# ## 2  Backbone: from pixels to features
#
# Input: `batch` (N, 3, H, W). Output: a *feature map* `features[l]` $(N, C, H_l, W_l)$ for every level $l$. It
# contains C numbers for each cell. A backbone with a pyramid has several levels, and the arrays of stages 3 and 4
# then have one entry for each level. This backbone has one level.
#
# Each of the three convolutions with stride 2 halves both sides, so neighbouring cells are $2^3 = 8$ pixels apart:
# the *stride* is 8. All later stages read the feature map, and none of them reads the image again.
#
# The left plot shows the largest of the 64 channels in each cell, and the digits as a shadow. This value is large at
# the digits. The mean over the channels would not show them, because many channels are weakly active on empty paper.
# The right plot shows single channels: different channels react to different parts of the page.
#
# Some channels are bright along the border, although there is no ink. In the fourth channel of the first row, the top
# row of cells is about four times as active as the inside of the map. The reason is the padding: every convolution
# adds zeros around its input, but paper is not zero (see the values in stage 1). For a filter, the border of the page
# is therefore an edge. A trained detector learns to ignore such edges.
#
# > **What people get wrong.** A cell sees more than 8 × 8 pixels. Every 3 × 3 convolution enlarges the region that it
# > sees, and the later ones enlarge it by whole strides. So a cell can recognise a digit much larger than its stride.

# %% backbone-shapes
show("features[0]", trace.features[0])
features = trace.features[0][0]  # (C, H_l, W_l) of our page
stride = anchors.measure_stride(trace.batch.shape[2:], features.shape[1:])
print("stride (rows, columns):", stride)
assert stride == (8, 8)
fourth = np.abs(features[3])  # (H_l, W_l)
assert 4 < fourth[0].mean() / fourth[1:-1, 1:-1].mean() < 4.6

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.feature_map(left, features, image=image)
caption = f"the largest of {len(features)} channels in each cell; dark: the digits"
plot.title(left, "Feature map", caption)
plot.feature_map(right, features, max_channels=16)
plot.title(right, "The first 16 channels", "all with the same colours")
course.show(
    figure,
    f"Left: a map of {features.shape[1]} × {features.shape[2]} cells, in which the "
    "brightest cells lie on the digits. Right: the first 16 channels. Some react to a "
    "few cells of the digits, some to vertical or horizontal strokes, and a few are "
    "bright along the border of the map.",
)

# %% anchors [markdown]
# ## 3  Anchors: a fixed list of boxes
#
# Input: the sizes of `batch` and `features[l]`. Output: `anchors[l]` $(A_l, 4)$, with
# $A_l = H_l \times W_l \times k$.
#
# An anchor is a box with a given area and aspect ratio. Every cell has k anchors, one for each pair of `anchor_sizes`
# and `aspect_ratios` (height / width). The anchors of neighbouring cells are one stride apart ([1] section 3.1.1).
# Their order is row, column, anchor of the cell; within a cell, all sizes of the first ratio come first. **Predict**
# the corners of anchor 0 of row 3, column 5. Its area is the square of the first size.
#
# > **What people get wrong.** Anchors are neither learned nor predicted: every page of this size has the same
# > anchors. The first anchors are centred on the corner (0, 0) of the image, not half a stride inside it, because a
# > convolution with stride 2 and padding 1 has its first centre there. Many anchors therefore reach beyond the image.

# %% anchors-shapes
show("anchors[0]", trace.anchors[0])
sizes, ratios = model.config.anchor_sizes, model.config.aspect_ratios
cell = anchors.cell_anchors(sizes, ratios)  # (k, 4), around (0, 0)
rows, columns, k = *features.shape[1:], len(cell)
print(f"H_l × W_l × k = {rows} × {columns} × {k} = {rows * columns * k}")
by_cell = trace.anchors[0].reshape(rows, columns, k, 4)  # (H_l, W_l, k, 4)
print("row 3, column 5, anchor 0:", by_cell[3, 5, 0])

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.title(plot.cell_anchors(left, cell, stride), "The anchors of a cell", f"{cell.shape}")
plot.anchor_level(right, image, trace.anchors[0])
plot.title(right, "All centres, and the anchors of one cell", f"{trace.anchors[0].shape}")
course.show(
    figure,
    f"Left: the {k} anchors of a cell have the same centre. Three of them are squares, "
    "and three are taller than wide; even the smallest is larger than the cell. Right: a "
    f"grid of {rows} × {columns} centres on the page, and the anchors of one cell.",
)

# %% rpn [markdown]
# ## 4  RPN head: is there an object?
#
# Input: `features[l]` $(N, C, H_l, W_l)$. Output: `objectness[l]` $(N, A_l)$, one number for each anchor, and
# `rpn_deltas[l]` $(N, A_l, 4)$, which move and resize each anchor.
#
# The head of the *region proposal network* (RPN) is a 3 × 3 convolution, followed by two parallel 1 × 1 convolutions
# with k and 4k channels ([1] section 3.1). The weights are the same for all cells. Objectness is a logit $s$; the
# probability that the anchor contains an object is $\sigma(s) = 1 / (1 + e^{-s})$. The deltas $d_x, d_y, d_w, d_h$
# are relative to the anchor's centre $(x_a, y_a)$, width $w_a$ and height $h_a$ ([1] section 3.1.2, equation 2):
#
# $$ \begin{aligned}
# x &= x_a + d_x w_a, & \quad y &= y_a + d_y h_a, \\
# w &= w_a e^{d_w}, & \quad h &= h_a e^{d_h}.
# \end{aligned} $$
#
# Each plot belongs to one anchor shape. Find a small and a large digit in all of them.
#
# > **What people get wrong.** The RPN does not know classes: it detects *an object*, not *a seven*. Its convolution
# > returns $(N, k, H_l, W_l)$. Move the channels to the last axis before you reshape to $(N, A_l)$. Otherwise, the
# > order of the logits is not that of the anchors, although the shapes are right.

# %% rpn-shapes
show("objectness[0]", trace.objectness[0])
show("rpn_deltas[0]", trace.rpn_deltas[0])
probability = 1 / (1 + np.exp(-trace.objectness[0][0]))  # (A_l,)
maps = probability.reshape(rows, columns, k).transpose(2, 0, 1)  # (k, H_l, W_l)

figure = plot.figure(10, 3.3 * len(ratios))
axes = figure.subplots(len(ratios), len(sizes)).flat
for ax, level, (x1, y1, x2, y2) in zip(axes, maps, cell, strict=True):
    plot.objectness(ax, image, level, image_size=trace.batch.shape[2:])
    plot.title(ax, f"{y2 - y1:g} × {x2 - x1:g} pixels", "height × width of the anchor")
course.show(
    figure,
    "Objectness on the page for each of the six anchor shapes. It is high only in a few "
    "cells near the middle of a digit. The smallest shapes react to the small digits, and "
    "the largest shapes to the large digits.",
)

# %% matching [markdown]
# ### Aside: the training targets of the RPN
#
# In training, the IoU (intersection over union) of every anchor with every *ground-truth* box is computed. Input: the
# anchors of all levels (A, 4) and `gt_boxes[i]` $(G_i, 4)$. Output: `anchor_matches[i]` (A,), which holds the index
# of each anchor's object, or -1 for background, or -2 for ignored.
#
# An anchor is positive if its IoU with some object is at least 0.7, or is the highest IoU of any anchor with this
# object. It is negative if its IoU with every object is below 0.3. All other anchors are ignored ([1] section 3.1.2).
# The loss uses a random sample of positive and negative anchors; at most half of them are positive (section 3.1.3).
#
# > **What people get wrong.** Ignored is not negative: many ignored anchors overlap a digit, and would teach the
# > network that digits are background. Also, 0 in `anchor_matches` means the first *object*, not the background.

# %% matching-shapes
show("gt_boxes[0]", trace.gt_boxes[0])
show("anchor_matches[0]", trace.anchor_matches[0])
positive, negative = trace.sampled_anchors[0]
show("sampled_anchors[0][0]", positive)
show("sampled_anchors[0][1]", negative)

all_anchors = np.concatenate(trace.anchors)  # (A, 4)
matches, objects = trace.anchor_matches[0], trace.gt_boxes[0]  # (A,), (G, 4)
sampled = np.concatenate([positive, negative])
assert len(positive) == (matches >= 0).sum()
figure = plot.figure(10, 5)
left, right = figure.subplots(1, 2)
plot.matched_anchors(left, image, all_anchors, matches, objects)
plot.title(left, "All anchors", f"matches {matches.shape}")
plot.matched_anchors(right, image, all_anchors[sampled], matches[sampled], objects)
plot.title(right, "The sample that the loss uses", f"matches {matches[sampled].shape}")
course.show(
    figure,
    f"Left: of all anchors, {(matches >= 0).sum()} are positive and lie close around the "
    f"digits, {(matches == -2).sum()} near the digits are ignored, and "
    f"{(matches == -1).sum():,} are negative. Right: the sample contains all "
    f"{len(positive)} positive anchors, {len(negative)} negative ones, and no ignored "
    "ones.",
)

# %% proposals [markdown]
# ## 5  Proposals: the best boxes without duplicates
#
# Input: anchors, objectness and deltas. Output, for each image i: `candidates[i]` $(K_i, 4)$ and the proposals chosen
# from them, `proposals[i]` $(P_i, 4)$, with their probabilities `candidate_scores[i]` $(K_i,)$ and
# `proposal_scores[i]` $(P_i,)$.
#
# The `rpn_pre_nms_top_n_test` anchors with the highest objectness are moved by their deltas and clipped to the image.
# Boxes without width or height are dropped. The remaining boxes are the candidates. Many of them lie on the same
# digit. *Non-maximum suppression* (NMS) keeps the candidate with the highest score, removes all others whose IoU with
# it exceeds `rpn_nms_thresh`, and repeats this with the remaining candidates. The first `rpn_post_nms_top_n_test`
# kept boxes are the proposals. ([1] section 3.3 describes NMS and the cut after it. The cut before it is in the
# published code.)
#
# From here on, shapes can depend on the content of the page. No gradient flows back through the boxes: the second
# stage treats the proposals as constants ([1] section 3.2).
#
# > **What people get wrong.** They make both cuts in the same place. The first cut comes before NMS, because the cost
# > of NMS grows with the square of the number of boxes. The second cut comes after NMS, because duplicates of one
# > digit could fill the list.

# %% proposals-shapes
show("candidates[0]", trace.candidates[0])
show("candidate_scores[0]", trace.candidate_scores[0])
print("kept by NMS:", trace.num_after_nms[0])
show("proposals[0]", trace.proposals[0])
show("proposal_scores[0]", trace.proposal_scores[0])

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
candidates, scores = trace.candidates[0], trace.candidate_scores[0]
plot.proposals(left, image, candidates, scores, top=len(candidates))
plot.title(left, "Candidates", f"{trace.candidates[0].shape}, before NMS")
plot.proposals(right, image, trace.proposals[0], trace.proposal_scores[0])
plot.title(right, "Proposals", f"{trace.proposals[0].shape}, after NMS")
course.show(
    figure,
    f"Left: {len(trace.candidates[0])} candidates. Many boxes with a high score lie on "
    f"top of each other around each digit. Right: {len(trace.proposals[0])} proposals. "
    "Each digit has one or two boxes with a high score, and many boxes with a low score "
    "remain.",
)

# %% roi-align [markdown]
# ## 6  RoIAlign: one shape for all boxes
#
# Input: `features[l]` $(N, C, H_l, W_l)$ and the *regions of interest* (RoIs), which are the proposals of all images:
# `rois` (R, 4), with the index of each RoI's image in `roi_images` (R,) and of its level in `roi_levels` (R,).
# Output: `pooled` (R, C, ph, pw).
#
# The next layers need a fixed shape, so each RoI is divided into ph × pw bins. Each bin has 2 × 2 sample points. The
# value of a point is interpolated bilinearly from the four nearest cells, and the value of the bin is the mean of its
# points ([3] section 3). The plot shows the RoI whose class is the most certain.
#
# > **What people get wrong.** RoIs are in pixels, and the map is in cells. Multiply the coordinates by
# > `roi_scales[l]` (1 / stride), and *do not round* them. The older RoIPool ([2] section 2.1) rounds them to whole
# > cells, so an edge can be wrong by half a stride.

# %% roi-align-shapes
for name in ("rois", "roi_images", "roi_levels", "pooled"):
    show(name, getattr(trace, name))
powers = np.exp(trace.class_logits - trace.class_logits.max(axis=1, keepdims=True))
class_probability = powers / powers.sum(axis=1, keepdims=True)  # (R, L); see stage 7
roi = int(class_probability[:, 1:].max(axis=1).argmax())
in_cells = trace.rois[roi] * trace.roi_scales[0]
print(f"RoI {roi}: {trace.rois[roi].round(1)} pixels, {in_cells.round(2)} cells")
assert np.allclose(in_cells[2:] - in_cells[:2], (2, 2.5), atol=0.1)

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.sample_points(
    left,
    np.abs(features).max(axis=0),
    trace.rois[roi],
    trace.roi_scales[0],
    trace.output_size,
    trace.sampling_ratio,
    trace.aligned,
)
caption = "orange: the RoI and its bins; white: the sample points"
plot.title(left, f"RoI {roi} on the map", caption)
plot.pooled_features(right, trace.pooled[roi], 36)
plot.title(right, f"pooled[{roi}]", f"36 of {trace.pooled[roi].shape}")
course.show(
    figure,
    f"Left: RoI {roi} covers only about 2 × 2.5 cells of the map. It is divided into 5 × "
    "5 bins, each with 2 × 2 sample points. Right: 36 of its pooled channels, each with "
    "5 × 5 values. Most channels are dark, and a few are bright in a part of the RoI.",
)

# %% head [markdown]
# ## 7  Head: what is it, and where are its edges?
#
# Input: `pooled` (R, C, ph, pw). Output: `class_logits` (R, L) and `box_deltas` (R, L, 4).
#
# Two fully connected layers read the pooled features of a RoI. Two parallel layers after them compute the logits and
# the deltas ([2] section 2). The softmax of a row $z$ of `class_logits`, $p_c = e^{z_c} / \sum_j e^{z_j}$, is the
# probability of each of the L classes. The deltas have the same form as in stage 4, from the RoI to the object. There
# are four for each class, and they are divided by `bbox_reg_weights` before use. In training, the head sees a sample
# of the proposals and of the ground-truth boxes: `sampled_rois[i]` $(S_i, 4)$ with their true classes
# `sampled_labels[i]` $(S_i,)$ ([2] section 2.3).
#
# The plots show all RoIs for which some digit is more probable than background, before and after the deltas are
# applied.
#
# > **What people get wrong.** Label 0 is the background, so the digit 7 has the label 8. In training, the target
# > deltas are multiplied by `bbox_reg_weights`, and in prediction, the deltas are divided by them. If you forget one
# > of the two, boxes move and grow five to ten times too much or too little.

# %% head-shapes
show("class_logits", trace.class_logits)
show("box_deltas", trace.box_deltas)
show("sampled_rois[0]", trace.sampled_rois[0])
show("sampled_labels[0]", trace.sampled_labels[0])
first_three = np.argsort(-class_probability[roi])[:3]
chances = (f"{pages.classes[c]} ({class_probability[roi, c]:.4f})" for c in first_three)
print(f"most probable classes of RoI {roi}:", ", ".join(chances))

# The most probable digit of each RoI, and its probability:
best = class_probability[:, 1:].argmax(axis=1) + 1  # (R,)
score = class_probability[np.arange(len(best)), best]  # (R,)
chosen = np.flatnonzero(score > class_probability[:, 0])
deltas = trace.box_deltas[chosen, best[chosen]]  # (chosen, 4)
moved = boxes.decode(deltas, trace.rois[chosen], model.config.bbox_reg_weights)

figure = plot.figure(10, 4.6)
left, right = figure.subplots(1, 2)
plot.proposals(left, image, trace.rois[chosen], score[chosen])
caption = f"{len(chosen)} of {len(best)}; the score is the digit's probability"
plot.title(left, "RoIs that contain a digit", caption)
plot.proposals(right, image, moved, score[chosen])
plot.title(right, "The same RoIs after the deltas", "each with the deltas of its digit")
course.show(
    figure,
    f"Left: {len(chosen)} RoIs, several around each digit, which cut digits off or are "
    "too large. Right: after the deltas, all RoIs of a digit are nearly the same tight "
    "box.",
)

# %% detections [markdown]
# ## 8  Detections: one box for each digit
#
# Input: `rois`, `class_logits`, `box_deltas`. Output, for each image i: `detections[i]`, a dict of `boxes`
# $(D_i, 4)$, `scores` $(D_i,)$ and `labels` $(D_i,)$, and `outputs[i]`, the same in the pixels of the original image.
# `model.predict` returns `outputs`.
#
# Every RoI gives one box for each class except the background. Boxes whose score does not exceed `box_score_thresh`
# are dropped. NMS with `box_nms_thresh` runs separately in each class. The `box_detections_per_img` boxes with the
# highest scores remain ([2] section 3). The left plot shows the boxes without the score threshold.
#
# > **What people get wrong.** The score threshold is low because average precision (see below) also counts uncertain
# > detections. For pictures, use a higher threshold. Also, because NMS runs within each class, a digit that could be
# > a 4 or a 9 can get two boxes.

# %% detections-shapes
found = trace.outputs[0]
for name, array in found.items():
    show(f"outputs[0]['{name}']", array)
everything = model.predict([image], score_thresh=0)[0]
confident = found["scores"] >= 0.5

figure = plot.figure(10, 4.8)
left, right = figure.subplots(1, 2)
plot.proposals(left, image, everything["boxes"], everything["scores"])
plot.title(left, "Without the score threshold", f"boxes {everything['boxes'].shape}")
plot.detections(
    right,
    image,
    found["boxes"][confident],
    found["scores"][confident],
    found["labels"][confident],
    pages.classes,
    target["boxes"],
)
caption = f"{confident.sum()} of {len(confident)} have a score of at least 0.5"
plot.title(right, "Detections", caption)
course.show(
    figure,
    f"Left: without the score threshold, {len(everything['boxes'])} boxes remain, and "
    f"most of them have a score near 0. Right: {confident.sum()} detections. Each digit "
    "has one box with the right class, and the box nearly covers the box of the ground "
    "truth.",
)

# %% funnel [markdown]
# ## The number of boxes, and all stages in one figure
#
# The first plot shows the number of boxes after each step. The number of anchors is the same for every page of this
# size. The number of detections depends on the page. This answers the question: the network itself has fixed shapes,
# because it evaluates every anchor and every RoI. The steps that turn its outputs into a list of any length are not
# learned. They sort, cut and suppress.

# %% funnel-picture
figure = plot.figure(8, 3)
plot.funnel(figure.subplots(), trace.counts())
counts = ", ".join(f"{count:,} {name}" for name, count in trace.counts().items())
course.show(figure, f"The number of boxes decreases from step to step: {counts}.")

# %% strip
course.show(
    plot.trace_strip(trace, class_names=pages.classes),
    "All stages of this page in eight panels: image, feature map, anchors, objectness, "
    "proposals, the sample points of a RoI, its pooled features, and the detections. The "
    f"feature map and the objectness are bright at the digits; the {len(found['boxes'])} "
    "detections are boxes around the digits with their classes.",
)

# %% precision-recall [markdown]
# ## How good is the detector?
#
# One page is not enough to tell. Take 40 unseen pages, and sort all detections of one class by descending score. A
# detection is correct if its IoU with an object of its class is at least 0.5, and no earlier detection has been
# assigned to this object. For the first $n$ detections, *precision* is the fraction of them that are correct, and
# *recall* is the fraction of all objects that they find. *Average precision* (AP) is the area under the
# precision-recall curve. At each recall, the curve uses the highest precision at this recall or a higher one. (This
# is VOC's definition since 2010. The definition in [4] section 4.2 uses eleven recalls; notebook 12 has both.)
#
# The plot shows the best, the median and the worst class, before each precision is replaced by the highest one to its
# right; both axes begin at 0.4. Each class has few objects, so every wrong detection is a visible drop. `rcnn demo`
# evaluates 200 pages.
#
# > **What people get wrong.** A second box on a digit that is already found is not half correct: it is wrong.
# > Therefore, NMS improves the average precision, and not only the pictures.

# %% precision-recall-curves
result = evaluate(model, data.Digits(40, split="val"), progress=False)
print(f"AP50 on 40 unseen pages, mean over the classes: {result.mean_ap:.3f}")

figure = plot.figure(7, 4.2)
ax = figure.subplots()
by_ap = np.argsort(-result.ap[1:]) + 1  # labels by descending AP
for label in by_ap[[0, len(by_ap) // 2, -1]]:
    curve = result.recall[label], result.precision[label]
    plot.precision_recall(ax, *curve, f"digit {pages.classes[label]}", result.ap[label])
assert result.ap[by_ap[0]] > 0.999
ax.set(xlim=(0.4, 1.01), ylim=(0.4, 1.01))
for line in ax.lines:
    line.set_clip_on(True)  # the axes begin at 0.4
course.show(
    figure,
    "Precision-recall curves of the best, the median and the worst class, with the AP "
    f"{result.ap[by_ap[0]]:.3f}, {result.ap[by_ap[len(by_ap) // 2]]:.3f} and "
    f"{result.ap[by_ap[-1]]:.3f}. The curve of the best class stays at precision 1 up to "
    "recall 1. The curve of the worst class falls in steps.",
)

# %% by-hand [markdown]
# ## A number to check
#
# You can compute a detection by hand. Take the RoI of section 6, its most probable digit and the deltas of this
# digit. Move the RoI by these deltas, and clip it to the page. The result is the first detection, so the difference
# must be **0**.
#
# Also add up the digits on the page by eye, and compare your sum with the printed one. The check below the next cell
# compares your predictions with the actual shapes.

# %% by-hand-check
label = class_probability[roi, 1:].argmax() + 1
own_deltas, own_roi = trace.box_deltas[[roi], label], trace.rois[[roi]]  # (1, 4) each
by_hand = boxes.decode(own_deltas, own_roi, model.config.bbox_reg_weights)
by_hand = boxes.clip(by_hand, trace.image_sizes[0])[0]  # (4,)
first, first_label = (trace.detections[0][key][0] for key in ("boxes", "labels"))
assert np.array_equal(by_hand, first) and label == first_label

digits = [int(pages.classes[label]) for label in found["labels"][confident]]
print("by hand:             digit", pages.classes[label], by_hand.round(2))
print("first detection:     digit", pages.classes[first_label], first.round(2))
print("largest difference: ", np.abs(by_hand - first).max(), "pixels")
print("sum of the digits:  ", sum(digits))

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
assert isinstance(predicted, dict), "return a dict that maps names to shapes"
wrong = [
    name
    for name, array in found_shapes.items()
    if tuple(predicted.get(name, ())) != array.shape
]
question = "Which setting or stage determines these shapes?"
assert not wrong, f"wrong predictions: {', '.join(wrong)}. {question}"
print("all", len(found_shapes), "shapes as predicted")

# %% learned [markdown]
# ## What you have learned
#
# - A fixed network evaluates every anchor and every RoI; its shapes follow from the image size and the settings.
# - The first stage proposes boxes without classes. The second stage classifies and refines them.
# - Sorting, score thresholds and NMS turn the outputs into a list of detections. These steps are not learned.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Trace two pages at once: `model.trace([pages[0][0], pages[1][0]])`. Which shapes have another first number, which
#    lists have another entry, and which arrays do not change?
# 2. Some pages are blank. Find one by its target. How many boxes are left after each step, and which shapes contain a
#    0?
#
# **Core** (half an hour)
#
# 3. Trace the page at twice the size, `image.repeat(2, axis=0).repeat(2, axis=1)`. Why do `batch` and `anchors` not
#    change? What is the difference between `detections` and `outputs`?
# 4. Which shapes would change with five aspect ratios instead of two? Which weights of the network would change?
#    Check your answer with `[(name, p.shape) for name, p in model.named_parameters()]`.
#
# **Stretch** (an evening)
#
# 5. Write stage 8 yourself: compute `trace.detections[0]` from `rois`, `class_logits` and `box_deltas`. You need
#    `boxes.decode`, `boxes.clip`, `rcnn.nms.batched_nms` (its groups are the classes) and the settings that this
#    notebook prints. Compare boxes, scores and labels with `np.allclose`, on several pages.

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    An image with 128 × 256 pixels keeps its size in this detector. How many anchors does it
    have?
    [ ] 512
        This is the number of cells, 16 × 32. Each cell has six anchors.
    [ ] 1,536, as on every page
        The number of anchors depends on the size of the feature map. Only pages of the same
        size have the same number.
    [x] 3,072
        The stride is 8, so the map has 16 × 32 cells, and each of them has 3 × 2 anchors.
    [ ] 6,144
        Only the width is twice as large, so the number of cells doubles. It does not become
        four times as large.

    The page is blank. What does the RPN head return?
    [x] One objectness and four deltas for each of the 1,536 anchors.
        The shapes follow from the size of the page. On a blank page, the objectness is low
        everywhere.
    [ ] Nothing, because there is no object to propose.
        A network returns arrays of fixed shape. Later steps sort them and discard boxes.
    [ ] An objectness for each anchor, but no deltas.
        The layer of the deltas reads the same features as the layer of the objectness. It
        knows nothing about the result of the other layer.

    The centre of a RoI is at x = 50, and the RoI is 20 pixels wide. For its class, dx is
    1.0 in `box_deltas`, and `bbox_reg_weights` is (10, 10, 5, 5). Where is the centre of
    the box after decoding?
    [ ] x = 51
        dx is not in pixels. Its unit is the width of the RoI.
    [x] x = 52
        Divide by the weight, 1.0 / 10 = 0.1, and multiply by the width: 0.1 · 20 = 2 pixels
        to the right.
    [ ] x = 70
        This is a whole width to the right: the division by the weight 10 is missing.
    [ ] x = 50.1
        The division by the weight is right, but the result is in units of the width, not in
        pixels.

    You want to detect the 26 letters instead of the 10 digits, with the same settings
    otherwise. Which of the arrays change their shapes?
    [ ] The arrays of the RPN head and of all later stages.
        The RPN does not know classes. Its shapes depend only on the map and on the anchors
        of a cell.
    [ ] Only `class_logits`.
        The second stage predicts separate deltas for each class, so the deltas change, too.
    [x] `class_logits` and `box_deltas`.
        They become (R, 27) and (R, 27, 4): 26 letters and the background.

    A 4 gets two detections with nearly the same box: "4" with the score 0.8, and "9" with
    the score 0.3. Which change removes the second one?
    [ ] A lower `box_nms_thresh`
        This NMS runs separately in each class. A 4 never suppresses a 9, whatever the
        threshold is.
    [ ] A lower `rpn_nms_thresh`
        Both detections can come from one RoI, which has a score for each class.
    [ ] A smaller `rpn_post_nms_top_n_test`
        The number of proposals decreases, but the RoI on the digit remains, with scores for
        both classes.
    [x] A `box_score_thresh` of 0.5
        It removes all detections with a score of at most 0.5, so also the 9.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 01 defines boxes and IoU. In the library, `rcnn/model.py` runs the stages in this order, and
# `docs/stages.md` lists their modules. For further reading, start with [1]; its figures 2 and 3 show the same
# network.
