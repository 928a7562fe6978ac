# cython: language_level=3
"""Memory blocks that are reused for the arrays of `rcnn._ext.memory`.

A pass through a network allocates and frees hundreds of megabytes of feature maps. If this memory were returned to the
operating system, each page would have to be fetched and zeroed again at its next use, which takes longer than many
convolutions. Therefore, unused blocks are kept for the next array of about the same size. Large blocks use large pages
if Linux has them.

A block that was not used during a whole pass is freed. Not all work is a pass through a network, so the blocks that
have been unused longest are also freed as soon as the kept memory would exceed twice the largest memory in use.

All functions of this module run while their thread holds Python's global interpreter lock.
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
    MOST = 128  # the largest number of kept blocks
    SHARE = 2  # the largest ratio of kept memory to the largest memory in use
    LINE = 64  # bytes; the alignment of small blocks
    PAGE = 2 << 20  # bytes of a large page; the alignment of large blocks

cdef struct Memory:
    void* allocated
    char* begins  # the aligned address within the allocated memory
    size_t size
    long long dropped  # the value of `now` when its last array was deleted

cdef Memory kept[MOST]
cdef int count = 0
cdef size_t held = 0  # bytes of kept blocks
cdef size_t in_use = 0  # bytes of all other blocks
cdef size_t most = 0  # the maximum of in_use since the last pass ended
cdef size_t most_before = 0  # the maximum of in_use during the previous pass
cdef long long now = 0  # a clock: the number of blocks whose arrays have been deleted so far
cdef long long pass_began = 0  # `now` at the start of this pass


cdef class Block:
    """Memory of `size` bytes. Arrays made from it with np.frombuffer keep it alive. Later, it is kept for reuse."""

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
    """Return the smallest kept block of at least `size` and at most 4 * `size` bytes, or a new one if there is none."""
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
    """Remove the kept block with index i, and return it."""
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
    """Free the blocks that were not used since the previous pass ended."""
    global most, most_before, pass_began
    cdef int i
    for i in range(count - 1, -1, -1):  # backwards, because the last block moves to the index of a removed one
        if kept[i].dropped <= pass_began:
            free(remove(i).allocated)
    pass_began = now
    most_before = most
    most = in_use


def kept_bytes():
    """Return the number of bytes kept for reuse."""
    return held
