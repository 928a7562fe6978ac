"""Settings: their order, their validation, and their round trip through JSON."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from rcnn import FasterRCNNConfig, nn
from rcnn.config import check_settings

FIRST = [
    "backbone",
    "feat_channels",
    "num_classes",
    "use_fpn",
    "anchor_sizes",
    "aspect_ratios",
    "anchor_stride",
    "pool_size",
    "hidden_dim",
    "dropout",
]
FIELDS = [field.name for field in dataclasses.fields(FasterRCNNConfig)]
NAN, INF = float("nan"), float("inf")


def make(**fields):
    return FasterRCNNConfig(**{"backbone": nn.Identity(), "feat_channels": 8, "num_classes": 3, **fields})


def test_ten_fields_are_positional_and_the_rest_keyword_only():
    parameters = inspect.signature(FasterRCNNConfig).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == FIRST
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(FIELDS) - set(FIRST)
    values = [nn.Identity(), 8, 3, True, (32, 64), (1.0,), 16, (5, 6), 64, 0.25]
    config = FasterRCNNConfig(*values)
    assert [getattr(config, name) for name in FIRST] == values
    with pytest.raises(TypeError, match="positional"):
        FasterRCNNConfig(*values, 800)


def test_defaults_are_those_of_the_paper_under_torchvisions_names():
    expected = {
        "use_fpn": False,
        "anchor_sizes": (128, 256, 512),
        "aspect_ratios": (0.5, 1.0, 2.0),
        "anchor_stride": None,
        "pool_size": (7, 7),
        "hidden_dim": 4096,
        "dropout": 0.5,
        "min_size": 800,
        "max_size": 1333,
        "image_mean": (0.485, 0.456, 0.406),
        "image_std": (0.229, 0.224, 0.225),
        "rpn_num_convs": 1,
        "rpn_nms_thresh": 0.7,
        "rpn_pre_nms_top_n_train": 2000,
        "rpn_pre_nms_top_n_test": 1000,
        "rpn_post_nms_top_n_train": 2000,
        "rpn_post_nms_top_n_test": 1000,
        "rpn_fg_iou_thresh": 0.7,
        "rpn_bg_iou_thresh": 0.3,
        "rpn_batch_size_per_image": 256,
        "rpn_positive_fraction": 0.5,
        "rpn_score_thresh": 0.0,
        "box_num_convs": 0,
        "box_score_thresh": 0.05,
        "box_nms_thresh": 0.5,
        "box_detections_per_img": 100,
        "box_fg_iou_thresh": 0.5,
        "box_bg_iou_thresh": 0.5,
        "box_batch_size_per_image": 512,
        "box_positive_fraction": 0.25,
        "box_class_weights": None,
        "bbox_reg_weights": (10.0, 10.0, 5.0, 5.0),
        "sampling_ratio": 2,
        "aligned": False,
        "canonical_size": 224,
        "canonical_level": 4,
        "anchor_offset": 0.0,
        "class_names": None,
    }
    assert make().settings() == {"feat_channels": 8, "num_classes": 3, **expected}


def test_config_is_frozen_and_equal_only_to_itself():
    backbone = nn.Identity()
    config, twin = make(backbone=backbone), make(backbone=backbone)
    assert config == config
    assert config != twin
    assert len({config, twin}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.1


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_rejects_a_wrong_type(field):
    nonsense = object()
    with pytest.raises(TypeError, match=rf"^{field} must be .+, got {nonsense!r} \(object\)$"):
        make(**{field: nonsense})


WHOLE = [name for name, value in make().settings().items() if type(value) is int]
FRACTIONS = [name for name in FIELDS if name.endswith(("_thresh", "_fraction"))]


@pytest.mark.parametrize("field", WHOLE)
@pytest.mark.parametrize(
    "value, error",
    [(-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError), (np.array([2, 3]), TypeError)],
)
def test_integers_are_checked(field, value, error):
    with pytest.raises(error, match=rf"^{field} must be an integer of at least \d"):
        make(**{field: value})


@pytest.mark.parametrize("field", FRACTIONS)
@pytest.mark.parametrize(
    "value, error",
    [
        (-0.01, ValueError),
        (1.01, ValueError),
        (NAN, ValueError),
        (False, TypeError),
        ("0.5", TypeError),
        ((0.5,), TypeError),
    ],
)
def test_fractions_are_checked(field, value, error):
    with pytest.raises(error, match=rf"^{field} must be a number in \[0, 1\], got"):
        make(**{field: value})


SIZES = r"a sequence of numbers in \[2, 2\^20\], or one such sequence per level"
RATIOS = r"a sequence of numbers in \[2\^-20, 2\^20\], or one such sequence per level"
STRIDE = "None, a number above 0, or one per level"
PAIR = r"two integers of at least 1 and at most 1024 \(height and width\)"
NAMES = "None, or a unique name of at most 256 characters for each class, starting with the background"


@pytest.mark.parametrize(
    "field, value, error, allowed",
    [
        ("backbone", None, TypeError, "an rcnn.nn.Module"),
        ("feat_channels", 0, ValueError, "an integer of at least 1 and at most 65536"),
        ("num_classes", 1, ValueError, "an integer of at least 2 and at most 65536"),
        ("use_fpn", 1, TypeError, "True or False"),
        ("aligned", None, TypeError, "True or False"),
        ("anchor_sizes", (), ValueError, SIZES),
        ("anchor_sizes", 128, TypeError, SIZES),
        ("anchor_sizes", "128", TypeError, SIZES),
        ("anchor_sizes", (64, 1.5), ValueError, SIZES),
        ("anchor_sizes", ((64,), (1.5,)), ValueError, SIZES),
        ("anchor_sizes", (64, (32,)), TypeError, SIZES),
        ("anchor_sizes", (64, INF), ValueError, SIZES),
        ("aspect_ratios", (1.0, 0.0), ValueError, RATIOS),
        ("aspect_ratios", (NAN,), ValueError, RATIOS),
        ("anchor_stride", 0, ValueError, STRIDE),
        ("anchor_stride", "16", TypeError, STRIDE),
        ("anchor_stride", True, TypeError, STRIDE),
        ("pool_size", 7, TypeError, PAIR),
        ("pool_size", (7.0, 7), TypeError, PAIR),
        ("pool_size", (7,), ValueError, PAIR),
        ("pool_size", (7, 0), ValueError, PAIR),
        ("image_std", {0.1: 1, 0.2: 2, 0.3: 3}, TypeError, r"3 numbers in \[0\.001, 1000\]"),
        ("class_names", (), ValueError, "3 names, one per class"),
        ("box_class_weights", (1, 2), ValueError, "3 numbers, one per class"),
        ("box_class_weights", (0, 0, 0), ValueError, r".*for each class, not all 0"),
        ("box_class_weights", (), ValueError, r".*for each class, not all 0"),
        ("box_class_weights", (1, 2, -1), ValueError, r".*for each class, not all 0"),
        ("box_class_weights", 2, TypeError, r".*for each class, not all 0"),
        ("dropout", 1.0, ValueError, r"a number in \[0, 1\)"),
        ("anchor_offset", 1.5, ValueError, r"a number in \[0, 1\]"),
        ("image_mean", (0.5, 0.5), ValueError, "3 numbers"),
        ("image_std", (1, 1, 0), ValueError, r"3 numbers in \[0\.001, 1000\]"),
        ("bbox_reg_weights", (10, 10, 5), ValueError, r"4 numbers in \[1e-6, 1e6\]"),
        ("bbox_reg_weights", (10, 10, 5, -5), ValueError, r"4 numbers in \[1e-6, 1e6\]"),
        ("min_size", 1334, ValueError, r"at most max_size \(1333\)"),
        ("rpn_bg_iou_thresh", 0.8, ValueError, r"at most rpn_fg_iou_thresh \(0.7\)"),
        ("box_bg_iou_thresh", 0.6, ValueError, r"at most box_fg_iou_thresh \(0.5\)"),
        ("class_names", "abc", TypeError, NAMES),
        ("class_names", ("background", 1, 2), TypeError, NAMES),
        ("class_names", ("background", "a"), ValueError, "3 names, one per class .num_classes., starting with the"),
        ("class_names", ("background", "a", "a"), ValueError, NAMES),
    ],
)
def test_errors_name_the_field_the_value_and_what_is_allowed(field, value, error, allowed):
    with pytest.raises(error, match=f"^{field} must be {allowed}.*, got ") as caught:
        make(**{field: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "field, value",
    [
        ("sampling_ratio", 0),
        ("canonical_level", 0),
        ("rpn_nms_thresh", 1),
        ("box_score_thresh", 0),
        ("dropout", 0),
        ("min_size", 1333),
        ("num_classes", 2),
        ("box_bg_iou_thresh", 0.5),
        ("anchor_sizes", (2,)),
    ],
)
def test_the_ends_of_a_range_are_allowed(field, value):
    assert getattr(make(**{field: value}), field) == value


@pytest.mark.parametrize(
    "field, given, kept",
    [
        ("anchor_sizes", [16, 32.5], (16, 32.5)),
        ("anchor_sizes", [[16], [32, 64]], ((16,), (32, 64))),
        ("anchor_sizes", np.array([16, 32]), (16, 32)),
        ("anchor_sizes", np.array([[16, 32], [64, 128]]), ((16, 32), (64, 128))),
        ("aspect_ratios", ([0.5, 1], [2, 3]), ((0.5, 1), (2, 3))),
        ("aspect_ratios", (ratio for ratio in (1, 2)), (1, 2)),
        ("anchor_stride", np.float32(16), 16.0),
        ("anchor_stride", [4, 8], (4, 8)),
        ("pool_size", [np.int64(5), 6], (5, 6)),
        ("hidden_dim", np.int32(64), 64),
        ("rpn_nms_thresh", np.float64(0.6), 0.6),
        ("image_mean", np.zeros(3), (0.0, 0.0, 0.0)),
        ("class_names", ["background", "a", "b"], ("background", "a", "b")),
        ("box_class_weights", [1, 2.5, 0], (1, 2.5, 0)),
    ],
)
def test_sequences_and_numpy_scalars_are_normalised(field, given, kept):
    value = getattr(make(**{field: given}), field)
    assert value == kept
    assert json.loads(json.dumps(value)) == json.loads(json.dumps(kept))


def test_settings_survive_json():
    config = make(
        use_fpn=True,
        anchor_sizes=[[8, 16], [32, 64]],
        aspect_ratios=[1.0, 3.0],
        anchor_stride=np.array([4, 8]),
        pool_size=[3, 5],
        hidden_dim=np.int64(32),
        dropout=np.float32(0.25),
        class_names=["nothing", "cat", "dog"],
    )
    settings = json.loads(json.dumps(config.settings()))
    assert list(settings) == FIELDS[1:]
    again = FasterRCNNConfig(config.backbone, **settings)
    assert again.settings() == config.settings()
    assert again.anchor_sizes == ((8, 16), (32, 64))
    assert again.anchor_stride == (4, 8)


def test_settings_are_checked_without_a_network():
    assert check_settings({"pool_size": [5, 5], "dropout": 0}) == {"pool_size": (5, 5), "dropout": 0.0}
    with pytest.raises(TypeError, match="^hidden_dim must be an integer of at least 1 and at most 32768, got 'a'"):
        check_settings({"hidden_dim": "a"})
    with pytest.raises(ValueError, match="^class_names must be 2 names, one per class"):
        check_settings({"class_names": ["background"], "num_classes": 2})
    with pytest.raises(ValueError, match="^box_class_weights must be 2 numbers, one per class"):
        check_settings({"box_class_weights": [1, 1, 1], "class_names": ["background", "cat"]})


def test_settings_that_depend_on_each_other_are_compared_if_both_are_given():
    assert check_settings({"max_size": 200}) == {"max_size": 200}
    with pytest.raises(ValueError, match=r"^min_size must be at most max_size \(200\), got 201$"):
        check_settings({"max_size": 200, "min_size": 201})
