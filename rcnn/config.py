"""`FasterRCNNConfig`: all settings of a Faster R-CNN, validated and frozen."""

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
    """The settings of a `FasterRCNN`. Defaults are those of the paper, under torchvision's names.

    Configs are compared by identity, not by value, because they hold a module. Two models made from one config share
    that module.

    Attributes
    ----------
    backbone : Module
        Maps (N, 3, H, W) to one feature map (N, feat_channels, H', W'), or, with `use_fpn`, to a list of such maps,
        finest first.
    feat_channels : int
        The channels of every feature map.
    num_classes : int
        The number of classes, including the background (label 0).
    use_fpn : bool
        Whether the backbone returns a list of levels.
    anchor_sizes : sequence of floats, or one such sequence per level
        The square roots of the anchors' areas, in pixels of the batch. With `use_fpn`, a flat sequence with as many
        sizes as there are levels gives one size to each level. Any other flat sequence is used at every level.
    aspect_ratios : sequence of floats, or one such sequence per level
        Height / width of the anchors.
    anchor_stride : float, or one per level, optional
        Pixels from one cell to the next. By default it is measured from the feature maps; a number given here is
        checked against the measured stride.
    pool_size : (height, width)
        The size of the features pooled from a RoI.
    hidden_dim : int
        The width of the two hidden layers of the head.
    dropout : float
        The probability that an element of either hidden layer is dropped in training.
    min_size, max_size : int
        An image is resized so that its shorter side is `min_size`, or less if its longer side would exceed `max_size`.
    image_mean, image_std : 3 floats
        Subtracted from, and divided into, the three channels of pixels in [0, 1].
    anchor_offset : float
        Where in its cell an anchor is centred: 0 is the cell's top left corner, 0.5 its middle.
    rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test : int
        Anchors kept per level, by score, before NMS: in `get_loss` and in `predict`.
    rpn_post_nms_top_n_train, rpn_post_nms_top_n_test : int
        Proposals kept per image after NMS: in `get_loss` and in `predict`.
    rpn_nms_thresh : float
        A proposal is suppressed if its IoU with a proposal of higher score is above this.
    rpn_fg_iou_thresh, rpn_bg_iou_thresh : float
        An anchor is positive at or above the first IoU, negative below the second.
    rpn_batch_size_per_image : int
        Anchors sampled per image for the loss.
    rpn_positive_fraction : float
        The largest fraction of positive anchors in that sample.
    rpn_score_thresh : float
        A proposal's score must be at least this.
    box_score_thresh : float
        A detection's score must be greater than this.
    box_nms_thresh : float
        A detection is suppressed if its IoU with a detection of higher score and the same class is above this.
    box_detections_per_img : int
        Detections kept per image.
    box_fg_iou_thresh, box_bg_iou_thresh : float
        A RoI is positive at or above the first IoU, background below the second.
    box_batch_size_per_image : int
        RoIs sampled per image for the loss.
    box_positive_fraction : float
        The largest fraction of positive RoIs in that sample.
    bbox_reg_weights : 4 floats
        The weights of the second stage's deltas (the paper's 0.1 and 0.2, inverted).
    sampling_ratio : int
        As in `rcnn.roi.roi_align`.
    aligned : bool
        As in `rcnn.roi.roi_align`.
    canonical_size, canonical_level : int
        A RoI of this side, in pixels, is pooled from this level of a pyramid; level k has stride 2^k.
    class_names : sequence of str, optional
        One name per class, the background first.

    Raises
    ------
    TypeError, ValueError
        With the field, its value and what is allowed.
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
            object.__setattr__(self, name, value)  # a frozen dataclass allows no plain assignment

    def settings(self) -> dict[str, Any]:
        """Return all fields but the backbone, as values that JSON can hold.

        Returns
        -------
        dict
            Values by the names of their fields.
        """
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "backbone"}


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return normalised settings of a `FasterRCNNConfig`; any subset of its fields without the backbone.

    Settings that depend on each other are compared if both are given.

    Parameters
    ----------
    settings : mapping
        Values by the names of their fields.

    Returns
    -------
    dict
        The normalised values.

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
        raise wrong_value(
            "class_names", names, f"{num_classes} names, one per class (num_classes), the background first"
        )
    return checked


# ---------------------------------------------------------------------- rules

ORDERED = (  # pairs of settings: the first must not exceed the second
    ("min_size", "max_size"),
    ("rpn_bg_iou_thresh", "rpn_fg_iou_thresh"),
    ("box_bg_iou_thresh", "box_fg_iou_thresh"),
)


def _sizes(values: Any) -> Numbers | Nested:
    """Convert a sequence of numbers, or one such sequence per level."""
    elements = as_tuple(values)
    is_nested = bool(elements) and not any(map(is_number, elements))
    return tuple(map(_numbers, elements)) if is_nested else _numbers(elements)


def _stride(value: Any) -> float | Numbers:
    return as_number(value) if is_number(value) else _numbers(value)


def _all(is_allowed: Callable[[float], bool]) -> Callable[[Any], bool]:
    """Return a function that tests every number of a value: a number, a sequence, or one sequence per level."""

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
