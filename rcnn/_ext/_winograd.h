/* The transforms of Winograd's convolution and of its gradient, for one tile and LANES channels at a time.

Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016. Two short polynomials can be multiplied by
evaluating both at a few points, multiplying the values, and interpolating. A 3x3 convolution of a tile is such a
product in each direction. To compute SIDE x SIDE outputs from (SIDE + 2) x (SIDE + 2) inputs, it needs (SIDE + 2)^2
multiplications per channel instead of 9 SIDE^2. That is 36 instead of 144 for SIDE = 4, and 16 instead of 36 for
SIDE = 2. The transforms consist of additions and multiplications by constants. They are computed once per channel, not
once per pair of input and output channels.

Along one axis, with points 0, +-P, +-Q and infinity (SIDE = 4), the rows of the matrices are
    inputs    the polynomial that vanishes at all other points
    weights   1, x, x^2 at the point, divided by the value of that polynomial there
    outputs   1, x, x^2, x^3 at the point
P^2 = 1/2 and Q^2 = 2 keep all entries near 1. Rounding errors are two to six times smaller than with the usual points 1
and 2. SIDE = 2 has the points 0, +-1 and infinity. */

#ifndef RCNN_WINOGRAD_H
#define RCNN_WINOGRAD_H

#include "_block.h"

#define P 0.70710678118654752f
#define Q 1.41421356237309505f

/* Transform six or four inputs along one axis, in place. The vectors are `step` apart. */
ALWAYS_INLINE void winograd_inputs(vec* d, const int step, const int side) {
#define D(i) d[(i) * step]
    if (side == 4) {
        vec d0 = D(0), d1 = D(1), d2 = D(2), d3 = D(3), d4 = D(4), d5 = D(5);
        vec even_p = vec_fma(vec_of(-2.f), d2, d4), odd_p = vec_fma(vec_of(-2.f), d1, d3);
        vec even_q = vec_fma(vec_of(-0.5f), d2, d4), odd_q = vec_fma(vec_of(-0.5f), d1, d3);
        D(0) = vec_fma(vec_of(-2.5f), d2, vec_add(d0, d4));
        D(1) = vec_fma(vec_of(P), odd_p, even_p);
        D(2) = vec_fma(vec_of(-P), odd_p, even_p);
        D(3) = vec_fma(vec_of(Q), odd_q, even_q);
        D(4) = vec_fma(vec_of(-Q), odd_q, even_q);
        D(5) = vec_fma(vec_of(-2.5f), d3, vec_add(d1, d5));
    } else {
        vec d0 = D(0), d1 = D(1), d2 = D(2), d3 = D(3);
        D(0) = vec_sub(d0, d2);
        D(1) = vec_add(d1, d2);
        D(2) = vec_sub(d2, d1);
        D(3) = vec_sub(d3, d1);
    }
}

/* Transform six or four products to four or two outputs, along one axis. */
ALWAYS_INLINE void winograd_outputs(vec* d, const int step, const int side) {
    if (side == 4) {
        vec d0 = D(0), sum_p = vec_add(D(1), D(2)), difference_p = vec_sub(D(1), D(2));
        vec sum_q = vec_add(D(3), D(4)), difference_q = vec_sub(D(3), D(4)), d5 = D(5);
        D(0) = vec_add(d0, vec_add(sum_p, sum_q));
        D(1) = vec_fma(vec_of(P), difference_p, vec_mul(vec_of(Q), difference_q));
        D(2) = vec_fma(vec_of(0.5f), sum_p, vec_mul(vec_of(2.f), sum_q));
        D(3) = vec_fma(vec_of(0.5f * P), difference_p, vec_fma(vec_of(2.f * Q), difference_q, d5));
    } else {
        vec d0 = D(0), d1 = D(1), d2 = D(2), d3 = D(3);
        D(0) = vec_add(d0, vec_add(d1, d2));
        D(1) = vec_add(vec_sub(d1, d2), d3);
    }
}

/* Transform four or two gradients of outputs to six or four, along one axis. The transpose of winograd_outputs. */
ALWAYS_INLINE void winograd_gradients(vec* d, const int step, const int side) {
    if (side == 4) {
        vec d0 = D(0), d1 = D(1), d2 = D(2), d3 = D(3);
        vec even_p = vec_fma(vec_of(0.5f), d2, d0), odd_p = vec_mul(vec_of(P), vec_fma(vec_of(0.5f), d3, d1));
        vec even_q = vec_fma(vec_of(2.f), d2, d0), odd_q = vec_mul(vec_of(Q), vec_fma(vec_of(2.f), d3, d1));
        D(1) = vec_add(even_p, odd_p);
        D(2) = vec_sub(even_p, odd_p);
        D(3) = vec_add(even_q, odd_q);
        D(4) = vec_sub(even_q, odd_q);
        D(5) = d3;
    } else {
        vec d0 = D(0), d1 = D(1);
        D(1) = vec_add(d0, d1);
        D(2) = vec_sub(d0, d1);
        D(3) = d1;
    }
}

/* Transform three weights to six or four, along one axis. */
ALWAYS_INLINE void winograd_weights(vec* d, const int step, const int side) {
    vec d0 = D(0), d1 = D(1), d2 = D(2);
    if (side == 4) {
        vec even_p = vec_fma(vec_of(0.5f), d2, d0), odd_p = vec_mul(vec_of(P), d1);
        vec even_q = vec_fma(vec_of(2.f), d2, d0), odd_q = vec_mul(vec_of(Q), d1);
        D(1) = vec_mul(vec_of(-2.f / 3), vec_add(even_p, odd_p));
        D(2) = vec_mul(vec_of(-2.f / 3), vec_sub(even_p, odd_p));
        D(3) = vec_mul(vec_of(1.f / 6), vec_add(even_q, odd_q));
        D(4) = vec_mul(vec_of(1.f / 6), vec_sub(even_q, odd_q));
        D(5) = d2;
    } else {
        vec even = vec_add(d0, d2);
        D(1) = vec_mul(vec_of(0.5f), vec_add(even, d1));
        D(2) = vec_mul(vec_of(0.5f), vec_sub(even, d1));
        D(3) = d2;
    }
}

/* Transform six or four gradients to those of three weights, along one axis. The transpose of winograd_weights. */
ALWAYS_INLINE void winograd_weight_gradients(vec* d, const int step, const int side) {
    if (side == 4) {
        vec sum_p = vec_mul(vec_of(-2.f / 3), vec_add(D(1), D(2)));
        vec difference_p = vec_mul(vec_of(-2.f / 3), vec_sub(D(1), D(2)));
        vec sum_q = vec_mul(vec_of(1.f / 6), vec_add(D(3), D(4)));
        vec difference_q = vec_mul(vec_of(1.f / 6), vec_sub(D(3), D(4)));
        D(0) = vec_add(D(0), vec_add(sum_p, sum_q));
        D(1) = vec_fma(vec_of(P), difference_p, vec_mul(vec_of(Q), difference_q));
        D(2) = vec_fma(vec_of(0.5f), sum_p, vec_fma(vec_of(2.f), sum_q, D(5)));
    } else {
        vec sum = vec_mul(vec_of(0.5f), vec_add(D(1), D(2))), difference = vec_mul(vec_of(0.5f), vec_sub(D(1), D(2)));
        D(0) = vec_add(D(0), sum);
        D(1) = difference;
        D(2) = vec_add(sum, D(3));
    }
#undef D
}

#define GRID 6 /* the vectors of a tile form a GRID x GRID matrix, for either side */

#define BOTH_AXES(transform, first, second) \
    EACH(i, first, GRID) transform(d + i, GRID, side); \
    EACH(i, second, GRID) transform(d + i * GRID, 1, side)

/* Transform a tile of inputs: read value (i, j) at from[i * points + j] + channel, and write it to
to[(i * points + j) * distance + channel]. The values of the next tile, at `next`, are prefetched, because there are too
many streams for the processor's own prefetcher. */
ALWAYS_INLINE void tile_inputs_of(const float* const* from, const float* const* next, float* to, ptrdiff_t distance,
                                  ptrdiff_t channels, const int side) {
    const int points = side + 2;
    ptrdiff_t c;
    int i, j;
    for (c = 0; c < channels; c += LANES) {
        vec d[GRID * GRID];
        EACH(i, points, GRID)
            EACH(j, points, GRID)
                d[i * GRID + j] = vec_load_some(from[i * points + j] + c, channels - c);
        if (next)
            for (i = 0; i < points * points; i++)
                PREFETCH_FAR(next[i] + c);
        BOTH_AXES(winograd_inputs, points, points);
        EACH(i, points, GRID)
            EACH(j, points, GRID)
                vec_store_some(to + (i * points + j) * distance + c, d[i * GRID + j], channels - c);
    }
}

/* Transform a tile of gradients of outputs. Value (i, j) is at from[i * side + j] + channel. */
ALWAYS_INLINE void tile_gradients_of(const float* const* from, float* to, ptrdiff_t distance, ptrdiff_t channels,
                                     const int side) {
    const int points = side + 2;
    ptrdiff_t c;
    int i, j;
    for (c = 0; c < channels; c += LANES) {
        vec d[GRID * GRID];
        EACH(i, side, 4)
            EACH(j, side, 4)
                d[i * GRID + j] = vec_load_some(from[i * side + j] + c, channels - c);
        BOTH_AXES(winograd_gradients, side, points);
        EACH(i, points, GRID)
            EACH(j, points, GRID)
                vec_store_some(to + (i * points + j) * distance + c, d[i * GRID + j], channels - c);
    }
}

/* Compute a tile of outputs from the products at from[(i * points + j) * distance + channel]. Output (i, j) is at
out + to[i * side + j] + channel. It is skipped if `to` is negative. scale, shift, residual and activation are used as
in Product. */
ALWAYS_INLINE void tile_outputs_of(const float* from, ptrdiff_t distance, ptrdiff_t next, float* out, const ptrdiff_t* to,
                                   ptrdiff_t channels, const float* scale, const float* shift, const float* residual,
                                   int activation, const int side) {
    const int points = side + 2;
    ptrdiff_t c;
    int i, j;
    for (c = 0; c < channels; c += LANES) {
        vec d[GRID * GRID];
        vec gain = scale ? vec_load_some(scale + c, channels - c) : vec_of(1);
        vec bias = shift ? vec_load_some(shift + c, channels - c) : vec_of(0);
        EACH(i, points, GRID)
            EACH(j, points, GRID)
                d[i * GRID + j] = vec_load(from + (i * points + j) * distance + c);
        for (i = 0; i < points * points; i++)
            PREFETCH_FAR(from + i * distance + next + c);
        BOTH_AXES(winograd_outputs, points, side);
        EACH(i, side, 4)
            EACH(j, side, 4) {
                ptrdiff_t at = to[i * side + j] + c;
                vec value = vec_fma(d[i * GRID + j], gain, bias);
                if (to[i * side + j] < 0) continue;
                if (residual) value = vec_add(value, vec_load_some(residual + at, channels - c));
                value = vec_activated(value, activation);
                vec_store_some(out + at, value, channels - c);
            }
    }
}

/* Transform LANES filters: read weight (i, j) at from[(i * 3 + j) * LANES], write to[(i * points + j) * distance]. */
ALWAYS_INLINE void filter_weights_of(const float* from, float* to, ptrdiff_t distance, const int side) {
    const int points = side + 2;
    vec d[GRID * GRID];
    int i, j;
    for (i = 0; i < 3; i++)
        for (j = 0; j < 3; j++)
            d[i * GRID + j] = vec_load(from + (i * 3 + j) * LANES);
    BOTH_AXES(winograd_weights, 3, points);
    EACH(i, points, GRID)
        EACH(j, points, GRID)
            vec_store(to + (i * points + j) * distance, d[i * GRID + j]);
}

/* Compute the gradient of one filter (C, 3, 3) from the gradient of its transform. Position (i, j) of channel c is at
from[(i * points + j) * distance + c]. */
ALWAYS_INLINE void filter_gradients_of(const float* from, ptrdiff_t distance, ptrdiff_t channels, float* to,
                                       const int side) {
    const int points = side + 2;
    ptrdiff_t c;
    int i, j, l;
    for (c = 0; c < channels; c += LANES) {
        vec d[GRID * GRID];
        EACH(i, points, GRID)
            EACH(j, points, GRID)
                d[i * GRID + j] = vec_load_some(from + (i * points + j) * distance + c, channels - c);
        BOTH_AXES(winograd_weight_gradients, points, 3);
        for (i = 0; i < 3; i++)
            for (j = 0; j < 3; j++) {
                float lane[LANES];
                vec_store(lane, d[i * GRID + j]);
                for (l = 0; l < LANES && c + l < channels; l++)
                    to[(c + l) * 9 + i * 3 + j] = lane[l];
            }
    }
}

/* There is one function for side 4 and one for side 2, because constant loop bounds keep the vectors in registers. */
#define BOTH_SIDES(name, parameters, arguments4, arguments2) \
    static void name parameters { if (side == 4) name##_of arguments4; else name##_of arguments2; }

BOTH_SIDES(tile_inputs,
           (const float* const* from, const float* const* next, float* to, ptrdiff_t distance, ptrdiff_t channels,
            int side),
           (from, next, to, distance, channels, 4), (from, next, to, distance, channels, 2))
BOTH_SIDES(tile_gradients,
           (const float* const* from, float* to, ptrdiff_t distance, ptrdiff_t channels, int side),
           (from, to, distance, channels, 4), (from, to, distance, channels, 2))
BOTH_SIDES(tile_outputs,
           (const float* from, ptrdiff_t distance, ptrdiff_t next, float* out, const ptrdiff_t* to, ptrdiff_t channels,
            const float* scale, const float* shift, const float* residual, int activation, int side),
           (from, distance, next, out, to, channels, scale, shift, residual, activation, 4),
           (from, distance, next, out, to, channels, scale, shift, residual, activation, 2))
BOTH_SIDES(filter_weights, (const float* from, float* to, ptrdiff_t distance, int side),
           (from, to, distance, 4), (from, to, distance, 2))
BOTH_SIDES(filter_gradients, (const float* from, ptrdiff_t distance, ptrdiff_t channels, float* to, int side),
           (from, distance, channels, to, 4), (from, distance, channels, to, 2))

#endif
