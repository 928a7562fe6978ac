"""The small backbone, and the way back to it from a checkpoint's description."""

import json

import numpy as np
import pytest

from rcnn import nn
from rcnn.backbone import ResidualBlock, SmallBackbone, build, count_parameters, describe


@pytest.mark.parametrize("size, feature_size", [((64, 96), (8, 12)), ((32, 32), (4, 4)), ((33, 41), (5, 6))])
def test_it_has_stride_8(size, feature_size):
    features = SmallBackbone(out_channels=16)(nn.Tensor(np.zeros((2, 3, *size), np.float32)))
    assert features.shape == (2, 16, *feature_size)
    assert features.dtype == np.float32


def test_it_has_a_quarter_of_a_million_parameters():
    backbone = SmallBackbone()
    convolutions = 9 * (3 * 24 + 24 * 48 + 2 * 48 * 48 + 48 * 64 + 4 * 64 * 64)
    norms = 2 * (24 + 48 + 2 * 48 + 64 + 4 * 64)
    assert count_parameters(backbone) == convolutions + norms == 228_568
    assert count_parameters(nn.Conv2d(2, 3, 1)) == 2 * 3 + 3


def test_every_parameter_learns():
    backbone = SmallBackbone(out_channels=8, depth=1)
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    features = backbone(nn.Tensor(x))
    (features * features).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert np.abs(parameter.grad).max() > 0, name


def test_a_residual_block_adds_to_its_input():
    block = ResidualBlock(4).eval()
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 5)).astype(np.float32)
    block.second[0].weight.data[...] = 0
    np.testing.assert_array_equal(block(nn.Tensor(x)).data, np.maximum(x, 0))
    block.second[1].bias.data[...] = 1
    np.testing.assert_allclose(block(nn.Tensor(x)).data, np.maximum(x + 1, 0), rtol=1e-6)


def test_initialisation_keeps_the_variance():
    weight = SmallBackbone().blocks[0].first[0].weight.data  # (64, 64, 3, 3)
    np.testing.assert_allclose(weight.std(), np.sqrt(2 / (9 * 64)), rtol=0.05)
    assert abs(weight.mean()) < 0.002


def test_a_description_survives_json_and_builds_the_same_backbone():
    backbone = SmallBackbone(out_channels=24, depth=3)
    again = build(json.loads(json.dumps(describe(backbone))))
    assert type(again) is SmallBackbone
    assert {name: a.shape for name, a in again.state_dict().items()} == {
        name: a.shape for name, a in backbone.state_dict().items()}


def test_a_users_backbone_has_no_description():
    class Mine(SmallBackbone):
        pass

    assert describe(Mine()) is None
    assert describe(nn.Identity()) is None


@pytest.mark.parametrize("description, message", [
    ({"name": "BigBackbone", "arguments": {}}, "no backbone 'BigBackbone' here; there are SmallBackbone"),
    ({"arguments": {}}, "no backbone None here"),
    ({"name": "SmallBackbone"}, "no backbone 'SmallBackbone'"),
    ("SmallBackbone", "described by its name and arguments, not by 'SmallBackbone'"),
    ({"name": "SmallBackbone", "arguments": {"depth": 2}}, "SmallBackbone takes the integers out_channels, depth"),
    ({"name": "SmallBackbone", "arguments": {"depth": "2", "out_channels": 8}}, "takes the integers"),
])
def test_a_description_that_cannot_be_built_is_refused(description, message):
    with pytest.raises(ValueError, match=message):
        build(description)
