# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.optim`: updates of parameters and gradients, each in one pass over memory. float32.

Threads share blocks of elements, whose size does not depend on the number of threads. Sums are computed block by block
in float64, and NumPy adds the sums of the blocks. So their bits do not depend on the number of threads.
"""

from cython.parallel cimport prange
from libc.math cimport sqrtf

cdef enum:
    BLOCK = 32768  # elements; the blocks of several arrays fit the second-level cache

block_size = BLOCK


def square_sums(const float[::1] x, double[::1] sums, int threads):
    """Fill sums (blocks,) with the sums of the squares of x in each block of `block_size` elements."""
    cdef Py_ssize_t block, size = x.shape[0]
    for block in prange(sums.shape[0], nogil=True, num_threads=threads, schedule="static"):
        sums[block] = square_sum(&x[block * BLOCK], min(BLOCK, size - block * BLOCK))


cdef double square_sum(const float* x, Py_ssize_t count) noexcept nogil:
    """Return the sum of squares, computed as 16 independent sums."""
    cdef double part[16]
    cdef double total = 0
    cdef Py_ssize_t i, j
    for j in range(16):
        part[j] = 0
    for i in range(0, count - 15, 16):
        for j in range(16):
            part[j] += <double>x[i + j] * <double>x[i + j]
    for i in range(count // 16 * 16, count):
        total += <double>x[i] * <double>x[i]
    for j in range(16):
        total += part[j]
    return total


def scale(float[::1] x, float factor, int threads):
    """Multiply x by the factor, in place."""
    cdef Py_ssize_t block, size = x.shape[0]
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        scale_block(&x[block * BLOCK], factor, min(BLOCK, size - block * BLOCK))


cdef void scale_block(float* x, float factor, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        x[i] = x[i] * factor


def sgd(
    float[::1] values,
    const float[::1] grad,
    float[::1] velocity,
    float lr,
    float momentum,
    float weight_decay,
    int threads,
):
    """Update values and velocity as `rcnn.nn.optim.SGD` does; all arrays have the same size."""
    cdef Py_ssize_t block, size = values.shape[0]
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        sgd_block(
            &values[block * BLOCK], &grad[block * BLOCK], &velocity[block * BLOCK], lr, momentum, weight_decay,
            min(BLOCK, size - block * BLOCK),
        )


cdef void sgd_block(
    float* values, const float* grad, float* velocity, float lr, float momentum, float weight_decay, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float moving
    for i in range(count):
        moving = velocity[i] * momentum + (grad[i] + weight_decay * values[i])
        velocity[i] = moving
        values[i] = values[i] - lr * moving


def adam(
    float[::1] values,
    const float[::1] grad,
    float[::1] mean,
    float[::1] square,
    float lr,
    double beta1,
    double beta2,
    float lack,
    float eps,
    float weight_decay,
    int threads,
):
    """Update values, mean and square as `rcnn.nn.optim.Adam` does; all arrays have the same size.

    lr: the learning rate divided by the bias correction of `mean`. lack: the bias correction of `square`.
    """
    cdef Py_ssize_t block, size = values.shape[0]
    for block in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        adam_block(
            &values[block * BLOCK], &grad[block * BLOCK], &mean[block * BLOCK], &square[block * BLOCK], lr, beta1,
            beta2, lack, eps, weight_decay, min(BLOCK, size - block * BLOCK),
        )


cdef void adam_block(
    float* values, const float* grad, float* mean, float* square, float lr, double beta1, double beta2, float lack,
    float eps, float weight_decay, Py_ssize_t count,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float g, m, s, keep1 = beta1, keep2 = beta2, take1 = 1 - beta1, take2 = 1 - beta2
    for i in range(count):
        g = grad[i] + weight_decay * values[i]
        m = keep1 * mean[i] + take1 * g
        s = keep2 * square[i] + take2 * g * g
        mean[i] = m
        square[i] = s
        values[i] = values[i] - lr * m / (sqrtf(s / lack) + eps)
