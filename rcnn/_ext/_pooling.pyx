# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.pooling` for float32 maps (N, H, W, C): the maximum or mean of each window, and gradients.

Channels are contiguous, so the innermost loops run over channels, and compilers vectorise them. The rows of
windows are divided among the threads. For the gradient, the rows of the map are divided instead: each element of the
map sums the gradients of the windows that contain it.
"""

from libc.string cimport memcpy, memset

from rcnn._ext._threads cimport parallel_for


cdef struct Pool:
    Py_ssize_t height, width, channels  # of the maps
    Py_ssize_t rows, columns  # the number of windows along each axis
    Py_ssize_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x
    bint mean
    const float* maps  # (N, height, width, C)
    float* out  # (N, rows, columns, C)
    float* winners  # the same shape, or NULL
    const float* g  # for a gradient: (N, rows, columns, C)
    float* g_maps  # (N, height, width, C)


cdef Pool pool_of(
    const float[:, :, :, ::1] maps, const float[:, :, :, ::1] windows, const Py_ssize_t[:, ::1] how
) noexcept:
    """Return the sizes as a `Pool`. `how` (3, 2) contains kernel size, stride and padding, each as (rows, columns)."""
    cdef Pool p
    memset(&p, 0, sizeof(p))
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
    """Fill `out` (N, H', W', C) with the maximum of each window on `maps` (N, H, W, C), or the mean if `mean` is True.

    The maximum ignores elements outside the map. For the mean, these elements are 0. If `winners` is given, it is
    filled with the index of each maximum in its window, counted row by row. If several elements are equal to the
    maximum, the first index counts. If the window contains NaN, the index is -1. The indices are floats, so that a
    vector contains as many indices as values.
    """
    cdef Pool p = pool_of(maps, out, how)
    if out.shape[0] * p.rows * p.columns * p.channels == 0:
        return
    p.mean = mean
    p.maps = &maps[0, 0, 0, 0]
    p.out = &out[0, 0, 0, 0]
    if winners is not None:
        p.winners = &winners[0, 0, 0, 0]
    with nogil:
        parallel_for(pool_lines, &p, out.shape[0] * p.rows, threads)


cdef void pool_lines(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pool* p = <Pool*>task
    cdef Py_ssize_t line, width = p.columns * p.channels
    for line in range(first, stop):
        pool_line(
            p, p.maps + line // p.rows * p.height * p.width * p.channels, line % p.rows, p.mean, p.out + line * width,
            NULL if p.winners == NULL else p.winners + line * width,
        )


cdef void pool_line(
    const Pool* p, const float* maps, Py_ssize_t y, bint mean, float* out, float* winner
) noexcept nogil:
    """Pool one row of windows of one image."""
    cdef Py_ssize_t x, c, i, j, i_first, i_end, j_first, j_end, channels = p.channels
    cdef Py_ssize_t left, top = y * p.stride_y - p.padding_y
    cdef const float* window
    cdef float share = <float>(1.0 / (p.kernel_height * p.kernel_width))
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
                    add_to(window + (i * p.width + j) * channels, channels, out)
                else:
                    take_larger(window + (i * p.width + j) * channels, channels, out)
        if mean:
            for c in range(channels):
                out[c] *= share
        if winner != NULL:
            for c in range(channels):
                winner[c] = -1
            for i in range(i_end - 1, i_first - 1, -1):  # backwards, so that the first of equal maxima is written last
                for j in range(j_end - 1, j_first - 1, -1):
                    note(window + (i * p.width + j) * channels, out, channels, <float>(i * p.kernel_width + j), winner)
            winner += channels
        out += channels


cdef void add_to(const float* values, Py_ssize_t count, float* out) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(count):
        out[c] += values[c]


cdef void take_larger(const float* values, Py_ssize_t count, float* out) noexcept nogil:
    cdef Py_ssize_t c
    cdef float larger
    for c in range(count):
        larger = values[c] if values[c] > out[c] else out[c]
        out[c] = values[c] if values[c] != values[c] else larger


cdef void note(
    const float* values, const float* best, Py_ssize_t count, float number, float* winner
) noexcept nogil:
    """Set `winner` to `number` where a value equals the best value. NaN equals nothing, so it never wins."""
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
    """Fill `out` (N, H, W, C) with the gradient with respect to the input of `pool`.

    `g` (N, H', W', C) is the gradient with respect to its result. If `winners` is given, `pool` computed the maximum,
    otherwise the mean. Each element of `out` sums over the windows that contain it. Therefore, it is written only once,
    and by only one thread.
    """
    cdef Pool p = pool_of(out, g, how)
    if out.shape[0] * p.height * p.width * p.channels == 0:
        return
    p.g = &g[0, 0, 0, 0]
    p.g_maps = &out[0, 0, 0, 0]
    if winners is not None:
        p.winners = <float*>&winners[0, 0, 0, 0]
    with nogil:
        parallel_for(pool_gradient_lines, &p, out.shape[0] * p.height, threads)


cdef void pool_gradient_lines(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pool* p = <Pool*>task
    cdef Py_ssize_t line, place
    for line in range(first, stop):
        place = line // p.height * p.rows * p.columns * p.channels  # where the windows of this image begin
        pool_gradient_line(
            p, p.g + place, p.winners, place, line % p.height, p.g_maps + line * p.width * p.channels
        )


cdef void pool_gradient_line(
    const Pool* p, const float* g, const float* winner, Py_ssize_t first, Py_ssize_t y, float* out
) noexcept nogil:
    """Compute the gradient of row y of one image. The winners of this image begin at index `first`.

    Row y of the map is row i of the window with number (y + padding - i) / stride, if this number is an integer.
    """
    cdef Py_ssize_t x, i, j, c, row, column, at
    cdef float share = <float>(1.0 / (p.kernel_height * p.kernel_width))
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
                    add_where(g + at, winner + first + at, <float>(i * p.kernel_width + j), p.channels, out)
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
