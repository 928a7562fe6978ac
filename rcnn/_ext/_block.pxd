# cython: language_level=3
"""The register block of `_block.h`, for the kernels that use it."""

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
        int relu
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


cdef inline void gather_filters(
    const float[:, :, :, :] weight, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop, float* to
) noexcept nogil:
    """Fill to (stop - start, LANES) with weights start .. stop of LANES filters, from the first on, side by side.

    Weights are numbered as in a filter of weight (O, C, kh, kw). Filters beyond the last one are zeros.
    """
    cdef Py_ssize_t distance = weight.strides[0] // 4, rows = max(0, min(LANES, weight.shape[0] - first))
    cdef Py_ssize_t width = weight.shape[3], places = weight.shape[2] * width, k, r
    cdef bint neighbours = (
        weight.strides[3] == 4 and weight.strides[2] == 4 * width and weight.strides[1] == 4 * places
    )
    cdef const float* source
    if neighbours and rows:
        source = &weight[first, 0, 0, 0]
        k = start
        while k < stop:
            transpose(source + k, distance, rows, min(LANES, stop - k), to + (k - start) * LANES)
            k += LANES
        return
    for k in range(start, stop):  # rotated filters, for a gradient
        source = &weight[min(first, weight.shape[0] - 1), k // places, k % places // width, k % width]
        for r in range(LANES):
            to[(k - start) * LANES + r] = source[r * distance] if r < rows else 0
