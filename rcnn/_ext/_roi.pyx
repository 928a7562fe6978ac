# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.roi`: RoIAlign and RoIPool, forwards and backwards. Features are (N, H, W, C).

Channels lie next to each other, so every sample is a sum of contiguous vectors. Coordinates are computed in the
precision of the features (`floating`), literals included: a plain 0.5 is a double, and one double turns a float32
expression into a double one that rounds elsewhere than the answer to be matched.

Forwards, the threads share the RoIs, whose results are apart. Backwards, RoIs overlap; there the threads share the
channels instead, and each goes through all RoIs in order. So no two threads write to the same number, every number
receives its terms in the same order whatever the number of threads, and nothing is locked.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ceil

cdef enum:
    LINE = 16  # channels: float32 values in a cache line, which two threads should not share


# ---------------------------------------------------------------- RoIAlign


def roi_align(
    const floating[:, :, :, ::1] features,
    const floating[:, ::1] rois,
    const long long[::1] images,
    floating[:, :, :, ::1] out,
    floating spatial_scale,
    Py_ssize_t sampling_ratio,
    bint aligned,
    int threads,
):
    """Fills out (R, ph, pw, C)."""
    cdef Py_ssize_t r
    if out.size == 0:
        return
    for r in prange(rois.shape[0], nogil=True, num_threads=threads, schedule="dynamic"):
        align_roi(
            &features[images[r], 0, 0, 0], features.shape[1], features.shape[2], features.shape[3],
            &rois[r, 0], &out[r, 0, 0, 0], out.shape[1], out.shape[2], spatial_scale, sampling_ratio, aligned,
        )


def roi_align_backward(
    const floating[:, :, :, ::1] grad,
    const floating[:, ::1] rois,
    const long long[::1] images,
    floating[:, :, :, ::1] out,
    floating spatial_scale,
    Py_ssize_t sampling_ratio,
    bint aligned,
    int threads,
):
    """Adds to out (N, H, W, C) what grad (R, ph, pw, C) makes of it."""
    cdef Py_ssize_t block, first, r
    cdef Py_ssize_t channels = out.shape[3], width = block_width(channels, threads)
    if grad.size == 0:
        return
    for block in prange((channels + width - 1) // width, nogil=True, num_threads=threads, schedule="static"):
        first = block * width
        for r in range(rois.shape[0]):
            align_roi_backward(
                &out[images[r], 0, 0, first], out.shape[1], out.shape[2], channels, min(width, channels - first),
                &rois[r, 0], &grad[r, 0, 0, first], grad.shape[1], grad.shape[2],
                spatial_scale, sampling_ratio, aligned,
            )


cdef void align_roi(
    const floating* features, Py_ssize_t height, Py_ssize_t width, Py_ssize_t channels,
    const floating* roi, floating* out, Py_ssize_t bins_y, Py_ssize_t bins_x,
    floating scale, Py_ssize_t sampling_ratio, bint aligned,
) noexcept nogil:
    """Fills out (bins_y, bins_x, channels) from one image's features (height, width, channels)."""
    cdef floating start_y = axis_start(roi[1], scale, aligned)
    cdef floating start_x = axis_start(roi[0], scale, aligned)
    cdef floating step_y = axis_step(roi[1], roi[3], scale, aligned, bins_y)
    cdef floating step_x = axis_step(roi[0], roi[2], scale, aligned, bins_x)
    cdef Py_ssize_t samples_y = axis_samples(step_y, sampling_ratio)
    cdef Py_ssize_t samples_x = axis_samples(step_x, sampling_ratio)
    cdef Py_ssize_t i, j, sy, sx, c, above, below, left, right
    cdef floating weight_y, weight_x, count = <floating>(samples_y * samples_x)
    cdef const floating* upper
    cdef const floating* lower
    for c in range(bins_y * bins_x * channels):
        out[c] = 0
    for i in range(bins_y):
        for sy in range(samples_y):
            if not locate(sample(start_y, step_y, i, sy, samples_y), height, &above, &below, &weight_y):
                continue
            upper = features + above * width * channels
            lower = features + below * width * channels
            for j in range(bins_x):
                for sx in range(samples_x):
                    if locate(sample(start_x, step_x, j, sx, samples_x), width, &left, &right, &weight_x):
                        add_sample(
                            out + (i * bins_x + j) * channels, channels,
                            upper + left * channels, (1 - weight_y) * (1 - weight_x),
                            upper + right * channels, (1 - weight_y) * weight_x,
                            lower + left * channels, weight_y * (1 - weight_x),
                            lower + right * channels, weight_y * weight_x,
                        )
    if samples_y * samples_x > 1:
        for c in range(bins_y * bins_x * channels):
            out[c] /= count


cdef void align_roi_backward(
    floating* out, Py_ssize_t height, Py_ssize_t width, Py_ssize_t channels, Py_ssize_t block,
    const floating* roi, const floating* grad, Py_ssize_t bins_y, Py_ssize_t bins_x,
    floating scale, Py_ssize_t sampling_ratio, bint aligned,
) noexcept nogil:
    """Adds the gradient of one RoI to `block` channels of out (height, width, channels): `align_roi` the other way."""
    cdef floating start_y = axis_start(roi[1], scale, aligned)
    cdef floating start_x = axis_start(roi[0], scale, aligned)
    cdef floating step_y = axis_step(roi[1], roi[3], scale, aligned, bins_y)
    cdef floating step_x = axis_step(roi[0], roi[2], scale, aligned, bins_x)
    cdef Py_ssize_t samples_y = axis_samples(step_y, sampling_ratio)
    cdef Py_ssize_t samples_x = axis_samples(step_x, sampling_ratio)
    cdef Py_ssize_t i, j, sy, sx, above, below, left, right
    cdef floating weight_y, weight_x, count = <floating>(samples_y * samples_x)
    cdef const floating* upstream
    cdef floating* upper
    cdef floating* lower
    for i in range(bins_y):
        for sy in range(samples_y):
            if not locate(sample(start_y, step_y, i, sy, samples_y), height, &above, &below, &weight_y):
                continue
            upper = out + above * width * channels
            lower = out + below * width * channels
            for j in range(bins_x):
                upstream = grad + (i * bins_x + j) * channels
                for sx in range(samples_x):
                    if locate(sample(start_x, step_x, j, sx, samples_x), width, &left, &right, &weight_x):
                        add_scaled(upper + left * channels, upstream, (1 - weight_y) * (1 - weight_x) / count, block)
                        add_scaled(upper + right * channels, upstream, (1 - weight_y) * weight_x / count, block)
                        add_scaled(lower + left * channels, upstream, weight_y * (1 - weight_x) / count, block)
                        add_scaled(lower + right * channels, upstream, weight_y * weight_x / count, block)


cdef inline floating axis_start(floating low, floating scale, bint aligned) noexcept nogil:
    """Where a RoI begins along one axis, in feature pixels."""
    return low * scale - (<floating>0.5 if aligned else <floating>0)


cdef inline floating axis_step(
    floating low, floating high, floating scale, bint aligned, Py_ssize_t bins
) noexcept nogil:
    """The side of a bin along one axis, in feature pixels."""
    cdef floating side = axis_start(high, scale, aligned) - axis_start(low, scale, aligned)
    if not aligned and side < 1:
        side = 1
    return side / <floating>bins


cdef inline Py_ssize_t axis_samples(floating step, Py_ssize_t sampling_ratio) noexcept nogil:
    """Samples per bin along one axis; none if the RoI is upside down."""
    if sampling_ratio > 0:
        return sampling_ratio
    return <Py_ssize_t>ceil(step) if step > 0 else 0


cdef inline floating sample(
    floating start, floating step, Py_ssize_t bin, Py_ssize_t k, Py_ssize_t samples
) noexcept nogil:
    """The coordinate of the k-th sample of a bin along one axis."""
    return start + <floating>bin * step + (<floating>k + <floating>0.5) * step / <floating>samples


cdef inline bint locate(
    floating position, Py_ssize_t pixels, Py_ssize_t* low, Py_ssize_t* high, floating* weight_high
) noexcept nogil:
    """Whether a sample counts; fills the two pixels along one axis that it lies between and the weight of the second.
    """
    if not (position >= -1 and position <= pixels):
        return False
    if position < 0:
        position = 0
    low[0] = <Py_ssize_t>position
    if low[0] >= pixels - 1:
        low[0] = high[0] = pixels - 1
        weight_high[0] = 0
    else:
        high[0] = low[0] + 1
        weight_high[0] = position - <floating>low[0]
    return True


cdef inline void add_sample(
    floating* out, Py_ssize_t channels,
    const floating* a, floating weight_a, const floating* b, floating weight_b,
    const floating* c, floating weight_c, const floating* d, floating weight_d,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(channels):
        out[i] += weight_a * a[i] + weight_b * b[i] + weight_c * c[i] + weight_d * d[i]


cdef inline void add_scaled(floating* out, const floating* values, floating weight, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(channels):
        out[i] += weight * values[i]


cdef inline Py_ssize_t block_width(Py_ssize_t channels, int threads) noexcept nogil:
    """How many channels a thread takes: an equal share, in whole cache lines."""
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
    """Fills out and winners (R, ph, pw, C), which come holding 0 and -1, from the bins' bounds (R, ph) and (R, pw)."""
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
    """Fills out and winners (channels,); of equal maxima the first wins."""
    cdef Py_ssize_t y, x, c
    cdef int place
    cdef const floating* pixel
    for y in range(top, bottom):
        for x in range(left, right):
            place = <int>(y * width + x)
            pixel = features + place * channels
            for c in range(channels):
                if winners[c] < 0 or pixel[c] > out[c]:
                    out[c] = pixel[c]
                    winners[c] = place


def roi_pool_backward(
    const floating[:, :, :, ::1] grad,
    const long long[::1] images,
    const int[:, :, :, ::1] winners,
    floating[:, :, :, ::1] out,
    int threads,
):
    """Adds each of grad (R, ph, pw, C) to the pixel of out (N, H, W, C) that was the maximum."""
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
