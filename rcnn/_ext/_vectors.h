/* Vectors of float32 numbers, as wide as those of the processor for which this file is compiled.

GCC and Clang have vectors as a language extension; for other compilers, they are arrays, and operations on them are
loops. Vectors that are wider than the registers also work, but they are many times slower.
*/

#ifndef RCNN_VECTORS_H
#define RCNN_VECTORS_H

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
ALWAYS_INLINE vec vec_at_most(vec a, vec b) {
    vec_bits above = (vec_bits)(a > b);
    return (vec)(((vec_bits)b & above) | ((vec_bits)a & ~above));
}
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
ALWAYS_INLINE vec vec_at_most(vec a, vec b) { EACH_LANE(a.lane[l] > b.lane[l] ? b.lane[l] : a.lane[l]); }
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

/* ------------------------------------------------------------------ activations */

enum { NO_ACTIVATION, RELU, RELU6, HARD_SWISH }; /* the order of ACTIVATIONS in rcnn/_ext/elementwise.py */

ALWAYS_INLINE vec vec_activated(vec a, int activation) {
    if (activation == RELU) return vec_relu(a);
    if (activation == RELU6) return vec_at_most(vec_relu(a), vec_of(6));
    if (activation == HARD_SWISH)
        return vec_mul(vec_mul(a, vec_at_most(vec_relu(vec_add(a, vec_of(3))), vec_of(6))), vec_of(1.0f / 6));
    return a;
}

#endif
