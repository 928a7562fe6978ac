# cython: language_level=3
"""`parallel_for`, which every kernel calls to share a loop among threads."""

ctypedef void (*Body)(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil

cdef int parallel_for(Body body, void* task, Py_ssize_t count, int threads) except -1 nogil
