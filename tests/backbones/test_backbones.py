"""The backbones, and their restoration from the description in a checkpoint."""

import json

import numpy as np
import pytest

from rcnn import backbones, nn
from rcnn.backbones import ResidualBlock, SmallBackbone
from rcnn.nn import Tensor
from rcnn.zoo.checkpoint import build_backbone as build
from rcnn.zoo.checkpoint import describe_backbone as describe


@pytest.mark.parametrize("size, feature_size", [((64, 96), (8, 12)), ((32, 32), (4, 4)), ((33, 41), (5, 6))])
def test_small_backbone_has_stride_8(size, feature_size):
    features = SmallBackbone(out_channels=16)(nn.Tensor(np.zeros((2, 3, *size), np.float32)))
    assert features.shape == (2, 16, *feature_size)
    assert features.dtype == np.float32


def test_small_backbone_has_a_quarter_of_a_million_parameters():
    backbone = SmallBackbone()
    convolutions = 9 * (3 * 24 + 24 * 48 + 2 * 48 * 48 + 48 * 64 + 4 * 64 * 64)
    norms = 2 * (24 + 48 + 2 * 48 + 64 + 4 * 64)
    assert sum(p.size for p in backbone.parameters()) == convolutions + norms == 228_568


def test_every_parameter_gets_a_gradient():
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
        name: a.shape for name, a in backbone.state_dict().items()
    }


def test_a_users_backbone_has_no_description():
    class Mine(SmallBackbone):
        pass

    assert describe(Mine()) is None
    assert describe(nn.Identity()) is None


@pytest.mark.parametrize(
    "description, message",
    [
        ({"name": "BigBackbone", "arguments": {}}, "must be one of SmallBackbone, ResNetFPN, got 'BigBackbone'"),
        ({"arguments": {}}, "must be one of SmallBackbone, ResNetFPN, got None"),
        ({"name": "SmallBackbone"}, "must be one of SmallBackbone, ResNetFPN, got 'SmallBackbone'"),
        ("SmallBackbone", "must be a dict of name and arguments, got 'SmallBackbone'"),
        ({"name": "SmallBackbone", "arguments": {"depth": 2}}, "of SmallBackbone must be out_channels, depth"),
        (
            {"name": "SmallBackbone", "arguments": {"depth": "2", "out_channels": 8}},
            "depth must be an integer .*, got '2'",
        ),
    ],
)
def test_an_invalid_description_is_rejected(description, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build(description)


# ---------------------------------------------------------------------- ResNets


@pytest.mark.parametrize(
    "layers, channels, parameters",
    [
        (18, (64, 128, 256, 512), 11_689_512),
        (34, (64, 128, 256, 512), 21_797_672),
        (50, (256, 512, 1024, 2048), 25_557_032),
        (101, (256, 512, 1024, 2048), 44_549_160),
    ],
)
def test_resnet_has_the_published_number_of_parameters(layers, channels, parameters):
    """These are the counts in torchvision's documentation, for 1000 classes."""
    net = backbones.ResNet(layers, num_classes=1000)
    assert sum(p.size for p in net.parameters()) == parameters
    assert net.channels == channels


def test_resnet_body_returns_four_levels_and_classifier_logits():
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32))
    body, classifier = backbones.resnet18().eval(), backbones.resnet18(num_classes=10).eval()
    assert [level.shape for level in body(x)] == [(2, 64 * 2**i, 64 // 4 // 2**i, 96 // 4 // 2**i) for i in range(4)]
    body.load_state_dict(classifier.state_dict())  # a body skips the classifier's last layer
    logits = body(x)[-1].data.mean(axis=(2, 3)) @ classifier.fc.weight.data.T + classifier.fc.bias.data
    np.testing.assert_allclose(classifier(x).data, logits, rtol=1e-4, atol=1e-5)


def test_resnet_freezes_its_first_stages():
    net = backbones.resnet18()
    net.freeze(5)
    assert all(p.requires_grad for p in net.parameters())
    net.freeze(1)
    net.eval()
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad} == {"layer4"}
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32))
    net(x)[-1].sum().backward()
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None} == {"layer4"}


def test_resnet_of_an_unknown_depth_is_rejected():
    with pytest.raises(ValueError, match="layers must be one of 18, 34, 50, 101, got 20"):
        backbones.ResNet(20)


def test_frozen_resnet_has_no_trainable_batch_norm():
    frozen, learned = backbones.resnet18(frozen=True, eps=0.1), backbones.resnet18()
    assert frozen.eps == 0.1 and learned.eps == 1e-5
    assert list(frozen.state_dict()) == list(learned.state_dict())
    assert not any("bn" in name for name, _ in frozen.named_parameters())
    assert any("bn" in name for name, _ in learned.named_parameters())
