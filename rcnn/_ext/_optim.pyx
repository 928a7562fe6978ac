# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of `rcnn.nn.optim` for float32: updates of parameters and gradients, each in one pass over memory.

The elements are divided into blocks, and the blocks among the threads. The size of a block does not depend on the
number of threads. Sums are computed block by block in float64, and NumPy adds the sums of the blocks. Therefore, the
sums are bit-identical for any number of threads.
"""

from libc.math cimport sqrtf

from rcnn._ext._threads cimport parallel_for

cdef enum:
    BLOCK = 32768  # elements; blocks of several arrays fit into the second-level cache

block_size = BLOCK


cdef inline Py_ssize_t blocks(Py_ssize_t size) noexcept nogil:
    """Return the number of blocks of `size` elements."""
    return (size + BLOCK - 1) // BLOCK


cdef inline Py_ssize_t length(Py_ssize_t block, Py_ssize_t size) noexcept nogil:
    """Return the number of elements in this block."""
    return min(BLOCK, size - block * BLOCK)


cdef struct Squares:
    const float* x
    double* sums
    Py_ssize_t size


cdef struct Scaling:
    float* x
    float factor
    Py_ssize_t size


cdef struct Average:
    float* mean
    const float* values
    float weight
    Py_ssize_t size


cdef struct Sgd:
    float* values
    const float* grad
    float* velocity
    float lr, momentum, weight_decay
    Py_ssize_t size


cdef struct Adam:
    float* values
    const float* grad
    float* mean
    float* square
    float lr
    double beta1, beta2
    float lack, eps, weight_decay
    Py_ssize_t size


def square_sums(const float[::1] x, double[::1] sums, int threads):
    """Fill `sums` (blocks,) with the sums of the squares of x in each block of `block_size` elements."""
    cdef Squares task
    if x.shape[0] == 0:
        return
    task = Squares(&x[0], &sums[0], x.shape[0])
    with nogil:
        parallel_for(square_sum_blocks, &task, sums.shape[0], threads)


cdef void square_sum_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Squares* t = <Squares*>task
    cdef Py_ssize_t block
    for block in range(first, stop):
        t.sums[block] = square_sum(t.x + block * BLOCK, length(block, t.size))


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
    cdef Scaling task
    if x.shape[0] == 0:
        return
    task = Scaling(&x[0], factor, x.shape[0])
    with nogil:
        parallel_for(scale_blocks, &task, blocks(task.size), threads)


cdef void scale_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Scaling* t = <Scaling*>task
    cdef Py_ssize_t block
    for block in range(first, stop):
        scale_block(t.x + block * BLOCK, t.factor, length(block, t.size))


cdef void scale_block(float* x, float factor, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        x[i] = x[i] * factor


def average(float[::1] mean, const float[::1] values, float weight, int threads):
    """Add weight * (values - mean) to `mean`; both arrays have the same size."""
    cdef Average task
    if mean.shape[0] == 0:
        return
    task = Average(&mean[0], &values[0], weight, mean.shape[0])
    with nogil:
        parallel_for(average_blocks, &task, blocks(task.size), threads)


cdef void average_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Average* t = <Average*>task
    cdef Py_ssize_t block, at
    for block in range(first, stop):
        at = block * BLOCK
        average_block(t.mean + at, t.values + at, t.weight, length(block, t.size))


cdef void average_block(float* mean, const float* values, float weight, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        mean[i] = mean[i] + weight * (values[i] - mean[i])


def sgd(
    float[::1] values,
    const float[::1] grad,
    float[::1] velocity,
    float lr,
    float momentum,
    float weight_decay,
    int threads,
):
    """Update `values` and `velocity` as `rcnn.nn.optim.SGD` does; all arrays have the same size."""
    cdef Sgd task
    if values.shape[0] == 0:
        return
    task = Sgd(&values[0], &grad[0], &velocity[0], lr, momentum, weight_decay, values.shape[0])
    with nogil:
        parallel_for(sgd_blocks, &task, blocks(task.size), threads)


cdef void sgd_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Sgd* t = <Sgd*>task
    cdef Py_ssize_t block, at
    for block in range(first, stop):
        at = block * BLOCK
        sgd_block(
            t.values + at, t.grad + at, t.velocity + at, t.lr, t.momentum, t.weight_decay, length(block, t.size)
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
    """Update `values`, `mean` and `square` as `rcnn.nn.optim.Adam` does; all arrays have the same size.

    `lr` is the learning rate divided by the bias correction of `mean`. `lack` is the bias correction of `square`.
    """
    cdef Adam task
    if values.shape[0] == 0:
        return
    task = Adam(
        &values[0], &grad[0], &mean[0], &square[0], lr, beta1, beta2, lack, eps, weight_decay, values.shape[0]
    )
    with nogil:
        parallel_for(adam_blocks, &task, blocks(task.size), threads)


cdef void adam_blocks(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Adam* t = <Adam*>task
    cdef Py_ssize_t block, at
    for block in range(first, stop):
        at = block * BLOCK
        adam_block(
            t.values + at, t.grad + at, t.mean + at, t.square + at, t.lr, t.beta1, t.beta2, t.lack, t.eps,
            t.weight_decay, length(block, t.size),
        )


cdef void adam_block(
    float* values, const float* grad, float* mean, float* square, float lr, double beta1, double beta2, float lack,
    float eps, float weight_decay, Py_ssize_t count,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float g, m, s
    cdef float keep1 = <float>beta1, keep2 = <float>beta2, take1 = <float>(1 - beta1), take2 = <float>(1 - beta2)
    for i in range(count):
        g = grad[i] + weight_decay * values[i]
        m = keep1 * mean[i] + take1 * g
        s = keep2 * square[i] + take2 * g * g
        mean[i] = m
        square[i] = s
        values[i] = values[i] - lr * m / (sqrtf(s / lack) + eps)
