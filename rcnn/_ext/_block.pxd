# cython: language_level=3
"""The register block of `_block.h`, for the kernels that use it."""

from libc.string cimport memcpy, memset

cdef extern from "_block.h" nogil:
    enum: ROWS
    enum: PANEL
    enum: LANES
    enum: LINE
    ctypedef struct Product:
        const float* input "in"
        const Py_ssize_t* tap
        Py_ssize_t taps
        Py_ssize_t run
        const float* panel
        float* out
        Py_ssize_t columns
        int begins
        int ends
        const float* scale
        const float* shift
        const float* residual
        int activation
        const float* soon
        int rate
    void product(
        const Product* p, const Py_ssize_t* at, const Py_ssize_t* to, int rows, const Py_ssize_t* ahead,
        const Py_ssize_t* next,
    ) noexcept
    void outer(
        const float* left, Py_ssize_t distance, const float* right, const Py_ssize_t* at, Py_ssize_t count,
        float* out, Py_ssize_t out_distance, int rows, Py_ssize_t columns,
    ) noexcept
    void transpose(
        const float* source, Py_ssize_t distance, Py_ssize_t rows, Py_ssize_t count, float* to
    ) noexcept


cdef struct Filters:
    # Weights (O, C, kh, kw) in any memory layout; steps are counted in elements.
    const float* weights
    Py_ssize_t count, channels, height, width
    Py_ssize_t step, channel_step, row_step, column_step


cdef inline Filters filters_of(const float[:, :, :, :] weight) noexcept:
    cdef Filters f
    f.weights = &weight[0, 0, 0, 0]
    f.count = weight.shape[0]
    f.channels = weight.shape[1]
    f.height = weight.shape[2]
    f.width = weight.shape[3]
    f.step = weight.strides[0] // 4
    f.channel_step = weight.strides[1] // 4
    f.row_step = weight.strides[2] // 4
    f.column_step = weight.strides[3] // 4
    return f


cdef inline void gather_filters(
    const Filters* f, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop, float* to
) noexcept nogil:
    """Fill `to` (stop - start, LANES) with the weights start .. stop - 1 of LANES filters, beginning with `first`.

    Weights are numbered as in a filter of weight (O, C, kh, kw). Filters beyond the last one are zeros.
    """
    cdef Py_ssize_t rows = max(0, min(LANES, f.count - first)), places = f.height * f.width, k = start, r, count
    cdef bint neighbours = f.column_step == 1 and f.row_step == f.width and f.channel_step == places
    cdef bint rotated = f.column_step == -1 and f.row_step == -f.width and places > 1
    cdef const float* source = f.weights + min(first, f.count - 1) * f.step
    cdef const float* value
    cdef float turned[LANES * LANES]
    while k < stop and rows:
        value = source + k // places * f.channel_step + k % places // f.width * f.row_step + k % f.width * f.column_step
        if neighbours:
            count = min(LANES, stop - k)
            transpose(value, f.step, rows, count, to)
        elif rotated:  # the weights of a channel are neighbours in reverse order
            count = min(LANES, min(stop - k, places - k % places))
            transpose(value - (count - 1), f.step, rows, count, turned)
            for r in range(count):
                memcpy(to + r * LANES, turned + (count - 1 - r) * LANES, LANES * sizeof(float))
        else:
            count = 1
            if f.step == 1 and rows == LANES:
                memcpy(to, value, LANES * sizeof(float))
            else:
                for r in range(LANES):
                    to[r] = value[r * f.step] if r < rows else 0
        to += count * LANES
        k += count
    if not rows:
        memset(to, 0, (stop - start) * LANES * sizeof(float))
