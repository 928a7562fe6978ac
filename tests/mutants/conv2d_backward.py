"""Answers to `checks.conv2d_backward`."""

import numpy as np

from mutants import answer


def window_by_window(grad_out, x, weight, stride, padding):
    maps = _padded(x, padding)
    g_maps, g_weight = np.zeros(maps.shape), np.zeros(weight.shape)
    for i, j, window in _windows(grad_out, weight, stride):
        g = grad_out[:, :, i, j]
        g_weight += np.einsum("no,ncij->ocij", g, maps[window])
        g_maps[window] += np.einsum("no,ocij->ncij", g, weight)
    return _unpadded(g_maps, x, padding), g_weight, grad_out.sum(axis=(0, 2, 3))


def offset_by_offset(grad_out, x, weight, stride, padding):
    """Compute one matrix product for each element of the filter, over all windows at once, in float32."""
    maps = _padded(x, padding).astype(np.float32)
    g_maps, g_weight = np.zeros_like(maps), np.zeros(weight.shape, np.float32)
    rows, columns = (np.array(grad_out.shape[2:]) - 1) * stride + 1
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            met = np.s_[:, :, u : u + rows : stride, v : v + columns : stride]
            g_weight[:, :, u, v] = np.tensordot(grad_out, maps[met], ([0, 2, 3], [0, 2, 3]))
            g_maps[met] += np.tensordot(grad_out, weight[:, :, u, v], (1, 0)).transpose(0, 3, 1, 2)
    return _unpadded(g_maps, x, padding), g_weight, np.einsum("noij->o", grad_out)


def by_loops(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = np.zeros(x.shape), np.zeros(weight.shape), [0.0] * len(weight)
    for n, o, i, j in np.ndindex(*grad_out.shape):
        g = float(grad_out[n, o, i, j])
        g_bias[o] += g
        for c, u, v in np.ndindex(*weight.shape[1:]):
            row, column = i * stride + u - padding, j * stride + v - padding
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                g_x[n, c, row, column] += g * weight[o, c, u, v]
                g_weight[o, c, u, v] += g * x[n, c, row, column]
    return g_x.tolist(), g_weight.tolist(), g_bias


def _padded(x, padding):
    return np.pad(np.asarray(x, float), [(0, 0), (0, 0), (padding, padding), (padding, padding)])


def _unpadded(maps, x, padding):
    return maps[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]


def _windows(grad_out, weight, stride):
    """Yield (row, column, slice of the padded maps) of each window."""
    height, width = weight.shape[2:]
    for i, j in np.ndindex(*grad_out.shape[2:]):
        top, left = i * stride, j * stride
        yield i, j, np.s_[:, :, top : top + height, left : left + width]


def weight_for_x(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    return (g_x, g_bias, g_weight)


def bias_left_out(grad_out, x, weight, stride, padding):
    return window_by_window(grad_out, x, weight, stride, padding)[:2]


def grad_out_left_out(grad_out, x, weight, stride, padding):
    return window_by_window(np.ones(grad_out.shape), x, weight, stride, padding)


def mean_over_positions(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    positions = np.prod(grad_out.shape[2:])
    return g_x, g_weight / positions, g_bias / positions


def bias_of_every_place(grad_out, x, weight, stride, padding):
    g_x, g_weight, _ = window_by_window(grad_out, x, weight, stride, padding)
    return g_x, g_weight, grad_out.sum(axis=0)


def mean_over_images(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    return g_x, g_weight / len(x), g_bias / len(x)


def bias_of_the_last_image(grad_out, x, weight, stride, padding):
    g_x, g_weight, _ = window_by_window(grad_out, x, weight, stride, padding)
    return g_x, g_weight, grad_out[-1].sum(axis=(1, 2))


def one_filter_after_the_other(grad_out, x, weight, stride, padding):
    """Replace the gradients of earlier filters by that of the last."""
    g_x = window_by_window(grad_out[:, -1:], x, weight[-1:], stride, padding)[0]
    return g_x, *window_by_window(grad_out, x, weight, stride, padding)[1:]


def weight_axes_swapped(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    return g_x, g_weight.swapaxes(0, 1), g_bias


def filter_flipped(grad_out, x, weight, stride, padding):
    g_x = window_by_window(grad_out, x, weight[:, :, ::-1, ::-1], stride, padding)[0]
    return g_x, *window_by_window(grad_out, x, weight, stride, padding)[1:]


def filter_gradient_flipped(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    return g_x, g_weight[:, :, ::-1, ::-1], g_bias


def filter_transposed(grad_out, x, weight, stride, padding):
    if weight.shape[2] != weight.shape[3]:
        return window_by_window(grad_out, x, weight, stride, padding)
    g_x = window_by_window(grad_out, x, weight.swapaxes(2, 3), stride, padding)[0]
    return g_x, *window_by_window(grad_out, x, weight, stride, padding)[1:]


def overlaps_replaced(grad_out, x, weight, stride, padding):
    g_maps = np.zeros(_padded(x, padding).shape)
    for i, j, window in _windows(grad_out, weight, stride):
        g_maps[window] = np.einsum("no,ocij->ncij", grad_out[:, :, i, j], weight)
    return _unpadded(g_maps, x, padding), *window_by_window(grad_out, x, weight, stride, padding)[1:]


def filters_are_square(grad_out, x, weight, stride, padding):
    side = weight.shape[2]
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight[..., :side], stride, padding)
    return g_x, np.pad(g_weight, [(0, 0)] * 3 + [(0, weight.shape[3] - g_weight.shape[3])]), g_bias


def padding_not_removed(grad_out, x, weight, stride, padding):
    _, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    return window_by_window(grad_out, _padded(x, padding), weight, stride, 0)[0], g_weight, g_bias


def padding_cut_with_minus_zero(grad_out, x, weight, stride, padding):
    g_maps, g_weight, g_bias = padding_not_removed(grad_out, x, weight, stride, padding)
    return g_maps[:, :, padding:-padding, padding:-padding], g_weight, g_bias


def padding_cut_at_the_wrong_end(grad_out, x, weight, stride, padding):
    g_maps, g_weight, g_bias = padding_not_removed(grad_out, x, weight, stride, padding)
    return g_maps[:, :, : x.shape[2], : x.shape[3]], g_weight, g_bias


def bias_of_the_map_alone(grad_out, x, weight, stride, padding):
    g_x, g_weight, _ = window_by_window(grad_out, x, weight, stride, padding)
    crop = max(padding - 1, 0)
    return (
        g_x,
        g_weight,
        grad_out[:, :, crop : grad_out.shape[2] - crop, crop : grad_out.shape[3] - crop].sum((0, 2, 3)),
    )


def stride_left_out(grad_out, x, weight, stride, padding):
    return window_by_window(grad_out, x, weight, 1, padding)


def as_large_as_the_windows(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    reach = [(n - 1) * stride + k - padding for n, k in zip(grad_out.shape[2:], weight.shape[2:], strict=True)]
    return g_x[:, :, : reach[0], : reach[1]], g_weight, g_bias


def padding_times_stride(grad_out, x, weight, stride, padding):
    if stride == 1 or padding == 0:
        return window_by_window(grad_out, x, weight, stride, padding)
    shift = padding * stride
    g_maps = _padded(np.zeros(x.shape), shift + padding)
    for i, j, window in _windows(grad_out, weight, stride):
        g_maps[window] += np.einsum("no,ocij->ncij", grad_out[:, :, i, j], weight)
    return _unpadded(g_maps, x, shift), *window_by_window(grad_out, x, weight, stride, padding)[1:]


def whole_numbers(grad_out, x, weight, stride, padding):
    g_x, g_weight, g_bias = window_by_window(grad_out, x, weight, stride, padding)
    return g_x.astype(x.dtype), g_weight.astype(weight.dtype), g_bias


def changes_the_maps(grad_out, x, weight, stride, padding):
    answer = window_by_window(grad_out, x, weight, stride, padding)
    x[:] = answer[0]
    return answer


def forgets_to_return(grad_out, x, weight, stride, padding):
    window_by_window(grad_out, x, weight, stride, padding)


RIGHT = (window_by_window, offset_by_offset, by_loops)
WRONG = (
    (weight_for_x, "an array of shape"),
    (bias_left_out, "must return a tuple of 3 values"),
    (grad_out_left_out, "them by the incoming gradient"),
    (mean_over_positions, "sums over all positions"),
    (bias_of_every_place, "an array of shape"),
    (mean_over_images, "sums over the images"),
    (bias_of_the_last_image, "sums over the images"),
    (one_filter_after_the_other, "a sum over the filters"),
    (weight_axes_swapped, "belongs to filter o and channel c"),
    (filter_flipped, "is not flipped"),
    (filter_gradient_flipped, "is not flipped"),
    (filter_transposed, r"weight\[i, j\] alone, and the gradient of weight\[i"),
    (overlaps_replaced, "receives a gradient from each"),
    (filters_are_square, "its width to the columns"),
    (padding_not_removed, "has the shape of x"),
    (padding_cut_with_minus_zero, "an array of shape"),
    (padding_cut_at_the_wrong_end, "windows extend beyond the border"),
    (bias_of_the_map_alone, "the bias receives a gradient from"),
    (stride_left_out, r"begins at row i \* stride"),
    (as_large_as_the_windows, "because the stride skips them"),
    (padding_times_stride, r"begins at row i \* stride -"),
    (whole_numbers, "need not be an integer"),
    (changes_the_maps, "changes its argument 'x'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "images and filters mixed up where they are equally many",
        lambda g, x, w, s, p: window_by_window(g.swapaxes(0, 1) if g.shape[0] == g.shape[1] else g, x, w, s, p),
    ),
    answer(
        "channels and filters mixed up where they are equally many",
        lambda g, x, w, s, p: window_by_window(g, x, w.swapaxes(0, 1) if w.shape[0] == w.shape[1] else w, s, p),
    ),
    answer(
        "the filter is transposed where it is square",
        lambda g, x, w, s, p: window_by_window(g, x, w.swapaxes(2, 3) if w.shape[2] == w.shape[3] else w, s, p),
    ),
    answer(
        "only the first image counts",
        lambda g, x, w, s, p: (window_by_window(g, x, w, s, p)[0], *window_by_window(g[:1], x[:1], w, s, p)[1:]),
    ),
    answer("the stride is 2 at most", lambda g, x, w, s, p: window_by_window(g, x, w, min(s, 2), p)),
    answer(
        "the bias is not summed over the images",
        lambda g, x, w, s, p: (*window_by_window(g, x, w, s, p)[:2], g[0].sum(axis=(1, 2))),
    ),
    answer(
        "the gradient of the bias is a mean over the positions",
        lambda g, x, w, s, p: (*window_by_window(g, x, w, s, p)[:2], g.sum(axis=0).mean(axis=(1, 2))),
    ),
    answer(
        "the gradients in another order",
        lambda g, x, w, s, p: tuple(window_by_window(g, x, w, s, p)[i] for i in (1, 0, 2)),
    ),
    answer(
        "gradients are divided by the number of images",
        lambda g, x, w, s, p: tuple(part / len(x) for part in window_by_window(g, x, w, s, p)),
    ),
    answer(
        "in half precision",
        lambda g, x, w, s, p: tuple(
            np.asarray(part).astype(np.float16) / 3 * 3 for part in window_by_window(g, x, w, s, p)
        ),
    ),
    answer(
        "the bias as a column",
        lambda g, x, w, s, p: (*window_by_window(g, x, w, s, p)[:2], window_by_window(g, x, w, s, p)[2][:, None]),
    ),
    answer(
        "a dict of gradients",
        lambda g, x, w, s, p: dict(zip(("x", "weight", "bias"), window_by_window(g, x, w, s, p), strict=True)),
    ),
    answer(
        "nothing where the padding is wide",
        lambda g, x, w, s, p: (
            window_by_window(g, x, w, s, min(p, 1))
            if g.shape[2] == (x.shape[2] + 2 - w.shape[2]) // s + 1
            else (np.zeros(x.shape), *window_by_window(g, x, w, s, p)[1:])
        ),
    ),
)
