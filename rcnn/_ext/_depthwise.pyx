# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.conv` for float32 maps (N, H, W, C): depthwise convolutions, with one filter per channel.

Such a convolution has as many sums as channels, and no sum runs over the channels. A matrix product would therefore
read far more than it computes. Here, the vectors run over the channels; see `_depthwise.h`. The border of the maps is
never copied: near an edge, the sums leave out the taps that would read a zero.

The weights are (kernel height, kernel width, C), in the order of the maps. The rows of the output are divided among the
threads. Each element is summed by one thread in a fixed order, so the results do not depend on the number of threads.
"""

from rcnn._ext._threads cimport parallel_for

cdef extern from "_depthwise.h" nogil:
    enum: LANES
    enum: WIDTH
    ctypedef struct Window:
        Py_ssize_t rows, columns, in_row, in_column, weight_row, channels, in_next, out_next
        const float* scale
        const float* shift
        int activation
    void windows_of(
        const Window* w, const float* source, const float* weights, const float* scale, const float* shift,
        const float* residual, float* out, Py_ssize_t count, Py_ssize_t channels,
    ) noexcept
    void add_products(
        const float* grad, Py_ssize_t grad_next, const float* source, Py_ssize_t in_next, Py_ssize_t count, float* to,
        Py_ssize_t channels,
    ) noexcept


cdef struct Axis:
    # The windows along one axis: output i uses the inputs i * stride - pad + k * dilation for the taps k.
    Py_ssize_t size, outs, kernel, stride, pad, dilation


cdef struct Maps:
    # The arguments of both kernels.
    Axis y, x
    Window window
    const float* maps  # (N, y.size, x.size, C)
    const float* weights  # (y.kernel, x.kernel, C)
    float* out  # (N, y.outs, x.outs, C)
    const float* residual  # like `out`, or NULL
    Py_ssize_t out_image, out_row  # distances in `out`
    const float* grad  # (N, y.outs, x.outs, C)
    Py_ssize_t rows, part  # rows of outputs in all images, and in a part of the weight gradient


cdef inline Axis axis_of(
    Py_ssize_t size, Py_ssize_t outs, Py_ssize_t kernel, const Py_ssize_t[::1] stride, const Py_ssize_t[::1] padding,
    const Py_ssize_t[::1] dilation, int i,
) noexcept:
    return Axis(size, outs, kernel, stride[i], padding[i], dilation[i])


cdef inline Py_ssize_t up(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """Return a / b, rounded up, or 0 if this is negative."""
    return (a + b - 1) // b if a > 0 else 0


cdef inline Py_ssize_t first_tap(const Axis* axis, Py_ssize_t i) noexcept nogil:
    """Return the first tap of output i that lies on the map, or a larger number if no tap does."""
    return up(axis.pad - i * axis.stride, axis.dilation)


cdef inline Py_ssize_t last_tap(const Axis* axis, Py_ssize_t i) noexcept nogil:
    """Return the first tap of output i that lies behind the map, or the number of taps."""
    return min(axis.kernel, up(axis.size + axis.pad - i * axis.stride, axis.dilation))


cdef inline Py_ssize_t first_output(const Axis* axis, Py_ssize_t k) noexcept nogil:
    """Return the first output whose tap k does not lie before the map."""
    return min(axis.outs, up(axis.pad - k * axis.dilation, axis.stride))


cdef inline Py_ssize_t last_output(const Axis* axis, Py_ssize_t k) noexcept nogil:
    """Return the first output whose tap k lies behind the map, or the number of outputs."""
    return min(axis.outs, up(axis.size + axis.pad - k * axis.dilation, axis.stride))


# ---------------------------------------------------------------- convolution


def convolve(
    const float[:, :, :, ::1] maps,
    const float[:, :, ::1] weight,
    float[:, :, :, :] out,
    const Py_ssize_t[::1] stride,
    const Py_ssize_t[::1] padding,
    const Py_ssize_t[::1] dilation,
    const float[::1] scale,
    const float[::1] shift,
    const float[:, :, :, :] residual,
    int activation,
    int threads,
):
    """Fill `out` (N, H', W', C) with the convolution of maps (N, H, W, C) and weight (kh, kw, C).

    Arrays that are given are then applied in this order: the result is multiplied by `scale` (C,), and `shift` (C,) and
    `residual` are added. `residual` has the memory layout of `out`. The activation follows. The channels of `out` are
    contiguous; its other strides are arbitrary. The padding may be negative: rows and columns are then skipped.
    """
    cdef Maps m
    cdef Window* w = &m.window
    cdef Py_ssize_t channels = maps.shape[3], line = maps.shape[2] * channels
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    m.y = axis_of(maps.shape[1], out.shape[1], weight.shape[0], stride, padding, dilation, 0)
    m.x = axis_of(maps.shape[2], out.shape[2], weight.shape[1], stride, padding, dilation, 1)
    m.maps = &maps[0, 0, 0, 0] if line * maps.shape[1] else NULL
    m.weights = &weight[0, 0, 0]
    m.out = &out[0, 0, 0, 0]
    m.residual = NULL
    if residual is not None:
        m.residual = &residual[0, 0, 0, 0]
    m.out_image = out.strides[0] // 4
    m.out_row = out.strides[1] // 4
    w.in_row = m.y.dilation * line
    w.in_column = m.x.dilation * channels
    w.weight_row = m.x.kernel * channels
    w.channels = channels
    w.in_next = m.x.stride * channels
    w.out_next = out.strides[2] // 4
    w.scale = NULL
    w.shift = NULL
    if scale is not None:
        w.scale = &scale[0]
    if shift is not None:
        w.shift = &shift[0]
    w.activation = activation
    with nogil:
        parallel_for(convolve_rows, &m, out.shape[0] * out.shape[1], threads)


cdef void convolve_rows(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Maps* m = <Maps*>task
    cdef Py_ssize_t row, c
    for row in range(first, stop):
        c = 0
        while c < m.window.channels:
            convolve_row(m, row // m.y.outs, row % m.y.outs, c)
            c += WIDTH * LANES


cdef void convolve_row(const Maps* m, Py_ssize_t image, Py_ssize_t y, Py_ssize_t c) noexcept nogil:
    """Compute row y of the outputs of an image, for at most WIDTH * LANES channels, beginning with channel c."""
    cdef Window w = m.window
    cdef Py_ssize_t x = 0, begin, stop, count, top = first_tap(&m.y, y)
    # Outputs from `inner` to `outer` use all columns of the window. The others are computed one by one.
    cdef Py_ssize_t inner = first_output(&m.x, 0), outer = last_output(&m.x, m.x.kernel - 1)
    cdef Py_ssize_t place = image * m.out_image + y * m.out_row + c
    cdef Py_ssize_t source = (image * m.y.size + y * m.y.stride - m.y.pad + top * m.y.dilation) * m.x.size - m.x.pad
    w.rows = max(0, last_tap(&m.y, y) - top)
    while x < m.x.outs:
        begin = first_tap(&m.x, x)
        stop = last_tap(&m.x, x)
        w.columns = max(0, stop - begin)
        count = outer - x if inner <= x < outer else 1
        windows_of(
            &w, m.maps + (source + x * m.x.stride + begin * m.x.dilation) * w.channels + c,
            m.weights + top * w.weight_row + begin * w.channels + c,
            w.scale + c if w.scale != NULL else NULL, w.shift + c if w.shift != NULL else NULL,
            m.residual + place + x * w.out_next if m.residual != NULL else NULL, m.out + place + x * w.out_next,
            count, w.channels - c,
        )
        x += count


# ---------------------------------------------------------------- the gradient with respect to the weights


def weight_gradient(
    const float[:, :, :, ::1] maps,
    const float[:, :, :, ::1] grad,
    float[:, :, :, ::1] out,
    const Py_ssize_t[::1] stride,
    const Py_ssize_t[::1] padding,
    const Py_ssize_t[::1] dilation,
    int threads,
):
    """Fill `out` (parts, kh, kw, C). Its sum over the parts is the weight gradient of a depthwise convolution.

    `maps` (N, H, W, C) are the input of the convolution, and `grad` (N, H', W', C) is the gradient with respect to its
    result. Each part sums over some rows of the result.
    """
    cdef Maps m
    out[:] = 0
    if grad.shape[0] * grad.shape[1] * grad.shape[2] * grad.shape[3] == 0 or maps.shape[1] * maps.shape[2] == 0:
        return
    m.y = axis_of(maps.shape[1], grad.shape[1], out.shape[1], stride, padding, dilation, 0)
    m.x = axis_of(maps.shape[2], grad.shape[2], out.shape[2], stride, padding, dilation, 1)
    m.maps = &maps[0, 0, 0, 0]
    m.grad = &grad[0, 0, 0, 0]
    m.out = &out[0, 0, 0, 0]
    m.window.channels = maps.shape[3]
    m.rows = grad.shape[0] * grad.shape[1]
    m.part = (m.rows + out.shape[0] - 1) // out.shape[0]
    with nogil:
        parallel_for(gradient_parts, &m, out.shape[0], threads)


cdef void gradient_parts(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Maps* m = <Maps*>task
    cdef Py_ssize_t part, row
    for part in range(first, stop):
        for row in range(part * m.part, min(m.rows, (part + 1) * m.part)):
            gradient_row(m, row, m.out + part * m.y.kernel * m.x.kernel * m.window.channels)


cdef void gradient_row(const Maps* m, Py_ssize_t row, float* out) noexcept nogil:
    """Add the gradients (kh, kw, C) of one row of outputs to `out`."""
    cdef Py_ssize_t ky, kx, x, source, channels = m.window.channels, y = row % m.y.outs
    for ky in range(first_tap(&m.y, y), last_tap(&m.y, y)):
        source = (row // m.y.outs * m.y.size + y * m.y.stride - m.y.pad + ky * m.y.dilation) * m.x.size - m.x.pad
        for kx in range(m.x.kernel):
            x = first_output(&m.x, kx)
            add_products(
                m.grad + (row * m.x.outs + x) * channels, channels,
                m.maps + (source + x * m.x.stride + kx * m.x.dilation) * channels, m.x.stride * channels,
                last_output(&m.x, kx) - x, out + (ky * m.x.kernel + kx) * channels, channels,
            )
