# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.roi`: RoIAlign and RoIPool, forward and backward. Features are (N, H, W, C).

Channels are contiguous, so every bin is a weighted sum of contiguous vectors. Coordinates are computed in the precision
of the features (`floating`), and constants are converted to this precision. A plain 0.5 is a double, and a float32
expression that contains a double is computed in double precision, which rounds differently from torchvision.

In the forward pass, the RoIs are divided among the threads, because each RoI has its own result. In the backward pass,
RoIs overlap. Therefore, the features are divided among the threads: into bands of rows for RoIAlign, and into blocks of
channels for RoIPool. Each thread visits all RoIs in order. No two threads write to the same element, so no lock is
needed. The terms of each element are added in the same order for any number of threads.
"""

from cython cimport floating
from libc.math cimport ceil
from libc.string cimport memset

from rcnn._ext._threads cimport parallel_for

cdef enum:
    LINE = 16  # channels: float32 values per cache line; two threads should not share a line
    TOGETHER = 8  # taps that are summed in one pass


cdef struct Taps:
    # The taps of all RoIs along one axis; see `find_taps`.
    const int* starts  # (R, bins + 1)
    const int* places  # (R, most)
    const void* weights  # (R, most)
    Py_ssize_t bins, most


cdef struct Align:
    # The arguments of `roi_align` and `roi_align_backward`.
    Taps y, x
    const long long* images  # (R,)
    const Py_ssize_t* order  # (R,)
    const Py_ssize_t* at  # (R,) rows of `out`
    void* features  # (N, height, width, C) features, or their gradient
    void* pooled  # (P, ph, pw, C) pooled features, or their gradient
    const void* zeros  # (C,)
    Py_ssize_t height, width, channels, rois
    Py_ssize_t band  # rows per band


cdef struct Pool:
    # The arguments of `roi_pool` and `roi_pool_backward`.
    const long long* images
    const long long* top  # (R, ph), like bottom
    const long long* bottom
    const long long* left  # (R, pw), like right
    const long long* right
    void* features
    void* pooled  # (R, ph, pw, C), like winners
    int* winners
    Py_ssize_t size, width, channels, bins_y, bins_x, rois  # size: elements of the features of an image
    Py_ssize_t block  # channels per thread


# ---------------------------------------------------------------- RoIAlign

# A bin reads the pixels in which a few feature rows cross a few columns. Each of these rows and columns has a weight
# and is called a tap. The taps are computed once for each RoI and axis. Several samples of a bin are often between the
# same pixels (always, if a RoI has fewer pixels than samples). Their weights are merged into one tap, which saves a
# quarter of the work for the usual RoIs of a detector.


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
    """Find the taps of RoIs that extend from `low` to `high` (R,) along an axis with `pixels` pixels.

    The taps of bin i of RoI r are places[r, starts[r, i] : starts[r, i + 1]], and their weights are the same elements
    of `weights`. `starts` has shape (R, bins + 1).
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
            if not (position >= -1 and position <= <floating>pixels):
                continue
            position = max(position, <floating>0)
            below = <int>min(<Py_ssize_t>position, pixels - 1)
            upper = position - <floating>below if below < pixels - 1 else 0  # the weight of the next pixel
            count = add_tap(starts[i], count, places, weights, below, <floating>((1 - upper) / <floating>samples))
            if upper > 0:
                count = add_tap(starts[i], count, places, weights, below + 1, upper / <floating>samples)
    starts[bins] = count


cdef inline int add_tap(
    int first, int count, int* places, floating* weights, int place, floating weight
) noexcept nogil:
    """Add a tap to a bin, or merge it with one of the last two taps of the bin; return the new number of taps."""
    cdef int k
    for k in range(<int>max(first, count - 2), count):
        if places[k] == place:
            weights[k] += weight
            return count
    places[count] = place
    weights[count] = weight
    return count + 1


def roi_align(
    const floating[:, :, :, ::1] features,
    const long long[::1] images,
    const Py_ssize_t[::1] order,
    const int[:, ::1] starts_y,
    const int[:, ::1] rows,
    const floating[:, ::1] weights_y,
    const int[:, ::1] starts_x,
    const int[:, ::1] columns,
    const floating[:, ::1] weights_x,
    const Py_ssize_t[::1] places,
    const floating[::1] zeros,
    floating[:, :, :, ::1] out,
    int threads,
):
    """Pool each RoI from its taps along y and along x. RoI r is written to row places[r] of `out` (P, ph, pw, C).

    `zeros` (C,) is read where a bin has fewer taps than are summed together.

    The RoIs are visited in `order` (R,). Successive RoIs should be close to each other, so that the pixels that they
    share are still in the cache.
    """
    cdef Align task
    if out.size == 0 or order.shape[0] == 0:
        return
    task = Align(
        y=Taps(&starts_y[0, 0], &rows[0, 0], &weights_y[0, 0], out.shape[1], rows.shape[1]),
        x=Taps(&starts_x[0, 0], &columns[0, 0], &weights_x[0, 0], out.shape[2], columns.shape[1]),
        images=&images[0], order=&order[0], at=&places[0], features=<void*>&features[0, 0, 0, 0],
        pooled=&out[0, 0, 0, 0], zeros=&zeros[0], height=features.shape[1], width=features.shape[2],
        channels=features.shape[3], rois=order.shape[0], band=0,
    )
    with nogil:
        parallel_for(align_float if floating is float else align_double, &task, order.shape[0], threads)


cdef void align_float(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Align* t = <Align*>task
    align_rois(t, <const float*>t.features, <float*>t.pooled, first, stop)


cdef void align_double(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Align* t = <Align*>task
    align_rois(t, <const double*>t.features, <double*>t.pooled, first, stop)


cdef void align_rois(
    const Align* t, const floating* features, floating* out, Py_ssize_t first, Py_ssize_t stop
) noexcept nogil:
    """Pool the RoIs order[first : stop]."""
    cdef Py_ssize_t k, r, i, j
    cdef const floating* image
    cdef const int* starts_y
    cdef const int* starts_x
    for k in range(first, stop):
        r = t.order[k]
        image = features + <Py_ssize_t>t.images[r] * t.height * t.width * t.channels
        starts_y = t.y.starts + r * (t.y.bins + 1)
        starts_x = t.x.starts + r * (t.x.bins + 1)
        for i in range(t.y.bins):
            for j in range(t.x.bins):
                align_bin(
                    image, <const floating*>t.zeros, t.width, t.channels,
                    out + ((t.at[r] * t.y.bins + i) * t.x.bins + j) * t.channels,
                    t.y.places + r * t.y.most + starts_y[i],
                    <const floating*>t.y.weights + r * t.y.most + starts_y[i], starts_y[i + 1] - starts_y[i],
                    t.x.places + r * t.x.most + starts_x[j],
                    <const floating*>t.x.weights + r * t.x.most + starts_x[j], starts_x[j + 1] - starts_x[j],
                )


cdef inline void align_bin(
    const floating* features, const floating* zeros, Py_ssize_t width, Py_ssize_t channels, floating* out,
    const int* rows, const floating* weights_y, Py_ssize_t count_y,
    const int* columns, const floating* weights_x, Py_ssize_t count_x,
) noexcept nogil:
    """Fill `out` (channels,) with the weighted sum of the taps of a bin, or with 0 if the bin has no taps.

    Eight taps are summed at a time. If there are fewer, zeros are added. They must not be read from the features,
    because 0 * inf is NaN.
    """
    cdef const floating* places[TOGETHER]
    cdef floating[TOGETHER] weights
    cdef Py_ssize_t a, b, count = 0
    cdef bint fresh = True
    if count_y == 0 or count_x == 0:
        memset(out, 0, channels * sizeof(floating))
        return
    for a in range(count_y):
        for b in range(count_x):
            places[count] = features + (rows[a] * width + columns[b]) * channels
            weights[count] = weights_y[a] * weights_x[b]
            count += 1
            if count == TOGETHER:
                sum_taps(places, weights, out, channels, fresh)
                fresh, count = False, 0
    if count > 0:
        for a in range(count, TOGETHER):
            places[a] = zeros
            weights[a] = 0
        sum_taps(places, weights, out, channels, fresh)


cdef inline void sum_taps(
    const floating** places, const floating* w, floating* out, Py_ssize_t channels, bint fresh
) noexcept nogil:
    """Write the weighted sum of eight taps to `out` (channels,) if `fresh` is True; otherwise, add it to `out`.

    The sum is written without a loop, so that it stays in a register and all compilers vectorise the loop over
    channels.
    """
    cdef const floating* p0 = places[0]
    cdef const floating* p1 = places[1]
    cdef const floating* p2 = places[2]
    cdef const floating* p3 = places[3]
    cdef const floating* p4 = places[4]
    cdef const floating* p5 = places[5]
    cdef const floating* p6 = places[6]
    cdef const floating* p7 = places[7]
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
    """Fill `out` (N, H, W, C) with the gradient with respect to the features, given `grad` (R, ph, pw, C).

    `out` is computed in bands of `band` rows. A band that fits into the second-level cache stays there while all RoIs
    that overlap it are added. Each element of the result is then written to memory only once.
    """
    cdef Align task
    if out.size == 0:
        return
    if grad.size == 0:
        memset(&out[0, 0, 0, 0], 0, out.size * sizeof(floating))
        return
    task = Align(
        y=Taps(&starts_y[0, 0], &rows[0, 0], &weights_y[0, 0], grad.shape[1], rows.shape[1]),
        x=Taps(&starts_x[0, 0], &columns[0, 0], &weights_x[0, 0], grad.shape[2], columns.shape[1]),
        images=&images[0], order=NULL, at=NULL, features=&out[0, 0, 0, 0], pooled=<void*>&grad[0, 0, 0, 0],
        zeros=NULL, height=out.shape[1], width=out.shape[2], channels=out.shape[3], rois=grad.shape[0], band=band,
    )
    with nogil:
        parallel_for(
            bands_float if floating is float else bands_double, &task,
            out.shape[0] * ((out.shape[1] + band - 1) // band), threads,
        )


cdef void bands_float(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Align* t = <Align*>task
    align_bands_backward(t, <float*>t.features, <const float*>t.pooled, first, stop)


cdef void bands_double(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Align* t = <Align*>task
    align_bands_backward(t, <double*>t.features, <const double*>t.pooled, first, stop)


cdef void align_bands_backward(
    const Align* t, floating* out, const floating* grad, Py_ssize_t first, Py_ssize_t stop
) noexcept nogil:
    """Fill the bands first .. stop - 1, which are numbered across all images."""
    cdef Py_ssize_t k, r, image, low, high, line = t.width * t.channels
    cdef Py_ssize_t bands = (t.height + t.band - 1) // t.band  # per image
    for k in range(first, stop):
        image = k // bands
        low = k % bands * t.band
        high = min(low + t.band, t.height)
        memset(out + (image * t.height + low) * line, 0, (high - low) * line * sizeof(floating))
        for r in range(t.rois):
            if t.images[r] == image:
                align_band_backward(
                    out + image * t.height * line, t.width, t.channels, low, high,
                    grad + r * t.y.bins * t.x.bins * t.channels, t.y.bins, t.x.bins,
                    t.y.starts + r * (t.y.bins + 1), t.y.places + r * t.y.most,
                    <const floating*>t.y.weights + r * t.y.most,
                    t.x.starts + r * (t.x.bins + 1), t.x.places + r * t.x.most,
                    <const floating*>t.x.weights + r * t.x.most,
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
    """Return the number of samples per bin along one axis; it is 0 if the RoI's corners are swapped."""
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
    """Write the maximum of each bin to `out` (R, ph, pw, C) and its position to `winners`; initially 0 and -1."""
    cdef Pool task
    if out.size == 0:
        return
    task = Pool(
        &images[0], &top[0, 0], &bottom[0, 0], &left[0, 0], &right[0, 0], <void*>&features[0, 0, 0, 0],
        &out[0, 0, 0, 0], &winners[0, 0, 0, 0], features.shape[1] * features.shape[2] * features.shape[3],
        features.shape[2], features.shape[3], out.shape[1], out.shape[2], out.shape[0], 0,
    )
    with nogil:
        parallel_for(pool_float if floating is float else pool_double, &task, out.shape[0], threads)


cdef void pool_float(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pool* t = <Pool*>task
    pool_rois(t, <const float*>t.features, <float*>t.pooled, first, stop)


cdef void pool_double(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pool* t = <Pool*>task
    pool_rois(t, <const double*>t.features, <double*>t.pooled, first, stop)


cdef void pool_rois(
    const Pool* t, const floating* features, floating* out, Py_ssize_t first, Py_ssize_t stop
) noexcept nogil:
    """Pool the RoIs first .. stop - 1."""
    cdef Py_ssize_t r, i, j, bin
    for r in range(first, stop):
        for i in range(t.bins_y):
            for j in range(t.bins_x):
                bin = (r * t.bins_y + i) * t.bins_x + j
                pool_bin(
                    features + <Py_ssize_t>t.images[r] * t.size, t.width, t.channels,
                    <Py_ssize_t>t.top[r * t.bins_y + i], <Py_ssize_t>t.bottom[r * t.bins_y + i],
                    <Py_ssize_t>t.left[r * t.bins_x + j], <Py_ssize_t>t.right[r * t.bins_x + j],
                    out + bin * t.channels, t.winners + bin * t.channels,
                )


cdef void pool_bin(
    const floating* features, Py_ssize_t width, Py_ssize_t channels,
    Py_ssize_t top, Py_ssize_t bottom, Py_ssize_t left, Py_ssize_t right, floating* out, int* winners,
) noexcept nogil:
    """Fill `out` and `winners` (channels,) unless the bin is empty. Of equal maxima, the first one wins.

    Both arrays are written unconditionally, with the old value if necessary, because a conditional write would not be
    vectorised.
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
    """Add each element of grad (R, ph, pw, C) to the pixel of `out` (N, H, W, C) that was the maximum."""
    cdef Pool task
    if grad.size == 0:
        return
    task = Pool(
        &images[0], NULL, NULL, NULL, NULL, &out[0, 0, 0, 0], <void*>&grad[0, 0, 0, 0], <int*>&winners[0, 0, 0, 0],
        out.shape[1] * out.shape[2] * out.shape[3], out.shape[2], out.shape[3], grad.shape[1], grad.shape[2],
        grad.shape[0], block_width(out.shape[3], threads),
    )
    with nogil:
        parallel_for(
            pool_backward_float if floating is float else pool_backward_double, &task,
            (task.channels + task.block - 1) // task.block, threads,
        )


cdef void pool_backward_float(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pool* t = <Pool*>task
    pool_channels_backward(t, <float*>t.features, <const float*>t.pooled, first, stop)


cdef void pool_backward_double(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pool* t = <Pool*>task
    pool_channels_backward(t, <double*>t.features, <const double*>t.pooled, first, stop)


cdef void pool_channels_backward(
    const Pool* t, floating* out, const floating* grad, Py_ssize_t first, Py_ssize_t stop
) noexcept nogil:
    """Add the gradients for the blocks first .. stop - 1 of channels."""
    cdef Py_ssize_t r, bin, c
    cdef const int* winners
    cdef floating* image
    for r in range(t.rois):
        image = out + <Py_ssize_t>t.images[r] * t.size
        for bin in range(r * t.bins_y * t.bins_x, (r + 1) * t.bins_y * t.bins_x):
            winners = t.winners + bin * t.channels
            for c in range(first * t.block, min(stop * t.block, t.channels)):
                if winners[c] >= 0:
                    image[winners[c] * t.channels + c] += grad[bin * t.channels + c]
