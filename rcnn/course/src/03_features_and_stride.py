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
# # Features and stride
#
# *Goals.* After this notebook, you can
#
# - compute the size of a convolution's output;
# - compute the stride and the receptive field of a cell, and measure both with a gradient;
# - convert the column of a cell to an x coordinate of the image, and back;
# - write the top-down sum of a feature pyramid;
# - derive the gradient of a convolution, and write it without a framework (stretch exercise).
#
# *Prerequisites.* Notebook 00, and sums with several indices. The stretch exercise also needs the chain rule.
#
# *Time.* Two to three hours, half of them for the stretch exercise in section 2.
#
# **The question.** The *backbone*, a network of convolutions, reads the image once. All later stages read only its
# feature map: 16 × 16 cells with 64 numbers each. Which pixels can change the numbers of a cell, and where in the
# image is this cell?
#
# *History.* R-CNN (2014) ran its backbone separately for every region. Fast R-CNN [6] and Faster R-CNN [5] run it
# once for the whole image, and all regions share the feature map. The feature pyramid [3] came two years later.
#
# | array | content | shape |
# |---|---|---|
# | `x` | input of a convolution (for the first one, the batch of images) | (N, C, H, W) |
# | `weight`, `bias` | O filters with kh × kw weights for each of C channels | (O, C, kh, kw), (O,) |
# | `out` | output of the convolution | (N, O, H', W') |
# | `grad_out` | gradient of a loss with respect to `out` | (N, O, H', W') |
#
# [1] Dumoulin, Visin: *A guide to convolution arithmetic for deep learning*, 2016 (arXiv 1603.07285). [2] Luo, Li,
# Urtasun, Zemel: *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*, 2016 (arXiv
# 1701.04128). [3] Lin, Dollár, Girshick, He, Hariharan, Belongie: *Feature Pyramid Networks*, 2017 (arXiv
# 1612.03144). [4] He, Zhang, Ren, Sun: *Deep Residual Learning for Image Recognition*, 2016 (arXiv 1512.03385). [5]
# Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [6] Girshick: *Fast R-CNN*, 2015 (arXiv
# 1504.08083).

# %% setting-up
import timeit

import numpy as np

import rcnn
from rcnn import anchors, checks, course, data, nn, plot
from rcnn.fpn import FPN
from rcnn.nn import Tensor, no_grad, windows
from rcnn.nn import conv as convolution
from rcnn.nn import functional as F

model = rcnn.load_digits()  # its weights are part of the package
image, target = data.Digits(split="val")[178]
trace = model.trace([image])
print("batch", trace.batch.shape, "   features[0]", trace.features[0].shape)
assert trace.features[0].shape == (1, 64, 16, 16)

figure = plot.figure(9, 4.2)
left, right = figure.subplots(1, 2)
plot.image(left, image)
plot.title(left, "Input of the backbone", f"{trace.batch.shape[2:]} pixels")
plot.feature_map(right, trace.features[0][0])
caption = f"{trace.features[0].shape[2:]} cells; the largest of 64 channels"
plot.title(right, "Its output, the feature map", caption)
course.show(
    figure,
    f"Left: a page of 128 × 128 pixels with {len(target['boxes'])} digits. Right: its "
    "feature map of 16 × 16 cells, in which the brightest cells lie on the digits.",
)

# %% slide [markdown]
# ## 1  A sliding filter
#
# A convolution puts a small filter on the input, multiplies each weight by the value below it, adds the products, and
# moves to the next position. With stride $s$ and padding $p$ (rows and columns of zeros around the input), the output
# is ([1] chapter 2; the first index of `x` and `out` is the image)
#
# $$ \begin{aligned}
# out_{n,o,i,j} &= b_o + \sum_{c,u,v} w_{o,c,u,v}\; x_{n,c,a,b} \\
# \text{with } a &= i s + u - p, \quad b = j s + v - p.
# \end{aligned} $$
#
# Every input channel contributes to every output channel. The weights are the same at every position, so a digit
# gives the same features in every part of the page, and the network accepts images of any size.
#
# A `Tensor` of `rcnn.nn` is an array that records how it was computed. Its method `backward()` uses this record to
# compute gradients. (Notebook 07 explains how.)
#
# **Predict.** The filter below has the shape 1 × 41. Its last weight is 1, and all other weights are 0. With padding
# 20, the output has the size of the page. Does the page move to the left or to the right?

# %% slide-picture
page = Tensor(image.mean(axis=2)[None, None] / 255)  # (1, 1, 128, 128), grey
last_weight = np.zeros((1, 1, 1, 41))
last_weight[..., -1] = 1
vertical = np.zeros((1, 1, 3, 3))
vertical[0, 0] = [
    [1, 0, -1],
    [2, 0, -2],
    [1, 0, -1],
]  # positive if the left side is lighter
moved = F.conv2d(page, Tensor(last_weight), padding=(0, 20))
edges = F.conv2d(page, Tensor(vertical), padding=1)
sparse = F.conv2d(page, Tensor(vertical), padding=1, stride=4)
assert np.array_equal(moved.data[..., :-20], page.data[..., 20:])
largest = np.unravel_index(np.abs(edges.data[0, 0]).argmax(), (128, 128))  # row, column
assert largest[1] in (0, 127)  # at the padding

figure = plot.figure(8.6, 7.6)
shown = {  # name: values, and the limits of the colours
    "Page": (page, (0, 0.8)),
    "Moved by the filter": (moved, (0, 0.8)),
    "Edges, stride 1": (edges, (-1.5, 1.5)),
    "Edges, stride 4": (sparse, (-1.5, 1.5)),
}
axes = figure.subplots(2, 2).flat
for ax, (name, (maps, limits)) in zip(axes, shown.items(), strict=True):
    plot.feature_map(ax, maps.data[0], 1, "value", limits=limits)
    plot.title(ax, name, f"{maps.shape[2:]}")
course.show(
    figure,
    "Top: the page, and the page moved to the left by 20 pixels, with a dark strip of "
    "zeros at the right. Bottom: the edge filter is positive (yellow) at the left edges of "
    "the dark strokes, and negative (blue) at their right edges. With stride 4, only every "
    "fourth pixel of every fourth row remains.",
)

# %% size [markdown]
# The page moves to the left: `out[i, j]` is `x[i, j + 20]`. The dark strip is the padding. The padding also creates
# an edge where the image has none: the largest values of the edge filter are at the left and right borders.
#
# In mathematics, a convolution flips the filter first, so the page would move to the right. Neural networks compute
# the *cross-correlation*, which does not flip the filter, and all frameworks call it a convolution.
#
# > **What people get wrong.** The gradient with respect to the input does flip the filter. Also,
# > `scipy.signal.convolve2d` flips the filter, and `scipy.signal.correlate2d` does not.
#
# ### The size of the output
#
# Count the positions of the window along one side. The first window starts at $-p$, and no window may end beyond
# $H + p$. **Predict** how many windows there are in each row of the three inputs below. Then run the cell and count
# the dots.
#
# **Exercise.** Then write the formula for one side as `output_size`. In the third plot, the windows do not reach the
# last row: if the division by the stride has a remainder, the remainder is not another window.

# %% size-picture
cases = {
    "7 × 7, stride 1, padding 1": ((7, 7), 1, 1),
    "7 × 7, stride 2, padding 1": ((7, 7), 2, 1),
    "8 × 8, stride 2, padding 0": ((8, 8), 2, 0),
}
figure = plot.figure(10, 4.2)
axes = figure.subplots(1, 3)
for ax, (name, (size, stride, padding)) in zip(axes, cases.items(), strict=True):
    plot.sliding_windows(ax, size, 3, stride, padding)
    plot.title(ax, name, "filter 3 × 3")
    plot.windows_legend(ax)
course.show(
    figure,
    "Three grids of cells with the first two windows of a 3 × 3 filter, and a dot at the "
    "centre of every window. A white border of padding surrounds the first two grids. In "
    "the third grid, no window reaches the last row and the last column, which are "
    "coloured.",
)


# %% size-yours
def output_size(size, kernel, stride, padding):
    """Return the number of positions of a window along one side, an int.

    size, kernel: lengths of the side and of the window, in cells.
    The first window starts at -padding, and each further window starts `stride` cells
    later. Each window must end within the `padding` zeros on the other side. At least one
    window fits.
    """
    ### BEGIN SOLUTION
    return (size + 2 * padding - kernel) // stride + 1
    ### END SOLUTION


# %% size-check points=1
rng = np.random.default_rng()
for _ in range(100):
    kernel, stride = rng.integers(1, 6, 2).tolist()
    size, padding = kernel + int(rng.integers(0, 12)), int(rng.integers(0, 4))
    column, window = Tensor(np.zeros((1, 1, size, 1))), Tensor(np.zeros((1, 1, kernel, 1)))
    counted = F.conv2d(column, window, None, (stride, 1), (padding, 0)).shape[2]
    given = output_size(size, kernel, stride, padding)
    assert given == counted, (
        f"output_size({size}, {kernel}, {stride}, {padding}) returns {given}, expected "
        f"{counted}. Write down where each window starts (the first at {-padding}), and "
        "where the last may start."
    )
print("output_size: right")

# %% backward [markdown]
# ## 2  The gradient of a convolution (stretch exercise)
#
# You can skip the exercise of this section and come back after notebook 07. No later section needs it.
#
# Let $g_{n,o,i,j}$ be `grad_out`, the derivative of the loss $L$ with respect to $out_{n,o,i,j}$. The formula of
# section 1 is linear in the weights, in the bias and in the input. To get the derivative with respect to one number,
# find all terms that contain this number, and add their contributions. With $a$ and $b$ as in section 1:
#
# $$ \begin{aligned}
# \frac{\partial L}{\partial b_o} &= \sum_{n,i,j} g_{n,o,i,j}, \\
# \frac{\partial L}{\partial w_{o,c,u,v}} &= \sum_{n,i,j} g_{n,o,i,j}\; x_{n,c,a,b}, \\
# \frac{\partial L}{\partial x_{n,c,a,b}} &= \sum_{o} \sum_{\substack{u, i:\; i s + u - p = a \\
#   v, j:\; j s + v - p = b}} g_{n,o,i,j}\; w_{o,c,u,v}.
# \end{aligned} $$
#
# The last sum is easier to compute by filter position than by pixel. Take one position $(u, v)$ of the filter. In all
# windows together, this weight is multiplied by the elements of one slice of the padded input. The slice has the step
# $s$ and the size of `out`. Add $g$, multiplied by $w_{\cdot,\cdot,u,v}$, to the gradient of these elements only.
#
# Three traps:
#
# - The slice must end so that it has exactly H' × W' elements.
# - The gradient of the padding is dropped: crop the padded gradient to the shape of `x` at the end.
# - Rows and columns that no window reaches have the gradient 0.


# %% backward-yours
def conv2d_backward(grad_out, x, weight, stride, padding):
    """Return the gradients (g_x, g_weight, g_bias) of a convolution.

    grad_out: (N, O, H', W'), the gradient with respect to the output. x: (N, C, H, W).
    weight: (O, C, kh, kw). stride, padding: integers, the same along both sides; the
    padding is zeros. The gradients have the shapes of x, weight and bias (O,). The arrays
    may contain integers, but the gradients are floats. The arguments must not change.
    """
    ### BEGIN SOLUTION
    sides = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    maps = np.pad(np.asarray(x, float), sides)  # (N, C, H + 2p, W + 2p)
    g_maps, g_weight = np.zeros(maps.shape), np.zeros(weight.shape)
    (rows, columns), (kernel_height, kernel_width) = grad_out.shape[2:], weight.shape[2:]
    for u in range(kernel_height):
        for v in range(kernel_width):
            down = slice(u, u + stride * (rows - 1) + 1, stride)
            across = slice(v, v + stride * (columns - 1) + 1, stride)
            elements = np.s_[:, :, down, across]  # (N, C, H', W') of the padded input
            g_weight[:, :, u, v] = np.einsum("noij,ncij->oc", grad_out, maps[elements])
            g_maps[elements] += np.einsum("noij,oc->ncij", grad_out, weight[:, :, u, v])
    down, across = (slice(padding, padding + side) for side in x.shape[2:])
    g_x = g_maps[:, :, down, across]  # (N, C, H, W)
    return g_x, g_weight, grad_out.sum(axis=(0, 2, 3))
    ### END SOLUTION


# %% backward-check points=4
checks.conv2d_backward(conv2d_backward)
print("conv2d_backward: right")

# %% difference [markdown]
# ### How to test a gradient
#
# Change one weight by $h$ in both directions, and compute the *central difference* of the loss:
# $(L(w + h) - L(w - h)) / 2h$. In exact arithmetic, its error is proportional to $h^2$. In floating point, rounding
# adds an error proportional to $\varepsilon / h$. The smallest $h$ is therefore not the best one. **Predict** which
# $h$ has the smallest error in float64 ($\varepsilon \approx 10^{-16}$) and in float32
# ($\varepsilon \approx 10^{-7}$).


# %% difference-table
STEPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)


def difference_error(h, dtype):
    """Return the relative error of a central difference, compared with `backward()`."""

    def loss(step, requires_grad=False):
        weights = kernel.astype(dtype)
        weights[0, 1, 2, 0] += step
        weights = Tensor(weights, requires_grad)
        out = F.conv2d(Tensor(maps.astype(dtype)), weights, padding=1, stride=2)
        return weights, out.tanh().sum()

    weights, total = loss(0, requires_grad=True)
    total.backward()
    exact = weights.grad[0, 1, 2, 0]
    return abs((loss(h)[1].item() - loss(-h)[1].item()) / (2 * h) - exact) / abs(exact)


rng = np.random.default_rng(4)
maps, kernel = rng.normal(size=(1, 2, 9, 9)), 0.3 * rng.normal(size=(3, 2, 3, 3))
errors = {
    dtype: [difference_error(h, dtype) for h in STEPS] for dtype in (np.float64, np.float32)
}
print("h          float64     float32")
for h, *both in zip(STEPS, *errors.values(), strict=True):
    print(f"{h:<8.0e}{both[0]:>10.0e}{both[1]:>12.0e}")
assert STEPS[np.argmin(errors[np.float64])] in (1e-5, 1e-6)
assert STEPS[np.argmin(errors[np.float32])] in (1e-2, 1e-3)

# %% source [markdown]
# The two errors are about equal at $h = \varepsilon^{1/3}$: $5 \cdot 10^{-6}$ in float64, and $5 \cdot 10^{-3}$ in
# float32. The smallest errors of the table are near these values. Even the best float32 difference is inaccurate, so
# test gradients in float64. (In notebook 07, you derive this rule and write the test.)
#
# ## 3  A convolution as a matrix product
#
# Copy each window into a row of a matrix, (N·H'·W', kh·kw·C). Write each filter as a column of another matrix,
# (kh·kw·C, O). The product of the two matrices contains all outputs. Libraries for matrix products are very fast, but
# the copies need memory: with a 3 × 3 filter and stride 1, the matrix holds nearly every value nine times.
#
# The cell compares the matrix product with the formula of section 1, one window at a time. Then it shows the
# library's reference code. Read `_columns` first, then the line with `@` in `_convolve`. The gradients follow from
# the same product. The output is $X W$, so the gradient of $W$ is $X^T g$, and the gradient of the windows is
# $g\, W^T$. The gradient of each window is then added at the position from which the window was copied. In float32,
# the library's kernels avoid the copies or need fewer multiplications; see `docs/speed.md`.


# %% loop-or-product
def by_definition(x, weight, stride, padding):
    """Compute the formula of section 1, one window at a time."""
    maps = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    kernel = weight.shape[2:]
    rows, columns = windows.output_size(maps.shape[2:], kernel, (stride, stride), (0, 0))
    out = np.empty((len(x), len(weight), rows, columns))
    for i, j in np.ndindex(rows, columns):
        top, left = i * stride, j * stride
        bottom, right = top + kernel[0], left + kernel[1]
        window = maps[:, :, top:bottom, left:right]  # (N, C, kh, kw)
        out[:, :, i, j] = np.einsum("ncuv,ocuv->no", window, weight)
    return out


rng = np.random.default_rng(0)
x, weight = rng.normal(size=(1, 32, 64, 64)), rng.normal(size=(32, 32, 3, 3))
calls = (
    lambda: by_definition(x, weight, 1, 1),
    lambda: F.conv2d(Tensor(x), Tensor(weight), padding=1).data,
)
slow, fast = (call() for call in calls)
by_loop, by_product = (
    1000 * np.median(timeit.repeat(call, number=1, repeat=5)) for call in calls
)
print(f"window by window {by_loop:.1f} ms, one product {by_product:.1f} ms", end="; ")
print(f"ratio {by_loop / by_product:.1f}")
print(f"largest difference {np.abs(slow - fast).max():.0e}")
assert np.allclose(slow, fast)
course.source(
    convolution._columns,
    convolution._convolve,
    convolution._input_gradient,
    convolution._weight_gradient,
)

# %% field [markdown]
# ## 4  The receptive field of a cell
#
# The *receptive field* of a cell is the set of pixels that can change its value. It is a square in the image. For a
# chain of layers $l = 1, 2, \dots$ with kernels $k_l$, strides $s_l$ and paddings $p_l$, three numbers describe it
# along one side ([1] chapter 2 treats one layer):
#
# * $j_l$, the **stride**: the distance in pixels between neighbouring cells of map $l$; $j_0 = 1$ for the image.
# * $r_l$, the **size** of the field in pixels; $r_0 = 1$.
# * $c_l$, the **start**: the index of the pixel at the centre of the field of cell 0; $c_0 = 0$.
#
# A cell of map $l$ reads $k_l$ cells of map $l - 1$. Their distance is $j_{l-1}$ pixels, so the first and the last of
# them are $(k_l - 1)\, j_{l-1}$ pixels apart. The field grows by this number:
#
# $$ \begin{aligned}
# r_l &= r_{l-1} + (k_l - 1)\, j_{l-1}, \\
# j_l &= j_{l-1}\, s_l.
# \end{aligned} $$
#
# The window of cell 0 starts at cell $-p_l$ of map $l - 1$, so its centre is at $(k_l - 1)/2 - p_l$, measured in
# cells of map $l - 1$. Derive $c_l$ from this. The plot shows the first layers of our backbone along one row: two
# layers with stride 2 and one with stride 1, all with kernel 3 and padding 1. Follow the blue lines down and the
# orange lines up.
#
# `measured_field` measures the three numbers without a formula: it computes the gradient of a cell with respect to
# the pixels, and finds the pixels whose gradient is not 0. The check compares your function with it.


# %% field-picture
def measured_field(layers, pixels=2048):
    "Return (size, stride, start), measured with gradients through filters without zeros."
    seen = []
    for shift in (0, 1):  # a cell in the middle of the row, and its right neighbour
        row = Tensor(np.zeros((1, 1, 1, pixels)), requires_grad=True)
        out = row
        for kernel, stride, padding in layers:
            blur = Tensor(np.full((1, 1, 1, kernel), 1 / kernel))
            out = F.conv2d(out, blur, None, (1, stride), (0, padding))
        cell = out.shape[3] // 2
        out[..., cell + shift].sum().backward()
        seen.append(np.flatnonzero(row.grad))
    stride = int(seen[1][0] - seen[0][0])
    first, last = int(seen[0][0]), int(seen[0][-1])
    return last - first + 1, stride, (first + last) / 2 - cell * stride


stem = [(3, 2, 1), (3, 2, 1), (3, 1, 1)]  # (kernel, stride, padding)
print("size, stride, start after the first three layers:", measured_field(stem))
assert measured_field(stem) == (15, 4, 0)
figure = plot.figure(10, 3.4)
plot.cells_and_pixels(figure.subplots(), stem, 24, cell=3, pixel=3)
course.show(
    figure,
    "A row of 24 pixels at the bottom, and three maps with 12, 6 and 6 cells above it. "
    "Blue lines lead from cell 3 of the last map down to 3 cells, then to 7 cells, and "
    "then to 15 pixels, from 5 to 19. Orange lines lead from pixel 3 up to 3 cells of the "
    "last map.",
)


# %% field-yours
def receptive_field(layers):
    """Return (size, stride, start) of the receptive field of a cell, along one side.

    layers: (kernel, stride, padding) of each layer. The first layer reads the pixels; the
    cell belongs to the last layer.
    size: number of pixels that the field spans. stride: pixels between neighbouring cells.
    start: index of the pixel at the centre of the field of cell 0, a float; it ends in .5
    if the size is even. Padding counts as pixels.
    """
    ### BEGIN SOLUTION
    size, step, start = 1, 1, 0.0
    for kernel, stride, padding in layers:
        size += (kernel - 1) * step
        start += ((kernel - 1) / 2 - padding) * step
        step *= stride
    return size, step, start
    ### END SOLUTION


# %% field-check points=3
rng = np.random.default_rng()
hints = {
    "size": "How many pixels apart are the cells that a window reads? "
    "Its own stride does not matter.",
    "stride": "How many pixels apart are the cells of the layer below? Multiply.",
    "start": "Where is the centre of the first window, in cells of the layer below? "
    "And in pixels?",
}
for count in sorted(4 * [1, 2, 3, 4, 5]):
    layers = [tuple(rng.integers((1, 1, 0), (6, 4, 3)).tolist()) for _ in range(count)]
    given, measured = receptive_field(layers), measured_field(layers)
    for (name, hint), one, other in zip(hints.items(), given, measured, strict=True):
        assert np.isclose(one, other), (
            f"receptive_field({layers}) returns the {name} {one}, but the measured {name} "
            f"is {other}. {hint}"
        )
print("receptive_field: right")

# %% influence [markdown]
# ## 5  How much each pixel matters
#
# The receptive field contains the pixels that *can* change a cell. The gradient tells how much each of them does:
# compute the gradient of one cell (the sum of its channels) with respect to the image. The backbone of the digit
# detector has nine 3 × 3 convolutions, with the strides 2, 2, 1, 1, 2, 1, 1, 1, 1. **Predict** the size of its field
# with the formula.
#
# The cell averages the absolute gradient over 12 pages. The orange square is the smallest square around the centre
# that contains half of the total. Luo et al. ([2] section 2) explain why it is so small: the central pixels reach the
# cell on many paths, and the outermost pixels on only one. The influence decreases like a bell curve. In a stack of
# equal layers with stride 1, its width grows with the square root of the depth, whereas the field grows with the
# depth itself.
#
# The cell computes in float64, because rounding matters here. In float32, the kernels use Winograd's algorithm, which
# replaces some exact zeros by tiny numbers, so a test for "not 0" would find the whole page.
#
# > **What people get wrong.** In training, batch norm subtracts the mean of the whole batch, so every pixel changes
# > every cell. Measure a receptive field in evaluation mode; in training mode, the printed field is the whole page.


# %% influence-measured
def influence(network, images, cell):
    """Return how much each pixel changes the channels of a cell (row, column): (H, W)."""
    x = Tensor(images.astype(np.float64), requires_grad=True)
    network(x)[0, :, cell[0], cell[1]].sum().backward()
    return np.abs(x.grad[0]).sum(axis=0)


def extent(gradient):
    """Return the smallest box around all pixels whose gradient is not 0: x1, y1, x2, y2."""
    rows, columns = (np.flatnonzero(gradient.any(axis=axis)) for axis in (1, 0))
    sides = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return tuple(int(side) for side in sides)


backbone = rcnn.load_digits().backbone.eval().astype(np.float64)
cell, c = (8, 8), 64  # the centre of the field of this cell is pixel (64, 64)
batches = [model.trace([page]).batch for page, _ in data.Digits(12, split="val")]
mean = np.mean([influence(backbone, batch, cell) for batch in batches], axis=0)
central = [mean[c - k : c + k + 1, c - k : c + k + 1].sum() for k in range(48)]
half = int(np.argmax(np.array(central) >= mean.sum() / 2))
in_training = rcnn.load_digits().backbone.train().astype(np.float64)
everything = extent(influence(in_training, trace.batch, cell))
print("the field:", extent(mean), " in training mode:", everything)
assert extent(mean) == (17, 17, 112, 112)  # 95 × 95 pixels
assert everything == (0, 0, 128, 128)  # the page
assert 2 * half + 1 == 27

squares = {
    "receptive field": extent(mean),
    "half of the influence": (c - half, c - half, c + half + 1, c + half + 1),
    "one stride": (c - 3.5, c - 3.5, c + 4.5, c + 4.5),
}  # around (64.5, 64.5)
squares = {f"{name}, {box[2] - box[0]:g} pixels": box for name, box in squares.items()}
figure = plot.figure(10, 5)
left, right = figure.subplots(1, 2)
plot.image(left, image)
corners, tags = np.array(list(squares.values())), ["", "field", "half", "stride"]
plot.boxes(left, corners, labels=np.arange(1, 4), class_names=tags)
plot.title(left, f"Cell {cell} on the page", "the centre of its field is (64.5, 64.5)")
plot.influence(right, mean, squares)
plot.title(right, "Influence of each pixel on the cell", "mean over 12 pages")
course.show(
    figure,
    "Three squares with the same centre: the receptive field of 95 pixels, which spans "
    "most of the page, a square of 27 pixels that contains half of the influence, and one "
    "stride of 8 pixels. The influence is a spot that is bright in the middle and fades "
    "long before the border of the field.",
)

# %% centre [markdown]
# ## 6  From a cell to its position, and back
#
# The centre of the field of a cell is the pixel with the *index* $c + \text{stride} \cdot \text{column}$; the same
# holds for rows. In box coordinates, the image starts at 0, and the centre of pixel $q$ is at $q + 0.5$. So
#
# $$ \begin{aligned}
# x &= c + 0.5 + \text{stride} \cdot \text{column}, \\
# \text{column} &= \operatorname{round}\!\left(\frac{x - 0.5 - c}{\text{stride}}\right).
# \end{aligned} $$
#
# The start $c$ follows from kernels and paddings, so it differs between networks. The next cell measures it. VGG-16,
# a network of the first paper ([5] section 3.1), has pooling layers with kernel 2 and no padding, and its first cell
# is at the *centre* of the first 16 pixels. ResNets have odd kernels $k$ and the padding $(k - 1) / 2$, and their
# first cell is on the *first pixel*.
#
# By default, rcnn centres anchors on `column * stride`, like torchvision. For a ResNet, this is half a pixel from the
# true centre. For networks like VGG, use `offset=0.5`.
#
# > **What people get wrong.** "A cell is the 8 × 8 pixels under it." Our cell sees 95 × 95 pixels, and half of the
# > influence comes from the central 27 × 27. Neither square is centred on those 8 × 8 pixels.

# %% centre-table
conv, pool = (3, 1, 1), (2, 2, 0)
vgg = [conv, conv, pool] + [conv, conv, pool] + 3 * ([conv] * 3 + [pool])
convolutions = {
    "C2": 3 * [conv],
    "C3": [(3, 2, 1)] + 3 * [conv],
    "C4": [(3, 2, 1)] + 5 * [conv],
    "C5": [(3, 2, 1)] + 2 * [conv],
}  # the 3 × 3 convolutions of each stage
digits = [(3, 2, 1), (3, 2, 1), conv, conv, (3, 2, 1), conv, conv, conv, conv]
networks = {"digit detector": digits, "VGG-16, conv5_3": vgg[:-1]}
resnet = original = [(7, 2, 3), (3, 2, 1)]
for stage, layers in convolutions.items():
    resnet = resnet + layers
    networks[f"ResNet-50, {stage}"] = resnet
    # In the original, the stride is in the 1 × 1 convolution before the first 3 × 3 one.
    first = [(1, 2, 0), conv] if layers[0][1] == 2 else layers[:1]
    original = original + first + layers[1:]
fields = {name: measured_field(layers) for name, layers in networks.items()}
print(f"{'':<20}{'size':>6}{'stride':>8}{'start':>8}   centre of cell 0, in strides")
for name, (size, stride, start) in fields.items():
    print(f"{name:<20}{size:>6}{stride:>8}{start:>8}{(start + 0.5) / stride:>10.2f}")
assert fields["digit detector"] == (95, 8, 0)
assert fields["VGG-16, conv5_3"] == (196, 16, 7.5)
assert fields["ResNet-50, C5"] == (427, 32, 0)
assert measured_field(original) == (483, 32, 0)

# %% strides [markdown]
# Implementations of ResNet-50 differ. In [4], the stride of a stage is in its first 1 × 1 convolution; in torchvision
# and rcnn, it is in the 3 × 3 convolution after it. The maps have the same sizes, but the field of C5 is 483 pixels
# in [4] and 427 pixels here.
#
# ## 7  Measure the stride
#
# Each layer with stride 2 halves the map, so the strides of the levels should be 4, 8, 16, 32 and, for the additional
# level of the pyramid, 64. **Predict** the five heights of the maps for an image with 800 rows, and the quotient of
# 800 and each height. The network below has the strides, kernels and paddings of a ResNet with a pyramid, and only
# one channel.

# %% strides-table
skeleton = nn.Sequential(
    nn.Conv2d(3, 1, 7, stride=2, padding=3), nn.MaxPool2d(3, stride=2, padding=1)
)
halves = [nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(3)]  # to C3, C4, C5
padded = (800, 1216)  # (height, width)
with no_grad():
    levels = [skeleton(Tensor(np.zeros((1, 3, *padded), np.float32)))]
    for halve in halves:
        levels.append(halve(levels[-1]))
    levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
strides = [anchors.measure_stride(padded, level.shape[2:]) for level in levels]
names = "P2", "P3", "P4", "P5", "P6"
for name, level, stride in zip(names, levels, strides, strict=True):
    print(f"{name}  map {level.shape[2:]!s:<12} stride (rows, columns) {stride}")
assert [level.shape[2] for level in levels] == [200, 100, 50, 25, 13]
assert strides == [(4, 4), (8, 8), (16, 16), (32, 32), (61, 64)]

# %% pyramid [markdown]
# P6 has two different strides, 61 and 64. With stride 2, 25 rows become 13 rows. rcnn and torchvision compute the
# stride as 800 // 13 = 61. The field of the last row of P6 has its centre at pixel 12 · 64 = 768, but the anchors of
# this row are centred on 12 · 61 = 732. The published weights were trained with these anchors. An implementation that
# assumes the stride 64 places the anchors of this level differently, and its results are slightly wrong.
#
# ## 8  The feature pyramid
#
# Early maps have a high resolution, but small receptive fields. Late maps have large fields, but a low resolution. A
# pyramid adds the information of the late maps to the early maps ([3] section 3), from the coarsest level to the
# finest:
#
# $$ \begin{aligned}
# M_l &= \text{lateral}_l(C_l) + \text{upsample}(M_{l+1}), \\
# P_l &= \text{output}_l(M_l).
# \end{aligned} $$
#
# The *lateral connection* is a 1 × 1 convolution, which gives every level the same number of channels. *Upsample*
# repeats the nearest neighbour. *Output* is a 3 × 3 convolution, which reduces the blocks that the upsampling causes.
#
# In the paper, upsampling doubles both sides. If a side of the finer map is odd, this is one row too many (26 rows
# instead of 25). Therefore, torchvision and rcnn upsample to the *size* of the finer map: row $i$ of H copies row
# $\lfloor i h / H \rfloor$ of h.
#
# **Exercise.** Write this sum as `top_down`. Three traps: `repeat(2)` is right only if the sizes differ by a factor of
# exactly 2. The index is rounded down, not to the nearest integer. And the quotient $h / H$ is rounded in floating
# point, so compute the index with integers.


# %% top-down-yours
def top_down(finer, coarser):
    """Return finer (N, C, H, W) plus coarser (N, C, h, w), upsampled to (N, C, H, W).

    Row i of the upsampled map is row floor(i * h / H) of the coarser map; the same holds
    for columns. H and W may be odd, and N may be 0. The arguments must not change.
    """
    ### BEGIN SOLUTION
    height, width = finer.shape[2:]
    rows = np.arange(height) * coarser.shape[2] // height  # (H,)
    columns = np.arange(width) * coarser.shape[3] // width  # (W,)
    return finer + coarser[:, :, rows[:, None], columns]
    ### END SOLUTION


# %% top-down-check points=2
checks.top_down(top_down)
print("top_down: right. The library's loop over the levels:")
course.source(FPN.forward)

# %% pyramid-maps [markdown]
# The library computes this sum level by level, from the coarsest to the finest. The next cell computes it for two
# maps of the digit detector's backbone, with stride 4 and stride 8. In a pyramid, the lateral connections are
# learned. Here they only copy their input (the finer map has 16 fewer channels; these are 0), so the plots show the
# sum alone, before the 3 × 3 convolution. **Predict** where each of the two maps is bright: along the strokes, or in
# the middle of a digit? And the sum?

# %% pyramid-picture
modules = list(backbone.stem)
stride_four = nn.Sequential(*modules[:5])  # two layers with stride 2, and a residual block
stride_eight = nn.Sequential(*modules[5:], backbone.blocks)

with no_grad():
    fine = stride_four(Tensor(trace.batch.astype(np.float64)))  # (1, 48, 32, 32)
    coarse = stride_eight(fine)  # (1, 64, 16, 16)
    lateral = np.pad(fine.data, [(0, 0), (0, 16), (0, 0), (0, 0)])  # (1, 64, 32, 32)
    upsampled = F.interpolate(coarse, lateral.shape[2:]).data  # (1, 64, 32, 32)
assert np.array_equal(upsampled, coarse.data.repeat(2, axis=2).repeat(2, axis=3))

figure = plot.figure(10, 3.7)
shown = {
    "Finer map, stride 4": (lateral, "after the lateral connection"),
    "Coarser map, stride 8": (coarse.data, "upsampling copies each cell to 2 × 2 cells"),
    "Sum, stride 4": (lateral + upsampled, "the finer map plus the upsampled map"),
}
for ax, (name, (maps, caption)) in zip(figure.subplots(1, 3), shown.items(), strict=True):
    plot.feature_map(ax, maps[0], image=image)
    plot.title(ax, name, f"{maps.shape[2:]} cells; {caption}")
course.show(
    figure,
    "Three maps with the digits as a shadow. The finer map is brightest along the "
    "strokes. The coarser map has larger cells and is brightest in the middle of the "
    "digits. The sum has the small cells of the finer map, and is bright both along the "
    "strokes and in the middle of the digits.",
)

# %% pyramid-field [markdown]
# The finer map is bright along the strokes, the coarser map in the middle of the digits, and the sum in both places.
#
# We can also measure what the pyramid changes. In the table below, C is a map of the backbone, and P is the level of
# the pyramid with the same size. The pyramid has random weights; the size of a field does not depend on them.
# **Predict** the size of the field of the finer P. Its 3 × 3 convolution reads three of its own cells along each
# side, which copy two cells of the coarser map.

# %% pyramid-field-table
rcnn.seed(0)
pyramid = FPN([48, 64], out_channels=64, extra_max_pool=False).astype(np.float64)


class Level(nn.Module):
    "The map with stride 4 (index 0) or 8 (index 1), of the backbone or of the pyramid."

    def __init__(self, index, with_pyramid):
        super().__init__()
        self.index, self.with_pyramid = index, with_pyramid

    def forward(self, x):
        fine = stride_four(x)
        levels = [fine, stride_eight(fine)]
        return (pyramid(levels) if self.with_pyramid else levels)[self.index]


measured = []
for index, (stride, cell) in enumerate(((4, (16, 16)), (8, (8, 8)))):
    for name, with_pyramid in (("C", False), ("P", True)):
        x1, y1, x2, y2 = extent(influence(Level(index, with_pyramid), trace.batch, cell))
        measured.append((x2 - x1, (x1 + x2) / 2))
        print(
            f"{name}, stride {stride}: cell {cell!s:<9} sees {x2 - x1:>3} × {y2 - y1:<3} "
            f"pixels, centre {(x1 + x2) / 2}"
        )
assert measured == [(23, 64.5), (103, 60.5), (95, 64.5), (111, 64.5)]

# %% number [markdown]
# With the pyramid, a cell of the finer level sees 103 pixels instead of 23, nearly as many as a cell of the coarser
# level (111), at twice the resolution. (The centre of its field is four pixels off, because the two coarse cells do
# not lie symmetrically around it.)
#
# ## A number to check
#
# Compute the field of the digit detector's backbone by hand. Each 3 × 3 convolution adds 2 × the stride *before* it:
#
# | layers | stride before | adds | field |
# |---|---|---|---|
# | first convolution, stride 2 | 1 | 2 | 3 |
# | second, stride 2 | 2 | 4 | 7 |
# | residual block, two convolutions | 4 | 2 · 8 | 23 |
# | third, stride 2 | 4 | 8 | 31 |
# | two residual blocks, four convolutions | 8 | 4 · 16 | **95** |
#
# (A *residual block* has two convolutions and adds its input to their result.) You have measured the 95 three times:
# with filters without zeros in section 6, and with gradients of the trained backbone in sections 5 and 8.
#
# The second number is from the first paper: in [5] section 3.1, the 3 × 3 convolution of the RPN sees 228 pixels on
# VGG-16. (The paper calls this the effective receptive field; since [2], this term means the smaller region that
# matters most.) The table in section 6 has 196 for conv5_3, whose stride is 16, and $196 + 2 \cdot 16 =$ **228**. In
# the same way, our RPN judges an anchor from at most $95 + 2 \cdot 8 = 111$ pixels.

# %% learned [markdown]
# ## What you have learned
#
# - A cell has a stride, a receptive field and a centre; all three follow from kernels, strides and paddings.
# - The central part of the receptive field has most of the influence.
# - Measure strides instead of assuming them. A pyramid gives fine maps the large fields of coarse maps.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Compare three 3 × 3 convolutions with stride 1 and one 7 × 7 convolution. Which has the larger field? Which has
#    more weights, if all maps have C channels? Use `measured_field`.
# 2. Measure the influence on cell (0, 0). How large is its field, and which part of it is outside the page?
#
# **Core** (half an hour)
#
# 3. Measure the influence in a backbone with random weights: `SmallBackbone()` of `rcnn.backbones`, after `.eval()`
#    and `.astype(np.float64)`. Is the square with half of the influence larger or smaller than in the trained
#    backbone? In [2] section 3.2, it grew during training. Did ours?
# 4. A dilated filter has gaps between its weights: with dilation $d$, it spans $d (k - 1) + 1$ cells. Extend
#    `receptive_field`, and measure with `F.conv2d(..., dilation=(1, d))`.
#
# **Stretch** (an evening)
#
# 5. The gradient of a convolution in section 2, if you have skipped it. Then test it with central differences instead
#    of the check, for all three gradients.
# 6. In a copy of `FPN.forward`, replace the sum by the lateral connection alone (`merged = lateral`). How does the
#    last table change? Then add a second path, from the finest level to the coarsest: which fields become larger now?

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    A convolution has a 5 × 5 filter, stride 2 and padding 2. Its input has 32 rows. How
    many rows does its output have?
    [x] 16
        (32 + 2 · 2 - 5) / 2 = 15.5 is rounded down to 15. Add 1 for the first window.
    [ ] 15
        This is the number of steps. The number of windows is one larger.
    [ ] 17
        (32 + 4 - 5) / 2 = 15.5 is rounded down. The remainder is not another window.
    [ ] 14
        The padding is missing. With two rows of zeros at the top and at the bottom, the
        input has 36 rows.

    Two 3 × 3 convolutions follow each other, the first with stride 2, the second with
    stride 1. How many pixels does a cell of the last map see along one side?
    [ ] 5
        This is the field for two convolutions with stride 1. Here, the cells that the
        second one reads are two pixels apart.
    [ ] 6
        The field is not the stride times the kernel: 2 · 3 = 6. The outer windows extend
        beyond that.
    [x] 7
        The first adds 2 · 1, and the second adds 2 · 2, because its input has the stride 2:
        1 + 2 + 4 = 7.
    [ ] 9
        This is 3 · 3. The windows of neighbouring cells overlap, so the sizes do not
        multiply.

    In the backbone of the digit detector, you change the stride of the third convolution
    with stride 2 to 1, and nothing else. What happens?
    [ ] The map gets more cells, and the field of a cell does not change.
        The five convolutions from there on add 2 × the stride before them. For four of
        them, this stride is now 4 instead of 8.
    [ ] The field of a cell grows, because the map is finer.
        A finer map has more cells, but each layer now adds fewer pixels to the field.
    [x] The stride of the map becomes 4, and the field shrinks from 95 to 63 pixels.
        After 31 pixels, the last four convolutions add 4 · 2 · 4 = 32 pixels instead of 4 ·
        2 · 8 = 64.

    `top_down` upsamples a column with the values a, b, c to five rows. Which values does it
    add?
    [x] a, a, b, b, c
        Row i copies row floor(3 i / 5): 0, 0, 1, 1, 2.
    [ ] a, a, b, b, c, c
        This is `repeat(2)`. It has six rows, and cannot be added to a map with five rows.
    [ ] a, b, b, c, c
        Here, the index is rounded to the nearest integer: 0, 0.6, 1.2, 1.8, 2.4 become 0,
        1, 1, 2, 2.
    [ ] a, (a + b) / 2, b, (b + c) / 2, c
        This is linear interpolation. The pyramid copies the nearest neighbour, and computes
        no means.

    You compare your gradient with central differences in float32, with a step of 1e-6. They
    differ by about 10 %. What do you conclude?
    [ ] The gradient is wrong, because 10 % is much more than rounding.
        In float32, rounding causes an error of about 1e-7 / 1e-6, which is 10 %.
    [x] Nothing yet. Repeat the test in float64.
        The error of the difference itself is about 10 % here. In float64, with a step near
        5e-6, it is negligible.
    [ ] The gradient is right, because it has the right order of magnitude.
        A missing term can also change a gradient by only 10 %. The test must be precise
        enough to show it.
    [ ] The step is too large. Repeat the test with 1e-8.
        A smaller step makes it worse: the error of rounding is inversely proportional to
        the step.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 04 places anchors on the cells. In the library, see `rcnn/nn/conv.py`, `rcnn/backbones` and
# `rcnn/fpn.py`. For further reading, start with [1] and [3].
