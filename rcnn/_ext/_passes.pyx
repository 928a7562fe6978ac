# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.elementwise`: memory-bound passes over feature maps. float32.

Maps are given as rows, (M, C): the channels of a pixel are contiguous. Each kernel does all its work in one pass, so
that no value is read twice unnecessarily. The innermost loops are plain, and compilers vectorise them. They are fast on
long rows; the driver puts several pixels into one row if there are few channels.

Threads share blocks of rows, whose sizes do not depend on the number of threads. Sums are computed block by block, and
NumPy adds the few sums of blocks in float64. So the bits of results do not depend on the number of threads, and
rounding errors grow with the length of a block, not with the size of the map.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy

cdef enum:
    BLOCK = 32768  # elements, approximately; the blocks of several arrays fit the second-level cache
    FEWEST = 4  # rows per block, because sums read four at a time
    MOST = 512  # rows per block; with more, sums would lose accuracy


def block_rows(Py_ssize_t width):
    """Return the number of rows of `width` elements per block."""
    return rows_of(width)


cdef Py_ssize_t rows_of(Py_ssize_t width) noexcept nogil:
    return min(max(FEWEST, BLOCK // max(width, 1)), MOST)


cdef const float* given(const float[:, ::1] rows, Py_ssize_t first) noexcept nogil:
    """Return the address of row number `first`; NULL if rows is None."""
    if rows is None:
        return NULL
    return &rows[first, 0]


# ---------------------------------------------------------------- activations


def relu(const float[::1] x, float slope, float[::1] out, int threads):
    """Fill out with x where it is above 0 and slope * x elsewhere, which is 0 for a slope of 0; NaN stays NaN."""
    cdef Py_ssize_t block, size = x.shape[0]
    if size == 0:
        return
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        relu_block(&x[block * BLOCK], slope, &out[block * BLOCK], min(BLOCK, size - block * BLOCK))


cdef void relu_block(const float* x, float slope, float* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    if slope == 0:  # a separate loop, because 0 times infinity is not 0
        for i in range(count):
            out[i] = 0 if x[i] < 0 else x[i]
    else:
        for i in range(count):
            out[i] = slope * x[i] if x[i] < 0 else x[i]


def leaky_relu_gradient(const float[::1] g, const float[::1] x, float slope, float[::1] out, int threads):
    """Fill out with g where x is above 0 and slope * g elsewhere."""
    cdef Py_ssize_t block, size = x.shape[0]
    if size == 0:
        return
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        leaky_relu_gradient_block(
            &g[block * BLOCK], &x[block * BLOCK], slope, &out[block * BLOCK], min(BLOCK, size - block * BLOCK)
        )


cdef void leaky_relu_gradient_block(
    const float* g, const float* x, float slope, float* out, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = g[i] if x[i] > 0 else slope * g[i]


def relu_gradient(
    const float[:, ::1] g,
    const float[:, ::1] out,
    const float[::1] scale,
    float[:, ::1] plain,
    float[:, ::1] scaled,
    int threads,
):
    """Fill plain (M, C) with g where out is above 0, else 0; and scaled with the same times scale (C,).

    Either may be None; scale must be None if `scaled` is.
    """
    cdef Py_ssize_t width = g.shape[1], count = rows_of(width), block
    cdef const float* factor = NULL
    if g.shape[0] * width == 0:
        return
    if scale is not None:
        factor = &scale[0]
    for block in prange((g.shape[0] + count - 1) // count, nogil=True, num_threads=threads, schedule="static"):
        relu_gradient_block(
            &g[block * count, 0], &out[block * count, 0], factor,
            <float*>given(plain, block * count), <float*>given(scaled, block * count),
            min(count, g.shape[0] - block * count), width,
        )


cdef void relu_gradient_block(
    const float* g, const float* out, const float* scale, float* plain, float* scaled, Py_ssize_t rows,
    Py_ssize_t width,
) noexcept nogil:
    cdef Py_ssize_t row, c, i
    cdef float value  # read unconditionally: not every processor can vectorise a conditional read
    if scaled == NULL:
        for i in range(rows * width):
            value = g[i]
            plain[i] = value if out[i] > 0 else 0
        return
    for row in range(rows):
        if plain == NULL:
            for c in range(width):
                value = g[row * width + c] * scale[c]
                scaled[row * width + c] = value if out[row * width + c] > 0 else 0
        else:
            for c in range(width):
                value = g[row * width + c]
                value = value if out[row * width + c] > 0 else 0
                plain[row * width + c] = value
                scaled[row * width + c] = value * scale[c]


# ---------------------------------------------------------------- sums of arrays


def add(const float[::1] a, const float[::1] b, float[::1] out, int threads):
    """Fill out with a + b; out may be a or b."""
    cdef Py_ssize_t block, size = a.shape[0]
    if size == 0:
        return
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        add_block(&a[block * BLOCK], &b[block * BLOCK], &out[block * BLOCK], min(BLOCK, size - block * BLOCK))


cdef void add_block(const float* a, const float* b, float* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = a[i] + b[i]


# ---------------------------------------------------------------- rows of arrays


def take_rows(const float[:, ::1] rows, const long long[::1] places, float[:, ::1] out, int threads):
    """Copy row places[i] of rows to row i of out."""
    cdef Py_ssize_t i
    if out.size == 0:
        return
    for i in prange(out.shape[0], nogil=True, num_threads=threads, schedule="static"):
        memcpy(&out[i, 0], &rows[places[i], 0], out.shape[1] * sizeof(float))


# ---------------------------------------------------------------- sums over pixels


def block_sums(const float[:, ::1] rows, float[:, ::1] sums, int threads):
    """Fill sums (blocks, C) with the sums over the rows of each block."""
    cdef Py_ssize_t width = rows.shape[1], count = rows_of(width), block
    sums[:] = 0
    if rows.shape[0] * width == 0:
        return
    for block in prange(sums.shape[0], nogil=True, num_threads=threads, schedule="static"):
        add_rows(&rows[block * count, 0], min(count, rows.shape[0] - block * count), width, &sums[block, 0])


def block_moments(const float[:, ::1] rows, float[:, ::1] sums, float[:, ::1] squares, int threads):
    """Fill sums (blocks, C) as `block_sums`, and squares with the sums of (x - the block's mean)^2.

    A block is read twice, the second time from the cache. The usual formula sum(x^2) - sum(x)^2 / M would lose accuracy
    by cancellation if the variance is small compared with the mean.
    """
    cdef Py_ssize_t width = rows.shape[1], count = rows_of(width), block, some
    sums[:] = 0
    squares[:] = 0
    if rows.shape[0] * width == 0:
        return
    for block in prange(sums.shape[0], nogil=True, num_threads=threads, schedule="static"):
        some = min(count, rows.shape[0] - block * count)
        add_rows(&rows[block * count, 0], some, width, &sums[block, 0])
        add_squares(&rows[block * count, 0], some, width, &sums[block, 0], &squares[block, 0])


cdef void add_rows(const float* rows, Py_ssize_t count, Py_ssize_t width, float* total) noexcept nogil:
    """Add rows (count, width) to total (width,), four at a time: fewer additions depend on the one before."""
    cdef Py_ssize_t row, c
    cdef const float* a
    cdef const float* b
    for row in range(0, count - 3, 4):
        a = rows + row * width
        b = a + 2 * width
        for c in range(width):
            total[c] += (a[c] + a[width + c]) + (b[c] + b[width + c])
    for row in range(count // 4 * 4, count):
        for c in range(width):
            total[c] += rows[row * width + c]


cdef void add_squares(
    const float* rows, Py_ssize_t count, Py_ssize_t width, const float* sums, float* total
) noexcept nogil:
    """Add the squares of rows (count, width) minus their mean, sums / count, to total (width,)."""
    cdef Py_ssize_t row, c
    cdef float mean, a, b, share = 1.0 / count
    cdef const float* x
    for row in range(0, count - 1, 2):
        x = rows + row * width
        for c in range(width):
            mean = sums[c] * share
            a = x[c] - mean
            b = x[width + c] - mean
            total[c] += a * a + b * b
    if count % 2:
        x = rows + (count - 1) * width
        for c in range(width):
            a = x[c] - sums[c] * share
            total[c] += a * a


# ---------------------------------------------------------------- normalisation


def normalise(
    const float[:, ::1] x,
    const float[::1] mean,
    const float[::1] gain,
    const float[::1] bias,
    const float[:, ::1] residual,
    bint relu,
    float[:, ::1] out,
    int threads,
):
    """Fill out (M, C) with (x - mean) * gain + bias + residual, and with `relu` its positive part.

    mean, gain and bias are (C,); residual may be None.
    """
    cdef Py_ssize_t width = x.shape[1], count = rows_of(width), block
    if x.shape[0] * width == 0:
        return
    for block in prange((x.shape[0] + count - 1) // count, nogil=True, num_threads=threads, schedule="static"):
        normalise_block(
            &x[block * count, 0], &mean[0], &gain[0], &bias[0],
            given(residual, block * count), relu, &out[block * count, 0],
            min(count, x.shape[0] - block * count), width,
        )


cdef void normalise_block(
    const float* x, const float* mean, const float* gain, const float* bias, const float* residual, bint relu,
    float* out, Py_ssize_t rows, Py_ssize_t width,
) noexcept nogil:
    cdef Py_ssize_t _row, c
    cdef float value
    for _row in range(rows):
        for c in range(width):
            value = (x[c] - mean[c]) * gain[c] + bias[c]
            if residual != NULL:
                value += residual[c]
            out[c] = 0 if relu and value < 0 else value
        x += width
        out += width
        if residual != NULL:
            residual += width


def normalise_sums(
    const float[:, ::1] g,
    const float[:, ::1] x,
    const float[::1] mean,
    const float[:, ::1] out,
    float[:, ::1] passed,
    float[:, ::1] sums,
    float[:, ::1] products,
    int threads,
):
    """Fill sums (blocks, C) with the sums of g over the rows of each block, products with those of g * (x - mean).

    If `out` is given, g is set to 0 where out is not above 0; the result is stored in `passed` unless that is None.
    """
    cdef Py_ssize_t width = g.shape[1], count = rows_of(width), block
    sums[:] = 0
    products[:] = 0
    if g.shape[0] * width == 0:
        return
    for block in prange(sums.shape[0], nogil=True, num_threads=threads, schedule="static"):
        normalise_sums_block(
            &g[block * count, 0], &x[block * count, 0], &mean[0], given(out, block * count),
            <float*>given(passed, block * count), &sums[block, 0], &products[block, 0],
            min(count, g.shape[0] - block * count), width,
        )


cdef void normalise_sums_block(
    const float* g, const float* x, const float* mean, const float* out, float* passed, float* sums, float* products,
    Py_ssize_t rows, Py_ssize_t width,
) noexcept nogil:
    cdef Py_ssize_t _row, c
    cdef float value
    if passed != NULL:  # a separate loop: compilers do not vectorise one with so many stores
        relu_gradient_block(g, out, NULL, passed, NULL, rows, width)
        g = passed
        out = NULL
    for _row in range(rows):
        if out == NULL:
            for c in range(width):
                sums[c] += g[c]
                products[c] += g[c] * (x[c] - mean[c])
        else:
            for c in range(width):
                value = g[c]
                value = value if out[c] > 0 else 0
                sums[c] += value
                products[c] += value * (x[c] - mean[c])
            out += width
        g += width
        x += width


def normalise_gradient(
    const float[:, ::1] g,
    const float[:, ::1] x,
    const float[::1] mean,
    const float[:, ::1] out,
    const float[::1] gain,
    const float[::1] shift,
    const float[::1] slope,
    float[:, ::1] g_x,
    int threads,
):
    """Fill g_x (M, C) with (g - shift - (x - mean) * slope) * gain; g is 0 where `out`, if given, is not above 0."""
    cdef Py_ssize_t width = g.shape[1], count = rows_of(width), block
    if g.shape[0] * width == 0:
        return
    for block in prange((g.shape[0] + count - 1) // count, nogil=True, num_threads=threads, schedule="static"):
        normalise_gradient_block(
            &g[block * count, 0], &x[block * count, 0], &mean[0], given(out, block * count),
            &gain[0], &shift[0], &slope[0], &g_x[block * count, 0], min(count, g.shape[0] - block * count), width,
        )


cdef void normalise_gradient_block(
    const float* g, const float* x, const float* mean, const float* out, const float* gain, const float* shift,
    const float* slope, float* g_x, Py_ssize_t rows, Py_ssize_t width,
) noexcept nogil:
    cdef Py_ssize_t _row, c
    cdef float value
    for _row in range(rows):
        if out == NULL:
            for c in range(width):
                g_x[c] = (g[c] - shift[c] - (x[c] - mean[c]) * slope[c]) * gain[c]
        else:
            for c in range(width):
                value = g[c]
                value = value if out[c] > 0 else 0
                g_x[c] = (value - shift[c] - (x[c] - mean[c]) * slope[c]) * gain[c]
            out += width
        g += width
        x += width
        g_x += width
