"""The IoU of boxes, shared by the kernels of IoU and of NMS so that both round in the same way."""

from cython cimport floating


cdef inline void iou_row(
    floating x1, floating y1, floating x2, floating y2, const floating* columns, Py_ssize_t stride, Py_ssize_t count,
    floating* out,
) noexcept nogil:
    """Fill `out` (count,) with the IoU of one box and each of `count` other boxes.

    The other boxes are stored in four columns x1, y1, x2, y2, which begin `stride` elements apart, so that the compiler
    vectorises the loop. For the same reason, there is no early exit for the many pairs that do not overlap.
    """
    cdef const floating* left = columns
    cdef const floating* top = columns + stride
    cdef const floating* right = columns + 2 * stride
    cdef const floating* bottom = columns + 3 * stride
    cdef floating width, height, intersection, union, area = (x2 - x1) * (y2 - y1)
    cdef Py_ssize_t j
    for j in range(count):
        width = (x2 if x2 < right[j] else right[j]) - (x1 if x1 > left[j] else left[j])
        height = (y2 if y2 < bottom[j] else bottom[j]) - (y1 if y1 > top[j] else top[j])
        intersection = (width if width > 0 else 0) * (height if height > 0 else 0)
        union = area + (right[j] - left[j]) * (bottom[j] - top[j]) - intersection
        out[j] = intersection / union if union != 0 else 0
