"""The feature pyramid: its sums, the names of its parameters, and its extra level."""

import numpy as np
import pytest

from rcnn import nn
from rcnn.fpn import FPN, BackboneWithFPN, Pyramid


def with_identity_convolutions(fpn):
    """Return the pyramid with convolutions that return their input."""
    for block in fpn.inner_blocks + fpn.layer_blocks:
        weight = block[0].weight.data
        weight[...] = 0
        middle = weight.shape[2] // 2
        weight[:, :, middle, middle] = np.eye(len(weight))
    return fpn


def maps(*sizes, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return [nn.Tensor(rng.standard_normal((1, channels, *size)).astype(np.float32)) for size in sizes]


def test_coarse_levels_are_enlarged_and_added_to_finer_ones():
    fine, middle, coarse = maps((10, 6), (5, 3), (3, 2))  # odd sizes: 3 rows become 5
    out = with_identity_convolutions(FPN((2, 2, 2), 2))([fine, middle, coarse])
    enlarged = coarse.data[:, :, [0, 0, 1, 1, 2]][..., [0, 0, 1]]  # nearest: floor(i * 3 / 5), floor(i * 2 / 3)
    merged = middle.data + enlarged
    np.testing.assert_array_equal(out[2].data, coarse.data)
    np.testing.assert_allclose(out[1].data, merged, rtol=1e-6)
    merged = fine.data + merged.repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(out[0].data, merged, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(
        out[3].data, coarse.data[:, :, ::2, ::2]
    )  # the extra level: every second row and column


@pytest.mark.parametrize("extra, levels", [(True, 3), (False, 2)])
def test_the_extra_level_is_counted(extra, levels):
    out = FPN((2, 3), 4, extra_max_pool=extra)([*maps((8, 8)), *maps((4, 4), channels=3)])
    assert isinstance(out, Pyramid)
    assert len(out) == levels
    assert out.num_extra == levels - 2
    assert [level.shape for level in out] == [(1, 4, 8, 8), (1, 4, 4, 4), (1, 4, 2, 2)][:levels]


def test_a_pyramid_of_a_plain_list_has_no_extra_level():
    levels = maps((4, 4), (2, 2))
    assert list(Pyramid(levels)) == levels
    assert Pyramid(levels).num_extra == 0


def test_parameters_match_torchvision():
    shapes = {name: array.shape for name, array in FPN((2, 3), 4).state_dict().items()}
    assert shapes == {
        "inner_blocks.0.0.weight": (4, 2, 1, 1),
        "inner_blocks.0.0.bias": (4,),
        "inner_blocks.1.0.weight": (4, 3, 1, 1),
        "inner_blocks.1.0.bias": (4,),
        "layer_blocks.0.0.weight": (4, 4, 3, 3),
        "layer_blocks.0.0.bias": (4,),
        "layer_blocks.1.0.weight": (4, 4, 3, 3),
        "layer_blocks.1.0.bias": (4,),
    }


def test_norms_replace_the_biases():
    fpn = FPN((2, 3), 4, norm=nn.BatchNorm2d)
    names = list(fpn.state_dict())
    assert names[:5] == [
        "inner_blocks.0.0.weight",
        "inner_blocks.0.1.weight",
        "inner_blocks.0.1.bias",
        "inner_blocks.0.1.running_mean",
        "inner_blocks.0.1.running_var",
    ]
    assert len(names) == 20 and not any(name.endswith("0.bias") for name in names)
    fpn.eval()
    levels = [*maps((8, 8)), *maps((4, 4), channels=3)]
    plain = fpn(levels)
    fpn.layer_blocks[1][1].bias.data += 1
    shifted = fpn(levels)
    np.testing.assert_array_equal(shifted[0].data, plain[0].data)
    np.testing.assert_allclose(shifted[1].data, plain[1].data + 1, rtol=1e-6, atol=1e-6)


def test_initialisation_is_kaiming_uniform():
    for name, array in FPN((32, 32), 32).state_dict().items():
        if name.endswith("bias"):
            assert not array.any()
        else:
            bound = np.sqrt(3 / np.prod(array.shape[1:]))  # a=1: variance 1 / fan_in
            assert 0.98 * bound < np.abs(array).max() <= bound
            np.testing.assert_allclose(array.std(), bound / np.sqrt(3), rtol=0.1)


def test_a_wrong_number_of_levels_is_rejected():
    with pytest.raises(ValueError, match="must have 3 feature maps, one per level, got 2"):
        FPN((2, 2, 2), 2)(maps((8, 8), (4, 4)))


class Body(nn.Module):
    def __init__(self):
        self.first, self.second = nn.Conv2d(3, 2, 3, stride=4, padding=1), nn.Conv2d(2, 3, 3, stride=2, padding=1)

    def forward(self, x):
        fine = self.first(x)
        return [fine, self.second(fine)]


def test_every_parameter_of_a_backbone_with_pyramid_gets_a_gradient():
    backbone = BackboneWithFPN(Body(), (2, 3), 4)
    out = backbone(*maps((32, 32), channels=3))
    assert [level.shape for level in out] == [(1, 4, 8, 8), (1, 4, 4, 4), (1, 4, 2, 2)]
    sum(((level * level).sum() for level in out), start=nn.Tensor(np.zeros((), np.float32))).backward()
    for name, parameter in backbone.named_parameters():
        assert name.startswith(("body.", "fpn."))
        assert np.abs(parameter.grad).max() > 0, name
