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
# **The question.** The *backbone*, a network of convolutions, reads the image once. Nothing after it looks at the
# image again: proposals and classes come from a map of 16 × 16 cells, each of which holds 64 numbers. Which pixels
# did a cell see, and where on the page is it?
#
# You write the two operations that all of this stands on: the gradient of a convolution, and the sum that makes a
# feature pyramid. Between them you derive what a cell sees and where it lies, and then measure both.
#
# | | what | shape |
# |---|---|---|
# | `x` | maps that come in (at first the batch of images) | (N, C, H, W) |
# | `weight`, `bias` | O filters of kh × kw places | (O, C, kh, kw), (O,) |
# | `out` | maps that come out | (N, O, H', W') |
# | `grad_out` | the gradient of a loss with respect to `out` | (N, O, H', W') |
#
# [1] Dumoulin, Visin: *A guide to convolution arithmetic for deep learning*, 2016 (arXiv 1603.07285). [2] Luo, Li,
# Urtasun, Zemel: *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*, 2016 (arXiv
# 1701.04128). [3] Lin, Dollár, Girshick, He, Hariharan, Belongie: *Feature Pyramid Networks*, 2017 (arXiv 1612.03144).
# [4] He, Zhang, Ren, Sun: *Deep Residual Learning for Image Recognition*, 2016 (arXiv 1512.03385).
# [5] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497).

# %% setting-up
import timeit

import numpy as np

import rcnn
from rcnn import anchors, checks, course, data, nn, plot
from rcnn.fpn import FPN
from rcnn.nn import Tensor, no_grad, windows
from rcnn.nn import conv as convolution
from rcnn.nn import functional as F

model = rcnn.load_digits()  # its weights come with the package
image, target = data.Digits(split="val")[178]
trace = model.trace([image])
print("batch", trace.batch.shape, "   features[0]", trace.features[0].shape)

figure = plot.figure(9, 4.2)
left, right = figure.subplots(1, 2)
plot.title(plot.image(left, image), "What comes in", f"{trace.batch.shape[2:]} pixels")
plot.title(
    plot.feature_map(right, trace.features[0][0]),
    "What the detector reads",
    f"{trace.features[0].shape[2:]} cells, the mean over 64 channels",
)
figure

# %% slide [markdown]
# ## 1  A filter slides
#
# A convolution lays a small filter on the map, multiplies place by place, adds everything up, and moves on. With stride
# $s$ and $p$ cells of zeros around the map ([1] chapter 2; the first index of `x` and of `out` is the image),
#
# $$ out_{n,o,i,j} = b_o + \sum_{c,u,v} w_{o,c,u,v}\; x_{n,\,c,\;i s + u - p,\;j s + v - p}. $$
#
# So every channel of the input enters every channel of the output, and the same weights are used at every place. That
# is why a digit is found as well in one corner as in another, and why a network of convolutions takes an image of any
# size.
#
# **Predict.** The filter below is 1 × 41 and has a single 1, in its last place. With padding 20 the result has the size
# of the page. Does the page move to the left or to the right? (A `Tensor` of `rcnn.nn` is an array that remembers what
# it was computed from, so that a gradient can be sent back through it; notebook 07 trains with it.)

# %% slide-picture
page = Tensor(image.mean(axis=2)[None, None] / 255)  # (1, 1, 128, 128), grey
last_place = np.zeros((1, 1, 1, 41))
last_place[..., -1] = 1
upright = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])[None, None]  # dark to the right of light
moved = F.conv2d(page, Tensor(last_place), padding=(0, 20))
edges = F.conv2d(page, Tensor(upright), padding=1)
sparse = F.conv2d(page, Tensor(upright), padding=1, stride=4)

figure = plot.figure(10, 2.5)
shown = {"page": page, "moved by the filter": moved, "edges, stride 1": edges, "edges, stride 4": sparse}
for ax, (name, maps) in zip(figure.subplots(1, 4), shown.items(), strict=True):
    plot.title(plot.feature_map(ax, maps.data[0], 1, "value"), name, f"{maps.shape[2:]}")
figure

# %% size [markdown]
# It moved to the left: `out[i, j]` is `x[i, j + 20]`. (The dark strip is padding. It makes an edge where the image
# has none, and the edge filter answers to it most strongly of all, on the left and on the right.)
#
# A convolution in the mathematical sense turns the filter round first, and would have moved the page to the right. What
# networks compute is the *cross-correlation*, and all frameworks call it a convolution.
#
# > **What people get wrong.** For learned filters the name does not matter, since a network can learn either one. It
# > matters as soon as you write the gradient: one of the two directions does turn the filter round. And
# > `scipy.signal.convolve2d` turns it, while `scipy.signal.correlate2d` does not.
#
# ### How large is what comes out?
#
# Count where the window can stop along one side. The first begins at $-p$, and none may reach beyond $H + p$.
# **Predict** how many windows each row of the three maps below has, then run the cell and count the dots.
#
# Then write the rule down, along one side. The trap is in the third map: the stride steps over the last row, and a
# division that leaves a rest must not become one more window.

# %% size-picture
cases = {
    "7 × 7, stride 1, padding 1": ((7, 7), 1, 1),
    "7 × 7, stride 2, padding 1": ((7, 7), 2, 1),
    "8 × 8, stride 2, padding 0": ((8, 8), 2, 0),
}
figure = plot.figure(10, 4.2)
for ax, (name, (size, stride, padding)) in zip(figure.subplots(1, 3), cases.items(), strict=True):
    plot.sliding_windows(ax, size, 3, stride, padding)
    plot.title(ax, name, "filter 3 × 3")
    plot.windows_legend(ax)
figure


# %% size-yours
def output_size(size, kernel, stride, padding):
    """How many places a window of `kernel` cells has along a side of `size` cells, an int.

    Windows begin at -padding and then at every `stride`-th cell; each must end within the `padding`
    zeros that are added on both sides. The window fits at least once.
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
        f"output_size({size}, {kernel}, {stride}, {padding}) gives {given}; write down where each window "
        f"begins, from {-padding} on, and where the last one may"
    )
print("output_size: right")

# %% backward [markdown]
# ## 2  The gradient of a convolution
#
# Write $g_{n,o,i,j}$ for `grad_out`, the derivative of the loss with respect to $out_{n,o,i,j}$. The formula at the top
# is linear in each of its three inputs, so each derivative can be read off: look for all terms in which the number
# occurs, and add up what comes back from them.
#
# $$ \frac{\partial L}{\partial b_o} = \sum_{n,i,j} g_{n,o,i,j}, \qquad
#    \frac{\partial L}{\partial w_{o,c,u,v}} = \sum_{n,i,j} g_{n,o,i,j}\; x_{n,\,c,\;i s + u - p,\;j s + v - p}, $$
#
# $$ \frac{\partial L}{\partial x_{n,c,a,b}} = \sum_{o}\; \sum_{\substack{u,\,i\,:\; i s + u - p = a \\
#    v,\,j\,:\; j s + v - p = b}} g_{n,o,i,j}\; w_{o,c,u,v}. $$
#
# The last sum looks worse than it is. Do not search for the windows that hold pixel $(a, b)$. Turn it round: take one
# place $(u, v)$ of the filter, and see which cells of the padded map all windows together met there. They are a slice
# with a step, as large as `out`. To these cells, and only to them, $g$ passes through $w_{\cdot,\cdot,u,v}$.
#
# Three traps: the slice must end so that it has exactly H' × W' cells; what falls on the padding is lost, so the padded
# gradient is cut to the shape of `x` at the end; and rows or columns that no window reached keep the gradient 0.


# %% backward-yours
def conv2d_backward(grad_out, x, weight, stride, padding):
    """The gradients (g_x, g_weight, g_bias) of a convolution, of the shapes of x, weight and bias (O,).

    grad_out: (N, O, H', W'), the gradient with respect to what came out. x: (N, C, H, W); weight:
    (O, C, kh, kw); stride and padding: whole numbers, the same along both sides; the padding is zeros.
    The arguments are not changed.
    """
    ### BEGIN SOLUTION
    sides = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    maps = np.pad(np.asarray(x, float), sides)  # (N, C, H + 2p, W + 2p)
    g_maps, g_weight = np.zeros(maps.shape), np.zeros(weight.shape)
    (rows, columns), (kernel_height, kernel_width) = grad_out.shape[2:], weight.shape[2:]
    for u in range(kernel_height):
        for v in range(kernel_width):
            met = np.s_[
                :, :, u : u + stride * (rows - 1) + 1 : stride, v : v + stride * (columns - 1) + 1 : stride
            ]  # (N, C, H', W') of the padded map
            g_weight[:, :, u, v] = np.einsum("noij,ncij->oc", grad_out, maps[met])
            g_maps[met] += np.einsum("noij,oc->ncij", grad_out, weight[:, :, u, v])
    height, width = x.shape[2:]
    g_x = g_maps[:, :, padding : padding + height, padding : padding + width]  # (N, C, H, W)
    return g_x, g_weight, grad_out.sum(axis=(0, 2, 3))
    ### END SOLUTION


# %% backward-check points=4
checks.conv2d_backward(conv2d_backward)
print("conv2d_backward: right")

# %% difference [markdown]
# ### How to know that a gradient is right
#
# Move one number by $h$ each way, and see what the loss does: $(L(w + h) - L(w - h)) / 2h$. In exact arithmetic this is
# off by something of the order of $h^2$, and in floating point by rounding, of the order of $\varepsilon / h$. The
# smallest $h$ is therefore not the best one. **Predict** at which $h$ the difference is smallest, in float64
# ($\varepsilon \approx 10^{-16}$) and in float32 ($\varepsilon \approx 10^{-7}$).


# %% difference-table
def off_by(h, dtype):
    "How far the central difference of one weight is from the gradient of rcnn.nn, as a share of it."

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
print("h          float64     float32")
for h in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10):
    print(f"{h:<8.0e}{off_by(h, np.float64):>10.0e}{off_by(h, np.float32):>12.0e}")

# %% source [markdown]
# The two errors are equal at about $h = \varepsilon^{1/3}$, which is $5 \cdot 10^{-6}$ in float64 and
# $5 \cdot 10^{-3}$ in float32. Around there the columns are smallest. A float32 difference proves little; gradients are
# checked in float64. (Notebook 07 derives this, and there you write the test yourself.)
#
# ## 3  A convolution is a matrix product
#
# Copy the window at every place into a row of a matrix, (N·H'·W', kh·kw·C). Write every filter as a column,
# (kh·kw·C, O). Their product holds all outputs at once, and libraries for matrix products are among the best-tuned code
# that a processor runs. The price is memory: with a 3 × 3 filter every value is copied nine times.
#
# The cell compares this with the formula at the top, window by window, and then shows the library's own reference. Read
# `_columns` first, then the line with `@` in `_convolve`. The gradients need no new idea: what came out is $X W$, so $W$
# receives $X^T g$, and the windows $X$ receive $g\, W^T$, which is then added up at the places that the windows were
# copied from. In float32 the library's kernels do without the copy, or with fewer multiplications; `docs/speed.md`
# explains how.


# %% loop-or-product
def by_definition(x, weight, stride, padding):
    "The formula above, window by window, for x (N, C, H, W) and weight (O, C, kh, kw): (N, O, H', W')."
    maps = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    kernel = weight.shape[2:]
    rows, columns = windows.output_size(maps.shape[2:], kernel, (stride, stride), (0, 0))
    out = np.empty((len(x), len(weight), rows, columns))
    for i, j in np.ndindex(rows, columns):
        top, left = i * stride, j * stride
        window = maps[:, :, top : top + kernel[0], left : left + kernel[1]]  # (N, C, kh, kw)
        out[:, :, i, j] = np.einsum("ncuv,ocuv->no", window, weight)
    return out


rng = np.random.default_rng(0)
x, weight = rng.normal(size=(1, 32, 64, 64)), rng.normal(size=(32, 32, 3, 3))
slow, fast = by_definition(x, weight, 1, 1), F.conv2d(Tensor(x), Tensor(weight), padding=1).data
calls = (lambda: by_definition(x, weight, 1, 1)), (lambda: F.conv2d(Tensor(x), Tensor(weight), padding=1))
by_loop, by_product = (1000 * np.median(timeit.repeat(call, number=1, repeat=5)) for call in calls)
print(f"by windows {by_loop:.1f} ms, by one product {by_product:.1f} ms, ratio {by_loop / by_product:.1f}")
print(f"largest difference {np.abs(slow - fast).max():.0e}")
course.source(
    convolution._columns, convolution._convolve, convolution._input_gradient, convolution._weight_gradient
)

# %% field [markdown]
# ## 4  What a cell sees
#
# The pixels that a cell depends on are its *receptive field*. For a chain of layers with kernels $k_l$, strides $s_l$
# and paddings $p_l$, three numbers are carried along ([1] chapter 2 gives the sizes of one layer; chain them):
#
# * $j_l$, the **stride**: how many pixels lie between two neighbouring cells of map $l$. At the pixels, $j_0 = 1$.
# * $r_l$, the **size** of the field in pixels, $r_0 = 1$.
# * $c_l$, the **start**: the index of the pixel in the middle of the field of cell 0, $c_0 = 0$.
#
# A cell of map $l$ reads $k_l$ cells of the map below, which lie $j_{l-1}$ pixels apart. The first and the last of them
# are $(k_l - 1)\, j_{l-1}$ pixels apart, so by so much the field grows:
#
# $$ r_l = r_{l-1} + (k_l - 1)\, j_{l-1}, \qquad j_l = j_{l-1}\, s_l. $$
#
# The window of cell 0 begins at cell $-p_l$ of the map below, so its middle lies at $(k_l - 1)/2 - p_l$ of that map's
# cells. Work out what this makes $c_l$. The plot has the stem of our backbone along one row: two layers of stride 2
# and one of stride 1, all with kernel 3 and padding 1. Follow the blue lines down and the orange ones up.
#
# Before you write the formula, have the answer measured: `measured_field` sends a gradient back from a cell, and looks
# at which pixels it arrives. The check compares your function with it.


# %% field-picture
def measured_field(layers, pixels=2048):
    "(size, stride, start), measured: which pixels get a gradient through filters that have no zeros."
    seen = []
    for shift in (0, 1):  # a cell in the middle of the row, and the next one
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
print("size, stride, start of the stem:", measured_field(stem))
figure = plot.figure(10, 3.4)
plot.cells_and_pixels(figure.subplots(), stem, 24, cell=3, pixel=3)
figure


# %% field-yours
def receptive_field(layers):
    """(size, stride, start) of the receptive field of a cell of the last layer, along one side, in pixels.

    layers: (kernel, stride, padding) of each; the first one reads the pixels. size: how many pixels the
    field spans; stride: pixels from one cell to the next; start: the index of the pixel in the middle of
    the field of cell 0, a float, for it lies between two pixels where the size is even. Padding counts as
    if there were pixels.
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
    "size": "how many pixels apart are the cells that a window reads, whatever its own stride?",
    "stride": "how many pixels is a step of this layer, if a step of the layer below is some already?",
    "start": "where is the middle of the first window, in cells of the map below? And in pixels?",
}
for count in sorted(4 * [1, 2, 3, 4, 5]):
    layers = [tuple(rng.integers((1, 1, 0), (6, 4, 3)).tolist()) for _ in range(count)]
    given, measured = receptive_field(layers), measured_field(layers)
    for (name, hint), one, other in zip(hints.items(), given, measured, strict=True):
        assert np.isclose(one, other), (
            f"receptive_field({layers}) gives the {name} {one}, and a gradient that is sent back finds "
            f"{other}; {hint}"
        )
print("receptive_field: right")

# %% influence [markdown]
# ## 5  Seeing is not listening
#
# The formula says which pixels *can* move a cell. How much each one does is its gradient: put a 1 on all channels of
# one cell, 0 elsewhere, and go back through the network to the image. The backbone of the digits is nine layers deep;
# **predict** the size of its field from the formula. Its 3 × 3 convolutions have the strides 2, 2, 1, 1, 2, 1, 1, 1, 1.
#
# The result is the mean over 12 pages. The dashed square is the smallest one around the middle of the field that holds
# half of the whole. Luo et al. ([2] section 2) show why it is so small: the middle pixels reach the cell on many paths
# and the outermost on a single one, so that the influence falls off like a bell curve. In a stack of equal layers of
# stride 1 its width grows with the root of the depth, while the field grows with the depth itself.
#
# > **What people get wrong.** In training, a batch norm subtracts the mean over the whole batch, so that every pixel of
# > every image moves every cell. Measure a field in evaluation mode, or you will find the whole page, as the
# > printed line shows.


# %% influence-measured
def influence(network, images, cell):
    "How much each pixel moves a cell (row, column), all channels together: (H, W)."
    x = Tensor(images, requires_grad=True)
    network(x)[0, :, cell[0], cell[1]].sum().backward()
    return np.abs(x.grad[0]).sum(axis=0)


def extent(gradient):
    "The box x1, y1, x2, y2 of all pixels with a gradient."
    rows, columns = (np.flatnonzero(gradient.any(axis=axis)) for axis in (1, 0))
    return tuple(int(side) for side in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


cell, pages, c = (8, 8), data.Digits(12, split="val"), 64  # the middle of its field is pixel (64, 64)
mean = np.mean([influence(model.backbone, model.trace([page]).batch, cell) for page, _ in pages], axis=0)
half = next(k for k in range(48) if mean[c - k : c + k + 1, c - k : c + k + 1].sum() >= mean.sum() / 2)
training = rcnn.load_digits().backbone.train()
print("the field:", extent(mean), " in training mode:", extent(influence(training, trace.batch, cell)))

squares = {
    "receptive field": extent(mean),
    "half of the influence": (c - half, c - half, c + half + 1, c + half + 1),
    "one stride": (c - 3.5, c - 3.5, c + 4.5, c + 4.5),
}  # around (64.5, 64.5)
squares = {f"{name}, {box[2] - box[0]:g} pixels": box for name, box in squares.items()}
figure = plot.figure(10, 5)
left, right = figure.subplots(1, 2)
plot.boxes(
    plot.image(left, image),
    np.array(list(squares.values())),
    labels=np.arange(1, 4),
    class_names=["", "field", "half", "stride"],
)
plot.title(left, f"Cell {cell} on the page", "the middle of its field: (64.5, 64.5)")
plot.title(plot.influence(right, mean, squares), "How much each pixel moves it", "mean over 12 pages")
figure

# %% centre [markdown]
# ## 6  Where a cell is, and back
#
# The field of a cell has its middle at pixel $c + \text{stride} \cdot \text{column}$, and rows alike. That is a pixel's
# *index*; in the coordinates of boxes, where the image begins at 0, the middle of pixel $q$ is at $q + 0.5$. So
#
# $$ x = c + 0.5 + \text{stride} \cdot \text{column}, \qquad
#    \text{column} = \operatorname{round}\!\left(\frac{x - 0.5 - c}{\text{stride}}\right). $$
#
# The start $c$ is not a matter of taste. It follows from the padding, and it differs between networks. The next cell
# measures it. VGG-16, one of the two networks of the first paper ([5] section 3.1), has pools of kernel 2 without
# padding, and its first cell lies in the *middle* of the first 16 pixels. ResNets have odd kernels $k$ with a padding
# of $(k - 1) / 2$, and their first cell lies on the *first pixel*.
#
# rcnn's anchors are centred on `column * stride` by default, as torchvision's are: for a ResNet that is half a pixel
# from the true middle. For networks like VGG there is `offset=0.5`.
#
# > **What people get wrong.** "A cell is the 8 × 8 pixels under it." Ours sees 95 × 95 pixels, half of what it hears
# > comes from some 27 × 27, and neither square is centred on those eight.

# %% centre-table
conv, pool = (3, 1, 1), (2, 2, 0)
vgg = [conv, conv, pool] + [conv, conv, pool] + 3 * ([conv] * 3 + [pool])
bottlenecks = {
    "C2": 3 * [conv],
    "C3": [(3, 2, 1)] + 3 * [conv],
    "C4": [(3, 2, 1)] + 5 * [conv],
    "C5": [(3, 2, 1)] + 2 * [conv],
}  # the 3 × 3 convolutions of each stage
digits = [(3, 2, 1), (3, 2, 1), conv, conv, (3, 2, 1), conv, conv, conv, conv]
networks = {"digits' backbone": digits, "VGG-16, conv5_3": vgg[:-1]}
resnet = [(7, 2, 3), (3, 2, 1)]
for stage, layers in bottlenecks.items():
    resnet = resnet + layers
    networks[f"ResNet-50, {stage}"] = resnet
print(f"{'':<20}{'size':>6}{'stride':>8}{'start':>8}   middle of cell 0, in strides")
for name, layers in networks.items():
    size, stride, start = measured_field(layers)
    print(f"{name:<20}{size:>6}{stride:>8}{start:>8}{(start + 0.5) / stride:>10.2f}")

# %% strides [markdown]
# Where versions of a network differ: the ResNet-50 of [4] has the stride of a stage on the first 1 × 1 convolution,
# torchvision's and rcnn's on the 3 × 3 after it. The maps have the same sizes, but there the field of C5 is 483 pixels
# and here it is 427.
#
# ## 7  The stride is measured, not assumed
#
# Each layer of stride 2 halves the map, so the strides are 4, 8, 16, 32 and, for the level that the pyramid adds with
# another stride of 2, 64. **Predict** the five heights for an image of 800 rows, and what 800 divided by each of them
# is. The network below has the strides, kernels and paddings of a ResNet with a pyramid, and one channel.

# %% strides-table
skeleton = nn.Sequential(nn.Conv2d(3, 1, 7, stride=2, padding=3), nn.MaxPool2d(3, stride=2, padding=1))
halves = [nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(3)]  # to C3, C4, C5
padded = (800, 1216)  # (height, width)
with no_grad():
    levels = [skeleton(Tensor(np.zeros((1, 3, *padded), np.float32)))]
    for half in halves:
        levels.append(half(levels[-1]))
    levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
for name, level in zip(("P2", "P3", "P4", "P5", "P6"), levels, strict=True):
    size = level.shape[2:]
    print(f"{name}  map {size!s:<12} stride (rows, columns) {anchors.measure_stride(padded, size)}")

# %% pyramid [markdown]
# Two strides in one map, 61 and 64: 25 rows became 13, for a half row is still a row. rcnn measures a stride as
# torchvision does, by dividing the sizes and dropping the rest. The last of the 13 rows of P6 has the middle of its
# field at pixel 12 · 64 = 768, and its anchors are centred on 12 · 61 = 732. The published weights have learned to live
# with it; a re-implementation that assumes 64 reads them with every anchor of that level a little off.
#
# ## 8  The feature pyramid
#
# Early maps are sharp but their cells see little; late ones see much, and are coarse. A pyramid gives the early maps
# the late ones' knowledge ([3] section 3). From the coarsest to the finest:
#
# $$ M_l = \text{lateral}_l(C_l) + \text{enlarge}(M_{l+1}), \qquad P_l = \text{smooth}_l(M_l). $$
#
# *Lateral* is a 1 × 1 convolution that brings every level to the same number of channels. *Enlarge* repeats the nearest
# neighbour. *Smooth* is a 3 × 3 convolution, which softens the blocks that the enlarging leaves.
#
# The paper enlarges by a factor of 2. Where a side was odd, twice the coarser one is a row too long (13 rows against
# 25), so torchvision and rcnn enlarge to the *size* of the finer map: row $i$ of H shows row $\lfloor i h / H \rfloor$.
#
# Write this sum. The trap: `repeat(2)` is right for even sizes only, and rounding is not flooring.


# %% top-down-yours
def top_down(finer, coarser):
    """finer (N, C, H, W) plus coarser (N, C, h, w), enlarged by nearest neighbours, (N, C, H, W).

    Row i of the enlarged map is row floor(i * h / H) of the coarser one, and columns alike. H and W may
    be odd.
    """
    ### BEGIN SOLUTION
    height, width = finer.shape[2:]
    rows = np.arange(height) * coarser.shape[2] // height  # (H,)
    columns = np.arange(width) * coarser.shape[3] // width  # (W,)
    return finer + coarser[:, :, rows[:, None], columns]
    ### END SOLUTION


# %% top-down-check points=2
checks.top_down(top_down)
print("top_down: right; this is the library's loop over the levels")
course.source(FPN.forward)

# %% pyramid-maps [markdown]
# The library does this sum for one level after the other, from the coarsest on. Below it runs on two maps of the
# digits' backbone, of stride 4 and of stride 8. The backbone is trained, the pyramid's own weights are random. The
# plots show the sum before it is smoothed.
#
# What the pyramid is for can be measured, too. In the table after the plots, C is the backbone's map and P the
# pyramid's level of the same size. **Predict** the field of the finer P: it smooths three of its own cells, which show
# two cells of the coarser map.

# %% pyramid-picture
modules = list(model.backbone.stem)
stride_four = nn.Sequential(*modules[:5])  # two strides of 2 and a residual block
stride_eight = nn.Sequential(*modules[5:], model.backbone.blocks)
rcnn.seed(0)
pyramid = FPN([48, 64], out_channels=64, extra_max_pool=False)

with no_grad():
    fine = stride_four(Tensor(trace.batch))  # (1, 48, 32, 32)
    coarse = stride_eight(fine)  # (1, 64, 16, 16)
    lateral, above = pyramid.inner_blocks[0](fine), pyramid.inner_blocks[1](coarse)
    enlarged = F.interpolate(above, lateral.shape[2:])

figure = plot.figure(10, 2.6)
shown = {"lateral": lateral, "from above": above, "enlarged": enlarged, "sum": lateral + enlarged}
for ax, (name, maps) in zip(figure.subplots(1, 4), shown.items(), strict=True):
    plot.title(plot.feature_map(ax, maps.data[0]), name, f"{maps.shape}")
figure


# %% pyramid-field-table
class Level(nn.Module):
    "The map of stride 4 (index 0) or 8 (index 1), of the backbone or of the pyramid on top of it."

    def __init__(self, index, with_pyramid):
        super().__init__()
        self.index, self.with_pyramid = index, with_pyramid

    def forward(self, x):
        fine = stride_four(x)
        levels = [fine, stride_eight(fine)]
        return (pyramid(levels) if self.with_pyramid else levels)[self.index]


for index, (stride, cell) in enumerate(((4, (16, 16)), (8, (8, 8)))):
    for name, with_pyramid in (("C", False), ("P", True)):
        x1, y1, x2, y2 = extent(influence(Level(index, with_pyramid), trace.batch, cell))
        print(
            f"{name}, stride {stride}: cell {cell!s:<9} sees {x2 - x1:>3} × {y2 - y1:<3} pixels, "
            f"the middle at {(x1 + x2) / 2}"
        )

# %% number [markdown]
# The finer level now sees as much as the coarser one, at twice the resolution. That is the whole idea. (Its field is
# four pixels off the middle, for the two coarse cells that it shows do not lie evenly around it.)
#
# ## A number to check
#
# The field of the digits' backbone, by hand. Each row adds 2 × stride, where the stride is that *before* the layer:
#
# | layers | stride before | adds | field |
# |---|---|---|---|
# | first convolution, stride 2 | 1 | 2 | 3 |
# | second, stride 2 | 2 | 4 | 7 |
# | residual block, two convolutions | 4 | 2 · 8 | 23 |
# | third, stride 2 | 4 | 8 | 31 |
# | two residual blocks, four convolutions | 8 | 4 · 16 | **95** |
#
# A *residual block* is two convolutions to whose result is added what came in. You have measured the 95 twice: with
# filters without zeros, in the table of the networks, and with the gradient of the trained one.
#
# And a number of the first paper: [5] section 3.1 says that the 3 × 3 convolution of its RPN sees 228 pixels of the
# image on VGG-16. (It calls this the effective receptive field; after [2] that word means the smaller square.) The
# table has 196 for conv5_3, whose stride is 16, and $196 + 2 \cdot 16 =$ **228**. In the same way an anchor of ours is
# judged by what at most $95 + 2 \cdot 8 = 111$ pixels show.
#
# ## To try
#
# 1. Take the cell (0, 0) in `influence`. How large is its field, and what does it see where the page ends?
# 2. Measure the influence in a backbone with random weights, `SmallBackbone()` of `rcnn.backbones` after `.eval()`. Is
#    the half larger or smaller than in the trained one? In [2] section 3.2 it grew in training. Did ours?
# 3. A dilated filter leaves gaps between its places: with dilation $d$ it spans $d (k - 1) + 1$ cells. Extend
#    `receptive_field`, and measure with `F.conv2d(..., dilation=(1, d))`.
# 4. Replace the sum of the pyramid by nothing at all (`merged = lateral`) in a copy of `FPN.forward`. What does the
#    last table say then?
