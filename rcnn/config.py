"""`FasterRCNNConfig`: every choice that makes one Faster R-CNN differ from another, checked once and then fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, fields
from numbers import Integral, Real
from typing import Any

from rcnn.nn import Module

Numbers = tuple[float, ...]
Nested = tuple[Numbers, ...]

_COUNTS = (
    "feat_channels",
    "hidden_dim",
    "min_size",
    "max_size",
    "rpn_pre_nms_top_n_train",
    "rpn_pre_nms_top_n_test",
    "rpn_post_nms_top_n_train",
    "rpn_post_nms_top_n_test",
    "rpn_batch_size_per_image",
    "box_batch_size_per_image",
    "box_detections_per_img",
    "canonical_size",
)
_FRACTIONS = (
    "rpn_nms_thresh",
    "rpn_fg_iou_thresh",
    "rpn_bg_iou_thresh",
    "rpn_positive_fraction",
    "rpn_score_thresh",
    "box_score_thresh",
    "box_nms_thresh",
    "box_fg_iou_thresh",
    "box_bg_iou_thresh",
    "box_positive_fraction",
)


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

    min_size, max_size: a picture is resized so that its shorter side is min_size, unless its longer one would then
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
            raise _wrong_type("backbone", self.backbone, "an rcnn.nn.Module")
        for name in ("use_fpn", "aligned"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong_type(name, getattr(self, name), "True or False")
        for name in _COUNTS:
            self._check_integer(name, smallest=1)
        self._check_integer("num_classes", smallest=2)
        self._check_integer("sampling_ratio", smallest=0)
        self._check_integer("canonical_level", smallest=0)
        for name in _FRACTIONS:
            self._check_number(name, "a number in [0, 1]", lambda x: 0 <= x <= 1)
        self._check_number("dropout", "a number in [0, 1)", lambda x: 0 <= x < 1)
        self._check_number("anchor_offset", "a number in [0, 1]", lambda x: 0 <= x <= 1)
        self._fix_anchors()
        self._fix("image_mean", self._numbers("image_mean", count=3))
        self._fix("image_std", self._numbers("image_std", count=3, above=0))
        self._fix("bbox_reg_weights", self._numbers("bbox_reg_weights", count=4, above=0))
        self._fix("pool_size", self._pool_size())
        self._check_pairs()
        if self.class_names is not None:
            self._fix("class_names", self._class_names())

    def settings(self) -> dict[str, Any]:
        """Every field but the backbone, as values that JSON can hold: `FasterRCNNConfig(backbone, **settings)`."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "backbone"}

    # ------------------------------------------------------------------ checks

    def _fix(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the one way to normalise a field of a frozen dataclass

    def _check_integer(self, name: str, smallest: int) -> None:
        value = getattr(self, name)
        if not _is_integer(value):
            raise _wrong_type(name, value, f"an integer of at least {smallest}")
        if value < smallest:
            raise _wrong_value(name, value, f"an integer of at least {smallest}")
        self._fix(name, int(value))

    def _check_number(self, name: str, allowed: str, is_allowed: Callable[[float], bool]) -> None:
        value = getattr(self, name)
        if not _is_number(value):
            raise _wrong_type(name, value, allowed)
        if not is_allowed(value):
            raise _wrong_value(name, value, allowed)
        self._fix(name, float(value))

    def _numbers(self, name: str, count: int | None = None, above: float = -math.inf) -> Numbers:
        allowed = f"{'a sequence of' if count is None else count} numbers" + (f" above {above}" if above == 0 else "")
        return _as_numbers(name, getattr(self, name), allowed, count, above)

    def _fix_anchors(self) -> None:
        for name, range_ in (("anchor_sizes", "of at least 2"), ("aspect_ratios", "above 0")):
            allowed = f"a sequence of numbers {range_}, or one such sequence per level"
            items = _as_tuple(name, getattr(self, name), allowed)
            nested = bool(items) and not any(map(_is_number, items))
            levels = [_as_numbers(name, item, allowed, above=0) for item in (items if nested else (items,))]
            self._fix(name, tuple(levels) if nested else levels[0])
            if name == "anchor_sizes" and min(map(min, levels)) < 2:
                raise _wrong_value(name, self.anchor_sizes, allowed)
        stride = self.anchor_stride
        if stride is not None:
            allowed = "None, a number above 0, or one per level"
            numbers = _as_numbers("anchor_stride", (stride,) if _is_number(stride) else stride, allowed, above=0)
            self._fix("anchor_stride", numbers[0] if _is_number(stride) else numbers)

    def _pool_size(self) -> tuple[int, int]:
        allowed = "two integers of at least 1, (height, width)"
        pair = _as_tuple("pool_size", self.pool_size, allowed)
        if not all(map(_is_integer, pair)):
            raise _wrong_type("pool_size", self.pool_size, allowed)
        if len(pair) != 2 or min(pair) < 1:
            raise _wrong_value("pool_size", self.pool_size, allowed)
        return int(pair[0]), int(pair[1])

    def _check_pairs(self) -> None:
        for low, high in (
            ("min_size", "max_size"),
            ("rpn_bg_iou_thresh", "rpn_fg_iou_thresh"),
            ("box_bg_iou_thresh", "box_fg_iou_thresh"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise _wrong_value(low, getattr(self, low), f"at most {high}, which is {getattr(self, high)}")

    def _class_names(self) -> tuple[str, ...]:
        allowed = f"None, or {self.num_classes} different strings (num_classes), the background first"
        names = _as_tuple("class_names", self.class_names, allowed)
        if not all(isinstance(name, str) for name in names):
            raise _wrong_type("class_names", self.class_names, allowed)
        if len(names) != self.num_classes or len(set(names)) != len(names):
            raise _wrong_value("class_names", self.class_names, allowed)
        return names


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _as_tuple(name: str, value: Any, allowed: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise _wrong_type(name, value, allowed)
    return tuple(value)


def _as_numbers(name: str, value: Any, allowed: str, count: int | None = None, above: float = -math.inf) -> Numbers:
    items = _as_tuple(name, value, allowed)
    if not all(map(_is_number, items)):
        raise _wrong_type(name, value, allowed)
    numbers = tuple(int(x) if _is_integer(x) else float(x) for x in items)
    if not numbers or (count is not None and len(numbers) != count):
        raise _wrong_value(name, value, allowed)
    if not all(math.isfinite(x) and x > above for x in numbers):
        raise _wrong_value(name, value, allowed)
    return numbers


def _wrong_type(name: str, value: Any, allowed: str) -> TypeError:
    return TypeError(f"{name} must be {allowed}, not {value!r} ({type(value).__name__})")


def _wrong_value(name: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{name} must be {allowed}, not {value!r}")
