import numpy as np

def nms(
    boxes: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    threshold: float,
    stays: np.ndarray,
    kept: np.ndarray,
    threads: int,
) -> None: ...
