"""`Trace`: every array between an image and its detections, in the order of computation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rcnn.transform import Size

Detections = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trace:
    """All intermediate arrays of one forward pass, as returned by `FasterRCNN.trace`.

    N images, levels l of the backbone, A_l anchors on level l, P_i proposals of image i, R RoIs in all, L classes (the
    background included). All boxes are in pixels of the batch, except those in `outputs`. The last six fields are None
    without targets.
    """

    images: list[np.ndarray]
    """Per image (h, w, 3) in [0, 1]: the resized image, without normalisation and padding."""
    batch: np.ndarray
    """(N, 3, H, W): the padded, normalised batch."""
    image_sizes: list[Size]
    """Per image its (height, width) within the batch."""
    features: list[np.ndarray]
    """Per level (N, C, H_l, W_l): the feature maps of the backbone."""
    anchors: list[np.ndarray]
    """Per level (A_l, 4): the anchors, by row, column, cell anchor."""
    objectness: list[np.ndarray]
    """Per level (N, A_l): the RPN's logit that an anchor contains an object."""
    rpn_deltas: list[np.ndarray]
    """Per level (N, A_l, 4): the RPN's deltas, which move each anchor towards an object."""
    candidates: list[np.ndarray]
    """Per image (K_i, 4): the best anchors per level, decoded, clipped and filtered by size and score; before NMS."""
    candidate_scores: list[np.ndarray]
    """Per image (K_i,): their probabilities."""
    num_after_nms: list[int]
    """Per image: the number of candidates that NMS kept, before the best were chosen."""
    proposals: list[np.ndarray]
    """Per image (P_i, 4): the proposals, by descending score."""
    proposal_scores: list[np.ndarray]
    """Per image (P_i,): their probabilities."""
    rois: np.ndarray
    """(R, 4): the input boxes of the second stage, which are the proposals of all images."""
    roi_images: np.ndarray
    """(R,): index of each RoI's image."""
    roi_levels: np.ndarray
    """(R,): index of the level that each RoI is pooled from."""
    roi_scales: list[float]
    """Per level that RoIs are pooled from: the factor from coordinates of the batch to coordinates of the level."""
    pooled: np.ndarray
    """(R, C, ph, pw): the features pooled from each RoI."""
    class_logits: np.ndarray
    """(R, L): the class logits of each RoI; column 0 is the background."""
    box_deltas: np.ndarray
    """(R, L, 4): for each class, the deltas from the RoI to the object."""
    detections: list[Detections]
    """Per image {"boxes" (D, 4), "scores" (D,), "labels" (D,)}: the detections, by descending score."""
    outputs: list[Detections]
    """The detections in pixels of the original images, as `predict` returns them."""
    output_size: Size
    """(ph, pw) of the pooled features."""
    sampling_ratio: int
    """Of RoIAlign: samples per bin along each axis; 0 takes about one per feature pixel."""
    aligned: bool
    """Of RoIAlign: whether coordinates are shifted by half a feature pixel."""
    times: dict[str, float] = field(default_factory=dict)
    """Seconds per stage."""
    gt_boxes: list[np.ndarray] | None = None
    """Per image (G_i, 4): the objects."""
    gt_labels: list[np.ndarray] | None = None
    """Per image (G_i,): their classes."""
    anchor_matches: list[np.ndarray] | None = None
    """Per image (A,), all levels in order: index of each anchor's object, -1 background, -2 ignored."""
    sampled_anchors: list[tuple[np.ndarray, np.ndarray]] | None = None
    """Per image the indices (positive, negative) of the anchors sampled for the RPN's loss."""
    sampled_rois: list[np.ndarray] | None = None
    """Per image (S_i, 4): the RoIs sampled for the second stage's loss, which may include ground-truth boxes."""
    sampled_labels: list[np.ndarray] | None = None
    """Per image (S_i,): their target classes; 0 is background."""

    def counts(self, index: int = 0) -> dict[str, int]:
        """Return the number of boxes of one image that remain after each step from anchors to detections.

        Parameters
        ----------
        index : int
            The index of the image.

        Returns
        -------
        dict
            Numbers of boxes by step.
        """
        return {
            "anchors": sum(len(level) for level in self.anchors),
            "above the score cut": len(self.candidates[index]),
            "after NMS": self.num_after_nms[index],
            "proposals": len(self.proposals[index]),
            "RoIs": int((self.roi_images == index).sum()),
            "detections": len(self.detections[index]["boxes"]),
        }
