# cython: language_level=3
"""Memory that is used again: what `rcnn._buffers` hands out.

A pass through a network makes and drops hundreds of megabytes of feature maps. Given back to the operating system, each
page of them must be fetched and filled with zeros again at the next touch, which takes longer than many a convolution.
So blocks that nobody uses are kept for the next array of about their size, on large pages where Linux has them. A block
that a whole pass did without is given back.

Everything here runs under Python's global lock.
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    static void rcnn_large_pages(void* address, size_t size) { madvise(address, size, MADV_HUGEPAGE); }
    #else
    static void rcnn_large_pages(void* address, size_t size) { (void)address; (void)size; }
    #endif
    """
    void rcnn_large_pages(void* address, size_t size) nogil

cdef enum:
    MOST = 128  # blocks that are kept
    LINE = 64  # bytes; where small blocks begin at a multiple of
    PAGE = 2 << 20  # bytes of a large page; where large blocks begin

cdef struct Memory:
    void* allocated
    char* begins  # within what was allocated, at a line or a page
    size_t size
    long long dropped  # the pass in which it was last dropped

cdef Memory kept[MOST]
cdef int count = 0
cdef long long passes = 0


cdef class Block:
    """Memory of a size; an array made of it (np.frombuffer) keeps it alive, and when the last is gone it is kept."""

    cdef Memory memory
    cdef Py_ssize_t size

    def __cinit__(self, Py_ssize_t size):
        self.size = size
        self.memory = take(size)
        if self.memory.allocated == NULL:
            raise MemoryError(f"there are no {size} bytes of memory")

    def __dealloc__(self):
        if self.memory.allocated != NULL:
            keep(self.memory)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        buffer.buf = self.memory.begins
        buffer.obj = self
        buffer.len = self.size
        buffer.itemsize = 1
        buffer.readonly = 0
        buffer.format = NULL
        buffer.ndim = 1
        buffer.shape = NULL
        buffer.strides = NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def __releasebuffer__(self, Py_buffer* buffer):
        pass


cdef Memory take(size_t size):
    """The smallest kept block that is large enough and not wastefully larger, else a new one."""
    global count
    cdef Memory found
    cdef int i, best = -1
    for i in range(count):
        if size <= kept[i].size <= 4 * size and (best < 0 or kept[i].size < kept[best].size):
            best = i
    if best >= 0:
        found = kept[best]
        count -= 1
        kept[best] = kept[count]
        return found
    return allocate(size)


cdef Memory allocate(size_t size):
    cdef Memory made
    cdef size_t unit = LINE if size < PAGE else PAGE
    made.size = (size + unit - 1) // unit * unit
    made.dropped = passes
    made.allocated = malloc(made.size + unit)
    made.begins = <char*>((<uintptr_t>made.allocated + unit - 1) // unit * unit)
    if made.allocated != NULL and size >= PAGE:
        rcnn_large_pages(made.begins, made.size)
    return made


cdef void keep(Memory memory) noexcept:
    global count
    if count == MOST:
        free(memory.allocated)
        return
    memory.dropped = passes
    kept[count] = memory
    count += 1


def pass_ends():
    """Gives back the blocks that were not used since the end of the pass before."""
    global count, passes
    cdef int i, left = 0
    for i in range(count):
        if kept[i].dropped < passes:
            free(kept[i].allocated)
        else:
            kept[left] = kept[i]
            left += 1
    count = left
    passes += 1


def kept_bytes():
    """How much memory is kept for later."""
    return sum(kept[i].size for i in range(count))
