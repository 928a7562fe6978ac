import numpy as np

def find_taps(
    low: np.ndarray,
    high: np.ndarray,
    pixels: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    starts: np.ndarray,
    places: np.ndarray,
    weights: np.ndarray,
) -> None: ...
def roi_align(
    features: np.ndarray,
    images: np.ndarray,
    order: np.ndarray,
    starts_y: np.ndarray,
    rows: np.ndarray,
    weights_y: np.ndarray,
    starts_x: np.ndarray,
    columns: np.ndarray,
    weights_x: np.ndarray,
    places: np.ndarray,
    zeros: np.ndarray,
    out: np.ndarray,
    threads: int,
) -> None: ...
def roi_align_backward(
    grad: np.ndarray,
    images: np.ndarray,
    starts_y: np.ndarray,
    rows: np.ndarray,
    weights_y: np.ndarray,
    starts_x: np.ndarray,
    columns: np.ndarray,
    weights_x: np.ndarray,
    band: int,
    out: np.ndarray,
    threads: int,
) -> None: ...
def roi_pool(
    features: np.ndarray,
    images: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    out: np.ndarray,
    winners: np.ndarray,
    threads: int,
) -> None: ...
def roi_pool_backward(
    grad: np.ndarray, images: np.ndarray, winners: np.ndarray, out: np.ndarray, threads: int
) -> None: ...
