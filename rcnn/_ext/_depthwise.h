/* The innermost loops of a depthwise convolution, in which every channel has a filter of its own.

With channels last, the vectors run over the channels: a tap of the window is one load of the input, one load of the
weights and one multiply-add. The sums of COLUMNS neighbouring outputs stay in registers, so that a vector of weights is
loaded once for all of them. */

#ifndef RCNN_DEPTHWISE_H
#define RCNN_DEPTHWISE_H

#include "_vectors.h"

#define COLUMNS 6 /* outputs whose sums are in registers together */
#define WIDTH 2   /* vectors of each of these outputs */

typedef struct {
    ptrdiff_t rows, columns;          /* the taps of the window that lie on the map */
    ptrdiff_t in_row, in_column;      /* distances between taps in the input */
    ptrdiff_t weight_row, channels;   /* distances between taps in the weights: one row of the kernel, one tap */
    ptrdiff_t in_next, out_next;      /* distances between neighbouring outputs, in the input and in the output */
    const float* scale;               /* (C,) or NULL; the sums end with activation(sum * scale + shift + residual) */
    const float* shift;               /* (C,) or NULL */
    int activation;
} Window;

/* Compute `outputs` outputs for `vectors` vectors of channels. All pointers are those of the first channel, and
`residual` may be NULL. `count` is the number of channels that are left; it matters for the last vector alone. */
ALWAYS_INLINE void window_of(const Window* w, const float* in, const float* weights, const float* scale,
                             const float* shift, const float* residual, float* out, ptrdiff_t count,
                             const int outputs, const int vectors, const int whole) {
    vec sum[COLUMNS][WIDTH];
    ptrdiff_t y, x;
    int i, v;
#define LEFT (whole ? LANES : count - v * LANES)
    EACH(i, outputs, COLUMNS)
        EACH(v, vectors, WIDTH)
            sum[i][v] = vec_of(0);
    for (y = 0; y < w->rows; y++)
        for (x = 0; x < w->columns; x++) {
            const float* from = in + y * w->in_row + x * w->in_column;
            vec weight[WIDTH];
            EACH(v, vectors, WIDTH)
                weight[v] = vec_load_some(weights + y * w->weight_row + x * w->channels + v * LANES, LEFT);
            EACH(i, outputs, COLUMNS)
                EACH(v, vectors, WIDTH)
                    sum[i][v] = vec_fma(vec_load_some(from + i * w->in_next + v * LANES, LEFT), weight[v], sum[i][v]);
        }
    EACH(i, outputs, COLUMNS)
        EACH(v, vectors, WIDTH) {
            ptrdiff_t at = i * w->out_next + v * LANES;
            vec value = sum[i][v];
            if (scale) value = vec_mul(value, vec_load_some(scale + v * LANES, LEFT));
            if (shift) value = vec_add(value, vec_load_some(shift + v * LANES, LEFT));
            if (residual) value = vec_add(value, vec_load_some(residual + at, LEFT));
            vec_store_some(out + at, vec_activated(value, w->activation), LEFT);
        }
#undef LEFT
}

/* Compute `count` neighbouring outputs (at least 1) for WIDTH vectors of channels, or for the last `channels`. If the
outputs are not a multiple of COLUMNS, the last block overlaps the block before it and computes the same values again. */
static void windows_of(const Window* w, const float* in, const float* weights, const float* scale, const float* shift,
                       const float* residual, float* out, ptrdiff_t count, ptrdiff_t channels) {
    const int outputs = count < COLUMNS ? 1 : COLUMNS;
    ptrdiff_t i, at;
    for (i = 0; i < count; i += outputs) {
        at = i + outputs <= count ? i : count - outputs;
        const float *from = in + at * w->in_next, *added = residual ? residual + at * w->out_next : residual;
        float* to = out + at * w->out_next;
#define CASE(outputs, vectors, whole) \
    window_of(w, from, weights, scale, shift, added, to, channels, outputs, vectors, whole)
        if (outputs == 1) {
            if (channels >= WIDTH * LANES) CASE(1, WIDTH, 1);
            else if (channels > LANES) CASE(1, WIDTH, 0);
            else CASE(1, 1, 0);
        }
        else if (channels >= WIDTH * LANES) CASE(COLUMNS, WIDTH, 1);
        else if (channels > LANES) CASE(COLUMNS, WIDTH, 0);
        else CASE(COLUMNS, 1, 0);
#undef CASE
    }
}

/* to[c] += sum over `count` outputs i of grad[i * grad_next + c] * in[i * in_next + c], which is the gradient of the
weights of one tap. */
static void add_products(const float* grad, ptrdiff_t grad_next, const float* in, ptrdiff_t in_next, ptrdiff_t count,
                         float* to, ptrdiff_t channels) {
    ptrdiff_t c, i;
    for (c = 0; c + 4 * LANES <= channels; c += 4 * LANES) {
        vec sum[4];
        int v;
        EACH(v, 4, 4)
            sum[v] = vec_load(to + c + v * LANES);
        for (i = 0; i < count; i++)
            EACH(v, 4, 4)
                sum[v] = vec_fma(vec_load(grad + i * grad_next + c + v * LANES),
                                 vec_load(in + i * in_next + c + v * LANES), sum[v]);
        EACH(v, 4, 4)
            vec_store(to + c + v * LANES, sum[v]);
    }
    for (; c < channels; c += LANES) {
        vec sum = vec_load_some(to + c, channels - c);
        for (i = 0; i < count; i++)
            sum = vec_fma(vec_load_some(grad + i * grad_next + c, channels - c),
                          vec_load_some(in + i * in_next + c, channels - c), sum);
        vec_store_some(to + c, sum, channels - c);
    }
}

#endif
