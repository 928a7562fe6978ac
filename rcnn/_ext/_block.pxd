# cython: language_level=3
"""The register block of `_block.h`, for the kernels that stand on it."""

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
