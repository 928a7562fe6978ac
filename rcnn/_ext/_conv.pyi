import numpy as np

Array = np.ndarray

def padded_panels(filters: int) -> int: ...
def convolve(
    maps: Array,
    weight: Array,
    out: Array,
    stride: Array,
    dilation: Array,
    scale: Array | None,
    shift: Array | None,
    residual: Array | None,
    relu: bool,
    packed: Array,
    threads: int,
) -> None: ...
def pad(maps: Array, padding: Array, out: Array, threads: int) -> None: ...
def weight_gradient(
    maps: Array,
    grad: Array,
    out: Array,
    kernel_height: int,
    kernel_width: int,
    stride: Array,
    dilation: Array,
    threads: int,
) -> None: ...
def gradient_tasks(filters: int, taps: int, run: int) -> int: ...
def gather_weights(parts: Array, out: Array, threads: int) -> None: ...
