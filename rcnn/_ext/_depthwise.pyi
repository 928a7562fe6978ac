import numpy as np

Array = np.ndarray

def convolve(
    maps: Array,
    weight: Array,
    out: Array,
    stride: Array,
    padding: Array,
    dilation: Array,
    scale: Array | None,
    shift: Array | None,
    residual: Array | None,
    activation: int,
    threads: int,
) -> None: ...
def weight_gradient(
    maps: Array, grad: Array, out: Array, stride: Array, padding: Array, dilation: Array, threads: int
) -> None: ...
