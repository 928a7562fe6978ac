# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels that resize maps, for `rcnn.nn.resize`, and images, for `rcnn.transform`. float32, channels last.

Threads share rows of the result.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset


def enlarge(
    const float[:, :, :, ::1] maps,
    const Py_ssize_t[::1] rows,
    const Py_ssize_t[::1] columns,
    const float[:, :, :, ::1] lateral,
    float[:, :, :, ::1] out,
    int threads,
):
    """Fill out (N, H', W', C) with maps[n, rows[y], columns[x]], plus `lateral` of the same shape, if given.
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
    """Fill out (H', W', C) with x (H, W, C), interpolated bilinearly.

    Row y lies between the rows above[y] and below[y]; the weight of the second is down[y]. Column x lies between
    left[x] and right[x]; the weight of the second is across[x]. scratch: (threads, W * C).
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
    """Fill out (N, H, W, C) with sums of g (N, H', W', C).

    Element (y, x) sums the rows rows[y] to rows[y + 1] and the columns columns[x] to columns[x + 1], the ends excluded.
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
