import numpy as np

def roi_align(
    features: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    out: np.ndarray,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    threads: int,
) -> None: ...
def roi_align_backward(
    grad: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    out: np.ndarray,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
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
