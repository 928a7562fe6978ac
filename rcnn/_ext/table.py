"""The table of kernels, which setup.py, the loader and the tests read.

The table contains only literals, because setup.py reads it before the package can be imported. The kernel `_name` is
translated from `_name.pyx` to C, and the C is compiled once for each of its levels that the compiler supports.
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

GAINS = {
    "_boxes": {"v3": 1.54, "v4": 1.04},
    "_conv": {"v3": 2.85, "v4": 1.70},
    "_nms": {"v3": 1.87, "v4": 1.23},
    "_optim": {"v3": 1.53},
    "_passes": {"v3": 1.22, "v4": 1.15},
    "_pooling": {"v3": 1.34, "v4": 1.27},
    "_resampling": {"v3": 1.21},
    "_roi": {"v3": 1.38, "v4": 1.35},
    "_winograd": {"v3": 2.74, "v4": 2.09},
}
"""How many times faster a kernel is at a level than at the level below, where that is at least 1.03. A kernel is
compiled for these levels only, and otherwise runs as compiled for a lower one.

Measured on an Intel Xeon with AVX-512 and one thread: the operation of benchmarks/microbenchmarks.py that gains most,
with RCNN_SIMD=baseline, v3 and v4. Not compiled are `_memory`, which computes nothing, and for v4 `_optim` (0.91 to
1.01) and `_resampling` (0.91 to 1.02), which wait for memory."""
