# cython: language_level=3
"""How the kernels were compiled."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #define RCNN_OPENMP 1
    #else
    #define RCNN_OPENMP 0
    #endif

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

    #if defined(__AVX512F__)
    #define RCNN_SIMD "avx512"
    #elif defined(__AVX2__)
    #define RCNN_SIMD "avx2"
    #elif defined(__SSE2__) || defined(_M_X64)
    #define RCNN_SIMD "sse2"
    #elif defined(__ARM_NEON) || defined(_M_ARM64)
    #define RCNN_SIMD "neon"
    #else
    #define RCNN_SIMD "none"
    #endif
    """
    const bint RCNN_OPENMP
    const char* RCNN_COMPILER
    const char* RCNN_SIMD


def openmp():
    """Whether the kernels can run on several threads."""
    return bool(RCNN_OPENMP)


def compiler():
    """The C compiler and its version."""
    return RCNN_COMPILER.decode("utf-8", "replace").strip()


def simd():
    """The vector instructions that the kernels were compiled for."""
    return RCNN_SIMD.decode("ascii")
