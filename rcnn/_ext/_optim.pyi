import numpy as np

Array = np.ndarray

block_size: int

def square_sums(x: Array, sums: Array, threads: int) -> None: ...
def scale(x: Array, factor: float, threads: int) -> None: ...
def average(mean: Array, values: Array, weight: float, threads: int) -> None: ...
def sgd(
    values: Array, grad: Array, velocity: Array, lr: float, momentum: float, weight_decay: float, threads: int
) -> None: ...
def adam(
    values: Array,
    grad: Array,
    mean: Array,
    square: Array,
    lr: float,
    beta1: float,
    beta2: float,
    lack: float,
    eps: float,
    weight_decay: float,
    threads: int,
) -> None: ...
