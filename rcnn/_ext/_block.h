/* The register block: the innermost loops of the matrix product in convolutions and linear layers.

A processor core can start two vector multiply-adds in every cycle if it never waits for memory. Therefore, a block of
the result, which has ROWS x (VECTORS * LANES) numbers, stays in registers during the sum over k. Each step loads one
row of the right matrix (VECTORS loads) and one number per row of the left matrix (ROWS broadcasts), and multiplies all
pairs. With 6 x 4 vectors, that is 10 loads for 24 multiply-adds; a core can do as many loads as multiply-adds.

`vec` is as wide as the vectors of the processor for which this file is compiled. GCC and Clang have vectors as a
language extension; for other compilers, they are arrays, and operations on them are loops. The block is as large as the
registers allow: there are 16 registers up to AVX2, and 32 on AVX-512 and arm64. Vectors that are wider than the
registers also work, but they are many times slower.
*/

#ifndef RCNN_BLOCK_H
#define RCNN_BLOCK_H

#include <stddef.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

#if defined(__AVX512F__) || defined(__aarch64__) || defined(_M_ARM64)
#define VECTORS 4
#else
#define VECTORS 2
#endif

#define ROWS 6
#define LINE 16 /* numbers in a cache line */
#define PANEL (VECTORS * LANES) /* columns of a block */

/* ------------------------------------------------------------------ vectors */

/* Loops over a block are fully unrolled; otherwise its numbers would not stay in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

/* A loop up to `count`, which is at most the constant `most`. `count` becomes a constant when the function is inlined.
Clang decides about unrolling before that, so it needs a constant limit. */
#define EACH(i, count, most) UNROLL for (i = 0; i < (most); i++) if (i < (count))

#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#define PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2) /* to the second-level cache */
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int vec_bits __attribute__((vector_size(4 * LANES)));
ALWAYS_INLINE vec vec_of(float x) { return x - (vec){0}; }
ALWAYS_INLINE vec vec_add(vec a, vec b) { return a + b; }
ALWAYS_INLINE vec vec_sub(vec a, vec b) { return a - b; }
ALWAYS_INLINE vec vec_mul(vec a, vec b) { return a * b; }
ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c) { return a * b + c; } /* one instruction if the processor has FMA */
ALWAYS_INLINE vec vec_relu(vec a) { return (vec)((vec_bits)a & ~(vec_bits)(a < vec_of(0))); } /* NaN stays NaN */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vec_bits){__VA_ARGS__})
#endif
/* Return a0 b0 a1 b1 ... from the first half of the lanes, and from the last half. */
#if LANES == 16
ALWAYS_INLINE vec vec_zip_first(vec a, vec b) { return SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
ALWAYS_INLINE vec vec_zip_last(vec a, vec b) { return SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
#elif LANES == 8
ALWAYS_INLINE vec vec_zip_first(vec a, vec b) { return SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
ALWAYS_INLINE vec vec_zip_last(vec a, vec b) { return SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
ALWAYS_INLINE vec vec_zip_first(vec a, vec b) { return SHUFFLE(a, b, 0, 4, 1, 5); }
ALWAYS_INLINE vec vec_zip_last(vec a, vec b) { return SHUFFLE(a, b, 2, 6, 3, 7); }
#endif
#else
#define ALWAYS_INLINE static __inline
#define PREFETCH(address)
#define PREFETCH_FAR(address)
typedef struct { float lane[LANES]; } vec;
#define EACH_LANE(expression) vec out; int l; for (l = 0; l < LANES; l++) out.lane[l] = expression; return out
ALWAYS_INLINE vec vec_of(float x) { EACH_LANE(x); }
ALWAYS_INLINE vec vec_add(vec a, vec b) { EACH_LANE(a.lane[l] + b.lane[l]); }
ALWAYS_INLINE vec vec_sub(vec a, vec b) { EACH_LANE(a.lane[l] - b.lane[l]); }
ALWAYS_INLINE vec vec_mul(vec a, vec b) { EACH_LANE(a.lane[l] * b.lane[l]); }
ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c) { EACH_LANE(a.lane[l] * b.lane[l] + c.lane[l]); }
ALWAYS_INLINE vec vec_relu(vec a) { EACH_LANE(a.lane[l] < 0 ? 0 : a.lane[l]); }
ALWAYS_INLINE vec vec_zip_first(vec a, vec b) { EACH_LANE((l % 2 ? b : a).lane[l / 2]); }
ALWAYS_INLINE vec vec_zip_last(vec a, vec b) { EACH_LANE((l % 2 ? b : a).lane[(LANES + l) / 2]); }
#endif

ALWAYS_INLINE vec vec_load(const float* from) { vec v; memcpy(&v, from, sizeof v); return v; }
ALWAYS_INLINE void vec_store(float* to, vec v) { memcpy(to, &v, sizeof v); }

/* Read or write the first `count` lanes, at the end of a row. The other lanes are read as 0 and are not written. Where
the processor has masked instructions, these are used: a call of memcpy for a few numbers takes longer than the
arithmetic of the block. */
#if defined(__AVX512F__)
#define MASK(count) (__mmask16)((1u << (count)) - 1)
ALWAYS_INLINE vec vec_load_few(const float* from, ptrdiff_t count) { return (vec)_mm512_maskz_loadu_ps(MASK(count), from); }
ALWAYS_INLINE void vec_store_few(float* to, vec v, ptrdiff_t count) { _mm512_mask_storeu_ps(to, MASK(count), (__m512)v); }
#elif defined(__AVX2__) && defined(__GNUC__)
static const int LANE_MASKS[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
#define MASK(count) _mm256_loadu_si256((const __m256i*)(LANE_MASKS + LANES - (count)))
ALWAYS_INLINE vec vec_load_few(const float* from, ptrdiff_t count) { return (vec)_mm256_maskload_ps(from, MASK(count)); }
ALWAYS_INLINE void vec_store_few(float* to, vec v, ptrdiff_t count) { _mm256_maskstore_ps(to, MASK(count), (__m256)v); }
#else
ALWAYS_INLINE vec vec_load_few(const float* from, ptrdiff_t count) {
    vec v = vec_of(0);
    memcpy(&v, from, (size_t)count * sizeof(float));
    return v;
}
ALWAYS_INLINE void vec_store_few(float* to, vec v, ptrdiff_t count) { memcpy(to, &v, (size_t)count * sizeof(float)); }
#endif

ALWAYS_INLINE vec vec_load_some(const float* from, ptrdiff_t count) {
    return count >= LANES ? vec_load(from) : vec_load_few(from, count);
}

ALWAYS_INLINE void vec_store_some(float* to, vec v, ptrdiff_t count) {
    if (count >= LANES) vec_store(to, v);
    else vec_store_few(to, v, count);
}

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
    const float* scale;       /* (PANEL,) or NULL; the last part ends with relu(sum * scale + shift + residual) */
    const float* shift;       /* (PANEL,) or NULL */
    const float* residual;    /* same layout as `out`, or NULL */
    int relu;
    const float* soon;        /* memory needed after this block, or NULL: `rate` cache lines of it are prefetched */
    int rate;                 /* the number of cache lines for every LINE terms of the sum */
} Product;

/* Finish a row of the block: relu((sum + previous part) * scale + shift + residual), as in `p`. `whole`: all columns. */
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
            if (p->relu) value = vec_relu(value);
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
