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
#     seconds: 40
# ---

# %% question [markdown]
# # RoIPool and RoIAlign
#
# **The question.** A proposal may be as small as a letter or as large as the page, and its corners lie anywhere between
# the cells of the map. The layers that judge it take one fixed shape. How can a box of any size be read as 7 × 7
# numbers, and how much of its position survives?
#
# Two answers were given. RoIPool rounds the box to whole cells ([1] section 2.1). RoIAlign rounds nothing and
# interpolates ([2] section 3). You write both, forward and backward, and measure what the rounding costs.
#
# | | what | shape |
# |---|---|---|
# | `features` | maps, in cells | (N, C, H, W) |
# | `rois` | regions of interest, `x1, y1, x2, y2` in pixels of the image | (R, 4) |
# | `roi_images` | which of the N images each RoI lies on | (R,) |
# | `output_size` | rows and columns of bins | (ph, pw) |
# | `spatial_scale` | cells per pixel, one over the stride | |
# | what comes out | | (R, C, ph, pw) |
# | `grad` | the gradient of a loss with respect to it | (R, C, ph, pw) |
#
# Both treat each channel alike, and rows and columns alike, so most of this notebook happens along one axis.
#
# [1] Girshick: *Fast R-CNN*, 2015 (arXiv 1504.08083). [2] He, Gkioxari, Dollár, Girshick: *Mask R-CNN*, 2017 (arXiv
# 1703.06870). [3] Lin, Dollár, Girshick, He, Hariharan, Belongie: *Feature Pyramid Networks*, 2017 (arXiv
# 1612.03144). [4] Jaderberg, Simonyan, Zisserman, Kavukcuoglu: *Spatial Transformer Networks*, 2015 (arXiv 1506.02025).

# %% setting-up
import dataclasses
import time

import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, plot, roi
from rcnn.course import widgets
from rcnn.evaluate import evaluate

rcnn.set_num_threads(1)  # times are steadier so, on a machine with other work
model = rcnn.load_digits()  # its weights come with the package
pages = data.Digits(split="val")
image, target = pages[178]
trace = model.trace([image])
features, scale = trace.features[0], trace.roi_scales[0]
box = target["boxes"][target["labels"] == 1][0]  # the 0 on this page, as a RoI
print("features", features.shape, "  spatial_scale", scale, "= 1 /", int(1 / scale))
print("the RoI  ", box, "pixels,", box * scale, "cells")

figure = plot.figure(9, 4.2)
left, right = figure.subplots(1, 2)
plot.boxes(plot.image(left, image), box[None], color="#E69F00")
plot.title(left, "A region of interest", f"{image.shape[:2]} pixels")
values = np.abs(features[0]).mean(axis=0)  # (16, 16)
plot.sample_points(right, values, box, scale, (2, 2), margin=None)
plot.title(right, "On the map", f"{values.shape} cells, the mean over 64 channels; 2 × 2 bins")
figure

# %% pool [markdown]
# ## 1  RoIPool
#
# Along one axis, with the scale $s$ and $b$ bins ([1] section 2.1, and the code that came with it):
#
# 1. **Round the corners** to cells: $a = \operatorname{round}(s\,x_1)$ and $z = \operatorname{round}(s\,x_2)$. Both
#    cells belong to the RoI, so it is $w = \max(z - a + 1, 1)$ cells long.
# 2. **Round the bins.** They are $w / b$ cells long, and bin $i$ takes in every cell that it touches:
#    from $a + \lfloor i\,w / b \rfloor$ up to, and without, $a + \lceil (i + 1)\, w / b \rceil$.
# 3. Clip to the map, and give the largest value of each bin, channel by channel; 0 where no cell is left.
#
# Steps 1 and 2 are the two roundings. The first one moves the box by up to half a cell; with a stride of 16 that
# is 8 pixels. In the plot, the 0 is 3.75 cells wide and 5.1 high, and RoIPool reads 5 and 6 cells. Bins share cells
# where they do not divide the length.
#
# > **What people get wrong.** A half goes away from zero, as in C: 2.5 becomes 3. `np.round` and Python's `round` go to
# > the even number and give 2. A RoI from cell 3 to cell 5 has three cells; this is the one place in the detector where
# > the +1 of old box code lives on. And a bin starts from the *rounded* corner, which may lie outside the map: first
# > lay the bins, then clip.
#
# Write it, after you have looked at the plot. The first function does one axis, and the second calls it for rows and
# for columns. Two traps: a map is indexed `[y, x]`, while a box begins with x; and NumPy has no largest of nothing.


# %% pool-picture
def whole(values):
    "The nearest whole numbers, halves away from zero."
    return np.sign(values) * np.floor(np.abs(values) + 0.5)


cells = box * scale
print("corners in cells", cells, "rounded", whole(cells))
print("moved by        ", (whole(cells) - cells) / scale, "pixels")

figure = plot.figure(10, 4.9)
for ax, size in zip(figure.subplots(1, 2), ((1, 1), (2, 2)), strict=True):
    plot.quantised_bins(ax, values, box, scale, size)
    plot.bins_legend(ax)
    plot.title(ax, f"RoIPool, {size[0]} × {size[1]}", "the cells that each bin takes in")
figure


# %% pool-yours
def bin_bounds(low, high, bins, pixels):
    """Where each bin begins and ends (exclusive), a list of (start, stop) of whole numbers in 0 .. pixels.

    low, high: the RoI's ends along this axis, already multiplied by the scale, not yet rounded.
    """
    ### BEGIN SOLUTION
    first, last = (int(np.sign(end) * np.floor(abs(end) + 0.5)) for end in (low, high))
    length = max(last - first + 1, 1)
    starts = [first + i * length // bins for i in range(bins)]
    stops = [first + -(-(i + 1) * length // bins) for i in range(bins)]
    return [
        (min(max(start, 0), pixels), min(max(stop, 0), pixels))
        for start, stop in zip(starts, stops, strict=True)
    ]
    ### END SOLUTION


def roi_pool(features, rois, roi_images, output_size, spatial_scale):
    """The largest value in each bin of each RoI, (R, C, ph, pw), 0 for a bin without a cell.

    features (N, C, H, W); rois (R, 4) in pixels; roi_images (R,); output_size (ph, pw). R may be 0.
    """
    ### BEGIN SOLUTION
    ph, pw = output_size
    height, width = features.shape[2:]
    out = np.zeros((len(rois), features.shape[1], ph, pw))
    for r, (x1, y1, x2, y2) in enumerate(np.asarray(rois) * spatial_scale):
        for i, (top, bottom) in enumerate(bin_bounds(y1, y2, ph, height)):
            for j, (left, right) in enumerate(bin_bounds(x1, x2, pw, width)):
                region = features[roi_images[r], :, top:bottom, left:right]  # (C, h, w)
                if region.size:
                    out[r, :, i, j] = region.max(axis=(1, 2))
    return out
    ### END SOLUTION


# %% pool-check points=3
checks.roi_pool(roi_pool)
print("roi_pool: right")

# %% pool-backward [markdown]
# ### The gradient of a maximum
#
# Change a cell that is not the largest of its bin a little: nothing comes out differently. Change the largest one: the
# bin's value changes by as much. So the whole gradient of a bin goes to the cell that won, and the others get none
# ([1] equation 4, where $i^*(r, j)$ is the winner of bin $j$ of RoI $r$):
#
# $$ \frac{\partial L}{\partial x_i} = \sum_r \sum_j \, [\, i = i^*(r, j)\, ]\; \frac{\partial L}{\partial y_{r,j}}. $$
#
# The sums are the point: one cell may win in several bins, and in many RoIs, for proposals overlap.
#
# > **What people get wrong.** `out[rows, columns] += grad` with repeated indices adds *once* per place, without a
# > warning. Use a loop, or `np.add.at`.


# %% pool-backward-yours
def roi_pool_backward(grad, features, rois, roi_images, spatial_scale):
    """The gradient of roi_pool with respect to its features, (N, C, H, W), as floats.

    grad (R, C, ph, pw) is the gradient with respect to what roi_pool gave for the other arguments.
    """
    ### BEGIN SOLUTION
    out = np.zeros(features.shape)
    height, width = features.shape[2:]
    for r, (x1, y1, x2, y2) in enumerate(np.asarray(rois) * spatial_scale):
        for i, (top, bottom) in enumerate(bin_bounds(y1, y2, grad.shape[2], height)):
            for j, (left, right) in enumerate(bin_bounds(x1, x2, grad.shape[3], width)):
                region = features[roi_images[r], :, top:bottom, left:right]  # (C, h, w)
                if not region.size:
                    continue
                winners = region.reshape(len(region), -1).argmax(axis=1)  # (C,)
                rows, columns = np.divmod(winners, right - left)
                channels = np.arange(len(region))  # every channel once, so += is safe here
                out[roi_images[r], channels, top + rows, left + columns] += grad[r, :, i, j]
    return out
    ### END SOLUTION


# %% pool-backward-check points=2
checks.roi_pool_backward(roi_pool_backward)
print("roi_pool_backward: right")

# %% jump [markdown]
# ## 2  What the rounding costs
#
# Move a RoI slowly to the right. Its bins stand still, then leap by a whole cell. In between, every proposal gets the
# same 7 × 7 numbers, and the head, which is to say by how much the box is off, cannot know: the information was rounded
# away before it. For a class that hardly matters. For an edge, and for a mask, it does ([2] section 3).
#
# In a live notebook, move the slider; elsewhere, compare the two plots, between which the RoI has moved by 0.1
# cells. The row called RoIAlign is what we want instead.

# %% jump-explorer
widgets.pool_compare()

# %% bilinear [markdown]
# ## 3  RoIAlign: read between the cells
#
# Take cell $k$'s value to sit at the coordinate $k$. Between two cells, go along the straight line from one value to
# the other: at $x = 2.25$ read $0.75\, F_2 + 0.25\, F_3$. Written for all cells at once, with a weight that is 1 at the
# cell and falls to 0 one cell away ([4] equation 5):
#
# $$ F(x) = \sum_k F_k \,\max(0,\, 1 - |x - k|), \qquad
#    F(y, x) = \sum_{l,k} F_{l,k}\, \max(0, 1 - |y - l|)\, \max(0, 1 - |x - k|). $$
#
# In two dimensions the weights are products: *bilinear* interpolation. RoIAlign ([2] section 3) puts
# $n \times n$ points into each bin, regularly, and gives their mean. Along an axis:
#
# 1. Take $x_1, x_2$ times the scale, **not rounded**: from here on both are in cells. The RoI starts at $x_1$ and is
#    $w = x_2 - x_1$ cells long, at least 1.
# 2. All its points: $x_1 + (m + \tfrac12)\, w / (b\,n)$ for $m = 0 \dots b\,n - 1$; every $n$ of them make a bin.
# 3. A point up to one cell outside, from $-1$ to $W$, is moved to the border: below 0 to 0, above $W - 1$ to $W - 1$.
#    One farther outside counts as 0, and still counts in the mean.
# 4. With `aligned`, half a cell is subtracted from both ends after scaling, and a short RoI stays short. We come to it.
#
# A mean of products of a row weight and a column weight, over a grid of points, is the product of two means. So there
# is a matrix $Y$ (ph, H) and a matrix $X$ (pw, W), and all that RoIAlign does to a channel $F$ (H, W) is
#
# $$ Y F X^T \qquad \text{(ph, H)(H, W)(W, pw)} = \text{(ph, pw)}. $$
#
# Write the matrix first, and look at one: each of its rows adds up to 1 as long as no point of the bin counts as 0.
# RoIAlign is then two products for each RoI.


# %% align-yours
def bin_weights(low, high, bins, pixels, sampling_ratio, aligned):
    """How much each cell counts in each bin along one axis, (bins, pixels).

    low, high: the RoI's ends along this axis, already multiplied by the scale. pixels: how many cells the
    map has. sampling_ratio: points per bin, 1 or more. Rules 1 to 4 of the text hold.
    """
    ### BEGIN SOLUTION
    start = low - 0.5 if aligned else low
    side = high - low if aligned else max(high - low, 1)
    count = bins * sampling_ratio
    position = start + (np.arange(count) + 0.5) * side / count  # (bins * n,)
    counts = (position >= -1) & (position <= pixels)
    nearest = np.clip(position, 0, pixels - 1)
    tents = np.maximum(0, 1 - np.abs(nearest[:, None] - np.arange(pixels)))  # (bins * n, pixels)
    return (tents * counts[:, None]).reshape(bins, sampling_ratio, pixels).mean(axis=1)
    ### END SOLUTION


def roi_align(features, rois, roi_images, output_size, spatial_scale, sampling_ratio, aligned):
    """The mean of the points in each bin of each RoI, (R, C, ph, pw), as floats.

    features (N, C, H, W); rois (R, 4) in pixels; roi_images (R,); output_size (ph, pw). R may be 0.
    """
    ### BEGIN SOLUTION
    ph, pw = output_size
    height, width = features.shape[2:]
    out = np.zeros((len(rois), features.shape[1], ph, pw))
    for r, (x1, y1, x2, y2) in enumerate(np.asarray(rois) * spatial_scale):
        y = bin_weights(y1, y2, ph, height, sampling_ratio, aligned)  # (ph, H)
        x = bin_weights(x1, x2, pw, width, sampling_ratio, aligned)  # (pw, W)
        out[r] = y @ features[roi_images[r]] @ x.T  # (C, ph, pw)
    return out
    ### END SOLUTION


# %% align-check points=5
checks.roi_align(roi_align)
print("roi_align: right")

# %% align-backward [markdown]
# ### The gradient of two products
#
# RoIAlign is linear in the map. One channel of one RoI gives $P = Y F X^T$; with $G$ the gradient with respect to $P$,
# the gradient with respect to $F$ is what makes $\langle G, Y\,dF\,X^T \rangle = \langle \cdot\,, dF \rangle$ for every
# small change $dF$. Move the matrices to the other side of the product (a trace may be turned round):
#
# $$ \frac{\partial L}{\partial F} = Y^T G\, X. $$
#
# Each cell receives with the weight by which it was read. The gradients of all RoIs of an image add up.


# %% align-backward-yours
def roi_align_backward(grad, rois, roi_images, features_shape, spatial_scale, sampling_ratio, aligned):
    """The gradient of roi_align with respect to its features, features_shape = (N, C, H, W), as floats.

    grad (R, C, ph, pw) is the gradient with respect to what roi_align gave for the other arguments.
    """
    ### BEGIN SOLUTION
    out = np.zeros(features_shape)
    (ph, pw), (height, width) = grad.shape[2:], features_shape[2:]
    for r, (x1, y1, x2, y2) in enumerate(np.asarray(rois) * spatial_scale):
        y = bin_weights(y1, y2, ph, height, sampling_ratio, aligned)  # (ph, H)
        x = bin_weights(x1, x2, pw, width, sampling_ratio, aligned)  # (pw, W)
        out[roi_images[r]] += y.T @ grad[r] @ x  # (C, H, W)
    return out
    ### END SOLUTION


# %% align-backward-check points=2
checks.roi_align_backward(roi_align_backward)
print("roi_align_backward: right")

# %% adjoint [markdown]
# ### A test of any gradient of this kind
#
# If $f$ is linear, $f(x) = A x$, its gradient is $g \mapsto A^T g$, and then for *any* $x$ and $g$
#
# $$ \langle f(x),\, g \rangle = \langle x,\, f_{\text{backward}}(g) \rangle. $$
#
# Two random arrays and one subtraction test every weight at once, without knowing the right answer. For RoIPool the
# identity holds too, though it is not linear: for a given $x$ it selects cells, and the gradient goes to the same ones.
#
# Below, rcnn's own functions pass the test, in float64. The plots show where the gradient of the RoI above goes when
# every bin sends back a 1.
#
# > **What people get wrong.** The identity says that backward fits forward, not that forward is right: two functions
# > with the same shifted points pass. And no gradient flows to the RoI's *coordinates*, though RoIAlign has one with
# > respect to them: Faster R-CNN takes its proposals as given (notebook 10).

# %% adjoint-test
rng = np.random.default_rng(0)
x = rng.normal(size=features.shape)  # float64
where = (trace.rois, trace.roi_images)
g = rng.normal(size=(len(trace.rois), x.shape[1], 7, 7))
tested = {
    "RoIPool": (roi.roi_pool(x, *where, (7, 7), scale), roi.roi_pool_backward(g, x, *where, scale)),
    "RoIAlign": (
        roi.roi_align(x, *where, (7, 7), scale),
        roi.roi_align_backward(g, *where, x.shape, scale),
    ),
}
for name, (out, grad) in tested.items():
    one, other = float((out * g).sum()), float((x * grad).sum())
    print(f"{name:<9} <f(x), g> = {one:.9f}   <x, f_backward(g)> = {other:.9f}   off by {one - other:.0e}")

ones, single = np.ones((1, 1, 2, 2)), (box[None], [0])
to = {
    "RoIPool": roi.roi_pool_backward(ones, values[None, None], *single, scale),
    "RoIAlign": roi.roi_align_backward(ones, *single, (1, 1, *values.shape), scale),
}
figure = plot.figure(9, 3.6)
for ax, (name, grad) in zip(figure.subplots(1, 2), to.items(), strict=True):
    plot.feature_map(ax, grad[0], 1, "gradient")
    plot.title(ax, name, f"{np.count_nonzero(grad)} cells have a gradient")
figure

# %% reference [markdown]
# ## 4  The reference and the kernel
#
# rcnn's reference is the separable form that you wrote, with two differences: it looks only at the rows and columns
# that a RoI touches, and it computes the places in the dtype of the RoIs, since the answer to be matched,
# torchvision's, was computed in float32. The Cython kernel is written in another way, so that one can be checked
# against the other: it walks over the points and gathers four cells for each, whose channels lie side by side in
# memory. First the times, then the source of the reference.

# %% reference-compare
rng = np.random.default_rng(1)
maps = rng.normal(size=(1, 50, 76, 256)).astype(np.float32)  # as large as level 4 of a photo's pyramid
maps = maps.transpose(0, 3, 1, 2)  # (1, 256, 50, 76), in memory channels last
corners, sides = rng.uniform(0, 600, (200, 2)), rng.uniform(60, 200, (200, 2))
many = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
images = np.zeros(len(many), np.int64)
upstream = rng.normal(size=(len(many), 256, 7, 7)).astype(np.float32)
for function, *arguments in (
    (roi.roi_align, maps, many, images, (7, 7)),
    (roi.roi_align_backward, upstream, many, images, maps.shape),
    (roi.roi_pool, maps, many, images, (7, 7)),
):
    print(function.__name__)
    course.compare(function, *arguments, 1 / 16, repeat=7)
course.source(roi._average, roi._roi_align)

# %% aligned [markdown]
# ## 5  `aligned`, or: where is a cell?
#
# All this reads the map at the right place only if cell $k$ sits where $s\,x = k$, that is at the pixel coordinate
# $k \cdot \text{stride}$. Does it? Take an image whose pixels are a ramp: each is its own $x$, so the image's value
# *is* the coordinate. What a bin should answer is then known: the $x$ of its middle. Whatever else comes out is a
# shift, in pixels.
#
# There are two plausible maps of stride 8. In one, a cell is the **mean of 8 × 8 pixels**, as after pools without
# padding; its middle is $8k + 4$. In the other it is a **filter centred on pixel $8k$**, as in a ResNet and in our
# backbone (notebook 03); its middle is $8k + 0.5$. **Predict** by how many pixels RoIAlign is off on each, with and
# without `aligned`, which subtracts half a cell.
#
# RoIPool gives the largest cell, which on a ramp is the rightmost. The mean of that and of the smallest, for which the
# map is negated, is the middle of the rounded bin, so that what is left is the rounding.


# %% aligned-curves
def shift_of(ramp, rois):
    "By how many pixels each reads the first of 2 x 2 bins too far to the right: (R,) by name."
    right = rois[:, 0] + (rois[:, 2] - rois[:, 0]) / 4
    zeros = np.zeros(len(rois), np.int64)
    maps = np.tile(ramp, (16, 1))[None, None]  # (1, 1, 16, 16)
    how = (rois, zeros, (2, 2), 1 / 8)
    largest, smallest = roi.roi_pool(maps, *how), -roi.roi_pool(-maps, *how)
    answers = {
        "RoIPool": (largest + smallest) / 2,
        "RoIAlign": roi.roi_align(maps, *how),
        "RoIAlign, aligned": roi.roi_align(maps, *how, aligned=True),
    }
    return {name: answer[:, 0, 0, 0] - right for name, answer in answers.items()}


x = np.arange(128) + 0.5  # the middle of each pixel, and its value
cells_are = {
    "Cells are means of 8 pixels": x.reshape(16, 8).mean(axis=1),
    "Cells are filters centred on pixel 8k": x[::8],
}
moved = np.arange(0, 16, 0.05)  # pixels
rois = np.array([40, 40, 72, 72]) + moved[:, None] * (1, 0, 1, 0)
figure = plot.figure(10, 3.8)
for ax, (name, ramp) in zip(figure.subplots(1, 2, sharey=True), cells_are.items(), strict=True):
    curves = shift_of(ramp, rois)
    plot.shift_curves(ax, moved, curves, "the RoI moves by, pixels", "read too far right by, pixels")
    plot.title(ax, name)
    print(name)
    for who, off in curves.items():
        print(f"{who:>20}: {off.min().round(1) + 0:4.1f} to {off.max().round(1) + 0:4.1f}")
figure

# %% aligned-weights [markdown]
# `aligned` is exact on the first map; on the second it is 3.5 pixels off, and the plain form 0.5. Neither is right for
# all networks. Detectron2's default (`ROIAlignV2`) has the half cell; torchvision's published detectors were trained
# without it, and rcnn's default is theirs.
#
# A constant shift does little harm as long as it is the one that the head was trained with: the deltas make up for it.
# (RoIPool's is not constant.) The weights of the digits were trained without `aligned`. **Predict** where the boxes go
# when it is switched on, and what becomes of an average precision of 0.99 at an IoU of 0.5 (*AP50*, notebook 12).

# %% aligned-cost
settings = dataclasses.replace(model.config, aligned=True)
other = rcnn.FasterRCNN(settings)
other.load_state_dict(model.state_dict())  # the same weights
plain, halved = (one.predict([image])[0] for one in (model, other))
nearest = boxes.iou(plain["boxes"], halved["boxes"]).argmax(axis=1)
moved = np.median(halved["boxes"][nearest] - plain["boxes"], axis=0)
print("the boxes of this page move by", moved.round(1), "pixels (x1, y1, x2, y2)")
few = data.Digits(40, split="val")
for name, one in (("as trained", model), ("aligned", other)):
    print(f"AP50 on 40 pages, {name:<11} {evaluate(one, few, progress=False).mean_ap:.3f}")

# %% sampling [markdown]
# > **What people get wrong.** Switching `aligned` on for weights that were trained without it, since it sounds better.
# > It reads everything half a cell too far to the upper left, so the head believes that every object lies to the lower
# > right of where it is, by half a stride, the 4 pixels above. Nothing crashes, and all shapes fit.
#
# ## 6  How many points?
#
# With more and more points the mean becomes an integral over the bin. How far off is it with few? The table compares
# with 32 × 32 points, for the RoIs of the trace, whose 5 × 5 bins are hardly ever longer than a cell, and for the whole
# page as one RoI, whose bins are 3.2 cells long. Differences are given as shares of the map's standard deviation. A
# `sampling_ratio` of 0 takes as many points as the bin has cells, rounded up. **Predict** which of the two needs more.


# %% sampling-table
def read(rois, samples):
    "What RoIAlign gives with so many points, and the milliseconds that it took."
    begun = time.perf_counter()
    answer = roi.roi_align(features, rois, np.zeros(len(rois), np.int64), (5, 5), scale, samples)
    return answer, 1000 * (time.perf_counter() - begun)


page = np.array([[0, 0, 128, 128]])
print(f"{'points per bin':<16}{'off, RoIs':>10}{'off, page':>11}   time, RoIs")
for samples in (1, 2, 3, 4, 8, 0):
    off = [
        np.abs(read(rois, samples)[0] - read(rois, 32)[0]).mean() / features.std()
        for rois in (trace.rois, page)
    ]
    took = min(read(trace.rois, samples)[1] for _ in range(9))
    name = f"{samples} × {samples}" if samples else "0: adaptive"
    print(f"{name:<16}{off[0]:>10.1%}{off[1]:>11.1%}{took:>10.2f} ms")

figure = plot.figure(10, 3.5)
for ax, samples in zip(figure.subplots(1, 3), (1, 2, 4), strict=True):
    plot.sample_points(ax, values, box, scale, (2, 2), samples)
    plot.title(ax, f"sampling_ratio {samples}", f"{samples} × {samples} points in each of 2 × 2 bins")
figure

# %% levels [markdown]
# ## 7  Which level of a pyramid?
#
# (More points hardly take more time: the kernel first adds up how much all points of a bin want of each cell.) The longer
# a bin is in cells, the more points it needs. A pyramid keeps the bins short: a large RoI is read from a
# coarse level. With 224, the side of an ImageNet image, as the size that belongs to level 4 ([3] equation 1):
#
# $$ k = \left\lfloor 4 + \log_2 \frac{\sqrt{w\,h}}{224} \right\rfloor, \quad \text{clipped to the levels there are}. $$
#
# The stride of level $k$ is $2^k$. **Predict**: between which numbers of cells does the side of a square RoI lie, where
# nothing is clipped? And how long are its 7 bins?
#
# > **What people get wrong.** The formula has $\sqrt{wh}$, not the longer side, so a long thin RoI goes to a fine
# > level. And 224 assumes photographs of 800 pixels: on small images, every RoI lands on the finest level. Both
# > constants are settings, `canonical_size` and `canonical_level`.

# %% levels-table
sides = np.array([20, 56, 111.9, 112, 223, 224, 447, 448, 800])
squares = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
levels = roi.assign_levels(squares, min_level=2, max_level=5)
print("side, pixels   level   stride   side, cells   a bin of 7, cells")
for side, level in zip(sides, levels, strict=True):
    cells_long = side / 2**level
    print(f"{side:>12g}{level:>8}{2**level:>9}{cells_long:>14.1f}{cells_long / 7:>20.2f}")

# %% number [markdown]
# Between 14 and 28 cells, so that a bin of 7 × 7 is two to four cells long: with 2 × 2 points, one point for every one
# or two cells. Only RoIs below the finest level or above the coarsest one leave this range.
#
# So a box of any size is read as 7 × 7 means of interpolated values. RoIPool keeps of its position what whole cells can
# say. RoIAlign rounds nothing away; what remains is a constant shift, which the head learns to make up for.
#
# ## A number to check
#
# On the map $F_{i,j} = 10\, i + j$ everything can be done in the head. The RoI is `(1, 1, 3, 3)`, the scale 1, and
# there is one bin.
#
# * **RoIAlign.** The map is linear, so the mean of points that lie evenly around a place is the map's value there. The
#   middle of the RoI is (2, 2): **22**, whatever the number of points.
# * **With `aligned`** all points move by half a cell up and to the left: $22 - 5 - 0.5 =$ **16.5**.
# * **RoIPool.** Cells 1 to 3 belong to it, the last one too, and the largest value is in the corner (3, 3): **33**.

# %% number-check
linear = (10 * np.arange(6)[:, None] + np.arange(6.0))[None, None]  # (1, 1, 6, 6)
one = (np.array([[1, 1, 3, 3]]), [0], (1, 1))
for samples in (1, 2, 3):
    pooled = roi.roi_align(linear, *one, 1.0, samples)
    print(f"RoIAlign, {samples} × {samples} points   {pooled.item():.4g}")
print(f"RoIAlign, aligned        {roi.roi_align(linear, *one, 1.0, 2, True).item():.4g}")
print(f"RoIPool                  {roi.roi_pool(linear, *one).item():.4g}")

# %% next [markdown]
# ## To try
#
# 1. Undo the damage of `aligned` without touching the weights: which constant must be subtracted from the boxes of
#    `other`, and does the AP come back?
# 2. In `bin_weights`, read the nearest cell instead of interpolating. What is the largest shift on the ramp now, and
#    which of RoIPool's two roundings have you brought back?
# 3. RoIAlign is continuous in the RoI, but is it smooth? Look for the kinks of its curve in the explorer, and say where
#    the points lie at a kink.
# 4. Give a RoI that lies half outside the page. Why does counting the far points as 0, and not leaving them out of the
#    mean, tell the head something?
