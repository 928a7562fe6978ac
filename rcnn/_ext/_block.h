/* The register block: the innermost loops of the matrix product in convolutions and linear layers.

A processor core can start two vector multiply-adds in every cycle if it never waits for memory. Therefore, a block of
the result, which has ROWS x (VECTORS * LANES) numbers, stays in registers during the sum over k. Each step loads one
row of the right matrix (VECTORS loads) and one number per row of the left matrix (ROWS broadcasts), and multiplies all
pairs. With 6 x 4 vectors, that is 10 loads for 24 multiply-adds; a core can do as many loads as multiply-adds.

The block is as large as the registers allow: there are 16 registers up to AVX2, and 32 on AVX-512 and arm64.
*/

#ifndef RCNN_BLOCK_H
#define RCNN_BLOCK_H

#include "_vectors.h"

#if defined(__AVX512F__) || defined(__aarch64__) || defined(_M_ARM64)
#define VECTORS 4
#else
#define VECTORS 2
#endif

#define ROWS 6
#define LINE 16 /* numbers in a cache line */
#define PANEL (VECTORS * LANES) /* columns of a block */

/* ------------------------------------------------------------------ transposing

to[k][r] = from[r * distance + k] for `rows` rows r with `count` values each. Both numbers are at most LANES. The other
rows up to LANES are 0. Interleaving row i with row i + LANES / 2 rotates the bits of a value's address (row, column) by
one. After log2(LANES) steps, row and column have changed places. */

static void transpose(const float* from, ptrdiff_t distance, ptrdiff_t rows, ptrdiff_t count, float* to) {
    vec now[LANES], next[LANES];
    int i, turn;
    UNROLL
    for (i = 0; i < LANES; i++)
        now[i] = i < rows ? vec_load_some(from + i * distance, count) : vec_of(0);
    UNROLL
    for (turn = 1; turn < LANES; turn *= 2) {
        UNROLL
        for (i = 0; i < LANES / 2; i++) {
            next[2 * i] = vec_zip_first(now[i], now[i + LANES / 2]);
            next[2 * i + 1] = vec_zip_last(now[i], now[i + LANES / 2]);
        }
        UNROLL
        for (i = 0; i < LANES; i++)
            now[i] = next[i];
    }
    UNROLL
    for (i = 0; i < LANES; i++)
        if (i < count) vec_store(to + i * LANES, now[i]);
}

/* ------------------------------------------------------------------ rows times a panel

out[r][o] = sum over taps t and k of in[r][t][k] * panel[t][k][o], for up to ROWS rows and PANEL columns.

Row r begins at in + at[r]. Its values are in `taps` runs of `run` neighbours, and run t begins at the offset tap[t]. A
plain matrix has one run per row. In a convolution, the rows are windows on a feature map. They need not be copied,
because their addresses are enough. */

typedef struct {
    const float* in;
    const ptrdiff_t* tap;
    ptrdiff_t taps, run;
    const float* panel;       /* (taps * run, PANEL) */
    float* out;               /* row r begins at out + to[r] */
    ptrdiff_t columns;        /* the number of columns of the panel, at most PANEL */
    int begins, ends;         /* whether this is the first or the last part of the sum */
    const float* scale;       /* (PANEL,) or NULL; the last part ends with these steps; see product_ends */
    const float* shift;       /* (PANEL,) or NULL */
    const float* residual;    /* same layout as `out`, or NULL */
    int activation;
    const float* soon;        /* memory needed after this block, or NULL: `rate` cache lines of it are prefetched */
    int rate;                 /* the number of cache lines for every LINE terms of the sum */
} Product;

/* Finish a row of the block: activation((sum + previous part) * scale + shift + residual). `whole`: all columns. */
ALWAYS_INLINE void product_ends(const Product* p, const vec* sum, ptrdiff_t to, const int vectors, const int whole) {
    int v;
    EACH(v, vectors, VECTORS) {
        ptrdiff_t column = v * LANES, count = whole ? LANES : p->columns - column;
        vec value = sum[v];
        if (!p->begins) value = vec_add(value, vec_load_some(p->out + to + column, count));
        if (p->ends) {
            if (p->scale) value = vec_mul(value, vec_load(p->scale + column));
            if (p->shift) value = vec_add(value, vec_load(p->shift + column));
            if (p->residual) value = vec_add(value, vec_load_some(p->residual + to + column, count));
            value = vec_activated(value, p->activation);
        }
        vec_store_some(p->out + to + column, value, count);
    }
}

ALWAYS_INLINE void product_of(const Product* p, const ptrdiff_t* at, const ptrdiff_t* to, int rows,
                              const ptrdiff_t* ahead, const ptrdiff_t* next, const int vectors, const int whole) {
    vec sum[ROWS][VECTORS];
    const float *panel = p->panel, *soon = p->soon;
    const int rate = soon ? p->rate : 0;
    ptrdiff_t t, k, start, stop;
    int r, v;
    UNROLL
    for (r = 0; r < ROWS; r++) {
        EACH(v, vectors, VECTORS)
            sum[r][v] = vec_of(0);
    }
    if (next)
        for (r = 0; r < ROWS; r++)
            for (v = 0; v < vectors; v++) {
                PREFETCH_FAR(p->out + next[r] + v * LANES);
                if (p->residual) PREFETCH_FAR(p->residual + next[r] + v * LANES);
            }
    for (t = 0; t < p->taps; t++) {
        const float *in = p->in + p->tap[t], *row[ROWS];
        UNROLL
        for (r = 0; r < ROWS; r++)
            row[r] = in + at[r];
        for (start = 0; start < p->run; start = stop) {
            stop = start + LINE < p->run ? start + LINE : p->run;
            if (ahead)
                for (r = 0; r < ROWS; r++)
                    PREFETCH_FAR(in + ahead[r] + start);
            for (r = 0; r < rate; r++, soon += LINE)
                PREFETCH_FAR(soon);
            for (k = start; k < stop; k++, panel += PANEL) {
                vec right[VECTORS];
                EACH(v, vectors, VECTORS) {
                    right[v] = vec_load(panel + v * LANES);
                    PREFETCH(panel + 16 * PANEL + v * LANES);
                }
                UNROLL
                for (r = 0; r < ROWS; r++) {
                    vec left = vec_of(row[r][k]);
                    EACH(v, vectors, VECTORS)
                        sum[r][v] = vec_fma(left, right[v], sum[r][v]);
                }
            }
        }
    }
    UNROLL
    for (r = 0; r < ROWS; r++)
        if (r < rows) product_ends(p, sum[r], to[r], vectors, whole);
}

/* `at` has ROWS entries; the first `rows` are used, and the others must be readable addresses. `ahead` is
either NULL or `at` of the next block, and `next` is either NULL or `to` of the next block. Given addresses are
prefetched. */
static void product(const Product* p, const ptrdiff_t* at, const ptrdiff_t* to, int rows,
                    const ptrdiff_t* ahead, const ptrdiff_t* next) {
    if (p->columns == PANEL) product_of(p, at, to, rows, ahead, next, VECTORS, 1);
#if VECTORS > 2
    else if (p->columns > 3 * LANES) product_of(p, at, to, rows, ahead, next, 4, 0);
    else if (p->columns > 2 * LANES) product_of(p, at, to, rows, ahead, next, 3, 0);
#endif
    else if (p->columns > LANES) product_of(p, at, to, rows, ahead, next, 2, 0);
    else product_of(p, at, to, rows, ahead, next, 1, 0);
}

/* ------------------------------------------------------------------ columns times columns

out[r][o] += sum over k of left[k][r] * right[k][o]. This is a weight gradient if k runs over the pixels.

Row k of the left matrix begins at left + k * distance, and ROWS values of it are read. Row k of the right matrix begins
at right + at[k], because it may be a window on a feature map. The block has `columns` columns, at most PANEL. */

ALWAYS_INLINE void outer_of(const float* left, ptrdiff_t distance, const float* right, const ptrdiff_t* at,
                            ptrdiff_t count, float* out, ptrdiff_t out_distance, int rows, ptrdiff_t columns,
                            const int vectors, const int whole) {
    vec sum[ROWS][VECTORS];
    ptrdiff_t k;
    int r, v;
    UNROLL
    for (r = 0; r < ROWS; r++) {
        EACH(v, vectors, VECTORS)
            sum[r][v] = vec_of(0);
    }
    for (k = 0; k < count; k++, left += distance) {
        const float* from = right + at[k];
        vec b[VECTORS];
        EACH(v, vectors, VECTORS)
            b[v] = vec_load_some(from + v * LANES, whole ? LANES : columns - v * LANES);
        UNROLL
        for (r = 0; r < ROWS; r++) {
            vec a = vec_of(left[r]);
            EACH(v, vectors, VECTORS)
                sum[r][v] = vec_fma(a, b[v], sum[r][v]);
        }
    }
    UNROLL
    for (r = 0; r < ROWS; r++) {
        EACH(v, vectors, VECTORS) {
            float* to = out + r * out_distance + v * LANES;
            ptrdiff_t some = whole ? LANES : columns - v * LANES;
            if (r < rows) vec_store_some(to, vec_add(vec_load_some(to, some), sum[r][v]), some);
        }
    }
}

static void outer(const float* left, ptrdiff_t distance, const float* right, const ptrdiff_t* at, ptrdiff_t count,
                  float* out, ptrdiff_t out_distance, int rows, ptrdiff_t columns) {
#define CASE(vectors, whole) outer_of(left, distance, right, at, count, out, out_distance, rows, columns, vectors, whole)
    if (columns == PANEL) CASE(VECTORS, 1);
#if VECTORS > 2
    else if (columns > 3 * LANES) CASE(4, 0);
    else if (columns == 3 * LANES) CASE(3, 1);
    else if (columns > 2 * LANES) CASE(3, 0);
    else if (columns == 2 * LANES) CASE(2, 1);
#endif
    else if (columns > LANES) CASE(2, 0);
    else if (columns == LANES) CASE(1, 1);
    else CASE(1, 0);
#undef CASE
}

#endif
