# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernel of `rcnn.boxes`: intersection over union."""

from cython cimport floating

from rcnn._ext._overlap cimport iou_row
from rcnn._ext._threads cimport parallel_for


cdef struct Pairs:
    # The arguments of `iou`.
    const void* boxes1
    const void* columns2
    void* out
    Py_ssize_t count  # M


def iou(const floating[:, ::1] boxes1, const floating[:, ::1] columns2, floating[:, ::1] out, int threads):
    """Fill `out` (N, M) with the IoU of each row of boxes1 (N, 4) and each column of columns2 (4, M). All are boxes."""
    cdef Pairs pairs
    if out.shape[0] * out.shape[1] == 0:
        return
    pairs = Pairs(&boxes1[0, 0], &columns2[0, 0], &out[0, 0], columns2.shape[1])
    with nogil:
        parallel_for(rows_float if floating is float else rows_double, &pairs, boxes1.shape[0], threads)


cdef void rows_float(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pairs* t = <Pairs*>task
    iou_rows(<const float*>t.boxes1, <const float*>t.columns2, t.count, first, stop, <float*>t.out)


cdef void rows_double(void* task, Py_ssize_t first, Py_ssize_t stop, int thread) noexcept nogil:
    cdef Pairs* t = <Pairs*>task
    iou_rows(<const double*>t.boxes1, <const double*>t.columns2, t.count, first, stop, <double*>t.out)


cdef void iou_rows(
    const floating* boxes1, const floating* columns2, Py_ssize_t count, Py_ssize_t first, Py_ssize_t stop, floating* out
) noexcept nogil:
    """Fill the rows first .. stop - 1 of `out` (N, count) with IoUs."""
    cdef Py_ssize_t i
    cdef const floating* box
    for i in range(first, stop):
        box = boxes1 + 4 * i
        iou_row(box[0], box[1], box[2], box[3], columns2, count, count, out + i * count)
