# cython: language_level=3
"""The threads of all kernels: one pool for the process. `_threads.h` explains how it works."""

cdef extern from *:
    """
    #include "_threads.h"

    /* Let Python handle signals; return nonzero if a handler raised an exception (Ctrl-C), which remains set. */
    static int rcnn_is_interrupted(void) {
        PyGILState_STATE state = PyGILState_Ensure();
        int result = PyErr_CheckSignals();
        PyGILState_Release(state);
        return result;
    }
    """
    int rcnn_parallel_for(
        Body body, void* task, Py_ssize_t count, int threads, int (*check)() noexcept nogil
    ) noexcept nogil
    int rcnn_is_interrupted() noexcept nogil
    long long rcnn_rests() noexcept nogil


cdef int parallel_for(Body body, void* task, Py_ssize_t count, int threads) except -1 nogil:
    """Call body(task, first, stop, thread) for ranges that together cover 0 .. count - 1, on at most `threads` threads.

    `thread` is less than `threads`, and differs between calls that run at the same time. The results of `body` must be
    bit-identical for every division into ranges. If a signal handler raises an exception, the loop ends early and
    raises this exception.
    """
    return rcnn_parallel_for(body, task, count, threads, rcnn_is_interrupted) if count > 0 else 0


def rests():
    """Return how many times the pool has switched to one thread because another thread had no processor."""
    return rcnn_rests()
