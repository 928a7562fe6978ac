"""`Trace`: every array between an image and its detections, in the order in which they are computed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rcnn.transform import Size

Detections = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trace:
    """Every intermediate array of one pass of a `FasterRCNN`, as `FasterRCNN.trace` gives it.

    N images, levels l of the backbone, A_l anchors on level l, P_i proposals of image i, R RoIs in all, L classes. All
    boxes are in pixels of the batch, except those in `outputs`. The last six are None without targets.
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
    """Per level (A_l, 4): the boxes that are asked about, by row, column, cell anchor."""
    objectness: list[np.ndarray]
    """Per level (N, A_l): the RPN's logit that an anchor holds an object."""
    rpn_deltas: list[np.ndarray]
    """Per level (N, A_l, 4): how the RPN would move each anchor."""
    candidates: list[np.ndarray]
    """Per image (K_i, 4): the best anchors of each level, moved, clipped and above the cuts; before suppression."""
    candidate_scores: list[np.ndarray]
    """Per image (K_i,): their probabilities."""
    num_after_nms: list[int]
    """Per image: how many candidates suppression left, before the best were taken."""
    proposals: list[np.ndarray]
    """Per image (P_i, 4): where something might be, by falling score."""
    proposal_scores: list[np.ndarray]
    """Per image (P_i,): their probabilities."""
    rois: np.ndarray
    """(R, 4): the regions that the second stage looks at, which are the proposals of all images."""
    roi_images: np.ndarray
    """(R,): index of the image that each RoI lies on."""
    roi_levels: np.ndarray
    """(R,): index of the level that each RoI is pooled from."""
    roi_scales: list[float]
    """Per level that RoIs are pooled from: what a coordinate is multiplied with to be one of the level."""
    pooled: np.ndarray
    """(R, C, ph, pw): the features under each RoI."""
    class_logits: np.ndarray
    """(R, L): what each RoI might be; column 0 is background."""
    box_deltas: np.ndarray
    """(R, L, 4): for each class, how the RoI would move onto the object."""
    detections: list[Detections]
    """Per image {"boxes" (D, 4), "scores" (D,), "labels" (D,)}: what is found, by falling score."""
    outputs: list[Detections]
    """The same in each image's own pixels, as `predict` returns them."""
    output_size: Size
    """(ph, pw) of the pooled features."""
    sampling_ratio: int
    """Of RoIAlign: sample points per bin and axis, 0 for as many as the bin has pixels."""
    aligned: bool
    """Of RoIAlign: whether sample points are moved by half a pixel."""
    times: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage took."""
    gt_boxes: list[np.ndarray] | None = None
    """Per image (G_i, 4): the objects."""
    gt_labels: list[np.ndarray] | None = None
    """Per image (G_i,): their classes."""
    anchor_matches: list[np.ndarray] | None = None
    """Per image (A,), all levels in order: index of each anchor's object, -1 background, -2 ignored."""
    sampled_anchors: list[tuple[np.ndarray, np.ndarray]] | None = None
    """Per image the indices (positive, negative) of the anchors that the RPN's loss would look at."""
    sampled_rois: list[np.ndarray] | None = None
    """Per image (S_i, 4): the RoIs that the second stage's loss would look at, ground truth among them."""
    sampled_labels: list[np.ndarray] | None = None
    """Per image (S_i,): the classes they should be given; 0 is background."""

    def counts(self, index: int = 0) -> dict[str, int]:
        """The funnel of the image at `index`: how many boxes are left after each step from anchors to detections."""
        return {
            "anchors": sum(len(level) for level in self.anchors),
            "above the score cut": len(self.candidates[index]),
            "after NMS": self.num_after_nms[index],
            "proposals": len(self.proposals[index]),
            "RoIs": int((self.roi_images == index).sum()),
            "detections": len(self.detections[index]["boxes"]),
        }
