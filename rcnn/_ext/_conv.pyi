import numpy as np

Array = np.ndarray

def padded_panels(filters: int, groups: int) -> int: ...
def convolve(
    maps: Array,
    weight: Array,
    out: Array,
    stride: Array,
    dilation: Array,
    scale: Array | None,
    shift: Array | None,
    residual: Array | None,
    activation: int,
    filter_groups: int,
    packed: Array,
    is_packed: bool,
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
    groups: int,
    threads: int,
) -> None: ...
def gradient_tasks(filters: int, groups: int, taps: int, run: int) -> int: ...
def gather_weights(parts: Array, out: Array, threads: int) -> None: ...
