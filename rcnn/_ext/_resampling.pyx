# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels that resize float32 maps for `rcnn.nn.resize` and float32 images for `rcnn.transform`, both channels last.

The rows of the result are divided among the threads.
"""

from libc.string cimport memcpy, memset

from rcnn._ext._threads cimport parallel_for


cdef struct Enlargement:
    const float* maps  # (N, height, width, C)
    const Py_ssize_t* rows  # (out_height,)
    const Py_ssize_t* columns  # (out_width,)
    const float* lateral  # like out, or NULL
    float* out  # (N, out_height, out_width, C)
    Py_ssize_t height, width, out_height, out_width, channels


cdef struct Blend:
    const float* x  # (height, width, C)
    const Py_ssize_t* above
    const Py_ssize_t* below
    const float* down
    const Py_ssize_t* left
    const Py_ssize_t* right
    const float* across
    float* scratch  # (threads, width * C)
    float* out  # (out_height, out_width, C)
    Py_ssize_t width, out_width, channels


cdef struct Sums:
    const float* g  # (N, g_height, g_width, C)
    const Py_ssize_t* rows  # (height + 1,)
    const Py_ssize_t* columns  # (width + 1,)
    float* out  # (N, height, width, C)
    Py_ssize_t g_height, g_width, height, width, channels


def enlarge(
    const float[:, :, :, ::1] maps,
    const Py_ssize_t[::1] rows,
    const Py_ssize_t[::1] columns,
    const float[:, :, :, ::1] lateral,
    float[:, :, :, ::1] out,
    int threads,
):
    """Fill `out` (N, H', W', C) with maps[n, rows[y], columns[x]], plus `lateral` (of the same shape) if it is given.
    """
    cdef Enlargement task
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    task = Enlargement(
        &maps[0, 0, 0, 0], &rows[0], &columns[0], NULL, &out[0, 0, 0, 0],
        maps.shape[1], maps.shape[2], out.shape[1], out.shape[2], out.shape[3],
    )
    if lateral is not None:
        task.lateral = &lateral[0, 0, 0, 0]
    with nogil:
        parallel_for(enlarge_lines, &task, out.shape[0] * out.shape[1], threads)


cdef void enlarge_lines(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Enlargement* t = <Enlargement*>task
    cdef Py_ssize_t line, place, row
    cdef const float* lateral = NULL
    for line in range(first, stop):
        place = line * t.out_width * t.channels
        row = line // t.out_height * t.height + t.rows[line % t.out_height]
        if t.lateral != NULL:
            lateral = t.lateral + place
        enlarge_line(
            t.maps + row * t.width * t.channels, t.columns, lateral, t.out + place, t.out_width, t.channels
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
    """Fill `out` (H', W', C) with the image `x` (H, W, C), interpolated bilinearly.

    Row i of `out` is between the rows above[i] and below[i] of `x`, and down[i] is the weight of below[i]. Column j is
    between left[j] and right[j], and across[j] is the weight of right[j]. `scratch` has shape (threads, W * C).
    """
    cdef Blend task
    if out.shape[0] * out.shape[1] * out.shape[2] == 0:
        return
    task = Blend(
        &x[0, 0, 0], &above[0], &below[0], &down[0], &left[0], &right[0], &across[0], &scratch[0, 0], &out[0, 0, 0],
        x.shape[1], out.shape[1], out.shape[2],
    )
    with nogil:
        parallel_for(blend_lines, &task, out.shape[0], threads)


cdef void blend_lines(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Blend* t = <Blend*>task
    cdef Py_ssize_t y, width = t.width * t.channels
    cdef float* scratch = t.scratch + thread * width
    for y in range(first, stop):
        blend_rows(t.x + t.above[y] * width, t.x + t.below[y] * width, t.down[y], scratch, width)
        blend_columns(
            scratch, t.left, t.right, t.across, t.out + y * t.out_width * t.channels, t.out_width, t.channels
        )


cdef void blend_rows(
    const float* above, const float* below, float weight, float* out, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        out[i] = <float>(above[i] * (1 - weight) + below[i] * weight)


cdef void blend_columns(
    const float* row, const Py_ssize_t* left, const Py_ssize_t* right, const float* across, float* out,
    Py_ssize_t width, Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t x, c
    for x in range(width):
        for c in range(channels):
            out[c] = <float>(
                row[left[x] * channels + c] * (1 - across[x]) + row[right[x] * channels + c] * across[x]
            )
        out += channels


def gather(
    const float[:, :, :, ::1] g,
    const Py_ssize_t[::1] rows,
    const Py_ssize_t[::1] columns,
    float[:, :, :, ::1] out,
    int threads,
):
    """Fill `out` (N, H, W, C) with sums of `g` (N, H', W', C).

    Element (y, x) is the sum over the rows rows[y] .. rows[y + 1] - 1 and the columns columns[x] .. columns[x + 1] - 1.
    """
    cdef Sums task
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    task = Sums(
        &g[0, 0, 0, 0], &rows[0], &columns[0], &out[0, 0, 0, 0],
        g.shape[1], g.shape[2], out.shape[1], out.shape[2], out.shape[3],
    )
    with nogil:
        parallel_for(gather_lines, &task, out.shape[0] * out.shape[1], threads)


cdef void gather_lines(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Sums* t = <Sums*>task
    cdef Py_ssize_t line, image, y, row, width = t.width * t.channels
    for line in range(first, stop):
        image = line // t.height
        y = line % t.height
        memset(t.out + line * width, 0, width * sizeof(float))
        for row in range(t.rows[y], t.rows[y + 1]):
            gather_line(
                t.g + (image * t.g_height + row) * t.g_width * t.channels, t.columns, t.out + line * width,
                t.width, t.channels,
            )


cdef void gather_line(
    const float* g, const Py_ssize_t* columns, float* out, Py_ssize_t width, Py_ssize_t channels
) noexcept nogil:
    cdef Py_ssize_t x, column, c
    for x in range(width):
        for column in range(columns[x], columns[x + 1]):
            for c in range(channels):
                out[c] += g[column * channels + c]
        out += channels
