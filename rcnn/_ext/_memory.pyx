# cython: language_level=3
"""Memory that is used again: what `rcnn._buffers` hands out.

A pass through a network makes and drops hundreds of megabytes of feature maps. Given back to the operating system, each
page of them must be fetched and filled with zeros again at the next touch, which takes longer than many a convolution.
So blocks that nobody uses are kept for the next array of about their size, on large pages where Linux has them. A block
that a whole pass did without is given back; and, for not all work is a pass through a network, so are those that have
waited longest as soon as what is kept would exceed twice what was in use at once.

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
    SHARE = 2  # times the most that was in use at once may be kept
    LINE = 64  # bytes; where small blocks begin at a multiple of
    PAGE = 2 << 20  # bytes of a large page; where large blocks begin

cdef struct Memory:
    void* allocated
    char* begins  # within what was allocated, at a line or a page
    size_t size
    long long dropped  # when it was last dropped, counted in blocks that were

cdef Memory kept[MOST]
cdef int count = 0
cdef size_t held = 0  # bytes of those that are kept
cdef size_t in_use = 0  # bytes of all others,
cdef size_t most = 0  # the most that they were since the end of a pass,
cdef size_t most_before = 0  # and in the pass before it
cdef long long now = 0  # blocks that were dropped
cdef long long pass_began = 0  # how many they were then


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
    global in_use, most
    cdef Memory found
    cdef int i, best = -1
    for i in range(count):
        if size <= kept[i].size <= 4 * size and (best < 0 or kept[i].size < kept[best].size):
            best = i
    found = remove(best) if best >= 0 else allocate(size)
    if found.allocated != NULL:
        in_use += found.size
        most = max(most, in_use)
    return found


cdef Memory remove(int i) noexcept:
    """A block that is kept no longer."""
    global count, held
    cdef Memory found = kept[i]
    count -= 1
    kept[i] = kept[count]
    held -= found.size
    return found


cdef Memory allocate(size_t size):
    cdef Memory made
    cdef size_t unit = LINE if size < PAGE else PAGE
    made.size = (size + unit - 1) // unit * unit
    made.dropped = 0
    made.allocated = malloc(made.size + unit)
    while made.allocated == NULL and count > 0:
        free(remove(count - 1).allocated)
        made.allocated = malloc(made.size + unit)
    made.begins = <char*>((<uintptr_t>made.allocated + unit - 1) // unit * unit)
    if made.allocated != NULL and size >= PAGE:
        rcnn_large_pages(made.begins, made.size)
    return made


cdef void keep(Memory memory) noexcept:
    global count, held, in_use, now
    cdef int i, stalest
    in_use -= memory.size
    while count == MOST or (count > 0 and held + memory.size > SHARE * max(most, most_before)):
        stalest = 0
        for i in range(count):
            if kept[i].dropped < kept[stalest].dropped:
                stalest = i
        free(remove(stalest).allocated)
    now += 1
    memory.dropped = now
    kept[count] = memory
    count += 1
    held += memory.size


def pass_ends():
    """Gives back the blocks that were not used since the end of the pass before."""
    global most, most_before, pass_began
    cdef int i
    for i in range(count - 1, -1, -1):  # backwards, for the last one takes the place of one that goes
        if kept[i].dropped <= pass_began:
            free(remove(i).allocated)
    pass_began = now
    most_before = most
    most = in_use


def kept_bytes():
    """How much memory is kept for later."""
    return held
