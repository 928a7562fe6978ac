# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.conv` for float32 maps (N, H, W, C): matrix products whose rows are windows on the maps.

The reference copies every window ("im2col") and multiplies two matrices. These kernels copy no window: the register
block of `_block.h`, which computes a small part of the product, takes the addresses of its rows. With channels last,
the values of a window are in a few long runs, one per row of the filter. Only the weights are rearranged, once per
call, into *panels*. A panel contains as many filters as a block has columns, so that a block reads them sequentially.

The data that a block reads must be in the caches near the core. Therefore, rows are processed in groups, and long sums
in chunks: a chunk of a panel and a chunk of a group fit into the second-level cache together. The groups and panels are
divided among the threads. Each element is summed by one thread in a fixed order, so the results do not depend on the
number of threads.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rcnn._ext._block cimport (
    LANES, LINE, PANEL, ROWS, Filters, Product, filters_of, gather_filters, outer, product, transpose
)
from rcnn._ext._threads cimport parallel_for

cdef enum:
    GROUP = 252  # most rows per group; a multiple of ROWS
    PIXELS = 84  # pixels per partial sum of a weight gradient: a panel of their windows fits into the first-level cache
    CHUNK = 640  # terms of a sum per chunk
    BLOCK = 16 * ROWS  # filters per task of a weight gradient
    SPAN = 512  # weights of each of these filters per task
    PACKED = 1024  # weights of a filter that one task packs


cdef struct Windows:
    # Windows on maps (N, H, W, C) and their outputs (N, H', W', O).
    Py_ssize_t rows, columns, height_step, width_step, image_step  # H', W', and the distances between windows
    Py_ssize_t out_row, out_column, out_image  # distances between outputs
    Py_ssize_t taps, run  # a window is `taps` runs of `run` neighbours
    Py_ssize_t* tap  # (taps,) where each run begins in its window


cdef struct Convolution:
    # The data that all threads of `convolve` use.
    Filters filters
    Windows windows
    Product product  # its arrays begin with the first window and the first panel
    float* packed  # (panels, size, PANEL)
    Py_ssize_t channels, outs, group_panels  # channels, filters and panels of a group of filters
    Py_ssize_t panels  # of all groups
    Py_ssize_t splits  # tasks that pack one panel
    Py_ssize_t rows, group, share, shares  # windows, windows per group, panels per task, tasks per group
    Py_ssize_t size  # weights of a filter


cdef struct Padding:
    # The arguments of `pad`; steps are counted in elements.
    const float* maps
    float* out
    Py_ssize_t height, width, channels, image_step, row_step, column_step, channel_step
    Py_ssize_t out_height, out_width, top, left


cdef struct Gradient:
    # The arguments of `weight_gradient`, and the numbers of its tasks.
    Windows windows
    const float* maps
    const float* grad
    float* out
    float* scratch  # (threads, PIXELS * ROWS)
    Py_ssize_t groups, channels, outs  # groups of filters; channels and filters of a group
    Py_ssize_t count, part  # windows, windows per part
    Py_ssize_t blocks, spans  # blocks of filters in a group, spans of weights in a run


cdef struct Gathering:
    const float* parts  # (count, filters, places * channels)
    float* out  # (filters, channels, places)
    Py_ssize_t count, distance, channels, places


def padded_panels(Py_ssize_t filters, Py_ssize_t groups):
    """Return the number of filters if those of each group are rounded up to a multiple of the panel width."""
    return groups * panels_of(filters // groups) * PANEL


cdef inline Py_ssize_t panels_of(Py_ssize_t filters) noexcept nogil:
    return (filters + PANEL - 1) // PANEL


# ---------------------------------------------------------------- convolution


def convolve(
    const float[:, :, :, :] maps,
    const float[:, :, :, :] weight,
    float[:, :, :, :] out,
    const Py_ssize_t[::1] stride,
    const Py_ssize_t[::1] dilation,
    const float[::1] scale,
    const float[::1] shift,
    const float[:, :, :, :] residual,
    int activation,
    Py_ssize_t filter_groups,
    float[::1] packed,
    bint is_packed,
    int threads,
):
    """Fill `out` (N, H', W', O) with the convolution of maps (N, H, W, C) and weight (O, C / filter_groups, kh, kw).

    Arrays that are given are then applied in this order: the result is multiplied by `scale` (O,), and `shift` (O,) and
    `residual` are added. `residual` has the memory layout of `out`. The activation follows. The channels of `maps` and
    of `out` are contiguous; their other strides are arbitrary. `packed` has padded_panels(O, filter_groups) * kh * kw *
    C / filter_groups elements; the packed weights are written into it unless `is_packed` is True.
    """
    cdef Convolution c
    cdef Product* p = &c.product
    cdef Py_ssize_t panels, groups
    cdef float* tail = NULL
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    c.channels = weight.shape[1]
    c.outs = weight.shape[0] // filter_groups
    c.group_panels = panels_of(c.outs)
    c.panels = panels = filter_groups * c.group_panels
    set_windows(&c.windows, maps, c.channels, weight.shape[2], weight.shape[3], stride, dilation, out)
    tail = <float*>malloc(2 * panels * PANEL * sizeof(float))
    if c.windows.tap == NULL or tail == NULL:
        free(c.windows.tap)
        free(tail)
        raise MemoryError
    memset(p, 0, sizeof(p[0]))
    p.input = &maps[0, 0, 0, 0]
    p.out = &out[0, 0, 0, 0]
    if residual is not None:
        p.residual = &residual[0, 0, 0, 0]
    p.activation = activation
    p.scale = whole_panels(scale, tail, &c)
    p.shift = whole_panels(shift, tail + panels * PANEL, &c)
    c.filters = filters_of(weight)
    c.filters.count = c.outs
    c.packed = &packed[0]
    c.size = weight.shape[1] * weight.shape[2] * weight.shape[3]
    c.splits = (c.size + PACKED - 1) // PACKED  # several threads can pack one panel
    # A task computes a group of rows for all panels, or for some panels if a thread would otherwise have no work.
    # The number of groups is a multiple of the number of threads, so that all threads finish together.
    c.rows = out.shape[0] * out.shape[1] * out.shape[2]
    groups = ((c.rows + GROUP - 1) // GROUP + threads - 1) // threads * threads
    c.group = max(ROWS, ((c.rows + groups - 1) // groups + ROWS - 1) // ROWS * ROWS)
    groups = (c.rows + c.group - 1) // c.group
    c.shares = min(panels, (threads + groups - 1) // groups)
    c.share = (panels + c.shares - 1) // c.shares
    try:
        with nogil:
            if not is_packed:
                parallel_for(pack_panels, &c, panels * c.splits, threads)
            parallel_for(convolve_groups, &c, groups * c.shares, threads)
    finally:
        free(c.windows.tap)
        free(tail)


cdef void pack_panels(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Convolution* c = <Convolution*>task
    cdef Filters filters = c.filters
    cdef Py_ssize_t i, panel, start
    for i in range(first, stop):
        panel = i // c.splits
        start = i % c.splits * PACKED
        filters.weights = c.filters.weights + panel // c.group_panels * c.outs * filters.step  # of this group
        pack_panel(
            &filters, panel % c.group_panels * PANEL, start, min(c.size, start + PACKED),
            c.packed + panel * PANEL * c.size,
        )


cdef void convolve_groups(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Convolution* c = <Convolution*>task
    cdef Py_ssize_t i, row
    for i in range(first, stop):
        row = i // c.shares * c.group
        convolve_group(c, row, min(c.group, c.rows - row), i % c.shares * c.share, c.share)


cdef void set_windows(
    Windows* w, const float[:, :, :, :] maps, Py_ssize_t used, Py_ssize_t kernel_height, Py_ssize_t kernel_width,
    const Py_ssize_t[::1] stride, const Py_ssize_t[::1] dilation, const float[:, :, :, :] out,
) noexcept:
    """Fill the struct `w` for filters that use `used` channels. If there is not enough memory, `w.tap` is NULL."""
    cdef Py_ssize_t column = maps.strides[2] // 4, line = maps.strides[1] // 4, y, x
    cdef bint joined = dilation[1] == 1 and used == column  # if so, a row of the filter reads neighbouring numbers
    w.rows = out.shape[1]
    w.columns = out.shape[2]
    w.image_step = maps.strides[0] // 4
    w.height_step = stride[0] * line
    w.width_step = stride[1] * column
    w.out_image = out.strides[0] // 4
    w.out_row = out.strides[1] // 4
    w.out_column = out.strides[2] // 4
    w.taps = kernel_height if joined else kernel_height * kernel_width
    w.run = kernel_width * used if joined else used
    w.tap = <Py_ssize_t*>malloc(max(w.taps, 1) * sizeof(Py_ssize_t))
    if w.tap == NULL:
        return
    for y in range(kernel_height):
        if joined:
            w.tap[y] = y * dilation[0] * line
        else:
            for x in range(kernel_width):
                w.tap[y * kernel_width + x] = y * dilation[0] * line + x * dilation[1] * column


cdef const float* whole_panels(const float[::1] values, float* into, const Convolution* c) noexcept:
    """Return a copy of `values`, in which those of each group are padded with zeros to whole panels.

    Return NULL for None.
    """
    cdef Py_ssize_t group
    if values is None:
        return NULL
    memset(into, 0, c.panels * PANEL * sizeof(float))
    for group in range(c.panels // c.group_panels):
        memcpy(into + group * c.group_panels * PANEL, &values[group * c.outs], c.outs * sizeof(float))
    return into


cdef void pack_panel(
    const Filters* filters, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop, float* to
) noexcept nogil:
    """Fill `to` (kh * kw * C, PANEL) with the weights start .. stop - 1 of PANEL filters, beginning with `first`.

    These are at most PACKED weights. Filters beyond the last one are zeros.
    """
    cdef float lines[PACKED * LANES]
    cdef Py_ssize_t channels = filters.channels, places = filters.height * filters.width, group, place, k
    cdef float* line
    for group in range(PANEL // LANES):
        gather_filters(filters, first + group * LANES, start, stop, lines)
        for place in range(places):  # from (C, places) to (places, C), the order of maps
            k = start + (place - start % places + places) % places
            line = to + (place * channels + k // places) * PANEL + group * LANES
            while k < stop:
                memcpy(line, lines + (k - start) * LANES, LANES * sizeof(float))
                line += PANEL
                k += places


cdef void convolve_group(
    const Convolution* c, Py_ssize_t first, Py_ssize_t count, Py_ssize_t panel, Py_ssize_t panels
) noexcept nogil:
    """Compute `panels` panels, beginning with `panel`, for `count` windows (at most GROUP), beginning with `first`."""
    cdef const Windows* w = &c.windows
    cdef Product p = c.product
    cdef Py_ssize_t at[GROUP]
    cdef Py_ssize_t to[GROUP]
    cdef Py_ssize_t tap, taps, k, run, strip, number, r, size = c.size
    cdef Py_ssize_t part = max(1, w.run // max(1, (w.run + CHUNK - 1) // CHUNK))  # of a run that is longer than a chunk
    cdef Py_ssize_t strips = (count + ROWS - 1) // ROWS
    cdef Py_ssize_t last_panel = min(panel + panels, c.panels)
    cdef const float* soon
    cdef bint more
    find_places(w, first, GROUP, c.rows, at, to)
    p.begins = True
    tap = k = 0
    while tap < w.taps:  # a chunk consists of several runs or of a part of one run
        taps = max(1, min(CHUNK // w.run, w.taps - tap))
        run = min(part, w.run - k)
        p.tap = w.tap + tap
        p.taps = taps
        p.run = run
        p.ends = tap + taps == w.taps and k + run == w.run
        for number in range(panel, last_panel):
            set_panel(c, number, k, tap * w.run + k, &p)
            soon = p.panel + PANEL * size  # the same part of the next panel
            if number + 1 == last_panel:
                soon = c.packed + (panel * size + (tap + (taps if k + run == w.run else 0)) * w.run
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


cdef void set_panel(
    const Convolution* c, Py_ssize_t number, Py_ssize_t k, Py_ssize_t weight, Product* p
) noexcept nogil:
    """Prepare a product with panel `number`, beginning at number `k` of a run and at this weight of each filter."""
    cdef const Product* whole = &c.product
    cdef Py_ssize_t group = number // c.group_panels, o = number % c.group_panels * PANEL
    p.columns = min(PANEL, c.outs - o)
    o += group * c.outs
    p.input = whole.input + group * c.channels + k
    p.panel = c.packed + (number * c.size + weight) * PANEL
    p.out = whole.out + o
    if whole.scale != NULL:
        p.scale = whole.scale + number * PANEL
    if whole.shift != NULL:
        p.shift = whole.shift + number * PANEL
    if whole.residual != NULL:
        p.residual = whole.residual + o


cdef void find_places(
    const Windows* w, Py_ssize_t first, Py_ssize_t count, Py_ssize_t rows, Py_ssize_t* at, Py_ssize_t* to
) noexcept nogil:
    """Fill `at` and `to` (count,) with the offsets of windows and of their outputs. The last window is repeated."""
    cdef Py_ssize_t i, x = first % w.columns, y = first // w.columns % w.rows, n = first // w.columns // w.rows
    for i in range(count):
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
    """Fill `out` (N, H + 2 * padding, W + 2 * padding, C) with `maps` (N, H, W, C) of any layout, padded with zeros."""
    cdef Padding p
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    p = Padding(
        &maps[0, 0, 0, 0], &out[0, 0, 0, 0], maps.shape[1], maps.shape[2], maps.shape[3],
        maps.strides[0] // 4, maps.strides[1] // 4, maps.strides[2] // 4, maps.strides[3] // 4,
        out.shape[1], out.shape[2], padding[0], padding[1],
    )
    with nogil:
        parallel_for(pad_lines, &p, out.shape[0] * p.out_height, threads)


cdef void pad_lines(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Padding* p = <Padding*>task
    cdef Py_ssize_t line, y, x
    cdef Py_ssize_t left = p.left * p.channels, middle = p.width * p.channels, width = p.out_width * p.channels
    cdef bint joined = p.column_step == p.channels and p.channel_step == 1
    cdef const float* source
    cdef float* out
    for line in range(first, stop):
        out = p.out + line * width
        y = line % p.out_height - p.top
        if y < 0 or y >= p.height or p.width == 0:
            memset(out, 0, width * sizeof(float))
            continue
        source = p.maps + line // p.out_height * p.image_step + y * p.row_step
        memset(out, 0, left * sizeof(float))
        if joined:
            memcpy(out + left, source, middle * sizeof(float))
        else:
            for x in range(p.width):
                copy_pixel(source + x * p.column_step, p.channel_step, p.channels, out + left + x * p.channels)
        memset(out + left + middle, 0, left * sizeof(float))


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
    Py_ssize_t groups,
    int threads,
):
    """Fill `out` (parts, O, kh * kw * C / groups). Its sum over the parts is the weight gradient of a convolution.

    `maps` (N, H, W, C) are the input of the convolution, and `grad` (N, H', W', O) is the gradient with respect to its
    result. Each part sums over some of the windows. Without parts, a convolution with few weights and many windows
    would keep only one thread busy.
    """
    cdef Gradient t
    cdef Py_ssize_t parts = out.shape[0]
    out[:] = 0
    t.groups = groups
    t.channels = maps.shape[3] // groups
    t.outs = out.shape[1] // groups
    t.count = grad.shape[0] * grad.shape[1] * grad.shape[2]
    if parts * out.shape[1] * out.shape[2] == 0 or t.count == 0:
        return
    set_windows(&t.windows, maps, t.channels, kernel_height, kernel_width, stride, dilation, grad)
    t.scratch = <float*>malloc(threads * PIXELS * ROWS * sizeof(float))
    if t.windows.tap == NULL or t.scratch == NULL:
        free(t.windows.tap)
        free(t.scratch)
        raise MemoryError
    t.maps = &maps[0, 0, 0, 0]
    t.grad = &grad[0, 0, 0, 0]
    t.out = &out[0, 0, 0]
    t.part = ((t.count + parts - 1) // parts + PIXELS - 1) // PIXELS * PIXELS
    t.blocks = (t.outs + BLOCK - 1) // BLOCK
    t.spans = (t.windows.run + SPAN - 1) // SPAN
    try:
        with nogil:
            parallel_for(gradient_blocks, &t, parts * groups * t.blocks * t.windows.taps * t.spans, threads)
    finally:
        free(t.windows.tap)
        free(t.scratch)


cdef void gradient_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Gradient* t = <Gradient*>task
    cdef Py_ssize_t i, part, group, number, taps = t.windows.taps, tasks = t.blocks * taps * t.spans
    for i in range(first, stop):
        part = i // (t.groups * tasks)
        group = i // tasks % t.groups
        number = i % tasks
        gradient_block(
            &t.windows, t.maps + group * t.channels, t.grad + group * t.outs, t.outs, t.groups * t.outs,
            min(t.count, part * t.part), min(t.count, (part + 1) * t.part), t.count,
            t.out + (part * t.groups + group) * t.outs * taps * t.windows.run,
            number % t.blocks * BLOCK,  # first all filters, because the windows stay in the cache
            number // t.blocks // t.spans, number // t.blocks % t.spans * SPAN, t.scratch + thread * PIXELS * ROWS,
        )


cdef void gradient_block(
    const Windows* w, const float* maps, const float* grad, Py_ssize_t filters, Py_ssize_t grad_step,
    Py_ssize_t first, Py_ssize_t stop, Py_ssize_t windows, float* out, Py_ssize_t filter, Py_ssize_t tap,
    Py_ssize_t start, float* scratch,
) noexcept nogil:
    """Add the windows first .. stop - 1 to the gradients of BLOCK filters, for SPAN weights of one run.

    The gradients of neighbouring pixels are `grad_step` numbers apart.
    """
    cdef Py_ssize_t at[PIXELS]
    cdef Py_ssize_t to[PIXELS]
    cdef Py_ssize_t pixel, count, i, j, o, c, k, rows, size = w.taps * w.run
    cdef Py_ssize_t last = min(filters, filter + BLOCK), end = min(w.run, start + SPAN)
    cdef Py_ssize_t strips = (last - filter + ROWS - 1) // ROWS
    cdef const float* left
    cdef Py_ssize_t distance
    pixel = first
    while pixel < stop:
        count = min(PIXELS, stop - pixel)
        find_places(w, pixel, count, windows, at, to)
        rows = (last - filter) % ROWS  # of the last strip, or 0
        if rows:  # `outer` always reads ROWS values per pixel; pad with zeros
            memset(scratch, 0, count * ROWS * sizeof(float))
            for k in range(count):
                memcpy(scratch + k * ROWS, grad + (pixel + k) * grad_step + last - rows, rows * sizeof(float))
        for j in range((end - start + PANEL - 1) // PANEL):  # the windows stay in the cache during the inner loop
            c = start + j * PANEL
            for i in range(strips):
                o = filter + i * ROWS
                rows = min(ROWS, last - o)
                left = grad + pixel * grad_step + o
                distance = grad_step
                if rows < ROWS:
                    left = scratch
                    distance = ROWS
                outer(
                    left, distance, maps + w.tap[tap] + c, at, count, out + o * size + tap * w.run + c, size,
                    <int>rows, min(PANEL, end - c),
                )
        pixel += PIXELS


def gradient_tasks(Py_ssize_t filters, Py_ssize_t groups, Py_ssize_t taps, Py_ssize_t run):
    """Return the number of tasks per part of `weight_gradient`, for windows of `taps` runs of `run` neighbours."""
    return groups * ((filters // groups + BLOCK - 1) // BLOCK) * taps * ((run + SPAN - 1) // SPAN)


def gather_weights(const float[:, :, ::1] parts, float[:, :, :, ::1] out, int threads):
    """Fill `out` (O, C, kh, kw) with the sum of `parts` (parts, O, kh * kw * C) over the first axis."""
    cdef Gathering t
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    t = Gathering(
        &parts[0, 0, 0], &out[0, 0, 0, 0], parts.shape[0], parts.shape[1] * parts.shape[2], out.shape[1],
        out.shape[2] * out.shape[3],
    )
    with nogil:
        parallel_for(gather_filters_of, &t, out.shape[0], threads)


cdef void gather_filters_of(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Gathering* t = <Gathering*>task
    cdef Py_ssize_t o, size = t.places * t.channels
    for o in range(first, stop):
        if t.places == 1:  # nothing to reorder
            add_parts(t.parts + o * size, t.count, t.distance, size, t.out + o * size)
            continue
        gather_filter(t.parts + o * size, t.count, t.distance, t.channels, t.places, t.out + o * size)


cdef void add_parts(
    const float* parts, Py_ssize_t count, Py_ssize_t distance, Py_ssize_t size, float* out
) noexcept nogil:
    """Sum the parts of one filter."""
    cdef Py_ssize_t s, i
    memset(out, 0, size * sizeof(float))
    for s in range(count):
        for i in range(size):
            out[i] += parts[s * distance + i]


cdef void gather_filter(
    const float* parts, Py_ssize_t count, Py_ssize_t distance, Py_ssize_t channels, Py_ssize_t places, float* out
) noexcept nogil:
    """Sum the parts of one filter, and reorder the sum from (places, C) to (C, places)."""
    cdef Py_ssize_t s, place, group, c, i, columns, rows
    cdef float turned[LANES * LANES]
    cdef float total[LANES * LANES]
    for group in range((channels + LANES - 1) // LANES):
        c = group * LANES
        columns = min(LANES, channels - c)
        place = 0
        while place < places:
            rows = min(LANES, places - place)
            memset(total, 0, sizeof(total))
            for s in range(count):
                transpose(parts + s * distance + place * channels + c, channels, rows, columns, turned)
                for i in range(columns * LANES):
                    total[i] += turned[i]
            for i in range(columns):
                memcpy(out + (c + i) * places + place, total + i * LANES, rows * sizeof(float))
            place += LANES
