# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.conv`: matrix products whose rows are windows on feature maps. float32, (N, H, W, C).

The reference copies every window ("im2col") and multiplies two matrices. Here no window is copied: the block of
`_block.h` takes the addresses of its rows. With channels last, the values of a window lie in a few long runs, one per
row of the filter. Only the weights are rearranged, once per call, into panels of as many filters as a block has
columns, so that a block reads them sequentially.

The data that a block reads must be in the caches near the core. So rows are processed in groups and long sums in
chunks: a chunk of a panel and a chunk of a group fit the second-level cache together. Threads share groups and panels.
Every element is summed by one thread in one order, so results do not depend on the number of threads.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rcnn._ext._block cimport LANES, LINE, PANEL, ROWS, Product, gather_filters, outer, product

cdef enum:
    GROUP = 252  # rows per group, at most, and pixels per partial sum of a gradient; a multiple of ROWS
    CHUNK = 640  # terms of a sum per chunk
    BLOCK = 16 * ROWS  # filters per task of a weight gradient
    SPAN = 512  # weights of each of these filters per task
    PACKED = 1024  # weights of a filter that are packed together


cdef struct Windows:
    # Windows on maps (N, H, W, C) and their outputs (N, H', W', O).
    Py_ssize_t rows, columns, height_step, width_step, image_step  # H', W'; distances between windows
    Py_ssize_t out_row, out_column, out_image  # distances between outputs
    Py_ssize_t taps, run  # a window is `taps` runs of `run` neighbours
    Py_ssize_t* tap  # (taps,) where each run begins in its window


def padded_panels(Py_ssize_t filters):
    """Return the number of filters, rounded up to whole panels."""
    return (filters + PANEL - 1) // PANEL * PANEL


# ---------------------------------------------------------------- convolution


def convolve(
    const float[:, :, :, ::1] maps,
    const float[:, :, :, :] weight,
    float[:, :, :, :] out,
    const Py_ssize_t[::1] stride,
    const Py_ssize_t[::1] dilation,
    const float[::1] scale,
    const float[::1] shift,
    const float[:, :, :, :] residual,
    bint relu,
    float[::1] packed,
    int threads,
):
    """Fill out (N, H', W', O) with the windows of maps (N, H, W, C) times weight (O, C, kh, kw).

    Then, if given: times scale (O,), plus shift (O,), plus residual, which has the memory layout of `out`; with `relu`,
    the positive part. The channels of `out` are contiguous; its other strides are arbitrary. `packed` is scratch memory
    for padded_panels(O) * kh * kw * C numbers.
    """
    cdef Windows w
    cdef Product p
    cdef Py_ssize_t filters = weight.shape[0], panels = (filters + PANEL - 1) // PANEL
    cdef Py_ssize_t size = weight.shape[1] * weight.shape[2] * weight.shape[3]
    cdef Py_ssize_t rows = out.shape[0] * out.shape[1] * out.shape[2], groups = (rows + GROUP - 1) // GROUP
    cdef Py_ssize_t group, shares, share, splits, task
    cdef float* tail = NULL
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    set_windows(&w, maps, weight.shape[2], weight.shape[3], stride, dilation, out)
    tail = <float*>malloc(2 * panels * PANEL * sizeof(float))
    if w.tap == NULL or tail == NULL:
        free(w.tap)
        free(tail)
        raise MemoryError
    memset(&p, 0, sizeof(p))
    p.input = &maps[0, 0, 0, 0]
    p.panel = &packed[0]
    p.out = &out[0, 0, 0, 0]
    if residual is not None:
        p.residual = &residual[0, 0, 0, 0]
    p.relu = relu
    p.columns = filters
    p.scale = whole_panels(scale, tail, panels)
    p.shift = whole_panels(shift, tail + panels * PANEL, panels)
    splits = (size + PACKED - 1) // PACKED  # threads also share the packing of a panel
    # A task is a group of rows and a share of the panels: all panels, unless that would leave a thread without work.
    # The number of groups is a multiple of the number of threads, so that all threads finish together.
    groups = (groups + threads - 1) // threads * threads
    group = max(ROWS, ((rows + groups - 1) // groups + ROWS - 1) // ROWS * ROWS)
    groups = (rows + group - 1) // group
    shares = min(panels, (threads + groups - 1) // groups)
    share = (panels + shares - 1) // shares
    with nogil:
        for task in prange(panels * splits, num_threads=threads, schedule="dynamic"):
            pack_panel(
                weight, task // splits * PANEL, task % splits * PACKED, min(size, (task % splits + 1) * PACKED),
                &packed[task // splits * PANEL * size],
            )
        for task in prange(groups * shares, num_threads=threads, schedule="dynamic"):
            convolve_group(
                &w, &p, task // shares * group, min(group, rows - task // shares * group), rows,
                task % shares * share, share, size,
            )
    free(w.tap)
    free(tail)


cdef void set_windows(
    Windows* w, const float[:, :, :, ::1] maps, Py_ssize_t kernel_height, Py_ssize_t kernel_width,
    const Py_ssize_t[::1] stride, const Py_ssize_t[::1] dilation, const float[:, :, :, :] out,
) noexcept:
    """Fill w; w.tap is NULL if there is no memory for it."""
    cdef Py_ssize_t channels = maps.shape[3], line = maps.shape[2] * channels, y, x
    cdef bint joined = dilation[1] == 1  # then a row of the filter reads neighbouring pixels
    w.rows = out.shape[1]
    w.columns = out.shape[2]
    w.image_step = maps.shape[1] * line
    w.height_step = stride[0] * line
    w.width_step = stride[1] * channels
    w.out_image = out.strides[0] // 4
    w.out_row = out.strides[1] // 4
    w.out_column = out.strides[2] // 4
    w.taps = kernel_height if joined else kernel_height * kernel_width
    w.run = kernel_width * channels if joined else channels
    w.tap = <Py_ssize_t*>malloc(max(w.taps, 1) * sizeof(Py_ssize_t))
    if w.tap == NULL:
        return
    for y in range(kernel_height):
        if joined:
            w.tap[y] = y * dilation[0] * line
        else:
            for x in range(kernel_width):
                w.tap[y * kernel_width + x] = y * dilation[0] * line + x * dilation[1] * channels


cdef const float* whole_panels(const float[::1] values, float* into, Py_ssize_t panels) noexcept:
    """Return a copy of values, padded with zeros to whole panels; NULL for None."""
    if values is None:
        return NULL
    memset(into, 0, panels * PANEL * sizeof(float))
    memcpy(into, &values[0], values.shape[0] * sizeof(float))
    return into


cdef void pack_panel(
    const float[:, :, :, :] weight, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop, float* to
) noexcept nogil:
    """Fill to (kh * kw * C, PANEL) with weights start .. stop, up to PACKED, of the filters from the first on.

    Filters beyond the last one are zeros.
    """
    cdef float lines[PACKED * LANES]
    cdef Py_ssize_t channels = weight.shape[1], places = weight.shape[2] * weight.shape[3], group, place, k
    cdef float* line
    for group in range(PANEL // LANES):
        gather_filters(weight, first + group * LANES, start, stop, lines)
        for place in range(places):  # from (C, places) to (places, C), the order of maps
            k = start + (place - start % places + places) % places
            line = to + (place * channels + k // places) * PANEL + group * LANES
            while k < stop:
                memcpy(line, lines + (k - start) * LANES, LANES * sizeof(float))
                line += PANEL
                k += places


cdef void convolve_group(
    const Windows* w, const Product* whole, Py_ssize_t first, Py_ssize_t count, Py_ssize_t rows, Py_ssize_t panel,
    Py_ssize_t panels, Py_ssize_t size,
) noexcept nogil:
    """Compute `panels` panels from number `panel` on, for `count` windows (at most GROUP) from number `first` on."""
    cdef Product p = whole[0]
    cdef Py_ssize_t at[GROUP]
    cdef Py_ssize_t to[GROUP]
    cdef Py_ssize_t tap, taps, k, run, strip, o, number, r
    cdef Py_ssize_t part = max(1, w.run // max(1, (w.run + CHUNK - 1) // CHUNK))  # of a run that is too long
    cdef Py_ssize_t strips = (count + ROWS - 1) // ROWS
    cdef Py_ssize_t last_panel = min(panel + panels, (whole.columns + PANEL - 1) // PANEL)
    cdef const float* soon
    cdef bint more
    find_places(w, first, rows, at, to)
    p.begins = True
    tap = k = 0
    while tap < w.taps:  # chunk by chunk: several runs, or part of one
        taps = max(1, min(CHUNK // w.run, w.taps - tap))
        run = min(part, w.run - k)
        p.tap = w.tap + tap
        p.taps = taps
        p.run = run
        p.ends = tap + taps == w.taps and k + run == w.run
        for number in range(panel, last_panel):
            o = number * PANEL
            p.columns = min(PANEL, whole.columns - o)
            p.input = whole.input + k
            p.panel = whole.panel + o * size + (tap * w.run + k) * PANEL
            p.out = whole.out + o
            if whole.scale != NULL:
                p.scale = whole.scale + o
            if whole.shift != NULL:
                p.shift = whole.shift + o
            if whole.residual != NULL:
                p.residual = whole.residual + o
            soon = p.panel + PANEL * size  # the same part of the next panel
            if number + 1 == last_panel:
                soon = whole.panel + panel * PANEL * size + ((tap + (taps if k + run == w.run else 0)) * w.run
                                                             + (k + run) % w.run) * PANEL
            p.rate = <int>((PANEL + strips - 1) // strips)
            for strip in range(strips):
                p.soon = soon + strip * p.rate * run * taps // LINE * LINE
                r = strip * ROWS
                more = r + 2 * ROWS <= count
                product(
                    &p, at + r, to + r, <int>min(ROWS, count - r),
                    at + r + ROWS if more and number == panel else NULL, to + r + ROWS if more else NULL,
                )
        p.begins = False
        k += run
        if k == w.run:
            k = 0
            tap += taps


cdef void find_places(
    const Windows* w, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t* at, Py_ssize_t* to
) noexcept nogil:
    """Fill at and to (GROUP,) with the offsets of windows and of their outputs; the last window is repeated."""
    cdef Py_ssize_t i, x = first % w.columns, y = first // w.columns % w.rows, n = first // w.columns // w.rows
    for i in range(GROUP):
        at[i] = n * w.image_step + y * w.height_step + x * w.width_step
        to[i] = n * w.out_image + y * w.out_row + x * w.out_column
        if first + i + 1 < rows:
            x += 1
            if x == w.columns:
                x = 0
                y += 1
                if y == w.rows:
                    y = 0
                    n += 1


def pad(const float[:, :, :, :] maps, const Py_ssize_t[::1] padding, float[:, :, :, ::1] out, int threads):
    """Fill out (N, H + 2 * padding, W + 2 * padding, C) with maps (N, H, W, C) of any layout, padded with zeros."""
    cdef Py_ssize_t height = maps.shape[1], width = maps.shape[2], channels = maps.shape[3], line, n, y, x
    cdef Py_ssize_t left = padding[1] * channels, row = out.shape[2] * channels
    cdef bint joined = maps.strides[2] == channels * 4 and maps.strides[3] == 4
    if out.size == 0:
        return
    for line in prange(out.shape[0] * out.shape[1], nogil=True, num_threads=threads, schedule="static"):
        n = line // out.shape[1]
        y = line % out.shape[1] - padding[0]
        if y < 0 or y >= height or width == 0:
            memset(&out[n, y + padding[0], 0, 0], 0, row * sizeof(float))
            continue
        memset(&out[n, y + padding[0], 0, 0], 0, left * sizeof(float))
        if joined:
            memcpy(&out[n, y + padding[0], padding[1], 0], &maps[n, y, 0, 0], width * channels * sizeof(float))
        else:
            for x in range(width):
                copy_pixel(
                    &maps[n, y, x, 0], maps.strides[3] // 4, channels, &out[n, y + padding[0], padding[1] + x, 0]
                )
        memset(&out[n, y + padding[0], 0, 0] + left + width * channels, 0, left * sizeof(float))


cdef void copy_pixel(const float* source, Py_ssize_t step, Py_ssize_t channels, float* to) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(channels):
        to[c] = source[c * step]


# ---------------------------------------------------------------- the gradient with respect to the weights


def weight_gradient(
    const float[:, :, :, ::1] maps,
    const float[:, :, :, ::1] grad,
    float[:, :, ::1] out,
    Py_ssize_t kernel_height,
    Py_ssize_t kernel_width,
    const Py_ssize_t[::1] stride,
    const Py_ssize_t[::1] dilation,
    int threads,
):
    """Fill out (parts, O, kh * kw * C); its sum over the parts is the weight gradient of a convolution.

    maps (N, H, W, C) as in `convolve`, grad (N, H', W', O). Each part sums over its share of the windows. Otherwise few
    weights with many windows would occupy one thread only.
    """
    cdef Windows w
    cdef Py_ssize_t filters = out.shape[1], windows = grad.shape[0] * grad.shape[1] * grad.shape[2]
    cdef Py_ssize_t parts = out.shape[0], part = ((windows + parts - 1) // parts + GROUP - 1) // GROUP * GROUP
    cdef Py_ssize_t blocks = (filters + BLOCK - 1) // BLOCK, spans, task, s, number
    cdef float* scratch
    out[:] = 0
    if out.size == 0 or windows == 0:
        return
    set_windows(&w, maps, kernel_height, kernel_width, stride, dilation, grad)
    spans = (w.run + SPAN - 1) // SPAN
    scratch = <float*>malloc(threads * GROUP * ROWS * sizeof(float))
    if w.tap == NULL or scratch == NULL:
        free(w.tap)
        free(scratch)
        raise MemoryError
    for task in prange(parts * blocks * w.taps * spans, nogil=True, num_threads=threads, schedule="dynamic"):
        s = task // (blocks * w.taps * spans)
        number = task % (blocks * w.taps * spans)
        gradient_block(
            &w, &maps[0, 0, 0, 0], &grad[0, 0, 0, 0], filters, min(windows, s * part), min(windows, (s + 1) * part),
            windows, &out[s, 0, 0], number // (w.taps * spans) * BLOCK, number // spans % w.taps,
            number % spans * SPAN, scratch + threadid() * GROUP * ROWS,
        )
    free(w.tap)
    free(scratch)


cdef void gradient_block(
    const Windows* w, const float* maps, const float* grad, Py_ssize_t filters, Py_ssize_t first, Py_ssize_t stop,
    Py_ssize_t windows, float* out, Py_ssize_t filter, Py_ssize_t tap, Py_ssize_t start, float* scratch,
) noexcept nogil:
    """Add the windows first .. stop to the gradients of BLOCK filters and SPAN weights of one run."""
    cdef Py_ssize_t at[GROUP]
    cdef Py_ssize_t to[GROUP]
    cdef Py_ssize_t pixel, count, i, j, o, c, k, rows, size = w.taps * w.run
    cdef Py_ssize_t last = min(filters, filter + BLOCK), end = min(w.run, start + SPAN)
    cdef const float* left
    cdef Py_ssize_t distance
    pixel = first
    while pixel < stop:
        count = min(GROUP, stop - pixel)
        find_places(w, pixel, windows, at, to)
        for i in range((last - filter + ROWS - 1) // ROWS):
            o = filter + i * ROWS
            rows = min(ROWS, last - o)
            left = grad + pixel * filters + o
            distance = filters
            if rows < ROWS:  # the block always reads ROWS values per row; pad with zeros
                memset(scratch, 0, count * ROWS * sizeof(float))
                for k in range(count):
                    memcpy(scratch + k * ROWS, left + k * distance, rows * sizeof(float))
                left = scratch
                distance = ROWS
            for j in range((end - start + PANEL - 1) // PANEL):
                c = start + j * PANEL
                outer(
                    left, distance, maps + w.tap[tap] + c, at, count, out + o * size + tap * w.run + c, size,
                    <int>rows, min(PANEL, end - c),
                )
        pixel += GROUP


def gradient_tasks(Py_ssize_t filters, Py_ssize_t taps, Py_ssize_t run):
    """Return the number of tasks per part of `weight_gradient`, for windows of `taps` runs of `run` neighbours."""
    return (filters + BLOCK - 1) // BLOCK * taps * ((run + SPAN - 1) // SPAN)


def gather_weights(const float[:, :, ::1] parts, float[:, :, :, ::1] out, int threads):
    """Fill out (O, C, kh, kw) with the sum over the parts (parts, O, kh * kw * C)."""
    cdef Py_ssize_t o, places = out.shape[2] * out.shape[3]
    if out.size == 0:
        return
    for o in prange(out.shape[0], nogil=True, num_threads=threads, schedule="static"):
        gather_filter(
            &parts[0, o, 0], parts.shape[0], parts.shape[1] * parts.shape[2], out.shape[1], places, &out[o, 0, 0, 0]
        )


cdef void gather_filter(
    const float* parts, Py_ssize_t count, Py_ssize_t distance, Py_ssize_t channels, Py_ssize_t places, float* out
) noexcept nogil:
    """Sum the parts of one filter and reorder it from (places, C) to (C, places)."""
    cdef Py_ssize_t s, place, c
    cdef float value
    for c in range(channels):
        for place in range(places):
            value = 0
            for s in range(count):
                value = value + parts[s * distance + place * channels + c]
            out[c * places + place] = value
