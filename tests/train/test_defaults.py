"""The default plan of a data set, and the settings that are filled in from the data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import rcnn
from rcnn import data
from rcnn.train import defaults, plan
from rcnn.train.defaults import RECIPES
from rcnn.train.plan import Plan
from rcnn.zoo import checkpoint, download
from rcnn.zoo.detectors import faster_rcnn_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pages of shapes, wider than high, as a VOC folder; two are for validation."""
    root = tmp_path_factory.mktemp("pages") / "shapes-voc"
    data.write_voc(data.Shapes(4, size=(64, 96)), root, "train", progress=False)
    data.write_voc(data.Shapes(2, split="val", size=(64, 96)), root, "val", progress=False)
    return root


def test_drawn_data_set_has_its_own_recipe() -> None:
    """The shipped weights were trained this way: a small net from the seed, with the data set's own recipe."""
    chosen = defaults.for_dataset("digits")
    assert chosen.recipe == RECIPES["digits"] and chosen.anchors is None and not chosen.settings
    chosen = replace(chosen, recipe=chosen.recipe.replace(seed=3))
    model, left_out = defaults.resolve(chosen, chosen.load_train()).make_model()
    rcnn.seed(3)
    expected = faster_rcnn_small(data.Digits.classes)
    assert not left_out and model.config.settings() == expected.config.settings()
    assert all(
        np.array_equal(a, b) for a, b in zip(model.state_dict().values(), expected.state_dict().values(), strict=True)
    )


def test_default_plan_of_a_users_data_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    chosen = defaults.for_dataset("voc:shapes-voc")
    assert chosen.train == chosen.val == f"voc:{folder}"
    assert {name: chosen.settings[name] for name in ("min_size", "max_size")} == {"min_size": 64, "max_size": 128}
    assert chosen.settings["rpn_post_nms_top_n_test"] == defaults.PROPOSALS and chosen.anchors == "fit"
    assert chosen.recipe.steps == defaults.MIN_STEPS and chosen.recipe.val_every == defaults.MIN_STEPS // 10
    assert chosen.recipe.flip == 0.5 and chosen.recipe.scale_jitter == defaults.SCALE_JITTER
    assert chosen.recipe.ema == defaults.EMA


class Many:
    """A given number of images of one size."""

    def __init__(self, n: int, size: tuple[int, int], *classes: str) -> None:
        self.n, self.size, self.classes = n, size, ("background", *classes)

    def __len__(self) -> int:
        return self.n

    def annotation(self, index: int) -> tuple[tuple[int, int], dict[str, Any]]:
        return self.size, {}


@pytest.mark.parametrize(
    ("n", "size", "steps", "side"),
    [
        (1, (10, 20), 1200, 10),
        (400, (128, 128), 2400, 128),
        (900, (3000, 2000), 5400, 320),
        (1000, (320, 321), 6000, 320),
    ],
)
def test_steps_and_sizes_follow_the_data(
    monkeypatch: pytest.MonkeyPatch, n: int, size: tuple[int, int], steps: int, side: int
) -> None:
    monkeypatch.setattr(data, "load", lambda *_, **__: Many(n, size))
    chosen = defaults.for_dataset("voc:/x")
    assert chosen.recipe.steps == steps and chosen.settings["min_size"] == side
    shorter = defaults.for_dataset("voc:/x", steps=70)
    assert shorter == replace(chosen, recipe=replace(chosen.recipe, steps=70, val_every=7))
    large = defaults.for_dataset("voc:/x", "resnet18").recipe
    assert large.batch_size == 4 and large.steps == max(steps // 2, defaults.MIN_STEPS)


@pytest.mark.parametrize(
    ("classes", "flip"),
    [
        (("cat", "dog"), 0.5),
        (("RBC", "WBC"), 0.5),
        (("cat", "7"), 0),
        (("10", "20"), 0),
        (("a",), 0),
        (("Turn left", "stop"), 0),
    ],
)
def test_images_are_mirrored_unless_a_class_name_speaks_against_it(
    monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], flip: float
) -> None:
    monkeypatch.setattr(data, "load", lambda *_, **__: Many(5, (64, 64), *classes))
    assert defaults.for_dataset("voc:/x").recipe.flip == flip


def test_unknown_and_empty_data_sets_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="data set 'cats'"):
        defaults.for_dataset("cats")
    monkeypatch.setattr(data, "load", lambda *_, **__: Many(0, (1, 1)))
    with pytest.raises(ValueError, match="the data set is empty"):
        defaults.for_dataset("voc:/x")


def test_reader_without_a_path_does_not_mean_the_current_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data set 'voc:'"):
        defaults.for_dataset("voc:")


# ---------------------------------------------------------------------- open settings


def test_resolve_fills_in_every_setting(tmp_path: Path, folder: Path) -> None:
    chosen = Plan(f"voc:{folder}", anchors="fit", settings={"min_size": 64, "max_size": 96})
    dataset = chosen.load_train()
    resolved = defaults.resolve(chosen, dataset, progress=False)
    assert resolved.anchors is None and resolved.settings["class_names"] == tuple(dataset.classes)
    assert resolved.settings["min_size"] == 64 and resolved.settings["anchor_sizes"] != (14, 24, 40)
    assert defaults.resolve(resolved, dataset) == resolved
    plan.write(tmp_path / "run.toml", resolved)
    again = plan.read(tmp_path / "run.toml")
    assert again == resolved
    (model, _), (repeated, _) = resolved.make_model(), again.make_model()
    assert all(
        np.array_equal(a, b) for a, b in zip(model.state_dict().values(), repeated.state_dict().values(), strict=True)
    )


def test_anchors_are_fitted_to_each_level_of_a_pyramid(folder: Path) -> None:
    chosen = Plan(
        f"voc:{folder}", kind="resnet18", anchors="fit", settings={"min_size": 64, "max_size": 96, "hidden_dim": 8}
    )
    resolved = defaults.resolve(chosen, chosen.load_train(), progress=False)
    model, _ = resolved.make_model()
    assert len(model.anchor_generator.sizes) == 5 and model.config.use_fpn
    assert model.config.class_names == resolved.settings["class_names"]


def test_classes_that_differ_from_the_plan_are_an_error() -> None:
    with pytest.raises(ValueError, match="class_names are background, cat, but shapes has background, circle"):
        defaults.resolve(Plan("shapes", settings={"class_names": ("background", "cat")}), data.Shapes(1))


def test_a_plan_is_resolved_for_a_data_set_only() -> None:
    with pytest.raises(TypeError, match="^dataset must be a data set with `classes`, a length and .*; got None"):
        defaults.resolve(Plan("digits"), None)
    with pytest.raises(TypeError, match="^plan must be a Plan, got 'digits'"):
        defaults.resolve("digits", data.Digits(1))


# ---------------------------------------------------------------------- MobileNets


def classifier(path: Path, name: str) -> Path:
    """Write a file like those of torchvision's classifiers, and return its path."""
    body = rcnn.backbones.MobileNet(name)
    state = {f"features.{key}": np.ascontiguousarray(array) for key, array in body.state_dict().items()}
    path.write_bytes(safetensors.numpy.save({**state, "classifier.1.bias": np.zeros(10, np.float32)}))
    return path


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_mobilenet_is_the_one_whose_weights_are_given_or_cached(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("RCNN_CACHE", str(tmp_path))
    chosen = defaults.for_dataset(f"voc:{folder}", "mobilenet")
    assert (chosen.kind, chosen.weights_backbone) == ("mobilenet_v3_large", None)
    path = classifier(tmp_path / download.FILES[name], name)
    given = defaults.for_dataset(f"voc:{folder}", "mobilenet", weights_backbone=str(path))
    assert (given.kind, given.weights_backbone) == (name, str(path))
    monkeypatch.setitem(download.HASHES, name, download.digest(path))
    chosen = defaults.for_dataset(f"voc:{folder}", "mobilenet")
    assert (chosen.kind, chosen.weights_backbone, chosen.recipe.lr) == (name, "imagenet", defaults.RESNET_LR)
    assert (chosen.recipe.steps, chosen.recipe.batch_size) == (700, 2)
    chosen = replace(chosen, settings={**chosen.settings, "hidden_dim": 8})
    model, left_out = defaults.resolve(chosen, chosen.load_train(), progress=False).make_model()
    assert not left_out and model.backbone.name == name and model.backbone.frozen
    assert [stride for stride, _ in model.strides()] == [8, 16, 32, 64] and model.backbone.out_channels == 128
    assert [len(cell) for cell in model.anchor_generator.cells] == [3] * 4  # one fitted size on each level
    found = model.backbone.body.state_dict()
    checkpoint.load_into(body := rcnn.backbones.MobileNet(name), path)
    assert all(np.array_equal(array, found[key]) for key, array in body.state_dict().items())
    learned = [key for key, parameter in model.backbone.body.named_parameters() if parameter.requires_grad]
    assert not any(key.startswith("0.") for key in learned)  # the first stages are frozen
