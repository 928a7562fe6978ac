# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.roi`: RoIAlign and RoIPool, forward and backward. Features are (N, H, W, C).

Channels are contiguous, so every bin is a weighted sum of contiguous vectors. Coordinates are computed in the precision
of the features (`floating`), literals included. A plain 0.5 is a double, and one double makes a float32 expression a
double one, which rounds differently from torchvision.

In the forward pass, threads share the RoIs, because each RoI has its own result. In the backward pass, RoIs overlap. So
threads share the features instead, in bands of rows for RoIAlign and in blocks of channels for RoIPool, and each thread
visits all RoIs in order. No two threads write to the same element, every element receives its terms in the same order
for any number of threads, and no lock is needed.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ceil
from libc.string cimport memset

cdef enum:
    LINE = 16  # channels: float32 values per cache line; two threads should not share a line
    TOGETHER = 8  # taps that are summed in one pass


# ---------------------------------------------------------------- RoIAlign
#
# The pixels that a bin reads are the product of two short weighted lists, of feature rows and of columns. These are its
# taps, computed once for each RoI and axis. Several samples of a bin often lie between the same pixels (always, if a
# RoI has fewer pixels than samples). Their weights are merged into one tap, which saves a quarter of the work on the
# usual RoIs of a detector.


def find_taps(
    const floating[::1] low,
    const floating[::1] high,
    Py_ssize_t pixels,
    floating spatial_scale,
    Py_ssize_t sampling_ratio,
    bint aligned,
    int[:, ::1] starts,
    int[:, ::1] places,
    floating[:, ::1] weights,
):
    """Fill in the taps of RoIs that extend from `low` to `high` (R,) along an axis of `pixels`.

    The taps of bin i are places[r, starts[r, i] : starts[r, i + 1]], with the same elements of `weights`; starts is
    (R, bins + 1).
    """
    cdef Py_ssize_t r
    for r in range(low.shape[0]):
        find_roi_taps(
            low[r], high[r], pixels, spatial_scale, sampling_ratio, aligned, &starts[r, 0], starts.shape[1] - 1,
            &places[r, 0], &weights[r, 0],
        )


cdef void find_roi_taps(
    floating low, floating high, Py_ssize_t pixels, floating scale, Py_ssize_t sampling_ratio, bint aligned,
    int* starts, Py_ssize_t bins, int* places, floating* weights,
) noexcept nogil:
    cdef floating start = axis_start(low, scale, aligned)
    cdef floating step = axis_step(low, high, scale, aligned, bins)
    cdef Py_ssize_t i, k, samples = axis_samples(step, sampling_ratio)
    cdef int below, count = 0
    cdef floating position, upper
    for i in range(bins):
        starts[i] = count
        for k in range(samples):
            position = start + <floating>i * step + (<floating>k + <floating>0.5) * step / <floating>samples
            if not (position >= -1 and position <= pixels):
                continue
            position = max(position, <floating>0)
            below = <int>min(<Py_ssize_t>position, pixels - 1)
            upper = position - <floating>below if below < pixels - 1 else 0  # the weight of the pixel after
            count = add_tap(starts[i], count, places, weights, below, (1 - upper) / <floating>samples)
            if upper > 0:
                count = add_tap(starts[i], count, places, weights, below + 1, upper / <floating>samples)
    starts[bins] = count


cdef inline int add_tap(
    int first, int count, int* places, floating* weights, int place, floating weight
) noexcept nogil:
    """Add a tap to a bin whose taps begin at `first`, or to one of its last two taps; return the number of taps."""
    cdef int k
    for k in range(max(first, count - 2), count):
        if places[k] == place:
            weights[k] += weight
            return count
    places[count] = place
    weights[count] = weight
    return count + 1


def roi_align(
    const floating[:, :, :, ::1] features,
    const long long[::1] images,
    const long long[::1] order,
    const int[:, ::1] starts_y,
    const int[:, ::1] rows,
    const floating[:, ::1] weights_y,
    const int[:, ::1] starts_x,
    const int[:, ::1] columns,
    const floating[:, ::1] weights_x,
    const long long[::1] places,
    floating[:, :, :, ::1] out,
    int threads,
):
    """Fill out (P, ph, pw, C) at `places` (R,) from the taps of each RoI along y and along x, in `order` (R,).

    Neighbours in `order` should be close to each other, so that the second finds pixels of the first in the cache.
    """
    cdef Py_ssize_t k, r, i, j
    cdef Py_ssize_t neighbours = max(1, order.shape[0] // (16 * threads))  # consecutive RoIs per thread
    if out.size == 0:
        return
    for k in prange(order.shape[0], nogil=True, num_threads=threads, schedule="dynamic", chunksize=neighbours):
        r = order[k]
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                align_bin(
                    &features[images[r], 0, 0, 0], features.shape[2], features.shape[3], &out[places[r], i, j, 0],
                    &rows[r, starts_y[r, i]], &weights_y[r, starts_y[r, i]], starts_y[r, i + 1] - starts_y[r, i],
                    &columns[r, starts_x[r, j]], &weights_x[r, starts_x[r, j]], starts_x[r, j + 1] - starts_x[r, j],
                )


cdef inline void align_bin(
    const floating* features, Py_ssize_t width, Py_ssize_t channels, floating* out,
    const int* rows, const floating* weights_y, Py_ssize_t count_y,
    const int* columns, const floating* weights_x, Py_ssize_t count_x,
) noexcept nogil:
    """Fill out (channels,), eight taps at a time, padded with weights of 0; without taps it is 0."""
    cdef Py_ssize_t[TOGETHER] places
    cdef floating[TOGETHER] weights
    cdef Py_ssize_t a, b, count = 0
    cdef bint fresh = True
    if count_y == 0 or count_x == 0:
        memset(out, 0, channels * sizeof(floating))
        return
    for a in range(count_y):
        for b in range(count_x):
            places[count] = (rows[a] * width + columns[b]) * channels
            weights[count] = weights_y[a] * weights_x[b]
            count += 1
            if count == TOGETHER:
                sum_taps(features, places, weights, out, channels, fresh)
                fresh, count = False, 0
    if count > 0:
        for a in range(count, TOGETHER):
            places[a] = places[0]
            weights[a] = 0
        sum_taps(features, places, weights, out, channels, fresh)


cdef inline void sum_taps(
    const floating* features, const Py_ssize_t* places, const floating* w, floating* out, Py_ssize_t channels,
    bint fresh,
) noexcept nogil:
    """Write the weighted sum of eight taps to out (channels,) if `fresh`, otherwise add it.

    The sum is unrolled by hand: it stays in a register, and every compiler vectorises the loop over channels.
    """
    cdef const floating* p0 = features + places[0]
    cdef const floating* p1 = features + places[1]
    cdef const floating* p2 = features + places[2]
    cdef const floating* p3 = features + places[3]
    cdef const floating* p4 = features + places[4]
    cdef const floating* p5 = features + places[5]
    cdef const floating* p6 = features + places[6]
    cdef const floating* p7 = features + places[7]
    cdef floating w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4], w5 = w[5], w6 = w[6], w7 = w[7]
    cdef Py_ssize_t c
    if fresh:
        for c in range(channels):
            out[c] = ((w0 * p0[c] + w1 * p1[c]) + (w2 * p2[c] + w3 * p3[c])) + (
                (w4 * p4[c] + w5 * p5[c]) + (w6 * p6[c] + w7 * p7[c]))
    else:
        for c in range(channels):
            out[c] += ((w0 * p0[c] + w1 * p1[c]) + (w2 * p2[c] + w3 * p3[c])) + (
                (w4 * p4[c] + w5 * p5[c]) + (w6 * p6[c] + w7 * p7[c]))


def roi_align_backward(
    const floating[:, :, :, ::1] grad,
    const long long[::1] images,
    const int[:, ::1] starts_y,
    const int[:, ::1] rows,
    const floating[:, ::1] weights_y,
    const int[:, ::1] starts_x,
    const int[:, ::1] columns,
    const floating[:, ::1] weights_x,
    Py_ssize_t band,
    floating[:, :, :, ::1] out,
    int threads,
):
    """Fill out (N, H, W, C) with the gradient from grad (R, ph, pw, C), in bands of `band` rows.

    A band that fits the second-level cache stays there while all overlapping RoIs are added, so that each element of
    the result is written to memory once.
    """
    cdef Py_ssize_t k, r, first, last
    cdef Py_ssize_t bands = (out.shape[1] + band - 1) // band  # per image
    if out.size == 0:
        return
    for k in prange(out.shape[0] * bands, nogil=True, num_threads=threads, schedule="dynamic"):
        first = k % bands * band
        last = min(first + band, out.shape[1])
        memset(&out[k // bands, first, 0, 0], 0, (last - first) * out.shape[2] * out.shape[3] * sizeof(floating))
        for r in range(grad.shape[0]):
            if images[r] == k // bands:
                align_band_backward(
                    &out[k // bands, 0, 0, 0], out.shape[2], out.shape[3], first, last,
                    &grad[r, 0, 0, 0], grad.shape[1], grad.shape[2],
                    &starts_y[r, 0], &rows[r, 0], &weights_y[r, 0], &starts_x[r, 0], &columns[r, 0], &weights_x[r, 0],
                )


cdef void align_band_backward(
    floating* out, Py_ssize_t width, Py_ssize_t channels, Py_ssize_t first, Py_ssize_t last,
    const floating* grad, Py_ssize_t bins_y, Py_ssize_t bins_x,
    const int* starts_y, const int* rows, const floating* weights_y,
    const int* starts_x, const int* columns, const floating* weights_x,
) noexcept nogil:
    """Add the gradient of one RoI to the rows first .. last - 1 of an image."""
    cdef Py_ssize_t i, j, a, b
    cdef floating* row
    for i in range(bins_y):
        for a in range(starts_y[i], starts_y[i + 1]):
            if rows[a] < first or rows[a] >= last:
                continue
            row = out + rows[a] * width * channels
            for j in range(bins_x):
                for b in range(starts_x[j], starts_x[j + 1]):
                    add_scaled(
                        row + columns[b] * channels, grad + (i * bins_x + j) * channels,
                        weights_y[a] * weights_x[b], channels,
                    )


cdef inline floating axis_start(floating low, floating scale, bint aligned) noexcept nogil:
    """Return where a RoI begins along one axis, in feature pixels."""
    return low * scale - (<floating>0.5 if aligned else <floating>0)


cdef inline floating axis_step(
    floating low, floating high, floating scale, bint aligned, Py_ssize_t bins
) noexcept nogil:
    """Return the side of a bin along one axis, in feature pixels."""
    cdef floating side = axis_start(high, scale, aligned) - axis_start(low, scale, aligned)
    if not aligned and side < 1:
        side = 1
    return side / <floating>bins


cdef inline Py_ssize_t axis_samples(floating step, Py_ssize_t sampling_ratio) noexcept nogil:
    """Return the samples per bin along one axis; 0 if the RoI's corners are swapped."""
    if sampling_ratio > 0:
        return sampling_ratio
    return <Py_ssize_t>ceil(step) if step > 0 else 0


cdef inline void add_scaled(floating* out, const floating* values, floating weight, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(channels):
        out[i] += weight * values[i]


cdef inline Py_ssize_t block_width(Py_ssize_t channels, int threads) noexcept nogil:
    """Return the number of channels per thread: an equal share, in whole cache lines."""
    cdef Py_ssize_t lines = (channels + LINE - 1) // LINE
    return LINE * max(1, (lines + threads - 1) // threads)


# ---------------------------------------------------------------- RoIPool


def roi_pool(
    const floating[:, :, :, ::1] features,
    const long long[::1] images,
    const long long[:, ::1] top,
    const long long[:, ::1] bottom,
    const long long[:, ::1] left,
    const long long[:, ::1] right,
    floating[:, :, :, ::1] out,
    int[:, :, :, ::1] winners,
    int threads,
):
    """Fill out and winners (R, ph, pw, C), initially 0 and -1, from the bounds of the bins (R, ph) and (R, pw)."""
    cdef Py_ssize_t r, i, j
    if out.size == 0:
        return
    for r in prange(out.shape[0], nogil=True, num_threads=threads, schedule="dynamic"):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                pool_bin(
                    &features[images[r], 0, 0, 0], features.shape[2], features.shape[3],
                    top[r, i], bottom[r, i], left[r, j], right[r, j], &out[r, i, j, 0], &winners[r, i, j, 0],
                )


cdef void pool_bin(
    const floating* features, Py_ssize_t width, Py_ssize_t channels,
    Py_ssize_t top, Py_ssize_t bottom, Py_ssize_t left, Py_ssize_t right, floating* out, int* winners,
) noexcept nogil:
    """Fill out and winners (channels,) unless the bin is empty; ties keep the first.

    Both are written unconditionally, with the old value if necessary: a conditional write would not be vectorised.
    """
    cdef Py_ssize_t y, x, c
    cdef int place
    cdef bint larger
    cdef const floating* pixel
    if top >= bottom or left >= right:
        return
    place = <int>(top * width + left)
    for c in range(channels):
        out[c] = features[place * channels + c]
        winners[c] = place
    for y in range(top, bottom):
        for x in range(left, right):
            place = <int>(y * width + x)
            pixel = features + place * channels
            for c in range(channels):
                larger = pixel[c] > out[c] or (pixel[c] != pixel[c] and out[c] == out[c])  # NaN counts as the largest
                out[c] = pixel[c] if larger else out[c]
                winners[c] = place if larger else winners[c]


def roi_pool_backward(
    const floating[:, :, :, ::1] grad,
    const long long[::1] images,
    const int[:, :, :, ::1] winners,
    floating[:, :, :, ::1] out,
    int threads,
):
    """Add each element of grad (R, ph, pw, C) to the pixel of out (N, H, W, C) that was the maximum."""
    cdef Py_ssize_t block, first, last, r, i, j, c
    cdef Py_ssize_t channels = out.shape[3], width = block_width(channels, threads)
    cdef floating* image
    if grad.size == 0:
        return
    for block in prange((channels + width - 1) // width, nogil=True, num_threads=threads, schedule="static"):
        first = block * width
        last = min(first + width, channels)
        for r in range(grad.shape[0]):
            image = &out[images[r], 0, 0, 0]
            for i in range(grad.shape[1]):
                for j in range(grad.shape[2]):
                    for c in range(first, last):
                        if winners[r, i, j, c] >= 0:
                            image[winners[r, i, j, c] * channels + c] += grad[r, i, j, c]
