"""The table of kernels, which setup.py, the loader and the tests read. Literals only: setup.py reads it before there is
a package.

A kernel `_name` is compiled from `_name.pyx`, once for each level of processors that the compiler knows.
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
"""How each kernel rounds: "exact" as written, on every processor, as geometry must; "fast" may fuse a multiplication
and an addition."""

LEVELS = {
    "baseline": (),
    "v3": ("-march=x86-64-v3",),
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
"""The compiler's flags for each level of processors, lowest first, named after the levels of the System V ABI: "v3" has
AVX2, vectors of 8 float32, and "v4" AVX-512, vectors of 16."""

EXTRA_FLAGS = {
    # A row of overlaps is often shorter than 16, and what remains after its last whole vector is computed one by one.
    ("_boxes", "v4"): ("-mprefer-vector-width=256",),
}
"""Flags for one kernel at one level; the last such flag counts."""
