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
        (
            {"name": "BigBackbone", "arguments": {}},
            "must be one of SmallBackbone, .*, MobileNetMap, got 'BigBackbone'",
        ),
        ({"arguments": {}}, "must be one of SmallBackbone, .*, MobileNetMap, got None"),
        (
            {"name": "SmallBackbone"},
            "must be one of SmallBackbone, .*, MobileNetMap, got 'SmallBackbone'",
        ),
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


def test_batch_norms_of_a_resnet_with_pyramid_are_frozen_or_learn():
    frozen, learning = backbones.ResNetFPN(18), backbones.ResNetFPN(18, eps=1e-4, batch_norm=True)
    kinds = [{type(m) for m in net.modules() if "Norm" in type(m).__name__} for net in (frozen, learning)]
    assert kinds == [{nn.FrozenBatchNorm2d}, {nn.BatchNorm2d}]
    learning.eps *= 2
    assert {m.eps for m in learning.modules() if isinstance(m, nn.BatchNorm2d)} == {2e-4}
    assert "fpn.inner_blocks.0.1.weight" in learning.state_dict()
    again = build(json.loads(json.dumps(describe(learning))))
    assert (again.batch_norm, again.eps) == (True, 2e-4)


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


# ---------------------------------------------------------------------- MobileNets


@pytest.mark.parametrize(
    "name, stages, channels, parameters",
    [
        ("mobilenet_v2", (0, 2, 4, 7, 14, 18), (32, 24, 32, 64, 160, 1280), 3_504_872 - 1_281_000),
        ("mobilenet_v3_large", (0, 2, 4, 7, 13, 16), (16, 24, 40, 80, 160, 960), 5_483_032 - 1_230_080 - 1_281_000),
    ],
)
def test_mobilenet_has_the_published_number_of_parameters(name, stages, channels, parameters):
    """These are the counts in torchvision's documentation, without the linear layers of the classifier."""
    body = backbones.MobileNet(name, range(6))
    assert sum(p.size for p in body.parameters()) == parameters
    assert (body.stages, body.channels) == (stages, channels)
    levels = body.eval()(Tensor(np.zeros((1, 3, 64, 96), np.float32)))
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3), (2, 3)]
    assert [level.shape for level in levels] == [(1, c, *size) for c, size in zip(channels, sizes, strict=True)]


@pytest.mark.parametrize("name", backbones.MOBILENETS)
def test_mobilenet_backbone_has_the_shapes_and_the_trainable_stages_of_torchvision(name):
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32))
    pyramid = backbones.mobilenet_backbone(name, trainable_layers=1)
    levels = pyramid(x)
    assert [level.shape for level in levels] == [(2, 256, 2, 3), (2, 256, 2, 3), (2, 256, 1, 2)]
    assert levels.num_extra == 1
    learned = [parameter for parameter, p in pyramid.body.named_parameters() if p.requires_grad]
    assert learned == [f"{len(pyramid.body) - 1}.0.weight"]  # the norms are frozen
    levels = backbones.mobilenet_backbone(name, returned_layers=(2, 3, 5))(x)
    assert [level.shape[2:] for level in levels] == [(8, 12), (4, 6), (2, 3), (1, 2)]
    plain = backbones.mobilenet_backbone(name, fpn=False, trainable_layers=6, frozen=False)
    assert plain(x).shape == (2, 256, 2, 3) and plain.out_channels == 256
    assert all(p.requires_grad for p in plain.parameters())
    assert [key for key in plain.state_dict() if key.startswith("1.")] == ["1.weight", "1.bias"]


def test_mobilenet_names_its_parameters_as_torchvision():
    names = list(backbones.mobilenet_backbone("mobilenet_v3_large").state_dict())
    block = ["0.0.weight", "0.1.weight", "0.1.bias", "0.1.running_mean", "0.1.running_var"]
    assert [name.removeprefix("backbone.body.") for name in names[:5]] == [f"body.{name}" for name in block]
    for name in ("4.block.1.0.weight", "4.block.2.fc1.weight", "4.block.2.fc2.bias", "4.block.3.1.running_var"):
        assert f"body.{name}" in names
    names = list(backbones.mobilenet_backbone("mobilenet_v2").state_dict())
    for name in ("1.conv.0.0.weight", "1.conv.1.weight", "1.conv.2.bias", "2.conv.3.running_mean", "18.1.bias"):
        assert f"body.{name}" in names


@pytest.mark.parametrize("name", backbones.MOBILENETS)
def test_every_parameter_of_a_mobilenet_gets_a_gradient(name):
    net = backbones.mobilenet_backbone(name, trainable_layers=6, frozen=False)
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    levels = net(Tensor(x))
    (levels[0] * levels[0]).sum().backward()
    missing = {name for name, p in net.named_parameters() if p.grad is None or not np.abs(p.grad).max() > 0}
    assert missing == {"fpn.layer_blocks.1.0.weight", "fpn.layer_blocks.1.0.bias"}  # of a level that was not used


def test_initial_weights_of_a_mobilenet():
    block = backbones.MobileNet("mobilenet_v3_large")[13].block
    np.testing.assert_allclose(block[1][0].weight.data.std(), np.sqrt(2 / (25 * 672)), rtol=0.05)  # depthwise
    np.testing.assert_allclose(block[2].fc1.weight.data.std(), np.sqrt(2 / 168), rtol=0.05)
    assert not block[2].fc1.bias.data.any() and not block[2].fc2.bias.data.any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("mobilenet_v1",), "name must be one of mobilenet_v2, mobilenet_v3_large, got 'mobilenet_v1'"),
        (("mobilenet_v2", (6,)), r"returned_layers must be stages from 0 to 5 in ascending order, got \(6,\)"),
        (("mobilenet_v2", (5, 4)), r"returned_layers must be stages .* got \(5, 4\)"),
        (("mobilenet_v2", ()), "returned_layers must be stages"),
    ],
)
def test_invalid_arguments_of_a_mobilenet_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        backbones.MobileNet(*arguments)


def test_stages_of_a_mobilenet_are_at_most_six():
    with pytest.raises(ValueError, match="trainable_layers must be .*, got 7"):
        backbones.mobilenet_backbone("mobilenet_v2", trainable_layers=7)
