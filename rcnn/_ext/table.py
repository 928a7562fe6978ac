"""The table of kernels, which setup.py, the loader and the tests read.

The table contains only literals, because setup.py reads it before the package can be imported. The source of a
kernel, `_name.pyx`, is translated to C. The C code is compiled once for each level of the kernel that the compiler
supports.
"""

KERNELS = {
    "_boxes": "exact",
    "_conv": "fast",
    "_depthwise": "fast",
    "_memory": "fast",
    "_nms": "exact",
    "_optim": "fast",
    "_passes": "fast",
    "_pooling": "fast",
    "_resampling": "fast",
    "_roi": "exact",
    "_winograd": "fast",
}
"""The rounding of each kernel. "exact" rounds the result of every operation on every processor, as geometry requires.
"fast" may fuse a multiplication and an addition."""

LEVELS = {
    "baseline": (),
    "v3": ("-march=x86-64-v3",),
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
"""The compiler flags for each processor level, from the lowest level to the highest. The levels are those of the System
V ABI: "v3" has AVX2 (vectors of 8 float32 numbers), and "v4" has AVX-512 (vectors of 16)."""

EXTRA_FLAGS = {
    # A row of overlaps is often shorter than 16, and the remainder after the last whole vector is not vectorised.
    ("_boxes", "v4"): ("-mprefer-vector-width=256",),
}
"""Additional compiler flags for one kernel at one level. They override the flags of the level."""

GAINS = {
    "_boxes": {"v3": 1.54, "v4": 1.04},
    "_conv": {"v3": 2.85, "v4": 1.70},
    "_depthwise": {"v3": 2.08, "v4": 1.22},
    "_nms": {"v3": 1.87, "v4": 1.23},
    "_optim": {"v3": 1.53},
    "_passes": {"v3": 1.22, "v4": 1.15},
    "_pooling": {"v3": 1.34, "v4": 1.27},
    "_resampling": {"v3": 1.21},
    "_roi": {"v3": 1.38, "v4": 1.35},
    "_winograd": {"v3": 2.74, "v4": 2.09},
}
"""How many times faster a kernel is at a level than at the next lower level. Only factors of at least 1.03 are listed,
and a kernel is compiled only for the levels that are listed here. At any other level, its code for a lower level runs.

The factors were measured on an Intel Xeon with AVX-512 and one thread, with RCNN_SIMD=baseline, v3 and v4. Each factor
belongs to the operation in benchmarks/microbenchmarks.py that gains most. `_memory` is not listed, because it computes
nothing. `_optim` (0.91 to 1.01) and `_resampling` (0.91 to 1.02) have no entry for v4, because they wait for memory."""
