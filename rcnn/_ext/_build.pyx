# cython: language_level=3
"""Compiler options of the kernels, and the levels that the processor can run."""

cdef extern from *:
    """
    #if defined(__clang__)
    #define RCNN_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define RCNN_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define RCNN_STRING_(x) #x
    #define RCNN_STRING(x) RCNN_STRING_(x)
    #define RCNN_COMPILER "msvc " RCNN_STRING(_MSC_VER)
    #else
    #define RCNN_COMPILER "unknown"
    #endif

    #if defined(__GNUC__) && defined(__x86_64__)
    #define RCNN_HAS(feature) __builtin_cpu_supports(feature)  /* checks the processor and the system */
    #else
    #define RCNN_HAS(feature) 0
    #endif

    /* Newer compilers know the levels by name. Older ones know these features; every processor that has them also has
       the other features of the level (f16c, lzcnt, movbe). */
    #if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
    #define RCNN_V3 RCNN_HAS("x86-64-v3")
    #define RCNN_V4 RCNN_HAS("x86-64-v4")
    #else
    #define RCNN_V3 (RCNN_HAS("avx2") && RCNN_HAS("fma") && RCNN_HAS("bmi") && RCNN_HAS("bmi2"))
    #define RCNN_V4 (RCNN_V3 && RCNN_HAS("avx512f") && RCNN_HAS("avx512bw") && RCNN_HAS("avx512cd") \\
                     && RCNN_HAS("avx512dq") && RCNN_HAS("avx512vl"))
    #endif
    """
    const char* RCNN_COMPILER
    const int RCNN_V3
    const int RCNN_V4


def compiler():
    """Return the C compiler and its version."""
    return RCNN_COMPILER.decode("utf-8", "replace").strip()


def levels():
    """Return the levels of vector instructions that this processor has, lowest first: "baseline", "v3", "v4"."""
    return ["baseline"] + ["v3"] * bool(RCNN_V3) + ["v4"] * bool(RCNN_V4)
