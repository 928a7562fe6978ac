# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernel of `rcnn.boxes`: intersection over union."""

from cython cimport floating
from cython.parallel cimport prange

from rcnn._ext._overlap cimport iou_row


def iou(const floating[:, ::1] boxes1, const floating[:, ::1] columns2, floating[:, ::1] out, int threads):
    """Fill out (N, M) with the IoU of boxes1 (N, 4) and the boxes with the coordinates columns2 (4, M)."""
    cdef Py_ssize_t i, count = columns2.shape[1]
    if count == 0:
        return
    for i in prange(boxes1.shape[0], nogil=True, num_threads=threads, schedule="static"):
        iou_row(
            boxes1[i, 0], boxes1[i, 1], boxes1[i, 2], boxes1[i, 3], &columns2[0, 0], count, count, &out[i, 0]
        )
