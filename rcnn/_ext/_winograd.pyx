# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.conv` for float32 maps (N, H, W, C): 3x3 convolutions of stride 1 with Winograd's algorithm.

The output is divided into tiles of `side` x `side` elements. A tile is computed from (side + 2)^2 inputs. The inputs
and the filters are transformed, multiplied elementwise, and summed over the channels. Another transform of these sums
gives the outputs. The transformed arrays have (side + 2)^2 positions. At each position, the sums are a matrix product
(tiles, C) @ (C, O), which is computed with the register block of `_block.h`. The transforms of a single tile are in
`_winograd.h`.

If there are many tiles, they are divided among the threads, and each thread runs all steps for some tiles at a time.
Only the transformed filters then move between cores. If there are few tiles, every thread would read all filters for
little work. Therefore, all threads run the same step: first the tiles are divided among them, then the positions, and
then the tiles again.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rcnn._ext._block cimport (
    LANES, LINE, PANEL, ROWS, Filters, Product, filters_of, gather_filters, outer, product
)
from rcnn._ext._threads cimport parallel_for

cdef extern from "_winograd.h" nogil:
    void tile_inputs(
        const float** source, const float** next, float* to, Py_ssize_t distance, Py_ssize_t channels, int side
    ) noexcept
    void tile_gradients(const float** source, float* to, Py_ssize_t distance, Py_ssize_t channels, int side) noexcept
    void tile_outputs(
        const float* source, Py_ssize_t distance, Py_ssize_t next, float* out, const Py_ssize_t* to,
        Py_ssize_t channels,
        const float* scale, const float* shift, const float* residual, int activation, int side,
    ) noexcept
    void filter_weights(const float* source, float* to, Py_ssize_t distance, int side) noexcept
    void filter_gradients(
        const float* source, Py_ssize_t distance, Py_ssize_t channels, float* to, int side
    ) noexcept

cdef enum:
    FEW = 200  # tiles; up to this number all threads run the same step
    MOST = 60  # tiles that a thread processes at a time
    TOGETHER = 16  # channels whose filters are transformed together: their weights are contiguous in memory
    PIXELS = 192  # tiles per partial sum of a gradient
    APART = 16  # extra numbers between positions; powers of two as distances would cause conflicts in the cache


cdef struct Tiles:
    # How maps (N, H, W, C) are divided into tiles.
    const float* maps
    float* zeros  # (C,) read where a tile extends beyond the map
    Py_ssize_t height, width, channels, pad_y, pad_x
    Py_ssize_t rows, columns, side, count  # tiles along the axes of an image, outputs along a tile, all tiles
    Py_ssize_t positions  # (side + 2)^2


cdef struct Output:
    # The result of `convolve`, and the steps after the convolution; arrays that are not given are NULL.
    float* out  # (N, height, width, filters)
    Py_ssize_t height, width, filters
    const float* scale  # (filters,)
    const float* shift  # (filters,)
    const float* residual  # like out
    int activation


cdef struct Convolution:
    # The data that all threads of `convolve` use.
    Tiles tiles
    Filters filters
    Output to
    float* transformed  # filters: (positions, panels, C, PANEL), filters_apart between positions
    float* inputs  # (positions, block, C) for each thread, `distance` between positions
    float* products  # (positions, block, width) for each thread, `apart` between positions
    Py_ssize_t panels, splits  # panels, and tasks that transform one panel
    Py_ssize_t block, distance, apart, filters_apart
    Py_ssize_t share  # elements of the inputs and products of a thread
    Py_ssize_t shares, share_panels  # tasks per position, panels per task


cdef struct Gradient:
    # The data that all threads of `weight_gradient` use.
    Tiles tiles
    const float* grad  # (N, height, width, filters)
    Py_ssize_t height, width, filters
    float* inputs  # (positions, most, C), `distance` between positions
    float* grads  # (positions, most, O), `grad_distance` between positions
    float* sums  # (positions, O, C)
    float* out  # (O, C, 3, 3)
    Py_ssize_t distance, grad_distance, blocks, spans
    Py_ssize_t first, count  # the tiles that are processed now


def transformed_size(Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t side):
    """Return the number of elements of transformed filters."""
    return (side + 2) * (side + 2) * (channels * ((filters + PANEL - 1) // PANEL * PANEL) + APART)


def scratch_size(Py_ssize_t tiles, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t side, Py_ssize_t threads):
    """Return the number of scratch elements that `convolve` requires."""
    cdef Py_ssize_t positions = (side + 2) * (side + 2), width = (filters + PANEL - 1) // PANEL * PANEL
    cdef Py_ssize_t block = block_size(tiles, threads)
    return min(threads, (tiles + block - 1) // block) * share_size(positions, block, channels, width)


cdef Py_ssize_t share_size(
    Py_ssize_t positions, Py_ssize_t block, Py_ssize_t channels, Py_ssize_t width
) noexcept nogil:
    """Return the number of elements in the transforms and the products of a block of tiles."""
    return positions * (block * (channels + width) + 2 * APART)


cdef Py_ssize_t block_size(Py_ssize_t tiles, Py_ssize_t threads) noexcept nogil:
    """Return the number of tiles per block: all tiles if there are few, otherwise equal shares for the threads."""
    cdef Py_ssize_t shares = threads * ((tiles + threads * MOST - 1) // (threads * MOST))
    return tiles if tiles <= FEW else (tiles + shares - 1) // shares


def convolve(
    const float[:, :, :, ::1] maps,
    const float[:, :, :, :] weight,
    float[:, :, :, ::1] out,
    const Py_ssize_t[::1] padding,
    const float[::1] scale,
    const float[::1] shift,
    const float[:, :, :, ::1] residual,
    int activation,
    int side,
    float[::1] transformed,
    bint is_transformed,
    float[::1] scratch,
    int threads,
):
    """Fill `out` (N, H', W', O) with the convolution of maps (N, H, W, C) and weight (O, C, 3, 3); side is 4 or 2.

    `scale`, `shift`, `residual` and `activation` are used as in `_conv.convolve`. `transformed` has `transformed_size`
    elements; the transformed filters are written into it unless `is_transformed` is True. `scratch` has `scratch_size`
    elements.
    """
    cdef Convolution c
    cdef Tiles* t = &c.tiles
    cdef Py_ssize_t channels = weight.shape[1], width, blocks
    cdef int workers  # threads with a part of the scratch memory: at most the number of blocks
    if out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3] == 0:
        return
    cut(t, maps, out, padding, side)
    c.filters = filters_of(weight)
    c.to = Output(&out[0, 0, 0, 0], out.shape[1], out.shape[2], weight.shape[0], NULL, NULL, NULL, activation)
    if scale is not None:
        c.to.scale = &scale[0]
    if shift is not None:
        c.to.shift = &shift[0]
    if residual is not None:
        c.to.residual = &residual[0, 0, 0, 0]
    c.panels = (c.filters.count + PANEL - 1) // PANEL
    width = c.panels * PANEL
    c.splits = (channels + TOGETHER - 1) // TOGETHER
    c.block = block_size(t.count, threads)
    blocks = (t.count + c.block - 1) // c.block
    workers = <int>min(threads, blocks)
    # If there are too few positions to keep all threads busy, they also share the panels of a position.
    c.shares = min(c.panels, max(1, 4 * threads // t.positions))
    c.share_panels = (c.panels + c.shares - 1) // c.shares
    c.shares = (c.panels + c.share_panels - 1) // c.share_panels
    c.distance = c.block * channels + APART
    c.apart = c.block * width + APART
    c.filters_apart = width * channels + APART
    c.share = share_size(t.positions, c.block, channels, width)
    c.transformed = &transformed[0]
    c.inputs = &scratch[0]
    c.products = c.inputs + t.positions * c.distance
    t.zeros = <float*>calloc(max(channels, 1), sizeof(float))
    if t.zeros == NULL:
        raise MemoryError
    try:
        with nogil:
            if not is_transformed:
                parallel_for(transform_panels, &c, c.panels * c.splits, threads)
            if c.block == t.count:
                parallel_for(transform_tiles, &c, t.count, threads)
                parallel_for(multiply_positions, &c, t.positions * c.shares, threads)
                parallel_for(finish_tiles, &c, t.count, threads)
            else:
                parallel_for(convolve_blocks, &c, blocks, workers)
    finally:
        free(t.zeros)


cdef void transform_panels(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Convolution* c = <Convolution*>task
    cdef Py_ssize_t i, channel
    for i in range(first, stop):
        channel = i % c.splits * TOGETHER
        transform_filters(
            &c.filters, i // c.splits, channel, min(c.tiles.channels, channel + TOGETHER), c.transformed,
            <int>c.tiles.side,
        )


cdef void transform_tiles(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Convolution* c = <Convolution*>task
    cdef Py_ssize_t tile
    for tile in range(first, stop):
        transform_tile(&c.tiles, tile, c.inputs + tile * c.tiles.channels, c.distance)


cdef void multiply_positions(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Convolution* c = <Convolution*>task
    cdef Py_ssize_t i, position, panel, channels = c.tiles.channels
    for i in range(first, stop):
        position = i // c.shares
        panel = i % c.shares * c.share_panels
        multiply(
            c.inputs + position * c.distance, channels, c.tiles.count,
            c.transformed + position * c.filters_apart + panel * channels * PANEL,
            min(c.share_panels * PANEL, c.filters.count - panel * PANEL),
            c.products + position * c.apart + panel * PANEL, c.panels * PANEL,
        )


cdef void finish_tiles(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Convolution* c = <Convolution*>task
    cdef Py_ssize_t tile
    for tile in range(first, stop):
        finish_tile(&c.tiles, tile, c.products + tile * c.panels * PANEL, c.apart, &c.to)


cdef void convolve_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    """Run all steps for the blocks first .. stop - 1 of tiles."""
    cdef Convolution* c = <Convolution*>task
    cdef const Tiles* t = &c.tiles
    cdef Py_ssize_t i, tile, position, start, count
    cdef float* inputs = c.inputs + thread * c.share
    cdef float* products = c.products + thread * c.share
    for i in range(first, stop):
        start = i * c.block
        count = min(c.block, t.count - start)
        for tile in range(count):
            transform_tile(t, start + tile, inputs + tile * t.channels, c.distance)
        for position in range(t.positions):
            multiply(
                inputs + position * c.distance, t.channels, count, c.transformed + position * c.filters_apart,
                c.filters.count, products + position * c.apart, c.panels * PANEL,
            )
        for tile in range(count):
            finish_tile(t, start + tile, products + tile * c.panels * PANEL, c.apart, &c.to)


cdef void cut(
    Tiles* t, const float[:, :, :, ::1] maps, const float[:, :, :, ::1] out, const Py_ssize_t[::1] padding,
    Py_ssize_t side,
) noexcept:
    t.maps = &maps[0, 0, 0, 0]
    t.height = maps.shape[1]
    t.width = maps.shape[2]
    t.channels = maps.shape[3]
    t.pad_y = padding[0]
    t.pad_x = padding[1]
    t.side = side
    t.positions = (side + 2) * (side + 2)
    t.rows = (out.shape[1] + side - 1) // side
    t.columns = (out.shape[2] + side - 1) // side
    t.count = out.shape[0] * t.rows * t.columns


cdef void transform_filters(
    const Filters* filters, Py_ssize_t panel, Py_ssize_t first, Py_ssize_t stop, float* to, int side
) noexcept nogil:
    """Transform the weights of a panel of filters for the channels first .. stop - 1."""
    cdef float lines[9 * TOGETHER * LANES]
    cdef Py_ssize_t channel, group, channels = filters.channels
    cdef Py_ssize_t apart = (filters.count + PANEL - 1) // PANEL * channels * PANEL + APART
    for group in range(min(PANEL, filters.count - panel * PANEL + LANES - 1) // LANES):
        gather_filters(filters, panel * PANEL + group * LANES, 9 * first, 9 * stop, lines)
        for channel in range(first, stop):
            filter_weights(
                lines + 9 * (channel - first) * LANES, to + (panel * channels + channel) * PANEL + group * LANES, apart,
                side,
            )


cdef void transform_tile(const Tiles* t, Py_ssize_t tile, float* to, Py_ssize_t distance) noexcept nogil:
    """Transform the inputs of one tile."""
    cdef const float* source[36]
    cdef const float* following[36]
    find_tile(t, tile, source)
    find_tile(t, min(tile + 1, t.count - 1), following)
    tile_inputs(source, following, to, distance, t.channels, <int>t.side)


cdef void find_tile(const Tiles* t, Py_ssize_t tile, const float** source) noexcept nogil:
    """Fill `source` ((side + 2)^2,) with the addresses of the inputs of a tile."""
    find_values(
        t.maps, t.zeros, t.height, t.width, t.channels, tile // (t.rows * t.columns),
        tile // t.columns % t.rows * t.side - t.pad_y, tile % t.columns * t.side - t.pad_x, t.side + 2, source,
    )


cdef void find_values(
    const float* maps, const float* zeros, Py_ssize_t height, Py_ssize_t width, Py_ssize_t channels, Py_ssize_t image,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t points, const float** source,
) noexcept nogil:
    """Fill `source` (points^2,) with the addresses of the pixels in a square, or of `zeros` outside the map."""
    cdef Py_ssize_t i, j, y, x
    for i in range(points):
        y = top + i
        for j in range(points):
            x = left + j
            if 0 <= y < height and 0 <= x < width:
                source[i * points + j] = maps + ((image * height + y) * width + x) * channels
            else:
                source[i * points + j] = zeros


cdef void multiply(
    const float* inputs, Py_ssize_t channels, Py_ssize_t tiles, const float* panel, Py_ssize_t filters, float* out,
    Py_ssize_t width,
) noexcept nogil:
    """Multiply `inputs` (tiles, C) by the panels of some filters at one position, and write the result to `out`.

    A panel has the shape (C, PANEL). Vectors of the last panel that contain no filter are skipped.
    """
    cdef Product p
    cdef Py_ssize_t at[2 * ROWS]
    cdef Py_ssize_t to[2 * ROWS]
    cdef Py_ssize_t none = 0, number, strip, strips = (tiles + ROWS - 1) // ROWS, r
    cdef bint more
    memset(&p, 0, sizeof(p))
    p.input = inputs
    p.tap = &none
    p.taps = 1
    p.run = channels
    p.begins = True
    p.ends = False
    p.rate = <int>((PANEL + strips - 1) // strips)
    for number in range((filters + PANEL - 1) // PANEL):
        p.panel = panel + number * channels * PANEL
        p.out = out + number * PANEL
        p.columns = min(PANEL, (filters - number * PANEL + LANES - 1) // LANES * LANES)
        for strip in range(strips):
            for r in range(2 * ROWS):  # of this strip and the next one
                at[r] = min(strip * ROWS + r, tiles - 1) * channels
                to[r] = min(strip * ROWS + r, tiles - 1) * width
            more = strip + 1 < strips
            p.soon = p.panel + channels * PANEL + strip * (channels // LINE) * p.rate * LINE  # of the next panel
            product(
                &p, at, to, <int>min(ROWS, tiles - strip * ROWS), at + ROWS if more and number == 0 else NULL,
                to + ROWS if more else NULL,
            )


cdef void finish_tile(
    const Tiles* t, Py_ssize_t tile, const float* products, Py_ssize_t apart, const Output* to
) noexcept nogil:
    """Transform the products of one tile back and store the outputs that lie on the map."""
    cdef Py_ssize_t places[16]
    cdef Py_ssize_t i, j, y, x, image = tile // (t.rows * t.columns)
    for i in range(t.side):
        y = tile // t.columns % t.rows * t.side + i
        for j in range(t.side):
            x = tile % t.columns * t.side + j
            places[i * t.side + j] = -1
            if y < to.height and x < to.width:
                places[i * t.side + j] = ((image * to.height + y) * to.width + x) * to.filters
    tile_outputs(
        products, apart, (to.filters + PANEL - 1) // PANEL * PANEL, to.out, places, to.filters, to.scale, to.shift,
        to.residual, to.activation, <int>t.side,
    )


# ---------------------------------------------------------------- the gradient with respect to the weights


def weight_gradient_scratch_size(Py_ssize_t tiles, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t side):
    """Return the number of scratch elements that `weight_gradient` requires for `tiles` at a time."""
    cdef Py_ssize_t positions = (side + 2) * (side + 2)
    return positions * (tiles * (channels + filters) + 2 * APART + channels * filters) + ROWS


def weight_gradient(
    const float[:, :, :, ::1] maps,
    const float[:, :, :, ::1] grad,
    float[:, :, :, ::1] out,
    const Py_ssize_t[::1] padding,
    int side,
    Py_ssize_t most,
    float[::1] scratch,
    int threads,
):
    """Fill `out` (O, C, 3, 3) with the weight gradient of the convolution, given `grad` (N, H', W', O).

    Each step is the transpose of a step of `convolve`. First, the transposed output transform is applied to `grad`. At
    each position, the result is multiplied by the transformed inputs and summed over the tiles. Finally, the transposed
    filter transform is applied to the sums. `most` tiles are processed at a time.
    """
    cdef Gradient g
    cdef Tiles* t = &g.tiles
    cdef Py_ssize_t filters = out.shape[0], channels = out.shape[1]
    out[:] = 0
    if grad.shape[0] * grad.shape[1] * grad.shape[2] * filters * channels == 0:
        return
    cut(t, maps, grad, padding, side)
    g.grad = &grad[0, 0, 0, 0]
    g.height = grad.shape[1]
    g.width = grad.shape[2]
    g.filters = filters
    g.distance = most * channels + APART
    g.grad_distance = most * filters + APART
    g.blocks = (filters + 16 * ROWS - 1) // (16 * ROWS)
    g.spans = (channels + 4 * PANEL - 1) // (4 * PANEL)
    g.inputs = &scratch[0]
    g.grads = g.inputs + t.positions * g.distance
    g.sums = g.grads + t.positions * g.grad_distance + ROWS
    g.out = &out[0, 0, 0, 0]
    t.zeros = <float*>calloc(max(channels, filters), sizeof(float))
    if t.zeros == NULL:
        raise MemoryError
    try:
        with nogil:
            parallel_for(clear_sums, &g, t.positions * filters, threads)
            g.first = 0
            while g.first < t.count:
                g.count = min(most, t.count - g.first)
                parallel_for(transform_both, &g, g.count, threads)
                parallel_for(accumulate_products, &g, t.positions * g.blocks * g.spans, threads)
                g.first += most
            parallel_for(finish_filters, &g, filters, threads)
    finally:
        free(t.zeros)


cdef void clear_sums(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Gradient* g = <Gradient*>task
    memset(g.sums + first * g.tiles.channels, 0, (stop - first) * g.tiles.channels * sizeof(float))


cdef void transform_both(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    """Transform the inputs and the gradients of some tiles."""
    cdef Gradient* g = <Gradient*>task
    cdef Py_ssize_t i
    for i in range(first, stop):
        transform_tile(&g.tiles, g.first + i, g.inputs + i * g.tiles.channels, g.distance)
        transform_gradient(
            &g.tiles, g.first + i, g.grad, g.height, g.width, g.filters, g.grads + i * g.filters, g.grad_distance
        )


cdef void accumulate_products(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Gradient* g = <Gradient*>task
    cdef Py_ssize_t i, position, block, channels = g.tiles.channels
    for i in range(first, stop):
        position = i % g.tiles.positions
        block = i // g.tiles.positions
        accumulate(
            g.grads + position * g.grad_distance, g.inputs + position * g.distance, g.count, g.filters, channels,
            block % g.blocks * 16 * ROWS, block // g.blocks * 4 * PANEL, g.sums + position * g.filters * channels,
        )


cdef void finish_filters(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Gradient* g = <Gradient*>task
    cdef Py_ssize_t o, channels = g.tiles.channels
    for o in range(first, stop):
        filter_gradients(
            g.sums + o * channels, g.filters * channels, channels, g.out + o * channels * 9, <int>g.tiles.side
        )


cdef void transform_gradient(
    const Tiles* t, Py_ssize_t tile, const float* grad, Py_ssize_t height, Py_ssize_t width, Py_ssize_t filters,
    float* to, Py_ssize_t distance,
) noexcept nogil:
    """Transform the gradient of the outputs of one tile."""
    cdef const float* source[16]
    find_values(
        grad, t.zeros, height, width, filters, tile // (t.rows * t.columns), tile // t.columns % t.rows * t.side,
        tile % t.columns * t.side, t.side, source,
    )
    tile_gradients(source, to, distance, filters, <int>t.side)


cdef void accumulate(
    const float* grads, const float* inputs, Py_ssize_t tiles, Py_ssize_t filters, Py_ssize_t channels,
    Py_ssize_t filter, Py_ssize_t channel, float* sums,
) noexcept nogil:
    """Add grads.T @ inputs to sums (O, C), for some filters and channels of grads (tiles, O) and inputs (tiles, C)."""
    cdef Py_ssize_t at[PIXELS]
    cdef Py_ssize_t tile, count, i, j, o, c
    for i in range(PIXELS):
        at[i] = i * channels
    tile = 0
    while tile < tiles:
        count = min(PIXELS, tiles - tile)
        for i in range(16):
            o = filter + i * ROWS
            if o >= filters:
                break
            for j in range(4):
                c = channel + j * PANEL
                if c >= channels:
                    break
                outer(
                    grads + tile * filters + o, filters, inputs + tile * channels + c, at, count,
                    sums + o * channels + c, channels, <int>min(ROWS, filters - o), min(PANEL, channels - c),
                )
        tile += PIXELS
