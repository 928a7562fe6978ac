"""The table of kernels, which setup.py, the loader and the tests read.

The table contains only literals, because setup.py reads it before the package can be imported. The kernel `_name` is
compiled from `_name.pyx`, once for each level of processors that the compiler supports.
"""

KERNELS = {
    "_boxes": "exact",
    "_conv": "fast",
    "_memory": "fast",
    "_nms": "exact",
    "_optim": "fast",
    "_passes": "fast",
    "_pooling": "fast",
    "_resampling": "fast",
    "_roi": "exact",
    "_winograd": "fast",
}
"""The rounding of each kernel: "exact" rounds every operation, on every processor, as geometry requires; "fast" may
fuse a multiplication and an addition."""

LEVELS = {
    "baseline": (),
    "v3": ("-march=x86-64-v3",),
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
"""The compiler flags of each level of processors, lowest first. The levels are those of the System V ABI: "v3" has AVX2
(vectors of 8 float32), "v4" has AVX-512 (vectors of 16)."""

EXTRA_FLAGS = {
    # A row of overlaps is often shorter than 16, and the remainder after the last whole vector is not vectorised.
    ("_boxes", "v4"): ("-mprefer-vector-width=256",),
}
"""Additional flags for one kernel at one level; they override earlier flags."""
