import numpy as np

def nms(
    columns: np.ndarray,
    starts: np.ndarray,
    threshold: float,
    stays: np.ndarray,
    scratch: np.ndarray,
    threads: int,
) -> None: ...
