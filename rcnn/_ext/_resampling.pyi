import numpy as np

Array = np.ndarray

def enlarge(maps: Array, rows: Array, columns: Array, lateral: Array | None, out: Array, threads: int) -> None: ...
def bilinear(
    x: Array,
    above: Array,
    below: Array,
    down: Array,
    left: Array,
    right: Array,
    across: Array,
    scratch: Array,
    out: Array,
    threads: int,
) -> None: ...
def gather(g: Array, rows: Array, columns: Array, out: Array, threads: int) -> None: ...
