"""`FasterRCNNConfig`: every choice that makes one Faster R-CNN differ from another, checked once and then fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from rcnn._validate import (
    FLAG,
    FRACTION,
    Rule,
    as_float,
    as_integer,
    as_number,
    as_string,
    as_tuple,
    integer,
    is_number,
    optional,
    tuple_of,
    wrong_type,
    wrong_value,
)
from rcnn.nn import Module

Numbers = tuple[float, ...]
Nested = tuple[Numbers, ...]


@dataclass(frozen=True, eq=False)
class FasterRCNNConfig:
    """The settings of a `FasterRCNN`. Defaults are those of the paper under torchvision's names.

    Raises TypeError or ValueError, with the field, its value and what is allowed. Not comparable by `==`: it holds a
    module. Two models made from one config share that module.

    backbone: a module from (N, 3, H, W) to one feature map (N, feat_channels, H', W'), or with `use_fpn` to a list of
        such maps, finest first.
    feat_channels: channels of every feature map.
    num_classes: number of classes, the background (label 0) included.
    use_fpn: whether the backbone returns a list of levels.
    anchor_sizes: sides of the square anchors, in pixels of the batch. With `use_fpn`, one per level when there are as
        many as levels; nested tuples say it level by level; otherwise every size at every level.
    aspect_ratios: height / width of the anchors; nested tuples say it level by level.
    anchor_stride: pixels from one cell to the next. None measures it from the feature map; a number, or one per level,
        is checked against what is measured.
    pool_size: (height, width) of the features pooled from a RoI.
    hidden_dim: width of the two layers of the head.
    dropout: probability of an element of either layer to be dropped in training.

    min_size, max_size: an image is resized so that its shorter side is min_size, unless its longer one would then
        exceed max_size.
    image_mean, image_std: of the three channels, subtracted and divided by; pixels are in [0, 1].
    anchor_offset: where in a cell its anchors are centred: 0 at the cell's corner, 0.5 in its middle.
    rpn_pre_nms_top_n_*: anchors kept per level, by score, before suppression; `_train` in get_loss, `_test` in predict.
    rpn_post_nms_top_n_*: proposals kept per image after suppression.
    rpn_nms_thresh: IoU above which a proposal is suppressed by a better one.
    rpn_fg_iou_thresh, rpn_bg_iou_thresh: an anchor is positive at or above the first, negative below the second.
    rpn_batch_size_per_image, rpn_positive_fraction: anchors sampled for the loss, and how many may be positive.
    rpn_score_thresh: a proposal's score must be at least this.
    box_score_thresh, box_nms_thresh, box_detections_per_img: a detection's score must exceed the first; suppression
        within a class; how many are kept per image.
    box_fg_iou_thresh, box_bg_iou_thresh, box_batch_size_per_image, box_positive_fraction: as for the RPN, for RoIs.
    bbox_reg_weights: of the second stage's deltas (the paper's 0.1 and 0.2, inverted).
    sampling_ratio, aligned: of RoIAlign; see `rcnn.roi.roi_align`.
    canonical_size, canonical_level: a RoI of this side (pixels) is pooled from this level of a pyramid; level k has
        stride 2^k.
    class_names: one name per class, the background first; None for no names.
    """

    backbone: Module
    feat_channels: int
    num_classes: int
    use_fpn: bool = False
    anchor_sizes: Numbers | Nested = (128, 256, 512)
    aspect_ratios: Numbers | Nested = (0.5, 1.0, 2.0)
    anchor_stride: float | Numbers | None = None
    pool_size: tuple[int, int] = (7, 7)
    hidden_dim: int = 4096
    dropout: float = 0.5
    _: KW_ONLY
    min_size: int = 800
    max_size: int = 1333
    image_mean: Numbers = (0.485, 0.456, 0.406)
    image_std: Numbers = (0.229, 0.224, 0.225)
    anchor_offset: float = 0.0
    rpn_pre_nms_top_n_train: int = 2000
    rpn_pre_nms_top_n_test: int = 1000
    rpn_post_nms_top_n_train: int = 2000
    rpn_post_nms_top_n_test: int = 1000
    rpn_nms_thresh: float = 0.7
    rpn_fg_iou_thresh: float = 0.7
    rpn_bg_iou_thresh: float = 0.3
    rpn_batch_size_per_image: int = 256
    rpn_positive_fraction: float = 0.5
    rpn_score_thresh: float = 0.0
    box_score_thresh: float = 0.05
    box_nms_thresh: float = 0.5
    box_detections_per_img: int = 100
    box_fg_iou_thresh: float = 0.5
    box_bg_iou_thresh: float = 0.5
    box_batch_size_per_image: int = 512
    box_positive_fraction: float = 0.25
    bbox_reg_weights: Numbers = (10.0, 10.0, 5.0, 5.0)
    sampling_ratio: int = 2
    aligned: bool = False
    canonical_size: int = 224
    canonical_level: int = 4
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, Module):
            raise wrong_type("backbone", self.backbone, "an rcnn.nn.Module")
        for name, value in check_settings(self.settings()).items():
            object.__setattr__(self, name, value)  # the one way to normalise a field of a frozen dataclass

    def settings(self) -> dict[str, Any]:
        """Return all fields but the backbone, as values that JSON can hold."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "backbone"}


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a `FasterRCNNConfig`, any fields but the backbone, normalised.

    Settings that depend on each other are compared where both are given.

    Parameters
    ----------
    settings : mapping
        Values by the name of their field.

    Raises
    ------
    TypeError, ValueError
        With the field, its value and what is allowed.
    """
    checked = {name: RULES[name].check(name, value) for name, value in settings.items()}
    for low, high in ORDERED:
        if low in checked and high in checked and checked[low] > checked[high]:
            raise wrong_value(low, checked[low], f"at most {high}, which is {checked[high]}")
    names, num_classes = checked.get("class_names"), checked.get("num_classes")
    if names is not None and num_classes is not None and len(names) != num_classes:
        raise wrong_value("class_names", names, f"{num_classes} names, as num_classes says, the background first")
    return checked


# ---------------------------------------------------------------------- rules

ORDERED = (  # pairs of settings: the first must not exceed the second
    ("min_size", "max_size"),
    ("rpn_bg_iou_thresh", "rpn_fg_iou_thresh"),
    ("box_bg_iou_thresh", "box_fg_iou_thresh"),
)


def _sizes(values: Any) -> Numbers | Nested:
    """Convert a sequence of numbers, or a sequence of such sequences, one per level."""
    elements = as_tuple(values)
    is_nested = bool(elements) and not any(map(is_number, elements))
    return tuple(map(_numbers, elements)) if is_nested else _numbers(elements)


def _stride(value: Any) -> float | Numbers:
    return as_number(value) if is_number(value) else _numbers(value)


def _all(is_allowed: Callable[[float], bool]) -> Callable[[Any], bool]:
    """Return a function that tests every number of a value, of a sequence, or of each level of a nested sequence."""

    def test(value: Any) -> bool:
        if isinstance(value, tuple):
            return len(value) > 0 and all(map(test, value))
        return is_allowed(value)

    return test


_numbers = tuple_of(as_number)
_is_positive = _all(lambda x: x > 0)

RULES: dict[str, Rule] = {
    "feat_channels": integer(1),
    "num_classes": integer(2),
    "use_fpn": FLAG,
    "anchor_sizes": Rule(
        "a sequence of numbers of at least 2, or one such sequence per level", _sizes, _all(lambda x: x >= 2)
    ),
    "aspect_ratios": Rule("a sequence of numbers above 0, or one such sequence per level", _sizes, _is_positive),
    "anchor_stride": optional(Rule("None, a number above 0, or one per level", _stride, _is_positive)),
    "pool_size": Rule(
        "two integers of at least 1, (height, width)",
        tuple_of(as_integer),
        lambda size: len(size) == 2 and min(size) >= 1,
    ),
    "hidden_dim": integer(1),
    "dropout": Rule("a number in [0, 1)", as_float, lambda x: 0 <= x < 1),
    "min_size": integer(1),
    "max_size": integer(1),
    "image_mean": Rule("3 numbers", _numbers, lambda mean: len(mean) == 3),
    "image_std": Rule("3 numbers above 0", _numbers, lambda std: len(std) == 3 and min(std) > 0),
    "anchor_offset": FRACTION,
    "rpn_pre_nms_top_n_train": integer(1),
    "rpn_pre_nms_top_n_test": integer(1),
    "rpn_post_nms_top_n_train": integer(1),
    "rpn_post_nms_top_n_test": integer(1),
    "rpn_nms_thresh": FRACTION,
    "rpn_fg_iou_thresh": FRACTION,
    "rpn_bg_iou_thresh": FRACTION,
    "rpn_batch_size_per_image": integer(1),
    "rpn_positive_fraction": FRACTION,
    "rpn_score_thresh": FRACTION,
    "box_score_thresh": FRACTION,
    "box_nms_thresh": FRACTION,
    "box_detections_per_img": integer(1),
    "box_fg_iou_thresh": FRACTION,
    "box_bg_iou_thresh": FRACTION,
    "box_batch_size_per_image": integer(1),
    "box_positive_fraction": FRACTION,
    "bbox_reg_weights": Rule("4 numbers above 0", _numbers, lambda weights: len(weights) == 4 and min(weights) > 0),
    "sampling_ratio": integer(0),
    "aligned": FLAG,
    "canonical_size": integer(1),
    "canonical_level": integer(0),
    "class_names": optional(
        Rule(
            "None, or a name per class, all different, the background first",
            tuple_of(as_string),
            lambda names: len(set(names)) == len(names),
        )
    ),
}
