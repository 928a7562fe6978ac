# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernel of `rcnn.nms`: greedy suppression within groups of boxes that are sorted already."""

from cython cimport floating
from cython.parallel cimport prange

from rcnn._ext._overlap cimport iou_row


def nms(
    const floating[:, ::1] columns,
    const long long[::1] starts,
    double threshold,
    unsigned char[::1] stays,
    floating[::1] scratch,
    int threads,
):
    """Fills stays (N,) with 1 for each box that survives in its group, else 0; N is at least 1.

    The boxes come as columns x1, y1, x2, y2, (4, N). Group g is the boxes starts[g] .. starts[g + 1] - 1, by falling
    score. Groups are independent, so that the threads share them. `scratch` (N,) is overwritten.
    """
    cdef Py_ssize_t g, groups = starts.shape[0] - 1
    for g in prange(groups, nogil=True, num_threads=threads, schedule="dynamic"):
        suppress(
            &columns[0, starts[g]], columns.shape[1], starts[g + 1] - starts[g], threshold, &stays[starts[g]],
            &scratch[starts[g]],
        )


cdef void suppress(
    const floating* columns, Py_ssize_t stride, Py_ssize_t count, double threshold, unsigned char* stays,
    floating* overlaps,
) noexcept nogil:
    """Fills stays (count,) for one group, whose coordinates are four columns that lie `stride` apart."""
    cdef Py_ssize_t i, j, rest
    for i in range(count):
        stays[i] = 1
    for i in range(count):
        if not stays[i]:
            continue
        rest = count - i - 1
        iou_row(
            columns[i], columns[stride + i], columns[2 * stride + i], columns[3 * stride + i],
            columns + i + 1, stride, rest, overlaps,
        )
        for j in range(rest):
            if <double>overlaps[j] > threshold:  # a double: 0.3 lies below float32(0.3), the IoU that may be meant
                stays[i + 1 + j] = 0
