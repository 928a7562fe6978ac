"""The forecast of the duration of a run."""

from rcnn import data, train
from rcnn.train import Recipe, forecast
from rcnn.zoo.detectors import faster_rcnn_small


def test_forecasts_by_hand() -> None:
    recipe = Recipe(steps=110, batch_size=4, val_every=25)
    assert forecast.forecast(0.5, 10, recipe, 0) == "the other 100 steps will take about 50 seconds"
    line = forecast.forecast(3.0, 10, recipe, 16)  # 100 steps, and 5 validations of 4 batches, which cost 10 steps
    assert line == "the other 100 steps and 5 validations will take about 6 minutes"
    line = forecast.forecast(60.0, 60, Recipe(steps=110, accumulate=2), 4)
    assert line == "the other 50 steps and 1 validation will take about 50 minutes"


def test_durations_in_words() -> None:
    durations = {0.2: "1 second", 1.4: "1 second", 89: "89 seconds", 91: "2 minutes", 5399: "90 minutes"}
    assert {seconds: forecast.duration(seconds) for seconds in durations} == durations
    assert forecast.duration(3600 * 30) == "30.0 hours"


def test_fit_reports_a_forecast_once() -> None:
    pages, lines = data.Shapes(2, seed=3), []
    model = faster_rcnn_small(pages.classes, min_size=32, max_size=32)
    recipe = Recipe(steps=22, batch_size=1)
    train.fit(model, pages, recipe, val=pages, progress=False, report=lines.append)
    assert len(lines) == 1 and lines[0].startswith("the other 12 steps and 1 validation will take about ")
    train.fit(model, pages, recipe.replace(steps=20), progress=False, report=lines.append)
    assert len(lines) == 1  # half of the run is over
