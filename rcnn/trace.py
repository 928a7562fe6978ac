"""`Trace`: every array between an image and its detections, in the order of computation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rcnn._validate import integer
from rcnn.transform import Size

Detections = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trace:
    """All intermediate arrays of one forward pass, as returned by `FasterRCNN.trace`.

    A field that is a list has one element per image or per level. In the shapes, N is the number of images, (H, W) the
    size of the padded images, C the number of channels, (H_l, W_l) the size of level l of the backbone, A_l the number
    of anchors on this level, P_i the number of proposals of image i, R the number of regions of interest (RoIs) of all
    images, and L the number of classes (including the background). All boxes are in pixel coordinates of the resized
    and padded images, except those in `outputs`. The last six fields are None if `trace` was called without targets.
    """

    images: list[np.ndarray]
    """For each image, (h, w, 3): the resized image, with values in [0, 1], without normalisation and padding."""
    batch: np.ndarray
    """(N, 3, H, W): the padded and normalised batch."""
    image_sizes: list[Size]
    """For each image, its (height, width) after resizing, without the padding."""
    features: list[np.ndarray]
    """For each level, (N, C, H_l, W_l): the feature maps of the backbone."""
    anchors: list[np.ndarray]
    """For each level, (A_l, 4): the anchors, ordered by row, then column, then cell anchor."""
    objectness: list[np.ndarray]
    """For each level, (N, A_l): the logits of the region proposal network (RPN).

    A logit tells how likely it is that the anchor contains an object."""
    rpn_deltas: list[np.ndarray]
    """For each level, (N, A_l, 4): the deltas of the RPN, which move each anchor to an object."""
    candidates: list[np.ndarray]
    """For each image i, (K_i, 4): its K_i candidates, the boxes before non-maximum suppression (NMS).

    The best anchors of each level were moved by their deltas and clipped. Boxes that are too small or have a low score
    were removed."""
    candidate_scores: list[np.ndarray]
    """For each image, (K_i,): the probabilities of the candidates."""
    num_after_nms: list[int]
    """For each image, the number of candidates that NMS kept, before the best ones were chosen."""
    proposals: list[np.ndarray]
    """For each image, (P_i, 4): the proposals, in descending order of score."""
    proposal_scores: list[np.ndarray]
    """For each image, (P_i,): the probabilities of the proposals."""
    rois: np.ndarray
    """(R, 4): the input boxes of the second stage, which are the proposals of all images."""
    roi_images: np.ndarray
    """(R,): for each RoI, the index of its image."""
    roi_levels: np.ndarray
    """(R,): for each RoI, the index of the level from which it is pooled."""
    roi_scales: list[float]
    """For each level from which RoIs are pooled, the number of feature pixels per image pixel, such as 1/4."""
    pooled: np.ndarray
    """(R, C, ph, pw): the features that are pooled from each RoI."""
    class_logits: np.ndarray
    """(R, L): the class logits of each RoI; column 0 is the background."""
    box_deltas: np.ndarray
    """(R, L, 4): for each class, the deltas that move the RoI to the object."""
    detections: list[Detections]
    """For each image, {"boxes": (D, 4), "scores": (D,), "labels": (D,)} of its D detections.

    The detections are in descending order of score."""
    outputs: list[Detections]
    """The detections in pixel coordinates of the original images, as `predict` returns them."""
    output_size: Size
    """The size (ph, pw) of the pooled features."""
    sampling_ratio: int
    """For RoIAlign, the number of samples per bin along each axis; 0 means about one sample per feature pixel."""
    aligned: bool
    """For RoIAlign, whether coordinates are shifted by half a feature pixel."""
    times: dict[str, float] = field(default_factory=dict)
    """For each stage, its running time in seconds."""
    gt_boxes: list[np.ndarray] | None = None
    """For each image i, (G_i, 4): the boxes of its G_i objects."""
    gt_labels: list[np.ndarray] | None = None
    """For each image i, (G_i,): the classes of its objects."""
    anchor_matches: list[np.ndarray] | None = None
    """For each image, (A,): the index of the object that each of the A anchors of all levels must predict.

    -1 means background, and -2 means ignored."""
    sampled_anchors: list[tuple[np.ndarray, np.ndarray]] | None = None
    """For each image, the indices (positive, negative) of the anchors that were sampled for the loss of the RPN."""
    sampled_rois: list[np.ndarray] | None = None
    """For each image i, (S_i, 4): the S_i RoIs that were sampled for the loss of the second stage.

    They may include ground-truth boxes."""
    sampled_labels: list[np.ndarray] | None = None
    """For each image, (S_i,): the target classes of the sampled RoIs; 0 is background."""

    def counts(self, index: int = 0) -> dict[str, int]:
        """Return how many boxes of an image remain after each step, from the anchors to the detections.

        Parameters
        ----------
        index : int
            The index of the image.

        Returns
        -------
        dict
            Maps the name of each step to the number of boxes.

        Raises
        ------
        TypeError, ValueError
            If `index` is not the index of an image.
        """
        index = integer(0, len(self.candidates) - 1).check("index", index)
        return {
            "anchors": sum(len(level) for level in self.anchors),
            "candidates": len(self.candidates[index]),
            "after NMS": self.num_after_nms[index],
            "proposals": len(self.proposals[index]),
            "RoIs": int((self.roi_images == index).sum()),
            "detections": len(self.detections[index]["boxes"]),
        }
