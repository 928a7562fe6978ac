"""Plans: keys and values of their TOML files, their data sets and their model."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rcnn import data
from rcnn.train import plan
from rcnn.train.plan import Plan
from rcnn.train.recipe import Recipe
from rcnn.zoo import checkpoint
from rcnn.zoo.detectors import faster_rcnn_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pages of shapes, wider than high, as a VOC folder; two are for validation."""
    root = tmp_path_factory.mktemp("pages") / "shapes-voc"
    data.write_voc(data.Shapes(4, size=(64, 96)), root, "train", progress=False)
    data.write_voc(data.Shapes(2, split="val", size=(64, 96)), root, "val", progress=False)
    return root


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


# ---------------------------------------------------------------------- files

FULL = Plan(
    "voc:/a/b",
    "coco:/c",
    {"on_error": "skip"},
    30,
    5,
    "mobilenet_v2",
    "/w.pth",
    "imagenet",
    2,
    (2, 3, 4, 5),
    16,
    None,
    {
        "min_size": 64,
        "max_size": 96,
        "anchor_sizes": ((8,), (16,), (32,), (64,), (128,)),
        "class_names": ("background", 'a ["\\', "b"),
    },
    Recipe(steps=7, schedule="steps", milestones=(3, 5), freeze=("rpn",), scale_jitter=(0.5, 1)),
)


@pytest.mark.parametrize("chosen", [Plan("shapes"), Plan("digits", anchors="fit"), FULL], ids=["least", "fit", "full"])
def test_written_plan_is_read_back(tmp_path: Path, chosen: Plan) -> None:
    plan.write(tmp_path / "run.toml", chosen)
    assert plan.read(tmp_path / "run.toml") == chosen


def test_path_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run.toml must be UTF-8 text, but got the line .*sur\\udcff.*; rename"):
        plan.write(tmp_path / "run.toml", Plan("voc:/photos/sur\udcff"))
    assert not (tmp_path / "run.toml").exists()


def test_list_is_written_on_one_line(tmp_path: Path) -> None:
    plan.write(tmp_path / "run.toml", FULL)
    lines = (tmp_path / "run.toml").read_text().splitlines()
    assert "anchor_sizes = [[8], [16], [32], [64], [128]]" in lines and "milestones = [3, 5]" in lines


def test_missing_keys_get_the_defaults(tmp_path: Path) -> None:
    assert plan.read(text(tmp_path / "a.toml", '[data]\ntrain = "shapes"\n')) == Plan("shapes")


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes('\ufeff[data]\r\ntrain = "voc:fünf"\r\n'.encode())
    assert plan.read(tmp_path / "a.toml") == Plan(f"voc:{tmp_path / 'fünf'}")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    read = plan.read(
        text(
            tmp_path / "plans" / "a.toml",
            """
        data = {train = "voc:../photos", val = "csv:/abs/val.csv"}
        model = {kind = "resnet18", weights = "w.pth", weights_backbone = "imagenet"}""",
        )
    )
    assert read.train == f"voc:{tmp_path / 'photos'}" and read.val == "csv:/abs/val.csv"
    assert read.weights == str(tmp_path / "plans" / "w.pth") and read.weights_backbone == "imagenet"


@pytest.mark.parametrize(("spec", "expected"), [("csv:a.csv", "/b/photos"), ("masks:a", "../photos")])
def test_images_option_is_a_path_except_for_masks(tmp_path: Path, spec: str, expected: str) -> None:
    (tmp_path / "a.toml").write_text(f'data = {{train = "{spec}", options = {{images = "../photos"}}}}')
    found = plan.read(tmp_path / "a.toml").options["images"]
    assert found == expected.replace("/b", str(tmp_path.parent))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[data", "Expected ']'"),
        ("", r"section \[data\] has no key \"train\""),
        ('[date]\ntrain = "x"', "the file: unknown key 'date'; allowed keys are data, model, recipe"),
        ('data = "shapes"', r"\[data\] must be a table, got 'shapes'"),
        ('[data]\ntrian = "x"', r"\[data\]: unknown key 'trian'; allowed keys are train, val, options"),
        ("[data]\ntrain = 3", r"\[data\] train must be a string, got 3"),
        ('[data]\ntrain = "x"\nval = true', r"\[data\] val must be a string, got True"),
        ('[data]\ntrain = "x"\noptions = 1', r"\[data\] options must be a table, got 1"),
        (
            '[data]\ntrain = "x"\nval_images = "all"',
            r"\[data\] val_images must be an integer of at least 1 and at most 10000000, got 'all'",
        ),
        (
            '[data]\ntrain = "x"\ntrain_images = 0',
            r"\[data\] train_images must be an integer of at least 1 and at most 10000000, got 0",
        ),
        ('[data]\ntrain = "x"\n[model]\nkind = "big"', r"\[model\] kind must be one of small, resnet18, .*, got 'big'"),
        (
            '[data]\ntrain = "x"\n[model]\nminsize = 3',
            r"\[model\]: unknown key 'minsize'; allowed keys are min_size, .* and \d+ more$",
        ),
        (
            '[data]\ntrain = "x"\n[model]\nmin_size = "a"',
            r"\[model\] min_size must be an integer of at least 1 and at most 16384, got 'a'",
        ),
        (
            '[data]\ntrain = "x"\n[model]\nclass_names = 3',
            r"\[model\] class_names must be None, or a unique name",
        ),
        ('[data]\ntrain = "x"\n[model]\nnum_classes = 3', r"\[model\]: unknown key 'num_classes'"),
        (
            '[data]\ntrain = "x"\n[model]\nanchors = "auto"',
            r"\[model\] anchors must be 'fit' or left out, got 'auto'",
        ),
        ('[data]\ntrain = "x"\n[model]\nanchors = "fit"\nanchor_sizes = [9]', "remove these keys"),
        ('[data]\ntrain = "x"\n[model]\ntrainable_backbone_layers = 2', 'have no effect if kind is "small"'),
        ('[data]\ntrain = "x"\n[model]\nreturned_layers = [3, 5]', "have an effect only if kind is a MobileNet"),
        (
            '[data]\ntrain = "x"\n[model]\nkind = "mobilenet_v2"\nreturned_layers = [5, 3]',
            r"\[model\] returned_layers must be stages from 0 to 5 in ascending order, got \[5, 3\]",
        ),
        (
            '[data]\ntrain = "x"\n[model]\nkind = "resnet18"\ntrainable_backbone_layers = 6',
            r"\[model\] trainable_backbone_layers must be an integer from 0 to 5 for a ResNet, got 6",
        ),
        (
            '[data]\ntrain = "x"\n[model]\nmin_size = 9\nmax_size = 8',
            r"\[model\] min_size must be at most max_size \(8\), got 9",
        ),
        (
            '[data]\ntrain = "x"\n[recipe]\nstepz = 3',
            r"\[recipe\]: unknown key 'stepz'; allowed keys are steps, batch_size",
        ),
        (
            '[data]\ntrain = "x"\n[recipe]\nsteps = 0',
            r"\[recipe\] steps must be an integer of at least 1 and at most 100000000, got 0",
        ),
        (
            '[data]\ntrain = "x"\n[recipe]\nsteps = "a"',
            r"\[recipe\] steps must be an integer of at least 1 and at most 100000000, got 'a'",
        ),
    ],
)
def test_wrong_keys_and_values_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = text(tmp_path / "a.toml", content)
    with pytest.raises(ValueError, match=rf"^{path}: .*{message}"):
        plan.read(path)


def test_wrong_types_and_wrong_values_are_named() -> None:
    with pytest.raises(TypeError, match=r"^\[data\] train must be a string, got 3 \(int\)$"):
        Plan(3)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^\[model\] hidden_dim must be an integer of at least 1 and .*, got 'a' \(str\)$"
    ):
        Plan("shapes", settings={"hidden_dim": "a"})
    with pytest.raises(ValueError, match=r"^\[model\] dropout must be a number in \[0, 1\), got 1$"):
        Plan("shapes", settings={"dropout": 1})


def test_settings_are_checked_without_the_defaults_of_the_config() -> None:
    """The small net's min_size is below the config's default, so a small max_size is valid."""
    assert Plan("shapes", settings={"max_size": 200}).settings == {"max_size": 200}


# ---------------------------------------------------------------------- data and model


def test_weights_of_other_shapes_are_skipped(tmp_path: Path) -> None:
    other = faster_rcnn_small(("background", "cat"))
    checkpoint.save(tmp_path / "cat.safetensors", other)
    chosen = Plan("shapes", weights=str(tmp_path / "cat.safetensors"), settings={"class_names": data.Shapes.classes})
    model, left_out = chosen.make_model()
    assert {name.rsplit(".", 1)[0] for name in left_out} == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
    }
    np.testing.assert_array_equal(model.rpn.head.cls_logits.weight.data, other.rpn.head.cls_logits.weight.data)


RESNET = Plan("shapes", kind="resnet18", settings={"hidden_dim": 8, "class_names": data.Shapes.classes})


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a ResNet's weights."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    checkpoint.save(path, RESNET.make_model()[0])
    return path


@pytest.mark.parametrize(
    ("layers", "frozen"), [(None, {"conv1", "layer1"}), (1, {"conv1", "layer1", "layer2", "layer3"}), (5, set())]
)
def test_early_stages_of_a_pretrained_resnet_are_frozen(resnet: Path, layers: int | None, frozen: set[str]) -> None:
    model, _ = replace(RESNET, weights=str(resnet), trainable_backbone_layers=layers).make_model()
    names = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    assert names == frozen


def test_version_2_of_the_resnet_detector() -> None:
    model, _ = replace(RESNET, kind="resnet50_v2", trainable_backbone_layers=3).make_model()
    assert (model.config.box_num_convs, model.backbone.layers, model.backbone.batch_norm) == (4, 50, True)


def test_pyramid_of_a_mobilenet_is_chosen() -> None:
    chosen = replace(RESNET, kind="mobilenet_v2", returned_layers=(2, 5), out_channels=16)
    model, _ = chosen.make_model()
    assert ([stride for stride, _ in model.strides()], model.backbone.out_channels) == ([8, 32, 64], 16)


def test_number_of_images_is_limited(folder: Path) -> None:
    chosen = Plan(f"voc:{folder}", f"voc:{folder}", {"on_error": "skip"}, train_images=3, val_images=1)
    val = chosen.load_val()
    assert len(chosen.load_train()) == 3 and val is not None and len(val) == 1
    assert Plan("shapes").load_val() is None


# ---------------------------------------------------------------------- size and depth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "{b=" * 5_000 + "1" + "}" * 5_000, "nested too deeply"),
        ("a." * 100_000 + "a = 1", "a key has 100000 dots; at most 20 are allowed"),
        ("[" + "a." * 100_000 + "a]", "dots"),
        ('"a".' * 100_000 + "a = 1", "dots"),
        ("a = 1 # '\n" + "a." * 100_000 + "a = '1'", "dots"),
        ('x = {b = """ " """, ' + "a." * 100_000 + 'a = ""}', "dots"),
        ("x = {b = ''' ' ''', " + "a." * 100_000 + "a = ''}", "dots"),
        ("a" * 100_000 + " = 1", "unknown key 'aa"),
        ("[recipe]\nsteps = " + "9" * 5_000, "limit"),
    ],
)
def test_deep_and_long_plans_are_refused_quickly(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ValueError, match=f"a.toml: .*{message}") as error:
        plan.read(tmp_path / "a.toml")
    assert len(str(error.value)) < 500


def test_strings_may_contain_dots(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"[data]\ntrain = 'voc:/{'a.' * 100}' # {'b.' * 100}")
    assert plan.read(tmp_path / "a.toml").train == f"voc:/{'a.' * 100}"


def test_large_plans_are_refused(tmp_path: Path) -> None:
    with open(tmp_path / "a.toml", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="a.toml has 1,099,511,627,776 bytes, but the limit"):
        plan.read(tmp_path / "a.toml")


def test_special_files_are_not_plans(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(OSError, match="a.toml is a pipe"):
        plan.read(tmp_path / "a.toml")


@pytest.mark.parametrize("settings", ["", None, 5, [("min_size", 8)]], ids=repr)
def test_settings_must_be_a_mapping(settings):
    for anchors in (None, "fit"):
        with pytest.raises(TypeError, match=r"^\[model\] settings must be a table, got "):
            Plan("digits", anchors=anchors, settings=settings)
