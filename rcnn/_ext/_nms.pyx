# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernel of `rcnn.nms`: greedy suppression within groups of sorted boxes.

In the reference, each kept box removes later boxes. Here, each box is compared with the kept boxes, in chunks, until
one of them removes it. Most boxes overlap a better box that was kept early, so few comparisons are needed. The
coordinates of the kept boxes are stored in columns, so that a vector contains the same coordinate of several boxes.
"""

from cython cimport floating
from libc.string cimport memset

from rcnn._ext._overlap cimport iou_row
from rcnn._ext._threads cimport parallel_for

cdef enum:
    CHUNK = 64  # kept boxes that are compared at once


cdef struct Groups:
    # The arguments of `nms`.
    const void* boxes
    const Py_ssize_t* order
    const Py_ssize_t* starts
    double threshold
    unsigned char* stays
    void* kept
    Py_ssize_t stride  # elements between the rows of `kept`


def nms(
    const floating[:, ::1] boxes,
    const Py_ssize_t[::1] order,
    const Py_ssize_t[::1] starts,
    double threshold,
    unsigned char[::1] stays,
    floating[:, ::1] kept,
    int threads,
):
    """Fill `stays` (N,) with 1 for each box that is kept in its group, and with 0 for all others; N is at least 1.

    Group g consists of the `boxes` (N, 4) with the indices order[starts[g] : starts[g + 1]], in descending order of
    score. The groups are independent, and are divided among the threads. `kept` (5, at least N + 64 * groups) is
    scratch memory.
    """
    cdef Groups groups = Groups(&boxes[0, 0], &order[0], &starts[0], threshold, &stays[0], &kept[0, 0], kept.shape[1])
    with nogil:
        parallel_for(groups_float if floating is float else groups_double, &groups, starts.shape[0] - 1, threads)


cdef void groups_float(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Groups* t = <Groups*>task
    suppress_groups(t, <const float*>t.boxes, <float*>t.kept, first, stop)


cdef void groups_double(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Groups* t = <Groups*>task
    suppress_groups(t, <const double*>t.boxes, <double*>t.kept, first, stop)


cdef void suppress_groups(
    const Groups* t, const floating* boxes, floating* kept, Py_ssize_t first, Py_ssize_t stop
) noexcept nogil:
    cdef Py_ssize_t g, start
    for g in range(first, stop):
        start = t.starts[g]
        suppress(
            boxes, t.order + start, t.starts[g + 1] - start, t.threshold, t.stays,
            kept + start + CHUNK * g, t.stride,
        )


cdef void suppress(
    const floating* boxes, const Py_ssize_t* order, Py_ssize_t count, double threshold, unsigned char* stays,
    floating* kept, Py_ssize_t stride,
) noexcept nogil:
    """Fill `stays` for the boxes of one group, whose indices are `order` (count,).

    `kept` contains the columns x1, y1, x2, y2 and area, which begin `stride` elements apart. Its last chunk is padded
    with boxes of area 0, which remove no box, so that every chunk can be compared as a whole.
    """
    cdef Py_ssize_t i, k, number = 0
    cdef floating[5] box
    for i in range(count):
        for k in range(4):
            box[k] = boxes[4 * order[i] + k]
        box[4] = (box[2] - box[0]) * (box[3] - box[1])
        stays[order[i]] = not is_removed(box, kept, stride, number, threshold)
        if stays[order[i]]:
            for k in range(5):
                if number % CHUNK == 0:
                    memset(kept + k * stride + number, 0, CHUNK * sizeof(floating))
                kept[k * stride + number] = box[k]
            number += 1


cdef inline bint is_removed(
    const floating* box, const floating* kept, Py_ssize_t stride, Py_ssize_t number, double threshold
) noexcept nogil:
    """Return whether the IoU of a box (x1, y1, x2, y2, area) with any kept box is greater than the threshold.

    The division takes as long as everything else. Therefore, the intersection is first compared, without a division,
    with the union times a number slightly below the threshold. If the rounded quotient intersection / union is greater
    than the threshold, the exact product is less than the intersection, and rounds to at most the intersection.
    Therefore, no chunk is missed, and few divisions are unnecessary.
    """
    cdef floating limit = <floating>(threshold * (1 - 1e-6)) if threshold > 1e-30 else 0
    cdef floating[CHUNK] overlaps
    cdef Py_ssize_t chunk, first, j
    cdef int found = 0
    for chunk in range((number + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        if not may_overlap(box, kept + first, stride, limit):
            continue
        iou_row(box[0], box[1], box[2], box[3], kept + first, stride, CHUNK, overlaps)
        for j in range(CHUNK):
            found |= <double>overlaps[j] > threshold  # in double precision, because 0.3 is less than float32(0.3)
        if found:
            return True
    return False


cdef inline bint may_overlap(
    const floating* box, const floating* kept, Py_ssize_t stride, floating limit
) noexcept nogil:
    """Return whether the intersection of a box with any of CHUNK kept boxes is at least `limit` times their union."""
    cdef const floating* left = kept
    cdef const floating* top = kept + stride
    cdef const floating* right = kept + 2 * stride
    cdef const floating* bottom = kept + 3 * stride
    cdef const floating* area = kept + 4 * stride
    cdef floating x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3], own_area = box[4]
    cdef floating width, height, intersection
    cdef Py_ssize_t j
    cdef int found = 0
    for j in range(CHUNK):  # no early exit, so that the compiler vectorises the loop
        width = (x2 if x2 < right[j] else right[j]) - (x1 if x1 > left[j] else left[j])
        height = (y2 if y2 < bottom[j] else bottom[j]) - (y1 if y1 > top[j] else top[j])
        intersection = (width if width > 0 else 0) * (height if height > 0 else 0)
        found |= intersection >= limit * (own_area + area[j] - intersection)
    return found
