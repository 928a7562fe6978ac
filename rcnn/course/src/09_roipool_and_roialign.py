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
# *Goals.* After this notebook, you can
#
# - compute RoIPool and RoIAlign by hand for a small feature map;
# - write both operations and their gradients, and test a gradient with the adjoint identity;
# - measure by how many pixels each operation shifts the features, and explain the option `aligned`;
# - choose the number of sample points and the pyramid level of a RoI.
#
# *Prerequisites.* Notebooks 01 and 03 (stride, receptive field). You need matrix products, and the chain rule for the
# gradients.
#
# *Time.* About three hours.
#
# **The question.** A proposal can be as small as a letter or as large as the page, and its corners can lie between the
# cells of the feature map. The layers of the head need an input of one fixed shape. How can we read 7 × 7 numbers from
# a box of any size? And how precisely do these numbers depend on the position of the box?
#
# There are two answers. RoIPool rounds the box to whole cells ([1] section 2.1). RoIAlign does not round, but
# interpolates ([2] section 3). You write both, forward and backward, and measure the effect of the rounding.
#
# | name | meaning | shape |
# |---|---|---|
# | `features` | feature maps | (N, C, H, W) |
# | `rois` | regions of interest (RoIs), `x1, y1, x2, y2` in pixels of the image | (R, 4) |
# | `roi_images` | index of the image of each RoI, 0 .. N - 1 | (R,) |
# | `output_size` | rows and columns of bins | (ph, pw) |
# | `spatial_scale` | cells per pixel, 1 / stride | |
# | result | one number per channel and bin | (R, C, ph, pw) |
# | `grad` | gradient of a loss with respect to the result | (R, C, ph, pw) |
#
# Both operations treat all channels alike, and rows like columns. Therefore most of this notebook uses one axis only.
#
# *History.* R-CNN resized each region of the image and ran the whole network on it. Fast R-CNN [1] ran the network once
# per image and introduced RoIPool. Mask R-CNN [2] replaced it by RoIAlign, because masks need exact positions.
#
# [1] Girshick: *Fast R-CNN*, 2015 (arXiv 1504.08083). [2] He, Gkioxari, Dollár, Girshick: *Mask R-CNN*, 2017 (arXiv
# 1703.06870). [3] Lin, Dollár, Girshick, He, Hariharan, Belongie: *Feature Pyramid Networks*, 2017 (arXiv 1612.03144).
# [4] Jaderberg, Simonyan, Zisserman, Kavukcuoglu: *Spatial Transformer Networks*, 2015 (arXiv 1506.02025).

# %% setting-up
import dataclasses
import time

import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, plot, roi
from rcnn.course import widgets
from rcnn.evaluate import evaluate

rcnn.set_num_threads(1)  # measured times vary less with one thread
model = rcnn.load_digits()  # its weights come with the package
pages = data.Digits(split="val")
image, target = pages[178]
trace = model.trace([image])
features, scale = trace.features[0], trace.roi_scales[0]
box = target["boxes"][target["labels"] == 1][0]  # the digit 0 on this page is our RoI
print("features", features.shape, "  spatial_scale", scale, "= 1 /", int(1 / scale))
print("the RoI  ", box, "pixels,", box * scale, "cells")

figure = plot.figure(9, 4.2)
left, right = figure.subplots(1, 2)
plot.boxes(plot.image(left, image), box[None], color="#E69F00")
plot.title(left, "A region of interest", f"{image.shape[:2]} pixels")
values = features[0].mean(axis=0)  # (16, 16)
plot.sample_points(right, values, box, scale, (2, 2), margin=None)
plot.title(
    right,
    "On the feature map",
    f"{values.shape} cells, mean over {len(features[0])} channels; 2 × 2 bins",
)
course.show(
    figure,
    f"On the left, a page with {len(target['boxes'])} digits and a box around the 0. On "
    "the right, the same box on the feature map of 16 × 16 cells: its borders cross "
    "cells. It has 2 × 2 bins with 2 × 2 points each.",
)

# %% pool [markdown]
# ## 1  RoIPool
#
# Along one axis, with the scale $s$ and $b$ bins ([1] section 2.1 and its published code):
#
# 1. **Round the corners** to cells: $a = \operatorname{round}(s\,x_1)$ and $z = \operatorname{round}(s\,x_2)$. Both
#    cells belong to the RoI, so its length is $w = \max(z - a + 1, 1)$ cells.
# 2. **Round the bins.** Each bin has a length of $w / b$ cells. Bin $i$ contains every cell that it touches: it starts
#    at $a + \lfloor i\,w / b \rfloor$ and ends before $a + \lceil (i + 1)\, w / b \rceil$.
# 3. Clip the bins to the map. The result is the largest value in each bin, for each channel, or 0 for a bin without
#    cells.
#
# Steps 1 and 2 round twice. The first rounding moves the corners by up to half a cell, which is 8 pixels if the stride
# is 16. In the plot, the digit 0 is 3.75 cells wide and 5.1 cells high, but RoIPool uses 5 × 6 cells. Neighbouring bins
# share cells if the number of bins does not divide the length. (In all plots of feature maps, the centre of cell $k$ is
# at the coordinate $k$. Section 3 uses the same assumption, and section 5 tests it.)
#
# > **What people get wrong.** Halves are rounded away from zero, as in C: 2.5 becomes 3. `np.round` and Python's
# > `round` round halves to the even number, here to 2. The function `rounded` in the next cell rounds as in C. A RoI
# > from cell 3 to cell 5 has three cells, so + 1 is correct here. The width of a box has no + 1 (notebook 01). The bins
# > start at the *rounded* corner, which can be outside the map. So compute the bins first, and then clip them.
#
# Look at the plot, then write RoIPool. The first function handles one axis. The second function calls it for the rows
# and for the columns. There are two traps: a map is indexed as `[y, x]`, but a box starts with x; and in NumPy, `max`
# of an empty array is an error.


# %% pool-picture
def rounded(values):
    """Round to integers, halves away from zero."""
    return np.sign(values) * np.floor(np.abs(values) + 0.5)


cells = box * scale
corners = rounded(cells)
print("corners in cells", cells, "rounded", corners)
print("moved by        ", (corners - cells) / scale, "pixels")
assert cells[[0, 2]].tolist() == [9.75, 13.5]
assert (cells[2:] - cells[:2]).tolist() == [3.75, 5.125]
assert corners.tolist() == [10, 7, 14, 12]  # 5 columns and 6 rows

figure = plot.figure(10, 5.2)
for ax, size in zip(figure.subplots(1, 2), ((1, 1), (2, 2)), strict=True):
    plot.quantised_bins(ax, values, box, scale, size)
    plot.bins_legend(ax)
    plot.title(
        ax,
        f"RoIPool, {size[0]} × {size[1]} bins",
        "the cells of each bin; grey: outside the map",
    )
course.show(
    figure,
    "The RoI on the cells of the feature map. With one bin, RoIPool reads the whole cells "
    "of columns 10 to 14 and rows 7 to 12, which extend beyond the RoI on the right and "
    "below. With 2 × 2 bins, neighbouring bins share column 12, because 5 columns cannot "
    "be halved. A dot marks the largest cell of each bin.",
)


# %% pool-yours
def bin_bounds(low, high, bins, pixels):
    """Return the cells of each bin along one axis, a list of pairs (start, stop).

    start and stop are integers in 0 .. pixels. A bin contains the cells start .. stop - 1.
    An empty bin has start = stop.
    low, high: ends of the RoI along this axis, already multiplied by the scale, but not
    rounded. They may be negative, or beyond the map.
    bins: number of bins along this axis, ph or pw.
    pixels: number of cells of the map along this axis, H or W.
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
    """Return the largest value in each bin of each RoI, (R, C, ph, pw).

    A bin without cells has the value 0.
    features (N, C, H, W); rois (R, 4) in pixels; roi_images (R,); output_size (ph, pw). R
    may be 0. The arguments must not change.
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
checks.bin_bounds(bin_bounds)
checks.roi_pool(roi_pool)
print("roi_pool: correct")

# %% pool-backward [markdown]
# ### The gradient of a maximum
#
# If a cell is not the largest of its bin, a small change of the cell does not change the result. If it is the largest,
# the result changes by the same amount. So the whole gradient of a bin goes to its largest cell, and the other cells of
# the bin get 0 ([1] equation 4, where $i^*(r, j)$ is the largest cell in bin $j$ of RoI $r$):
#
# $$ \frac{\partial L}{\partial x_i} = \sum_r \sum_j \, [\, i = i^*(r, j)\, ]\; \frac{\partial L}{\partial y_{r,j}}. $$
#
# The sums are important: a cell can be the largest in several bins and in many RoIs, because proposals overlap.
#
# *A trap.* If an index occurs several times, `out[rows, columns] += grad` adds only *once* for this index, without a
# warning. Use a loop or `np.add.at`.


# %% pool-backward-yours
def roi_pool_backward(grad, features, rois, roi_images, spatial_scale):
    """Return the gradient of roi_pool with respect to its features, (N, C, H, W) floats.

    grad (R, C, ph, pw): gradient with respect to the result of roi_pool for the other
    arguments. It may contain integers. R may be 0; the gradient is then 0 everywhere.
    If several cells of a bin are the largest, the first one (by row, then by column) gets
    the whole gradient. The gradient of a bin without cells goes nowhere. The arguments must
    not change.
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
                largest = region.reshape(len(region), -1).argmax(axis=1)  # (C,)
                rows, columns = np.divmod(largest, right - left)
                # Each channel occurs once, so += is correct here.
                channels = np.arange(len(region))
                out[roi_images[r], channels, top + rows, left + columns] += grad[r, :, i, j]
    return out
    ### END SOLUTION


# %% pool-backward-check points=2
checks.roi_pool_backward(roi_pool_backward)
print("roi_pool_backward: correct")

# %% jump [markdown]
# ## 2  The effect of rounding
#
# If a RoI moves slowly to the right, its rounded bins do not move at first. Then they jump by a whole cell. Between two
# jumps, all proposals have the same 7 × 7 numbers. The head must predict how far the box is from the object, but this
# information is lost. This has little effect on the class, but more on the box, and most on a mask ([2] section 3).
#
# Move the slider from 0.2 to 0.3. RoIAlign is the operation that the next section explains. <!-- notebook only -->(No
# kernel? Compare the two figures: in the second one, the RoI is 0.1 cells farther to the right.)<!-- /notebook only -->

# %% jump-explorer
widgets.pool_compare()

# %% slide-text [markdown]
# The explorer uses a smooth map. In the next figure, our RoI moves to the right on channel 63 of the *real* feature
# map, by half a pixel in each step, which is a sixteenth of a cell. **Predict** in which steps RoIPool starts to read
# other cells. (At a shift of 0, the RoI extends from 9.75 to 13.5 cells.) Its output jumps only if another cell becomes
# the largest of the bin.

# %% slide-player
channel = features[:, 63:64]  # (1, 1, 16, 16)
shifts = np.arange(-2.5, 1.25, 0.5)  # (8,), pixels to the right
fine = np.arange(-2.5, 1.01, 1 / 32)  # for the curves


def first_bin(shifts):
    """Return the output of the upper left of 2 x 2 bins, (S,) for each operation."""
    rois = box + shifts[:, None] * (1, 0, 1, 0)
    arguments = (channel, rois, np.zeros(len(rois), np.int64), (2, 2), scale)
    outputs = {"RoIPool": roi.roi_pool(*arguments), "RoIAlign": roi.roi_align(*arguments)}
    return {name: output[:, 0, 0, 0] for name, output in outputs.items()}


def draw_slide(figure, step):
    """Draw what both operations read at one shift, and their outputs at all shifts."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    moved = box + shifts[step] * np.array([1, 0, 1, 0])
    plot.quantised_bins(left, channel[0, 0], moved, scale, (2, 2))
    plot.sample_points(middle, channel[0, 0], moved, scale, (2, 2))
    for ax in (left, middle):
        ax.set(xlim=(7.5, 15.5), ylim=(13.5, 5.5))  # the same cells in all steps
    plot.shift_curves(
        right,
        fine,
        curves,
        "shift, pixels",
        "output of the upper left bin",
        at=shifts[step],
    )
    plot.title(left, "RoIPool", "dashed: RoI; blue, pink: bins; dots: largest")
    plot.title(middle, "RoIAlign", "2 × 2 points in each bin")


curves, at_steps = first_bin(fine), first_bin(shifts)
# (8, 2), the first and the last column
ends = rounded((box[[0, 2]] + shifts[:, None]) * scale).astype(int)
captions = []
for step, (shift, (first, last)) in enumerate(zip(shifts, ends, strict=True)):
    pooled, aligned = (at_steps[name][step] for name in ("RoIPool", "RoIAlign"))
    verb = "reads"
    if step:
        verb = "still reads" if (ends[step] == ends[step - 1]).all() else "now reads"
    captions.append(
        f"Shift {shift:+.1f} pixels: RoIPool {verb} columns {first} to {last} and returns "
        f"{pooled:.2f}. RoIAlign returns {aligned:.2f}."
    )
steps_of_pool, steps_of_align = (np.abs(np.diff(values)) for values in curves.values())
assert np.flatnonzero((ends[1:] != ends[:-1]).any(axis=1)).tolist() == [0, 4]
assert (
    np.count_nonzero(steps_of_pool) == 1
    and steps_of_pool.max() > 1
    and steps_of_align.max() < 0.02
)
course.player(draw_slide, captions, size=(10, 3.5), seconds=2)

# %% bilinear [markdown]
# ## 3  RoIAlign: read between the cells
#
# Assume that the value of cell $k$ belongs to the coordinate $k$. Between two cells, interpolate linearly: at
# $x = 2.25$, read $0.75\, F_2 + 0.25\, F_3$. As a sum over all cells, the weight of a cell is 1 at the cell and
# decreases to 0 at a distance of one cell ([4] equation 5):
#
# $$ \begin{aligned}
# F(x) &= \sum_k F_k \,\max(0,\, 1 - |x - k|), \\
# F(y, x) &= \sum_{l,k} F_{l,k}\, \max(0, 1 - |y - l|) \\
# &\qquad\quad \cdot \max(0, 1 - |x - k|).
# \end{aligned} $$
#
# In two dimensions, the weights are products. This is *bilinear* interpolation. RoIAlign ([2] section 3) places a
# regular grid of $n \times n$ points in each bin and returns the mean of their values. In the code, $n$ is
# `sampling_ratio`. Along one axis:
#
# 1. Multiply $x_1$ and $x_2$ by the scale, **without rounding**. From here on, both are in cells. The RoI starts at
#    $x_1$ and has a length of $w = x_2 - x_1$ cells, but at least 1.
# 2. The points are $x_1 + (m + \tfrac12)\, w / (b\,n)$ for $m = 0 \dots b\,n - 1$. Each bin has $n$ consecutive points.
# 3. A point that is at most one cell outside the map, in $[-1, W]$, moves to the border: below 0 to 0, above $W - 1$ to
#    $W - 1$. A point that is farther outside has the value 0, and still counts in the mean.
# 4. With the option `aligned`, subtract half a cell from both ends after scaling, and do not lengthen short RoIs
#    (section 5).
#
# In each bin, the points form a grid, and the weight of a cell at a point is a row weight times a column weight. So the
# mean weight of a cell over all points of the bin is its mean row weight times its mean column weight. Therefore there
# is a matrix $Y$ (ph, H) and a matrix $X$ (pw, W), and RoIAlign computes for a channel $F$ (H, W):
#
# $$ \begin{gathered}
# Y F X^T, \\
# \text{(ph, H)(H, W)(W, pw)} = \text{(ph, pw)}.
# \end{gathered} $$
#
# First write the function for the matrix, and print an example: each row has the sum 1, unless a point of the bin has
# the value 0 by rule 3. RoIAlign then needs two products for each RoI.


# %% align-yours
def bin_weights(low, high, bins, pixels, sampling_ratio, aligned):
    """Return the weight of each cell in each bin along one axis, (bins, pixels) floats.

    low, high: ends of the RoI along this axis, already multiplied by the scale.
    pixels: number of cells of the map along this axis, H or W.
    sampling_ratio: points per bin along this axis, at least 1.
    Follow rules 1 to 4 of the text.
    """
    ### BEGIN SOLUTION
    start = low - 0.5 if aligned else low
    side = high - low if aligned else max(high - low, 1)
    count = bins * sampling_ratio
    position = start + (np.arange(count) + 0.5) * side / count  # (bins * n,)
    counts = (position >= -1) & (position <= pixels)
    nearest = np.clip(position, 0, pixels - 1)
    distance = np.abs(nearest[:, None] - np.arange(pixels))  # (bins * n, pixels)
    tents = np.maximum(0, 1 - distance)
    return (tents * counts[:, None]).reshape(bins, sampling_ratio, pixels).mean(axis=1)
    ### END SOLUTION


def roi_align(
    features, rois, roi_images, output_size, spatial_scale, sampling_ratio, aligned
):
    """Return the mean of the points in each bin of each RoI, (R, C, ph, pw), as floats.

    features (N, C, H, W); rois (R, 4) in pixels; roi_images (R,); output_size (ph, pw). R
    may be 0. The arguments must not change.
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
checks.bin_weights(bin_weights)
checks.roi_align(roi_align)
print("roi_align: correct")

# %% in-detector-text [markdown]
# ### Your RoIAlign in the detector
#
# The next cell runs the digit detector on six pages: with rcnn's RoIAlign, with yours, and with RoIPool instead of
# RoIAlign. The weights are the same in all runs. The average precision (AP, notebook 12) is 1 if all digits are found
# and no wrong detection has a higher score than a right one. **Predict** the AP with RoIPool: does it fall a little or
# a lot?

# %% in-detector
result = course.with_and_without("roi_align", roi_align)
assert result.ap["library"] == 1 and 0.4 < result.ap["mistake"] < 0.6
result

# %% align-backward [markdown]
# The AP falls to about half. But this does not show that detectors with RoIPool are so bad. The head was trained with
# means of interpolated values, and maxima over rounded bins are larger and shifted. A head that is trained with RoIPool
# learns to use such numbers. A stage can only be exchanged without new training if it returns the same numbers.
#
# ### The gradient of two products
#
# RoIAlign is linear in the feature map. For one channel and one RoI, the result is $P = Y F X^T$. Let $G$ be the
# gradient with respect to $P$. The inner product $\langle A, B \rangle$ is the sum of $A_{ij} B_{ij}$ over all
# elements. A small change $dF$ changes the loss by $\langle G, Y\,dF\,X^T \rangle$. The gradient with respect to $F$ is
# the matrix whose inner product with $dF$ is this number, for every $dF$. Write the inner product as a trace,
# $\langle A, B \rangle = \operatorname{tr}(A^T B)$. The trace is the sum of the diagonal, and it does not change if the
# last factor becomes the first:
#
# $$ \begin{aligned}
# \langle G, Y\,dF\,X^T \rangle &= \operatorname{tr}(G^T Y\,dF\,X^T) \\
# &= \operatorname{tr}(X^T G^T Y\,dF) \\
# &= \langle Y^T G\, X,\; dF \rangle, \\
# \frac{\partial L}{\partial F} &= Y^T G\, X.
# \end{aligned} $$
#
# Each cell receives the gradient with the same weight with which it was read. The gradients of all RoIs of an image are
# added.


# %% align-backward-yours
def roi_align_backward(
    grad, rois, roi_images, features_shape, spatial_scale, sampling_ratio, aligned
):
    """Return the gradient of roi_align with respect to its features, (N, C, H, W) floats.

    grad (R, C, ph, pw): gradient with respect to the result of roi_align for the other
    arguments. R may be 0; the result is then 0 everywhere. The arguments must not change.
    features_shape: (N, C, H, W).
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
print("roi_align_backward: correct")

# %% adjoint [markdown]
# ### The adjoint identity
#
# If $f$ is linear, $f(x) = A x$, its backward function is $g \mapsto A^T g$. ($A^T$ is also called the *adjoint* of
# $A$.) Then for *all* $x$ and $g$
#
# $$ \langle f(x),\, g \rangle = \langle x,\, f_{\text{backward}}(g) \rangle. $$
#
# Two random arrays and one subtraction test all weights at once, without the correct result. RoIPool is not linear, but
# the identity also holds for it: for a given $x$, it selects cells, and the gradient goes to the same cells.
#
# Below, rcnn's functions are tested in float64. The plots show the gradient that reaches the feature map if the
# gradient of each bin of our RoI is 1.
#
# *Two limits.* The identity shows that backward belongs to forward, but not that forward is correct: two functions with
# the same shifted points pass. And no gradient flows to the *coordinates* of the RoI, although RoIAlign could compute
# one. Faster R-CNN treats its proposals as constants (notebook 10).

# %% adjoint-test
rng = np.random.default_rng(0)
x = rng.normal(size=features.shape)  # float64
where = (trace.rois, trace.roi_images)
g = rng.normal(size=(len(trace.rois), x.shape[1], 7, 7))
tested = {
    "RoIPool": (
        roi.roi_pool(x, *where, (7, 7), scale),
        roi.roi_pool_backward(g, x, *where, scale),
    ),
    "RoIAlign": (
        roi.roi_align(x, *where, (7, 7), scale),
        roi.roi_align_backward(g, *where, x.shape, scale),
    ),
}
for name, (out, grad) in tested.items():
    one, other = float((out * g).sum()), float((x * grad).sum())
    print(f"{name:<9} <f(x), g> = {one:.6f}   <x, f_backward(g)> = {other:.6f}", end="   ")
    print(f"difference {one - other:.0e}")
    assert abs(one - other) < 1e-9

ones, single = np.ones((1, 1, 2, 2)), (box[None], [0])
gradients = {
    "RoIPool": roi.roi_pool_backward(ones, values[None, None], *single, scale),
    "RoIAlign": roi.roi_align_backward(ones, *single, (1, 1, *values.shape), scale),
}
figure = plot.figure(9, 3.6)
for ax, (name, grad) in zip(figure.subplots(1, 2), gradients.items(), strict=True):
    plot.feature_map(ax, grad[0], 1, "gradient")
    plot.boxes(ax, (box * scale)[None], color="white")
    plot.title(ax, name, f"{np.count_nonzero(grad)} cells have a gradient; box: the RoI")
with_gradient = {name: np.count_nonzero(grad) for name, grad in gradients.items()}
course.show(
    figure,
    "The gradient on the feature map of 16 × 16 cells. With RoIPool, only "
    f"{with_gradient['RoIPool']} cells have a gradient, one for each bin, and it is 1. "
    f"With RoIAlign, all {with_gradient['RoIAlign']} cells at the RoI have a gradient, at "
    f"most {gradients['RoIAlign'].max():.2f}, and it decreases at the border of the RoI.",
)

# %% reference [markdown]
# ## 4  The reference and the kernel
#
# rcnn's reference uses the same two matrices as your code, with two differences. It uses only the rows and columns that
# a RoI touches. And it computes the positions in the dtype of the RoIs, so that its results agree with those of
# torchvision, which computes in float32.
#
# The Cython kernel works differently, so each can be checked against the other. It adds the weights of points that lie
# between the same cells, and then reads each cell only once per bin. The channels of a cell are contiguous in memory,
# so one vector instruction processes several channels. The next cell prints the times and the source of the reference.

# %% reference-compare
rng = np.random.default_rng(1)
# Level 4 of the pyramid of an 800 × 1216 photo.
maps = rng.normal(size=(1, 50, 76, 256)).astype(np.float32)
maps = maps.transpose(0, 3, 1, 2)  # (1, 256, 50, 76), channels last in memory
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
# ## 5  `aligned`: where is a cell?
#
# So far, we have assumed that cell $k$ lies where $s\,x = k$, at the pixel coordinate $k \cdot \text{stride}$. Is this
# true? Use an image in which the value of each pixel is its own x coordinate, a ramp. Then the correct output of a bin
# is known: the x coordinate of its centre. Any difference from it is a shift, in pixels.
#
# There are two plausible feature maps with stride 8. In the first, a cell is the **mean of 8 × 8 pixels**, as after
# pooling without padding. Its centre is $8k + 4$. In the second, a cell is the output of a **filter centred on pixel**
# $8k$, as in a ResNet and in our backbone (notebook 03). Its centre is $8k + 0.5$. **Predict** the shift of RoIAlign
# for both maps, with and without `aligned`, which subtracts half a cell.
#
# On a ramp, the largest cell of a bin is the rightmost one, so RoIPool returns the position of the last cell. RoIPool
# on the negated map returns minus the position of the first cell. The mean of both positions is the centre of the
# rounded bin, so the plot shows the effect of the rounding.


# %% aligned-curves
def shift_of(ramp, rois):
    """Return the shift of the first of 2 x 2 bins to the right, in pixels, (R,) each."""
    centre = rois[:, 0] + (rois[:, 2] - rois[:, 0]) / 4
    maps = np.tile(ramp, (16, 1))[None, None]  # (1, 1, 16, 16)
    arguments = (rois, np.zeros(len(rois), np.int64), (2, 2), 1 / 8)
    largest, smallest = roi.roi_pool(maps, *arguments), -roi.roi_pool(-maps, *arguments)
    outputs = {
        "RoIPool": (largest + smallest) / 2,
        "RoIAlign": roi.roi_align(maps, *arguments),
        "RoIAlign, aligned": roi.roi_align(maps, *arguments, aligned=True),
    }
    return {name: output[:, 0, 0, 0] - centre for name, output in outputs.items()}


x = np.arange(128) + 0.5  # centre of each pixel, and its value
ramps = {
    "Cells are means of 8 pixels": x.reshape(16, 8).mean(axis=1),
    "Cells are filters centred on pixel 8k": x[::8],
}
moved = np.arange(0, 16, 0.05)  # pixels
rois = np.array([40, 40, 72, 72]) + moved[:, None] * (1, 0, 1, 0)
figure = plot.figure(10, 3.8)
ranges = []
for ax, (name, ramp) in zip(figure.subplots(1, 2, sharey=True), ramps.items(), strict=True):
    curves = shift_of(ramp, rois)
    plot.shift_curves(
        ax, moved, curves, "movement of the RoI, pixels", "shift to the right, pixels"
    )
    plot.title(ax, name)
    print(name)
    for operation, shift in curves.items():
        ranges.append((shift.min().round(1) + 0, shift.max().round(1) + 0))
        print(f"{operation:>20}: {ranges[-1][0]:4.1f} to {ranges[-1][1]:4.1f}")
assert ranges == [(0, 8), (4, 4), (0, 0), (-3.5, 4.5), (0.5, 0.5), (-3.5, -3.5)]
course.show(
    figure,
    "The shift of three operations while the RoI moves by 16 pixels. RoIPool is a "
    "saw-tooth curve with a height of 8 pixels. RoIAlign is constant: 4 pixels on the "
    "first map, 0.5 on the second. With aligned, it is 0 on the first map and -3.5 pixels "
    "on the second.",
)

# %% aligned-weights [markdown]
# On the first map, `aligned` is exact. On the second map, `aligned` shifts by 3.5 pixels, and RoIAlign without it by
# only 0.5 pixels. So neither is right for all networks. The default of Detectron2 (`ROIAlignV2`) subtracts half a cell.
# The published detectors of torchvision were trained without it, and this is also the default of rcnn.
#
# A constant shift is nearly harmless if it is the same in training and in prediction, because the deltas compensate for
# it. (The shift of RoIPool is not constant.) The digit detector was trained without `aligned`. **Predict** where its
# boxes move if you switch `aligned` on, and what happens to its average precision of 0.99 at an IoU of 0.5 (*AP50*,
# notebook 12).

# %% aligned-cost
settings = dataclasses.replace(model.config, aligned=True)
other = rcnn.FasterRCNN(settings)
other.load_state_dict(model.state_dict())  # the same weights
plain, aligned = (each.predict([image])[0] for each in (model, other))
nearest = boxes.iou(plain["boxes"], aligned["boxes"]).argmax(axis=1)
moved = np.median(aligned["boxes"][nearest] - plain["boxes"], axis=0)
print("the boxes of this page move by", moved.round(1), "pixels (x1, y1, x2, y2)")
few = data.Digits(40, split="val")
ap = {
    name: evaluate(each, few, progress=False).mean_ap
    for name, each in (("as trained", model), ("aligned", other))
}
for name, value in ap.items():
    print(f"AP50 on 40 pages, {name:<11} {value:.3f}")
assert not model.config.aligned
assert (
    np.all(np.abs(moved - 4) < 0.5)
    and round(ap["as trained"], 2) == 0.99
    and ap["aligned"] < 0.4
)

# %% sampling [markdown]
# *A trap.* The option `aligned` sounds like an improvement, but do not switch it on for weights that were trained
# without it. It reads all features half a cell too far to the upper left. So the head predicts all boxes too far to the
# lower right, by half a stride, here 4 pixels. No error appears, and all shapes are correct.
#
# ## 6  The number of points
#
# With more and more points, the mean approaches the integral over the bin. How large is the difference if there are few
# points? The table compares with 32 × 32 points. The digit detector uses 5 × 5 bins. The bins of its RoIs are rarely
# longer than a cell. The column "difference, page" is for a RoI that covers the whole page. Its bins are 3.2 cells
# long. The differences are fractions of the standard deviation of the feature map. A `sampling_ratio` of 0 is adaptive:
# the number of points along each axis is the length of the bin in cells, rounded up. **Predict** which RoIs need more
# points.


# %% sampling-table
def align(rois, samples):
    """Return the result of RoIAlign with samples × samples points per bin, and its time."""
    start = time.perf_counter()
    result = roi.roi_align(
        features, rois, np.zeros(len(rois), np.int64), (5, 5), scale, samples
    )
    return result, 1000 * (time.perf_counter() - start)


page = np.array([[0, 0, 128, 128]])
differences = {}
print(
    f"{'points per bin':<16}{'difference, RoIs':>18}{'difference, page':>18}   time, RoIs"
)
for samples in (1, 2, 3, 4, 8, 0):
    differences[samples] = [
        np.abs(align(rois, samples)[0] - align(rois, 32)[0]).mean() / features.std()
        for rois in (trace.rois, page)
    ]
    took = min(align(trace.rois, samples)[1] for _ in range(9))
    name = f"{samples} × {samples}" if samples else "0: adaptive"
    of_rois, of_page = differences[samples]
    print(f"{name:<16}{of_rois:>18.1%}{of_page:>18.1%}{took:>10.2f} ms")
sides = (trace.rois[:, 2:] - trace.rois[:, :2]) * scale / 5  # (R, 2), of the bins, in cells
assert differences[1][0] > differences[0][0] > 2 * differences[2][0]
assert (
    model.config.pool_size == (5, 5) and np.mean(sides > 1) < 0.1 and 128 * scale / 5 == 3.2
)
assert all(differences[samples][0] < differences[samples][1] for samples in (1, 2, 3, 4, 8))

figure, height = plot.figure(10, 3.1), (box[3] - box[1]) * scale / 2  # of a bin, in cells
for ax, samples in zip(figure.subplots(1, 3), (1, 2, 4), strict=True):
    plot.sample_points(ax, values, box, scale, (2, 2), samples)
    plot.title(
        ax,
        f"sampling_ratio {samples}",
        f"{samples} × {samples} points in each of 2 × 2 bins",
    )
course.show(
    figure,
    "The RoI with 2 × 2 bins and its sample points. From top to bottom, the points are "
    + ", ".join(
        f"{height / n:.1f} cells apart with {n} × {n} points per bin" for n in (1, 2, 4)
    )
    + ".",
)

# %% levels [markdown]
# The RoI of the page needs more points. For the other RoIs, the adaptive setting is nearly as inexact as 1 × 1 points,
# because a bin that is at most one cell long gets only one point along this axis.
#
# ## 7  Which level of a pyramid?
#
# The longer a bin is in cells, the more points it needs. A feature pyramid keeps the bins short: it reads a large RoI
# from a coarse level. A RoI of 224 × 224 pixels, the size of an ImageNet image, belongs to level 4 ([3] equation 1):
#
# $$ k = \left\lfloor 4 + \log_2 \frac{\sqrt{w\,h}}{224} \right\rfloor . $$
#
# The result is clipped to the existing levels. The stride of level $k$ is $2^k$. **Predict**: if nothing is clipped, in
# which range is the side of a square RoI, in cells? And how long are its 7 bins?
#
# *Two traps.* The formula contains $\sqrt{wh}$, not the longer side, so a long thin RoI belongs to a fine level. And
# 224 assumes photos of about 800 pixels: in small images, all RoIs belong to the finest level. Both constants are
# settings, `canonical_size` and `canonical_level`.

# %% levels-table
sides = np.array([20, 56, 111.9, 112, 223, 224, 447, 448, 800])
squares = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
levels = roi.assign_levels(squares, min_level=2, max_level=5)
print("side, pixels   level   stride   side, cells   a bin of 7, cells")
for side, level in zip(sides, levels, strict=True):
    length = side / 2**level
    print(f"{side:>12g}{level:>8}{2**level:>9}{length:>14.1f}{length / 7:>20.2f}")
lengths = (sides / 2.0**levels)[1:]  # without the first RoI, whose level is clipped
assert levels[0] == 2 and lengths.min() == 14 and 27.9 < lengths.max() < 28

# %% number [markdown]
# The side has 14 to 28 cells, so each of the 7 bins is 2 to 4 cells long. With 2 × 2 points, there is one point for one
# or two cells. Only RoIs that are clipped to the finest or coarsest level are outside this range.
#
# This answers the question at the top. A box of any size becomes 7 × 7 means of interpolated values. With RoIPool,
# these numbers depend only on whole cells. RoIAlign does not round the position. Only a constant shift can remain, and
# the head learns to compensate for it.
#
# ## A number to check
#
# On the map $F_{i,j} = 10\, i + j$, you can compute everything in your head. The RoI is `(1, 1, 3, 3)`, the scale is
# 1, and there is one bin.
#
# * **RoIAlign.** The map is linear, so the mean of points that are symmetric around a position is the value of the map
#   at this position. The centre of the RoI is (2, 2): **22**, for any number of points.
# * **With `aligned`**, all points move up and to the left by half a cell: $22 - 5 - 0.5 =$ **16.5**.
# * **RoIPool.** Cells 1 to 3 belong to the RoI, including the last one. The largest value is in the corner (3, 3):
#   **33**.

# %% number-check
linear = (10 * np.arange(6)[:, None] + np.arange(6.0))[None, None]  # (1, 1, 6, 6)
one = (np.array([[1, 1, 3, 3]]), [0], (1, 1))
for samples in (1, 2, 3):
    pooled = roi.roi_align(linear, *one, 1.0, samples).item()
    print(f"RoIAlign, {samples} × {samples} points   {pooled:.4g}")
    assert np.isclose(pooled, 22)
aligned, pooled = (
    roi.roi_align(linear, *one, 1.0, 2, True).item(),
    roi.roi_pool(linear, *one).item(),
)
print(f"RoIAlign, aligned        {aligned:.4g}")
print(f"RoIPool                  {pooled:.4g}")
assert np.isclose(aligned, 16.5) and pooled == 33

# %% learned [markdown]
# ## What you have learned
#
# - RoIPool rounds the RoI and its bins and takes maxima. RoIAlign averages interpolated values without rounding.
# - RoIAlign is a product of two small matrices with the feature map, and its gradient uses the same matrices.
# - A constant shift such as `aligned` is harmless only if training and prediction use the same one.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. On the map of "A number to check", move the RoI to `(1.4, 1.4, 3.4, 3.4)`, then to `(1.5, 1.5, 3.5, 3.5)`. What do
#    RoIAlign and RoIPool return? First calculate by hand.
# 2. The boxes of `other` are about 4 pixels too far to the lower right. Subtract 4 from them and evaluate them with
#    `rcnn.evaluate.evaluate_detections`, where `num_classes` is `model.config.num_classes`. Does the AP return to its
#    old value? Why not?
#
# **Core** (half an hour)
#
# 3. In `bin_weights`, read the nearest cell instead of interpolating. What is the largest shift on the ramps now, and
#    which of the two roundings of RoIPool did you bring back?
# 4. The output of RoIAlign is a continuous function of the position of the RoI. Is it also smooth? Find the kinks of
#    its curve in the explorer. Where are the points at a kink?
# 5. Take a RoI that is half outside the page. Points far outside count as 0 in the mean. Which information does this
#    give to the head, compared with a mean that leaves these points out?
#
# **Stretch** (an evening)
#
# 6. Replace the mean over points by the exact mean of the interpolated values over each bin: write a function
#    `bin_weights` that integrates $\max(0, 1 - |x - k|)$ over the bin. Compare it with 32 × 32 points, as in section 6,
#    for RoIs inside the map.
# 7. Compute the derivative of one output of RoIAlign with respect to $x_1$: differentiate $X$, and keep $Y$. Compare
#    with a central difference of `roi.roi_align` in float64. At which positions do they disagree?

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    A RoI extends from x = 12 to x = 44 pixels, and the stride is 16. How many columns of
    cells does RoIPool use?
    [ ] 2
        The RoI is 2 cells long, but RoIPool rounds both ends and includes both cells.
    [x] 3
        The ends are 0.75 and 2.75 cells. They are rounded to 1 and 3, and cells 1, 2 and 3
        belong to the RoI.
    [ ] 4
        Cells 0 to 3 would belong to the RoI if the left end were rounded down. RoIPool
        rounds 0.75 to 1.

    You pool a RoI into 14 × 14 bins with 2 × 2 points each. Then you take the mean of each
    block of 2 × 2 bins. Which 7 × 7 result is exactly the same (for a RoI that is not
    lengthened)?
    [x] RoIAlign with 4 × 4 points per bin.
        Both place 28 points at equal distances along each axis, and each mean contains the
        same 16 points.
    [ ] RoIAlign with 2 × 2 points per bin.
        It reads only 14 points along each axis; your result uses 28.
    [ ] None, because the mean of interpolated values is not linear.
        Interpolation and mean are both linear, so a mean of means of equally many points is
        the mean of all points.

    In `roi_pool_backward`, somebody finds the largest cells of all bins, and then adds all
    gradients in one statement: `out[rows, columns] += grad`. When is the result too small?
    [ ] If two cells of a bin have the same value.
        Then one of them gets the gradient, as the docstring says. Nothing is lost.
    [ ] If a bin contains no cells.
        Such a bin has no largest cell, and its gradient must not go anywhere.
    [x] If a cell is the largest of two bins.
        Its index then occurs twice, but NumPy adds only one of the two gradients. Use
        `np.add.at`.

    A colleague loads published weights, sets `aligned=True`, "because it is more precise",
    and uses the detector without training it again. What happens?
    [ ] The boxes become more precise.
        It depends on the backbone which option fits better, and on the training which shift
        the head expects.
    [x] The boxes move by about half a stride, and no error appears.
        The head reads features half a cell too far to the upper left, so its boxes move to
        the lower right.
    [ ] Loading the weights fails, because their shapes do not fit.
        `aligned` changes no shape. That is why such a bug is hard to find.

    Your images have 100 × 100 pixels, and your pyramid has the levels 2 to 5. All RoIs are
    read from level 2. Which change sends large RoIs to coarser levels?
    [ ] A higher `canonical_size`, such as 448.
        The formula divides by it, so a higher value leads to finer levels.
    [ ] A higher `sampling_ratio`.
        It changes the number of points in a bin, but not the level.
    [x] A lower `canonical_size`, such as 64.
        A RoI of 100 × 100 pixels then belongs to level 4, because log2(100 / 64) is between
        0 and 1.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 10 classifies the pooled features and refines the boxes. The functions of this notebook are in `rcnn.roi`. To
# run the whole detector with your function, see `rcnn.replace`. For the gradient with respect to the coordinates of a
# point, read [4]; for a detector that uses such a gradient, read *Instance-aware Semantic Segmentation via Multi-task
# Network Cascades* (arXiv 1512.04412).
