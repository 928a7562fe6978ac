# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn`: passes over feature maps and parameters, which memory limits rather than arithmetic. float32.

Maps come as rows, (M, C): the channels of a place lie next to each other. What a pass needs is done while it goes by,
so that nothing is read twice that need not be. The innermost loops are plain; compilers turn them into vector
instructions. They are quick on long rows; `passes` makes several places one row where there are few channels.

Threads share blocks of rows, whose sizes do not depend on how many threads there are. A sum is made block by block, and
the few sums of blocks are added by NumPy, in float64. So every result is the same to the bit for any number of threads,
and rounding grows with the length of a block, not with the size of the map.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport sqrtf
from libc.string cimport memcpy, memset

cdef enum:
    BLOCK = 32768  # numbers, about: those of several arrays fit the second-level cache
    FEWEST = 4  # rows of a block, for sums take so many at a time;
    MOST = 512  # with more, sums would lose accuracy

block_size = BLOCK  # numbers of an array that is not seen as rows


def block_rows(Py_ssize_t width):
    """How many rows of `width` numbers make a block."""
    return rows_of(width)


cdef Py_ssize_t rows_of(Py_ssize_t width) noexcept nogil:
    return min(max(FEWEST, BLOCK // max(width, 1)), MOST)


cdef const float* given(const float[:, ::1] rows, Py_ssize_t first) noexcept nogil:
    """Where row number `first` begins; NULL if there are no rows."""
    if rows is None:
        return NULL
    return &rows[first, 0]


# ---------------------------------------------------------------- activations


def relu(const float[::1] x, float slope, float[::1] out, int threads):
    """Fills out with x where it is above 0 and slope * x elsewhere, which is 0 for a slope of 0; NaN for NaN."""
    cdef Py_ssize_t block, size = x.shape[0]
    if size == 0:
        return
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        relu_block(&x[block * BLOCK], slope, &out[block * BLOCK], min(BLOCK, size - block * BLOCK))


cdef void relu_block(const float* x, float slope, float* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    if slope == 0:  # of its own, for 0 times infinity is not 0
        for i in range(count):
            out[i] = 0 if x[i] < 0 else x[i]
    else:
        for i in range(count):
            out[i] = slope * x[i] if x[i] < 0 else x[i]


def leaky_relu_gradient(const float[::1] g, const float[::1] x, float slope, float[::1] out, int threads):
    """Fills out with g where x is above 0 and slope * g elsewhere."""
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
    """Fills plain (M, C) with g where out is above 0, else 0; and scaled with the same times scale (C,).

    Either may be None; scale then, too, if `scaled` is.
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
    cdef float value  # is read in any case: a read under a condition is no vector on every processor
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
    """Fills out with a + b; it may be either of them."""
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
    """Copies row places[i] of rows to row i of out."""
    cdef Py_ssize_t i
    if out.size == 0:
        return
    for i in prange(out.shape[0], nogil=True, num_threads=threads, schedule="static"):
        memcpy(&out[i, 0], &rows[places[i], 0], out.shape[1] * sizeof(float))


# ---------------------------------------------------------------- sums over places


def block_sums(const float[:, ::1] rows, float[:, ::1] sums, int threads):
    """Fills sums (blocks, C) with the sums over the rows of each block."""
    cdef Py_ssize_t width = rows.shape[1], count = rows_of(width), block
    sums[:] = 0
    if rows.shape[0] * width == 0:
        return
    for block in prange(sums.shape[0], nogil=True, num_threads=threads, schedule="static"):
        add_rows(&rows[block * count, 0], min(count, rows.shape[0] - block * count), width, &sums[block, 0])


def block_moments(const float[:, ::1] rows, float[:, ::1] sums, float[:, ::1] squares, int threads):
    """Fills sums (blocks, C) as `block_sums`, and squares with the sums of (x - the block's mean)^2.

    A block is read twice, the second time from the cache. Squares of what is near 0 lose nothing, where the usual
    sum(x^2) - sum(x)^2 / M would lose all that the variance is smaller than the mean.
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
    """Adds rows (count, width) to total (width,), four at a time: a quarter of the additions that wait for another."""
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
    """Adds the squares of rows (count, width) less their mean, sums / count, to total (width,)."""
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
    """Fills out (M, C) with (x - mean) * gain + bias + residual, with `relu` its positive part.

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
    """Fills sums (blocks, C) with the sums of g over the rows of each block, products with those of g * (x - mean).

    Where `out` is given, g counts only where out is above 0, and goes into `passed` so, unless that is None.
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
    if passed != NULL:  # a loop of its own: compilers do not make vectors of one that stores so much
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
    """Fills g_x (M, C) with (g - shift - (x - mean) * slope) * gain; g counts only where out is above 0, if given."""
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


# ---------------------------------------------------------------- pooling

cdef struct Pool:
    Py_ssize_t height, width, channels  # of the maps
    Py_ssize_t rows, columns  # how many windows there are
    Py_ssize_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x


cdef Pool pool_of(
    const float[:, :, :, ::1] maps, const float[:, :, :, ::1] windows, const Py_ssize_t[:, ::1] how
) noexcept:
    """`how` is (3, 2): the kernel's size, the stride and the padding, each (rows, columns)."""
    cdef Pool p
    p.height = maps.shape[1]
    p.width = maps.shape[2]
    p.channels = maps.shape[3]
    p.rows = windows.shape[1]
    p.columns = windows.shape[2]
    p.kernel_height = how[0, 0]
    p.kernel_width = how[0, 1]
    p.stride_y = how[1, 0]
    p.stride_x = how[1, 1]
    p.padding_y = how[2, 0]
    p.padding_x = how[2, 1]
    return p


def pool(
    const float[:, :, :, ::1] maps,
    const Py_ssize_t[:, ::1] how,
    bint mean,
    float[:, :, :, ::1] out,
    float[:, :, :, ::1] winners,
    int threads,
):
    """Fills out (N, H', W', C) with the largest value of each window on maps (N, H, W, C), or with `mean` the mean.

    What a window has outside the map is below everything for the largest, and 0 for the mean. Where `winners` is given,
    it gets the number of the largest in its window, row by row: of equals the first, and -1 where there is NaN. Numbers
    are floats, so that loops over them are vectors as long as those of values.
    """
    cdef Pool p = pool_of(maps, out, how)
    cdef Py_ssize_t line, n, y
    cdef float* winner = NULL
    if out.shape[0] * p.rows * p.columns * p.channels == 0:
        return
    if winners is not None:
        winner = &winners[0, 0, 0, 0]
    for line in prange(out.shape[0] * p.rows, nogil=True, num_threads=threads, schedule="static"):
        n = line // p.rows
        y = line % p.rows
        pool_line(
            &p, &maps[n, 0, 0, 0], y, mean, &out[n, y, 0, 0],
            NULL if winner == NULL else winner + line * p.columns * p.channels,
        )


cdef void pool_line(
    const Pool* p, const float* maps, Py_ssize_t y, bint mean, float* out, float* winner
) noexcept nogil:
    """One row of windows on one image."""
    cdef Py_ssize_t x, c, i, j, i_first, i_end, j_first, j_end, channels = p.channels
    cdef Py_ssize_t left, top = y * p.stride_y - p.padding_y
    cdef const float* window
    cdef float share = 1.0 / (p.kernel_height * p.kernel_width)
    i_first = max(0, -top)  # the part of the window that lies on the map
    i_end = min(p.kernel_height, p.height - top)
    for x in range(p.columns):
        left = x * p.stride_x - p.padding_x
        j_first = max(0, -left)
        j_end = min(p.kernel_width, p.width - left)
        window = maps + (top * p.width + left) * channels
        if i_first >= i_end or j_first >= j_end:
            memset(out, 0, channels * sizeof(float))
        else:
            memcpy(out, window + (i_first * p.width + j_first) * channels, channels * sizeof(float))
        for i in range(i_first, i_end):
            for j in range(j_first, j_end):
                if i == i_first and j == j_first:
                    continue
                if mean:
                    add_rows(window + (i * p.width + j) * channels, 1, channels, out)
                else:
                    take_larger(window + (i * p.width + j) * channels, channels, out)
        if mean:
            for c in range(channels):
                out[c] *= share
        if winner != NULL:
            for c in range(channels):
                winner[c] = -1
            for i in range(i_end - 1, i_first - 1, -1):  # backwards, so that the first of equals is noted last
                for j in range(j_end - 1, j_first - 1, -1):
                    note(window + (i * p.width + j) * channels, out, channels, i * p.kernel_width + j, winner)
            winner += channels
        out += channels


cdef void take_larger(const float* values, Py_ssize_t count, float* out) noexcept nogil:
    cdef Py_ssize_t c
    cdef float larger
    for c in range(count):
        larger = values[c] if values[c] > out[c] else out[c]
        out[c] = values[c] if values[c] != values[c] else larger


cdef void note(
    const float* values, const float* best, Py_ssize_t count, float number, float* winner
) noexcept nogil:
    """Writes `number` where a value is the best; NaN never is, for it equals nothing."""
    cdef Py_ssize_t c
    for c in range(count):
        winner[c] = number if values[c] == best[c] else winner[c]


def pool_gradient(
    const float[:, :, :, ::1] g,
    const float[:, :, :, ::1] winners,
    const Py_ssize_t[:, ::1] how,
    float[:, :, :, ::1] out,
    int threads,
):
    """Fills out (N, H, W, C) with the gradient of `pool` for its maps, g being that for its windows (N, H', W', C).

    With `winners` that of the largest, with None of the mean. Each place gathers from the windows that it lies in, so
    that no two threads write to the same place and none is written twice.
    """
    cdef Pool p = pool_of(out, g, how)
    cdef Py_ssize_t line, n, y, size = p.rows * p.columns * p.channels
    cdef const float* winner = NULL
    if out.shape[0] * p.height * p.width * p.channels == 0:
        return
    if winners is not None:
        winner = &winners[0, 0, 0, 0]
    for line in prange(out.shape[0] * p.height, nogil=True, num_threads=threads, schedule="static"):
        n = line // p.height
        y = line % p.height
        pool_gradient_line(&p, &g[n, 0, 0, 0], winner, n * size, y, &out[n, y, 0, 0])


cdef void pool_gradient_line(
    const Pool* p, const float* g, const float* winner, Py_ssize_t first, Py_ssize_t y, float* out
) noexcept nogil:
    """One row of one image, whose winners begin at number `first`.

    Place y lies in window number (y + padding - i) / stride as its row i, where that is whole.
    """
    cdef Py_ssize_t x, i, j, c, row, column, at
    cdef float share = 1.0 / (p.kernel_height * p.kernel_width)
    for x in range(p.width):
        for c in range(p.channels):
            out[c] = 0
        i = (y + p.padding_y) % p.stride_y
        while i < p.kernel_height:
            row = (y + p.padding_y - i) // p.stride_y
            j = (x + p.padding_x) % p.stride_x
            while j < p.kernel_width and row >= 0 and row < p.rows and x + p.padding_x - j >= 0:
                column = (x + p.padding_x - j) // p.stride_x
                at = (row * p.columns + column) * p.channels
                if column >= p.columns:
                    pass
                elif winner == NULL:
                    for c in range(p.channels):
                        out[c] += g[at + c] * share
                else:
                    add_where(g + at, winner + first + at, i * p.kernel_width + j, p.channels, out)
                j += p.stride_x
            i += p.stride_y
        out += p.channels


cdef void add_where(
    const float* g, const float* winner, float number, Py_ssize_t count, float* out
) noexcept nogil:
    cdef Py_ssize_t c
    cdef float value
    for c in range(count):
        value = g[c]
        out[c] += value if winner[c] == number else 0


# ---------------------------------------------------------------- resampling


def enlarge(
    const float[:, :, :, ::1] maps,
    const Py_ssize_t[::1] rows,
    const Py_ssize_t[::1] columns,
    const float[:, :, :, ::1] lateral,
    float[:, :, :, ::1] out,
    int threads,
):
    """Fills out (N, H', W', C) with maps[n, rows[y], columns[x]], plus `lateral` of the same shape unless that is None.
    """
    cdef Py_ssize_t line, n, y
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    for line in prange(out.shape[0] * out.shape[1], nogil=True, num_threads=threads, schedule="static"):
        n = line // out.shape[1]
        y = line % out.shape[1]
        enlarge_line(
            &maps[n, rows[y], 0, 0], &columns[0], NULL if lateral is None else <float*>&lateral[n, y, 0, 0],
            &out[n, y, 0, 0], out.shape[2], out.shape[3],
        )


cdef void enlarge_line(
    const float* maps, const Py_ssize_t* columns, const float* lateral, float* out, Py_ssize_t width,
    Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t x, c
    cdef const float* source
    for x in range(width):
        source = maps + columns[x] * channels
        if lateral == NULL:
            memcpy(out, source, channels * sizeof(float))
        else:
            for c in range(channels):
                out[c] = lateral[c] + source[c]
            lateral += channels
        out += channels


def bilinear(
    const float[:, :, ::1] x,
    const Py_ssize_t[::1] above,
    const Py_ssize_t[::1] below,
    const float[::1] down,
    const Py_ssize_t[::1] left,
    const Py_ssize_t[::1] right,
    const float[::1] across,
    float[:, ::1] scratch,
    float[:, :, ::1] out,
    int threads,
):
    """Fills out (H', W', C) with x (H, W, C), interpolated bilinearly.

    Row y lies between the rows above[y] and below[y], whose weight is down[y], and column x between left[x] and
    right[x], whose weight is across[x]. scratch: (threads, W * C).
    """
    cdef Py_ssize_t y
    if out.shape[0] * out.shape[1] * out.shape[2] == 0:
        return
    for y in prange(out.shape[0], nogil=True, num_threads=threads, schedule="static"):
        blend_rows(
            &x[above[y], 0, 0], &x[below[y], 0, 0], down[y], &scratch[threadid(), 0], x.shape[1] * x.shape[2],
        )
        blend_columns(
            &scratch[threadid(), 0], &left[0], &right[0], &across[0], &out[y, 0, 0], out.shape[1], out.shape[2],
        )


cdef void blend_rows(
    const float* above, const float* below, float weight, float* out, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        out[i] = above[i] * (1 - weight) + below[i] * weight


cdef void blend_columns(
    const float* row, const Py_ssize_t* left, const Py_ssize_t* right, const float* across, float* out,
    Py_ssize_t width, Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t x, c
    for x in range(width):
        for c in range(channels):
            out[c] = row[left[x] * channels + c] * (1 - across[x]) + row[right[x] * channels + c] * across[x]
        out += channels


def gather(
    const float[:, :, :, ::1] g,
    const Py_ssize_t[::1] rows,
    const Py_ssize_t[::1] columns,
    float[:, :, :, ::1] out,
    int threads,
):
    """Fills out (N, H, W, C) with sums of g (N, H', W', C).

    At y, x over the rows rows[y] to rows[y + 1] and the columns columns[x] to columns[x + 1], the ends excluded.
    """
    cdef Py_ssize_t line, n, y, row
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    for line in prange(out.shape[0] * out.shape[1], nogil=True, num_threads=threads, schedule="static"):
        n = line // out.shape[1]
        y = line % out.shape[1]
        memset(&out[n, y, 0, 0], 0, out.shape[2] * out.shape[3] * sizeof(float))
        for row in range(rows[y], rows[y + 1]):
            gather_line(&g[n, row, 0, 0], &columns[0], &out[n, y, 0, 0], out.shape[2], out.shape[3])


cdef void gather_line(
    const float* g, const Py_ssize_t* columns, float* out, Py_ssize_t width, Py_ssize_t channels
) noexcept nogil:
    cdef Py_ssize_t x, column, c
    for x in range(width):
        for column in range(columns[x], columns[x + 1]):
            for c in range(channels):
                out[c] += g[column * channels + c]
        out += channels


# ---------------------------------------------------------------- parameters and their gradients


def square_sums(const float[::1] x, double[::1] sums, int threads):
    """Fills sums (blocks,) with the sums of the squares of x in each block of `block_size` numbers."""
    cdef Py_ssize_t block, size = x.shape[0]
    for block in prange(sums.shape[0], nogil=True, num_threads=threads, schedule="static"):
        sums[block] = square_sum(&x[block * BLOCK], min(BLOCK, size - block * BLOCK))


cdef double square_sum(const float* x, Py_ssize_t count) noexcept nogil:
    """In 16 sums, which do not wait for each other."""
    cdef double part[16]
    cdef double total = 0
    cdef Py_ssize_t i, j
    for j in range(16):
        part[j] = 0
    for i in range(0, count - 15, 16):
        for j in range(16):
            part[j] += <double>x[i + j] * <double>x[i + j]
    for i in range(count // 16 * 16, count):
        total += <double>x[i] * <double>x[i]
    for j in range(16):
        total += part[j]
    return total


def scale(float[::1] x, float factor, int threads):
    """Multiplies x by the factor, in place."""
    cdef Py_ssize_t block, size = x.shape[0]
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        scale_block(&x[block * BLOCK], factor, min(BLOCK, size - block * BLOCK))


cdef void scale_block(float* x, float factor, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        x[i] = x[i] * factor


def sgd(
    float[::1] values,
    const float[::1] grad,
    float[::1] velocity,
    float lr,
    float momentum,
    float weight_decay,
    int threads,
):
    """Moves values as `rcnn.nn.optim.SGD` says, all of one size."""
    cdef Py_ssize_t block, size = values.shape[0]
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        sgd_block(
            &values[block * BLOCK], &grad[block * BLOCK], &velocity[block * BLOCK], lr, momentum, weight_decay,
            min(BLOCK, size - block * BLOCK),
        )


cdef void sgd_block(
    float* values, const float* grad, float* velocity, float lr, float momentum, float weight_decay, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float moving
    for i in range(count):
        moving = velocity[i] * momentum + (grad[i] + weight_decay * values[i])
        velocity[i] = moving
        values[i] = values[i] - lr * moving


def adam(
    float[::1] values,
    const float[::1] grad,
    float[::1] mean,
    float[::1] square,
    float lr,
    double beta1,
    double beta2,
    float lack,
    float eps,
    float weight_decay,
    int threads,
):
    """Moves values as `rcnn.nn.optim.Adam` says, all of one size.

    lr: divided already by what `mean` lacks for having begun at 0; lack: what `square` lacks.
    """
    cdef Py_ssize_t block, size = values.shape[0]
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        adam_block(
            &values[block * BLOCK], &grad[block * BLOCK], &mean[block * BLOCK], &square[block * BLOCK], lr, beta1,
            beta2, lack, eps, weight_decay, min(BLOCK, size - block * BLOCK),
        )


cdef void adam_block(
    float* values, const float* grad, float* mean, float* square, float lr, double beta1, double beta2, float lack,
    float eps, float weight_decay, Py_ssize_t count,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float g, m, s, keep1 = beta1, keep2 = beta2, take1 = 1 - beta1, take2 = 1 - beta2
    for i in range(count):
        g = grad[i] + weight_decay * values[i]
        m = keep1 * mean[i] + take1 * g
        s = keep2 * square[i] + take2 * g * g
        mean[i] = m
        square[i] = s
        values[i] = values[i] - lr * m / (sqrtf(s / lack) + eps)
