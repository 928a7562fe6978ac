"""The moving average of weights."""

import numpy as np
import pytest

from rcnn import data
from rcnn.train.average import WeightAverage, averaged
from rcnn.zoo.detectors import faster_rcnn_small

NAME = "roi_heads.box_predictor.cls_score.bias"


def test_average_by_hand() -> None:
    model = faster_rcnn_small(data.Shapes.classes)
    parameter = dict(model.named_parameters())[NAME]
    parameter.data[...] = 1
    average = WeightAverage(model, 0.2)
    for step, (weight, expected) in enumerate([(3, 2.8), (2.8, 2.8), (10, 8.56)]):  # d = 0.1, 2/11, 0.2
        parameter.data[...] = weight
        average.update(model, step)
        np.testing.assert_allclose(average.state[NAME], expected, rtol=1e-6)
    unchanged = set(average.state) - {NAME}
    assert all(np.array_equal(average.state[name], model.state_dict()[name]) for name in unchanged)


def test_model_has_the_average_within_the_block_only() -> None:
    model = faster_rcnn_small(data.Shapes.classes)
    average, weights = WeightAverage(model, 0.5), dict(model.named_parameters())[NAME].data
    weights[...] = 7
    with pytest.raises(KeyError), averaged(average, model):
        assert np.array_equal(weights, average.state[NAME]) and not (weights == 7).any()
        raise KeyError
    assert (weights == 7).all()
    with averaged(None, model):
        assert (weights == 7).all()
