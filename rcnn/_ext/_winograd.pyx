# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.conv`: 3x3 convolutions of stride 1 by Winograd's algorithm. float32, (N, H, W, C).

A map is divided into tiles of `side` x `side` outputs. Each tile of (side + 2)^2 inputs is transformed, and so are the
filters. Then output = inverse transform(sum over channels of inputs * filters), elementwise. At each of the (side +
2)^2 positions that sum is a matrix product, tiles x C times C x O, computed with the register block of `_block.h`. The
transforms of a single tile are in `_winograd.h`.

If there are many tiles, each thread takes a share, some tiles at a time, and runs all steps on them: only the
transformed filters move between cores. If there are few, every thread would read all filters for little work. So all
threads run the same step, and share first the tiles, then the positions, then the tiles again.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rcnn._ext._block cimport LANES, LINE, PANEL, ROWS, Product, gather_filters, outer, product

cdef extern from "_winograd.h" nogil:
    void tile_inputs(
        const float** source, const float** next, float* to, Py_ssize_t distance, Py_ssize_t channels, int side
    ) noexcept
    void tile_gradients(const float** source, float* to, Py_ssize_t distance, Py_ssize_t channels, int side) noexcept
    void tile_outputs(
        const float* source, Py_ssize_t distance, Py_ssize_t next, float* out, const Py_ssize_t* to,
        Py_ssize_t channels,
        const float* scale, const float* shift, const float* residual, int relu, int side,
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
    APART = 16  # extra numbers between positions: at powers of two they would evict each other from the cache


cdef struct Tiles:
    # How maps (N, H, W, C) are divided into tiles.
    const float* maps
    float* zeros  # (C,) read where a tile extends beyond the map
    Py_ssize_t height, width, channels, pad_y, pad_x
    Py_ssize_t rows, columns, side, count  # tiles along the axes of an image, outputs along a tile, tiles in all


def scratch_size(Py_ssize_t tiles, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t side, Py_ssize_t threads):
    """Return the number of scratch elements that `convolve` requires."""
    cdef Py_ssize_t positions = (side + 2) * (side + 2), width = (filters + PANEL - 1) // PANEL * PANEL
    cdef Py_ssize_t block = block_size(tiles, threads)
    return positions * (channels * width + APART) + min(threads, (tiles + block - 1) // block) * share_size(
        positions, block, channels, width)


cdef Py_ssize_t share_size(
    Py_ssize_t positions, Py_ssize_t block, Py_ssize_t channels, Py_ssize_t width
) noexcept nogil:
    """Return the number of elements of the transforms and the products of a block of tiles."""
    return positions * (block * (channels + width) + 2 * APART)


cdef Py_ssize_t block_size(Py_ssize_t tiles, Py_ssize_t threads) noexcept nogil:
    """Return the number of tiles per block: all of them if few, otherwise equal shares for the threads."""
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
    bint relu,
    int side,
    float[::1] scratch,
    int threads,
):
    """Fill out (N, H', W', O) with the convolution of maps (N, H, W, C) and weight (O, C, 3, 3), side 4 or 2.

    scale, shift, residual and relu as in `_conv.convolve`. `scratch` has `scratch_size` elements.
    """
    cdef Tiles t
    cdef Py_ssize_t positions = (side + 2) * (side + 2), filters = weight.shape[0], channels = weight.shape[1]
    cdef Py_ssize_t panels = (filters + PANEL - 1) // PANEL, width = panels * PANEL, task, block, distance, apart, share
    cdef Py_ssize_t shares, share_panels, splits = (channels + TOGETHER - 1) // TOGETHER
    cdef int workers  # threads with a part of the scratch memory: at most the number of blocks
    cdef Py_ssize_t filters_apart = panels * channels * PANEL + APART
    cdef const float* gain = NULL if scale is None else &scale[0]
    cdef const float* bias = NULL if shift is None else &shift[0]
    cdef const float* rest = NULL if residual is None else &residual[0, 0, 0, 0]
    cdef float* transformed = &scratch[0]  # filters: (positions, panels, C, PANEL)
    cdef float* inputs = transformed + positions * (channels * width + APART)  # (positions, tiles, C)
    cdef float* products  # (positions, tiles, width)
    if out.size == 0:
        return
    cut(&t, maps, out, padding, side)
    block = block_size(t.count, threads)
    workers = <int>min(threads, (t.count + block - 1) // block)
    # If there are too few positions to keep all threads busy, they also share the panels of a position.
    shares = min(panels, max(1, 4 * threads // positions))
    share_panels = (panels + shares - 1) // shares
    shares = (panels + share_panels - 1) // share_panels
    distance = block * channels + APART
    apart = block * width + APART
    products = inputs + positions * distance
    share = share_size(positions, block, channels, width)
    t.zeros = <float*>calloc(max(channels, 1), sizeof(float))
    if t.zeros == NULL:
        raise MemoryError
    with nogil:
        for task in prange(panels * splits, num_threads=threads, schedule="static"):
            transform_filters(
                weight, task // splits, task % splits * TOGETHER, min(channels, (task % splits + 1) * TOGETHER),
                transformed, side,
            )
        if block == t.count:
            for task in prange(t.count, num_threads=threads, schedule="static"):
                transform_tile(&t, task, inputs + task * channels, distance)
            for task in prange(positions * shares, num_threads=threads, schedule="dynamic"):
                multiply(
                    inputs + task // shares * distance, channels, t.count,
                    transformed + task // shares * filters_apart + task % shares * share_panels * channels * PANEL,
                    min(share_panels, panels - task % shares * share_panels),
                    products + task // shares * apart + task % shares * share_panels * PANEL, width,
                )
            for task in prange(t.count, num_threads=threads, schedule="static"):
                finish_tile(
                    &t, task, products + task * width, apart, &out[0, 0, 0, 0], out.shape[1], out.shape[2], filters,
                    gain, bias, rest, relu,
                )
        else:
            for task in prange((t.count + block - 1) // block, num_threads=workers, schedule="dynamic"):
                convolve_block(
                    &t, task * block, min(block, t.count - task * block), inputs + threadid() * share,
                    products + threadid() * share, distance, apart, transformed, panels, &out[0, 0, 0, 0],
                    out.shape[1], out.shape[2], filters, gain, bias, rest, relu,
                )
    free(t.zeros)


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
    t.rows = (out.shape[1] + side - 1) // side
    t.columns = (out.shape[2] + side - 1) // side
    t.count = out.shape[0] * t.rows * t.columns


cdef void transform_filters(
    const float[:, :, :, :] weight, Py_ssize_t panel, Py_ssize_t first, Py_ssize_t stop, float* to, int side
) noexcept nogil:
    """Transform the weights of a panel of filters for the channels first .. stop."""
    cdef float lines[9 * TOGETHER * LANES]
    cdef Py_ssize_t channel, group, channels = weight.shape[1]
    cdef Py_ssize_t apart = (weight.shape[0] + PANEL - 1) // PANEL * channels * PANEL + APART
    for group in range(PANEL // LANES):
        gather_filters(weight, panel * PANEL + group * LANES, 9 * first, 9 * stop, lines)
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
    """Fill source ((side + 2)^2,) with the addresses of the inputs of a tile."""
    find_values(
        t.maps, t.zeros, t.height, t.width, t.channels, tile // (t.rows * t.columns),
        tile // t.columns % t.rows * t.side - t.pad_y, tile % t.columns * t.side - t.pad_x, t.side + 2, source,
    )


cdef void find_values(
    const float* maps, const float* zeros, Py_ssize_t height, Py_ssize_t width, Py_ssize_t channels, Py_ssize_t image,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t points, const float** source,
) noexcept nogil:
    """Fill source (points^2,) with the addresses of the pixels of a square; zeros outside the map."""
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
    const float* inputs, Py_ssize_t channels, Py_ssize_t tiles, const float* panel, Py_ssize_t panels, float* out,
    Py_ssize_t width,
) noexcept nogil:
    """Fill panels of out (tiles, width), at one position, with inputs (tiles, C) times panels (panels, C, PANEL)."""
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
    p.columns = PANEL
    p.begins = True
    p.ends = False
    p.rate = <int>((PANEL + strips - 1) // strips)
    for number in range(panels):
        p.panel = panel + number * channels * PANEL
        p.out = out + number * PANEL
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
    const Tiles* t, Py_ssize_t tile, const float* products, Py_ssize_t apart, float* out, Py_ssize_t height,
    Py_ssize_t width, Py_ssize_t filters, const float* scale, const float* shift, const float* residual, bint relu,
) noexcept nogil:
    """Transform the products of one tile back and store the outputs that lie on the map."""
    cdef Py_ssize_t to[16]
    cdef Py_ssize_t i, j, y, x, image = tile // (t.rows * t.columns)
    for i in range(t.side):
        y = tile // t.columns % t.rows * t.side + i
        for j in range(t.side):
            x = tile % t.columns * t.side + j
            to[i * t.side + j] = ((image * height + y) * width + x) * filters if y < height and x < width else -1
    tile_outputs(
        products, apart, (filters + PANEL - 1) // PANEL * PANEL, out, to, filters, scale, shift, residual, relu,
        <int>t.side,
    )


cdef void convolve_block(
    const Tiles* t, Py_ssize_t first, Py_ssize_t count, float* inputs, float* products, Py_ssize_t distance,
    Py_ssize_t apart, const float* transformed, Py_ssize_t panels, float* out, Py_ssize_t height, Py_ssize_t width,
    Py_ssize_t filters, const float* scale, const float* shift, const float* residual, bint relu,
) noexcept nogil:
    """Run all steps for the tiles first .. first + count."""
    cdef Py_ssize_t tile, position
    for tile in range(count):
        transform_tile(t, first + tile, inputs + tile * t.channels, distance)
    for position in range((t.side + 2) * (t.side + 2)):
        multiply(
            inputs + position * distance, t.channels, count,
            transformed + position * (panels * t.channels * PANEL + APART), panels, products + position * apart,
            panels * PANEL,
        )
    for tile in range(count):
        finish_tile(
            t, first + tile, products + tile * panels * PANEL, apart, out, height, width, filters, scale, shift,
            residual, relu,
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
    """Fill out (O, C, 3, 3) with the weight gradient of the convolution; grad is (N, H', W', O).

    This is the adjoint of `convolve`, step by step. The transposed output transform takes grad to the positions. There
    it is multiplied with the transformed inputs and summed over tiles. The transposed filter transform takes the sums
    back. `most` tiles are processed at a time.
    """
    cdef Tiles t
    cdef Py_ssize_t positions = (side + 2) * (side + 2), filters = out.shape[0], channels = out.shape[1]
    cdef Py_ssize_t distance = most * channels + APART, grad_distance = most * filters + APART, task, first, count
    cdef Py_ssize_t spans = (channels + 4 * PANEL - 1) // (4 * PANEL), blocks = (filters + 16 * ROWS - 1) // (16 * ROWS)
    cdef float* inputs = &scratch[0]  # (positions, most, C)
    cdef float* grads = inputs + positions * distance  # (positions, most, O)
    cdef float* sums = grads + positions * grad_distance + ROWS  # (positions, O, C)
    out[:] = 0
    if grad.size == 0 or out.size == 0:
        return
    cut(&t, maps, grad, padding, side)
    t.zeros = <float*>calloc(max(channels, filters), sizeof(float))
    if t.zeros == NULL:
        raise MemoryError
    with nogil:
        for task in prange(positions * filters * channels, num_threads=threads, schedule="static"):
            sums[task] = 0
        first = 0
        while first < t.count:
            count = min(most, t.count - first)
            for task in prange(count, num_threads=threads, schedule="static"):
                transform_tile(&t, first + task, inputs + task * channels, distance)
                transform_gradient(
                    &t, first + task, &grad[0, 0, 0, 0], grad.shape[1], grad.shape[2], filters,
                    grads + task * filters, grad_distance,
                )
            for task in prange(positions * blocks * spans, num_threads=threads, schedule="dynamic"):
                accumulate(
                    grads + task % positions * grad_distance, inputs + task % positions * distance, count, filters,
                    channels, task // positions % blocks * 16 * ROWS, task // positions // blocks * 4 * PANEL,
                    sums + task % positions * filters * channels,
                )
            first += most
        for task in prange(filters, num_threads=threads, schedule="static"):
            filter_gradients(sums + task * channels, filters * channels, channels, &out[task, 0, 0, 0], side)
    free(t.zeros)


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
    """Add grads.T @ inputs to sums (O, C), for grads (tiles, O), inputs (tiles, C), some filters and channels."""
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
