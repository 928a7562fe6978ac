# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.elementwise` for float32: memory-bound passes over feature maps.

Maps are passed as matrices (M, C) with one row per pixel. Each kernel does all its work in one pass, so that no value
is read twice unnecessarily. The innermost loops are simple enough for compilers to vectorise. They are fast if the rows
are long. If there are few channels, the driver puts several pixels into one row.

The rows are divided into blocks, and the blocks among the threads. The sizes of the blocks do not depend on the number
of threads. Sums are computed block by block, and NumPy adds the sums of the blocks in float64. Therefore, the results
are bit-identical for any number of threads, and rounding errors grow with the length of a block, not with the size of
the map.
"""

from libc.string cimport memcpy, memset

from rcnn._ext._threads cimport parallel_for

cdef enum:
    BLOCK = 32768  # elements, approximately; blocks of several arrays fit into the second-level cache
    FEWEST = 4  # the fewest rows per block, because sums read four rows at a time
    MOST = 512  # the most rows per block; with more rows, sums would lose accuracy
    RELU6 = 2  # the activations of `activate`, numbered as in `_vectors.h`
    HARD_SWISH = 3


def block_rows(Py_ssize_t width):
    """Return the number of rows of `width` elements per block."""
    return rows_of(width)


cdef Py_ssize_t rows_of(Py_ssize_t width) noexcept nogil:
    return min(max(FEWEST, BLOCK // max(width, 1)), MOST)


cdef inline const float* address(const float[:, ::1] rows) noexcept nogil:
    """Return the address of the first element, or NULL if `rows` is None."""
    if rows is None:
        return NULL
    return &rows[0, 0]


cdef inline const float* at(const float* rows, Py_ssize_t offset) noexcept nogil:
    """Return rows + offset, or NULL if `rows` is NULL."""
    if rows == NULL:
        return NULL
    return rows + offset


cdef inline Py_ssize_t blocks(Py_ssize_t size) noexcept nogil:
    """Return the number of blocks of `size` elements."""
    return (size + BLOCK - 1) // BLOCK


cdef inline Py_ssize_t length(Py_ssize_t block, Py_ssize_t size) noexcept nogil:
    """Return the number of elements in this block."""
    return min(BLOCK, size - block * BLOCK)


cdef struct Flat:
    # Arrays of `size` elements: out is computed from a and, if given, b.
    const float* a
    const float* b
    float slope
    float* out
    Py_ssize_t size
    int activation


cdef struct Rows:
    # Arrays of rows (rows, width), in blocks of `count` rows; arrays that a kernel does not use are NULL.
    Py_ssize_t rows, width, count
    const float* g  # (rows, width) a gradient
    const float* x  # (rows, width)
    const float* forward  # (rows, width) the result of the forward pass, after ReLU
    const float* residual  # (rows, width)
    float* out  # (rows, width)
    float* scaled  # (rows, width)
    float* sums  # (blocks, width)
    float* products  # (blocks, width)
    const float* mean  # (width,), like all following arrays
    const float* gain
    const float* bias
    const float* shift
    const float* slope
    bint relu


cdef inline Rows rows_of_width(Py_ssize_t rows, Py_ssize_t width) noexcept nogil:
    cdef Rows t
    memset(&t, 0, sizeof(t))
    t.rows = rows
    t.width = width
    t.count = rows_of(width)
    return t


cdef inline Py_ssize_t row_blocks(const Rows* t) noexcept nogil:
    """Return the number of blocks."""
    return (t.rows + t.count - 1) // t.count


cdef inline Py_ssize_t block_length(const Rows* t, Py_ssize_t block) noexcept nogil:
    """Return the number of rows in this block."""
    return min(t.count, t.rows - block * t.count)


# ---------------------------------------------------------------- activations


def relu(const float[::1] x, float slope, float[::1] out, int threads):
    """Fill `out` with x where x > 0, and with slope * x elsewhere. If the slope is 0, this is 0. NaN stays NaN."""
    cdef Flat task
    if x.shape[0] == 0:
        return
    task = Flat(&x[0], NULL, slope, &out[0], x.shape[0], 0)
    with nogil:
        parallel_for(relu_blocks, &task, blocks(task.size), threads)


cdef void relu_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Flat* t = <Flat*>task
    cdef Py_ssize_t block
    for block in range(first, stop):
        relu_block(t.a + block * BLOCK, t.slope, t.out + block * BLOCK, length(block, t.size))


cdef void relu_block(const float* x, float slope, float* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    if slope == 0:  # a separate loop, because 0 times infinity is not 0
        for i in range(count):
            out[i] = 0 if x[i] < 0 else x[i]
    else:
        for i in range(count):
            out[i] = slope * x[i] if x[i] < 0 else x[i]


def leaky_relu_gradient(const float[::1] g, const float[::1] x, float slope, float[::1] out, int threads):
    """Fill `out` with g where x > 0, and with slope * g elsewhere."""
    cdef Flat task
    if x.shape[0] == 0:
        return
    task = Flat(&g[0], &x[0], slope, &out[0], x.shape[0], 0)
    with nogil:
        parallel_for(leaky_relu_gradient_blocks, &task, blocks(task.size), threads)


cdef void leaky_relu_gradient_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Flat* t = <Flat*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * BLOCK
        leaky_relu_gradient_block(t.a + place, t.b + place, t.slope, t.out + place, length(block, t.size))


cdef void leaky_relu_gradient_block(
    const float* g, const float* x, float slope, float* out, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = g[i] if x[i] > 0 else slope * g[i]


def activate(const float[::1] x, int activation, float[::1] out, int threads):
    """Fill `out` with the activation of x: RELU6 or HARD_SWISH. NaN stays NaN."""
    cdef Flat task
    if x.shape[0] == 0:
        return
    task = Flat(&x[0], NULL, 0, &out[0], x.shape[0], activation)
    with nogil:
        parallel_for(activate_blocks, &task, blocks(task.size), threads)


cdef void activate_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Flat* t = <Flat*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * BLOCK
        activate_block(t.a + place, t.activation, t.out + place, length(block, t.size))


cdef void activate_block(const float* x, int activation, float* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    if activation == RELU6:
        for i in range(count):
            out[i] = relu6(x[i])
    elif activation == HARD_SWISH:
        for i in range(count):
            out[i] = x[i] * relu6(x[i] + 3) * <float>(1.0 / 6)


cdef inline float relu6(float x) noexcept nogil:
    x = 0 if x < 0 else x
    return 6 if x > 6 else x


def activation_gradient(const float[::1] g, const float[::1] x, int activation, float[::1] out, int threads):
    """Fill `out` with the gradient with respect to x, given the gradient g with respect to the result of `activate`."""
    cdef Flat task
    if x.shape[0] == 0:
        return
    task = Flat(&g[0], &x[0], 0, &out[0], x.shape[0], activation)
    with nogil:
        parallel_for(activation_gradient_blocks, &task, blocks(task.size), threads)


cdef void activation_gradient_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Flat* t = <Flat*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * BLOCK
        activation_gradient_block(t.a + place, t.b + place, t.activation, t.out + place, length(block, t.size))


cdef void activation_gradient_block(
    const float* g, const float* x, int activation, float* out, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float value, slope
    if activation == RELU6:
        for i in range(count):
            value = g[i]
            out[i] = value if (x[i] > 0) & (x[i] < 6) else 0
    elif activation == HARD_SWISH:
        for i in range(count):
            slope = x[i] * <float>(1.0 / 3) + <float>0.5
            slope = 0 if x[i] <= -3 else slope
            slope = 1 if x[i] >= 3 else slope
            out[i] = g[i] * slope


def relu_gradient(
    const float[:, ::1] g,
    const float[:, ::1] out,
    const float[::1] scale,
    float[:, ::1] plain,
    float[:, ::1] scaled,
    int threads,
):
    """Fill `plain` (M, C) with g where out > 0, and with 0 elsewhere. Fill `scaled` with these values times scale (C,).

    `plain` or `scaled` may be None. If `scaled` is None, `scale` must also be None.
    """
    cdef Rows task = rows_of_width(g.shape[0], g.shape[1])
    if task.rows * task.width == 0:
        return
    task.g = &g[0, 0]
    task.forward = &out[0, 0]
    if scale is not None:
        task.gain = &scale[0]
    task.out = <float*>address(plain)
    task.scaled = <float*>address(scaled)
    with nogil:
        parallel_for(relu_gradient_blocks, &task, row_blocks(&task), threads)


cdef void relu_gradient_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Rows* t = <Rows*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * t.count * t.width
        relu_gradient_block(
            t.g + place, t.forward + place, t.gain, <float*>at(t.out, place), <float*>at(t.scaled, place),
            block_length(t, block), t.width,
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
    """Fill `out` with a + b. `out` may be a or b."""
    cdef Flat task
    if a.shape[0] == 0:
        return
    task = Flat(&a[0], &b[0], 0, &out[0], a.shape[0], 0)
    with nogil:
        parallel_for(add_blocks, &task, blocks(task.size), threads)


cdef void add_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Flat* t = <Flat*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * BLOCK
        add_block(t.a + place, t.b + place, t.out + place, length(block, t.size))


cdef void add_block(const float* a, const float* b, float* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = a[i] + b[i]


# ---------------------------------------------------------------- rows of arrays


def take_rows(const float[:, ::1] rows, const Py_ssize_t[::1] places, float[:, ::1] out, int threads):
    """Copy row places[i] of `rows` to row i of `out`."""
    cdef Taking task
    if out.size == 0:
        return
    task = Taking(&rows[0, 0], &places[0], &out[0, 0], out.shape[1])
    with nogil:
        parallel_for(take_some_rows, &task, out.shape[0], threads)


cdef struct Taking:
    const float* rows
    const Py_ssize_t* places
    float* out
    Py_ssize_t width


cdef void take_some_rows(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Taking* t = <Taking*>task
    cdef Py_ssize_t i
    for i in range(first, stop):
        memcpy(t.out + i * t.width, t.rows + t.places[i] * t.width, t.width * sizeof(float))


# ---------------------------------------------------------------- sums over pixels


def block_sums(const float[:, ::1] rows, float[:, ::1] sums, int threads):
    """Fill `sums` (blocks, C) with the sums over the rows of each block."""
    cdef Rows task = rows_of_width(rows.shape[0], rows.shape[1])
    sums[:] = 0
    if task.rows * task.width == 0:
        return
    task.x = &rows[0, 0]
    task.sums = &sums[0, 0]
    with nogil:
        parallel_for(sum_blocks, &task, sums.shape[0], threads)


cdef void sum_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Rows* t = <Rows*>task
    cdef Py_ssize_t block
    for block in range(first, stop):
        add_rows(t.x + block * t.count * t.width, block_length(t, block), t.width, t.sums + block * t.width)


def block_moments(const float[:, ::1] rows, float[:, ::1] sums, float[:, ::1] squares, int threads):
    """Fill `sums` (blocks, C) as `block_sums` does, and `squares` with the sums of (x - the block's mean)^2.

    A block is read twice, the second time from the cache. The usual formula sum(x^2) - sum(x)^2 / M would lose accuracy
    by cancellation if the variance is small compared with the mean.
    """
    cdef Rows task = rows_of_width(rows.shape[0], rows.shape[1])
    sums[:] = 0
    squares[:] = 0
    if task.rows * task.width == 0:
        return
    task.x = &rows[0, 0]
    task.sums = &sums[0, 0]
    task.products = &squares[0, 0]
    with nogil:
        parallel_for(moment_blocks, &task, sums.shape[0], threads)


cdef void moment_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Rows* t = <Rows*>task
    cdef Py_ssize_t block, count
    cdef const float* x
    cdef float* sums
    for block in range(first, stop):
        x = t.x + block * t.count * t.width
        sums = t.sums + block * t.width
        count = block_length(t, block)
        add_rows(x, count, t.width, sums)
        add_squares(x, count, t.width, sums, t.products + block * t.width)


cdef void add_rows(const float* rows, Py_ssize_t count, Py_ssize_t width, float* total) noexcept nogil:
    """Add `rows` (count, width) to `total` (width,), four rows at a time, so that fewer additions wait for another."""
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
    """Add (row - mean)^2 of each row in `rows` (count, width) to `total` (width,). The mean is sums / count."""
    cdef Py_ssize_t row, c
    cdef float mean, a, b, share = <float>(1.0 / count)
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
    """Fill `out` (M, C) with (x - mean) * gain + bias + residual. With `relu`, negative elements become 0.

    `mean`, `gain` and `bias` have shape (C,). `residual` may be None.
    """
    cdef Rows task = rows_of_width(x.shape[0], x.shape[1])
    if task.rows * task.width == 0:
        return
    task.x = &x[0, 0]
    task.mean = &mean[0]
    task.gain = &gain[0]
    task.bias = &bias[0]
    task.residual = address(residual)
    task.relu = relu
    task.out = &out[0, 0]
    with nogil:
        parallel_for(normalise_blocks, &task, row_blocks(&task), threads)


cdef void normalise_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Rows* t = <Rows*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * t.count * t.width
        normalise_block(
            t.x + place, t.mean, t.gain, t.bias, at(t.residual, place), t.relu, t.out + place,
            block_length(t, block), t.width,
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
    """Fill `sums` (blocks, C) with the sums of g over each block, and `products` with those of g * (x - mean).

    If `out` is given, g is first set to 0 unless out > 0. This g is stored in `passed` unless `passed` is None.
    """
    cdef Rows task = rows_of_width(g.shape[0], g.shape[1])
    sums[:] = 0
    products[:] = 0
    if task.rows * task.width == 0:
        return
    task.g = &g[0, 0]
    task.x = &x[0, 0]
    task.mean = &mean[0]
    task.forward = address(out)
    task.out = <float*>address(passed)
    task.sums = &sums[0, 0]
    task.products = &products[0, 0]
    with nogil:
        parallel_for(normalise_sums_blocks, &task, sums.shape[0], threads)


cdef void normalise_sums_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Rows* t = <Rows*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * t.count * t.width
        normalise_sums_block(
            t.g + place, t.x + place, t.mean, at(t.forward, place), <float*>at(t.out, place),
            t.sums + block * t.width, t.products + block * t.width, block_length(t, block), t.width,
        )


cdef void normalise_sums_block(
    const float* g, const float* x, const float* mean, const float* out, float* passed, float* sums, float* products,
    Py_ssize_t rows, Py_ssize_t width,
) noexcept nogil:
    cdef Py_ssize_t _row, c
    cdef float value
    if passed != NULL:  # a separate loop, because compilers do not vectorise loops with many stores
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
    """Fill `g_x` (M, C) with (g - shift - (x - mean) * slope) * gain. If `out` is given, g is 0 unless out > 0."""
    cdef Rows task = rows_of_width(g.shape[0], g.shape[1])
    if task.rows * task.width == 0:
        return
    task.g = &g[0, 0]
    task.x = &x[0, 0]
    task.mean = &mean[0]
    task.forward = address(out)
    task.gain = &gain[0]
    task.shift = &shift[0]
    task.slope = &slope[0]
    task.out = &g_x[0, 0]
    with nogil:
        parallel_for(normalise_gradient_blocks, &task, row_blocks(&task), threads)


cdef void normalise_gradient_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Rows* t = <Rows*>task
    cdef Py_ssize_t block, place
    for block in range(first, stop):
        place = block * t.count * t.width
        normalise_gradient_block(
            t.g + place, t.x + place, t.mean, at(t.forward, place), t.gain, t.shift, t.slope, t.out + place,
            block_length(t, block), t.width,
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
