import numpy as np

Array = np.ndarray

def transformed_size(channels: int, filters: int, side: int) -> int: ...
def scratch_size(tiles: int, channels: int, filters: int, side: int, threads: int) -> int: ...
def convolve(
    maps: Array,
    weight: Array,
    out: Array,
    padding: Array,
    scale: Array | None,
    shift: Array | None,
    residual: Array | None,
    activation: int,
    side: int,
    transformed: Array,
    is_transformed: bool,
    scratch: Array,
    threads: int,
) -> None: ...
def weight_gradient_scratch_size(tiles: int, channels: int, filters: int, side: int) -> int: ...
def weight_gradient(
    maps: Array, grad: Array, out: Array, padding: Array, side: int, most: int, scratch: Array, threads: int
) -> None: ...
