"""`Plan`: the data, the model and the recipe of a training run, and the TOML file that stores them.

`rcnn.train.defaults` creates the default plan for a data set. This is an example of the TOML file:

[data]
train = "voc:photos"        # in a form that `rcnn.data.load` accepts; paths are relative to the folder of this file
val = "voc:photos"          # uses the val split; without this line, there is no validation
options = {}                # options for the reader of the data sets

[model]
kind = "small"              # or resnet18, resnet34, resnet50, resnet101, resnet50_v2, mobilenet_v2, mobilenet_v3_large
anchors = "fit"             # chooses anchors from the data; without this line, the model uses its defaults
min_size = 256              # any other setting of `FasterRCNNConfig` is allowed, too

[recipe]
steps = 2000                # any other field of `Recipe` is allowed, too
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w

from rcnn import data
from rcnn._files import read_text, write_text
from rcnn._validate import (
    STRING,
    Rule,
    as_integer,
    as_string,
    as_table,
    check_keys,
    integer,
    normalise_fields,
    one_of,
    optional,
)
from rcnn.backbones import MOBILENETS
from rcnn.backbones.mobilenet import RETURNED_LAYERS
from rcnn.config import FasterRCNNConfig, check_settings
from rcnn.data import Dataset
from rcnn.model import FasterRCNN
from rcnn.nn.random import seed
from rcnn.train.recipe import Recipe
from rcnn.zoo import checkpoint, download
from rcnn.zoo.detectors import (
    RESNETS,
    TRAINABLE_STAGES,
    faster_rcnn_mobilenet_fpn,
    faster_rcnn_resnet_50_fpn_v2,
    faster_rcnn_resnet_fpn,
    faster_rcnn_small,
)

V2 = "resnet50_v2"
KINDS = ("small", *RESNETS, V2, *MOBILENETS)
FIT = "fit"
NAMED_WEIGHTS = (*download.DETECTORS, "imagenet")  # these values are names, not paths
TABLES = ("data", "model", "recipe")
TABLE = Rule("a table", as_table)
MAX_IMAGES = 10_000_000
MAX_TOML = 1 << 22  # largest size of a plan in bytes, enough for tens of thousands of class names
MAX_DOTS = 20  # largest number of dots in a key; a TOML parser's time grows with the square of this number
DATA_RULES = {
    "train": STRING,
    "val": optional(STRING),
    "options": TABLE,
    "train_images": optional(integer(1, MAX_IMAGES)),
    "val_images": optional(integer(1, MAX_IMAGES)),
}
MODEL_RULES = {
    "kind": one_of(KINDS),
    "anchors": optional(Rule(f"{FIT!r} or left out", as_string, lambda value: value == FIT)),
    "weights": optional(STRING),
    "weights_backbone": optional(STRING),
    "trainable_backbone_layers": optional(Rule("an integer from 0 to 6", as_integer, lambda x: 0 <= x <= 6)),
    "returned_layers": optional(RETURNED_LAYERS),
    "out_channels": optional(checkpoint.CHANNELS),
}
STRUCTURE = ("backbone", "feat_channels", "num_classes", "use_fpn")  # these fields follow from `kind` and the data set
SETTINGS = tuple(f.name for f in dataclasses.fields(FasterRCNNConfig) if f.name not in STRUCTURE)
ARRAY = re.compile(r"\[\n((?: +[^\s\]][^\n]*,\n)+) *\]")  # one item per line, as tomli_w writes it
STRING_OR_COMMENT = re.compile(
    r"""
    \"{3} (?: [^"\\] | \\. | \"(?!\"\") )*+ \"{3,5} | '{3} (?: [^'] | '(?!'') )*+ '{3,5}  # multi-line
    | \" (?: [^"\\\n] | \\. )*+ \" | ' [^'\n]*+ '
    | \# [^\n]*+
    """,
    re.VERBOSE | re.DOTALL,
)
HEADER = "# The plan of a training run. Start it with `rcnn train THIS_FILE`; rcnn.train.plan explains the settings.\n"


@dataclass(frozen=True)
class Plan:
    """Description of a training run. Two runs with the same plan, files and rcnn version are bit-identical.

    Attributes
    ----------
    train, val : str
        The data sets for training and validation, in a form that `rcnn.data.load` accepts. The train split of `train`
        and the val split of `val` are loaded. Without `val`, there is no validation.
    options : mapping
        Options for the reader of the data sets.
    train_images, val_images : int or None
        Number of images to use, starting from the first image, at most 10,000,000. With None, all images are used.
    kind : str
        The model, one of `KINDS`.
    weights : str or None
        Initial weights of the detector: a file or a name, as for `rcnn.load_detector`. Weights whose shapes do not
        match, for example because the classes differ, are skipped.
    weights_backbone : str or None
        Initial weights of the ResNet or MobileNet alone: a file or "imagenet".
    trainable_backbone_layers : int or None
        Number of trainable stages of a ResNet (at most 5) or a MobileNet (at most 6).
    returned_layers : tuple of int or None
        The stages of a MobileNet from which its pyramid is made. None means (4, 5), as in torchvision.
    out_channels : int or None
        Number of channels of the pyramid of a MobileNet. None means 256.
    anchors : str or None
        With "fit", anchor_sizes and aspect_ratios are chosen to fit the training data. With None, they are taken from
        `settings`.
    settings : mapping
        Values of fields of `FasterRCNNConfig`, by the name of the field, such as {"min_size": 256}. All other fields
        have the default values for the kind of model.
    recipe : Recipe
        The settings of the training.

    Raises
    ------
    TypeError, ValueError
        If a value is invalid. The message names the key, the value and what is allowed.
    """

    train: str
    val: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    train_images: int | None = None
    val_images: int | None = None
    kind: str = "small"
    weights: str | None = None
    weights_backbone: str | None = None
    trainable_backbone_layers: int | None = None
    returned_layers: tuple[int, ...] | None = None
    out_channels: int | None = None
    anchors: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        normalise_fields(self, DATA_RULES, "[data] ")
        normalise_fields(self, MODEL_RULES, "[model] ")
        if self.kind not in MOBILENETS and (self.returned_layers, self.out_channels) != (None, None):
            raise ValueError("[model] returned_layers and out_channels have an effect only if kind is a MobileNet")
        if self.kind == "small" and (self.weights_backbone, self.trainable_backbone_layers) != (None, None):
            raise ValueError('[model] weights_backbone and trainable_backbone_layers have no effect if kind is "small"')
        if self.kind not in MOBILENETS and self.trainable_backbone_layers == 6:
            raise ValueError("[model] trainable_backbone_layers must be an integer from 0 to 5 for a ResNet, got 6")
        object.__setattr__(self, "settings", TABLE.check("[model] settings", self.settings))
        if self.anchors == FIT and {"anchor_sizes", "aspect_ratios"} & self.settings.keys():
            raise ValueError(f"[model] anchors = {FIT!r} chooses anchor_sizes and aspect_ratios; remove these keys")
        check_keys(self.settings, SETTINGS, "[model]")
        with _prefixed("[model]"):
            object.__setattr__(self, "settings", check_settings(self.settings))

    # ------------------------------------------------------------------ data and model

    def load_train(self) -> Dataset:
        """Return the training data set.

        Returns
        -------
        Dataset
            The train split of `train`.
        """
        return _load(self.train, "train", self.train_images, self.options)

    def load_val(self) -> Dataset | None:
        """Return the validation data set.

        Returns
        -------
        Dataset or None
            The val split of `val`; None if the plan has no validation data.
        """
        return None if self.val is None else _load(self.val, "val", self.val_images, self.options)

    def make_model(self) -> tuple[FasterRCNN, list[str]]:
        """Return the initial model, and the names of the weights that were skipped.

        The plan must have class names. The function first sets the library's random generator to the seed of the
        recipe, and then draws the random weights.

        Returns
        -------
        model : FasterRCNN
            The model.
        left_out : list of str
            Names of the parameters and buffers that were skipped, because their shapes differ from those in `weights`.

        Raises
        ------
        CheckpointError, DownloadError, OSError
            If the weights belong to another model, or if they cannot be downloaded or read.
        """
        seed(self.recipe.seed)
        model = self._make_small() if self.kind == "small" else self._make_with_pyramid()
        if self.weights is None:
            return model, []
        return model, list(checkpoint.load_into(model, self.weights, skip_mismatched=True).left_out)

    def _make_small(self) -> FasterRCNN:
        settings = dict(self.settings)
        return faster_rcnn_small(settings.pop("class_names"), **settings)

    def _make_with_pyramid(self) -> FasterRCNN:
        settings: dict[str, Any] = {"weights_backbone": self.weights_backbone, **self.settings}
        settings["trainable_backbone_layers"] = self.trainable_backbone_layers
        if self.trainable_backbone_layers is None and self.weights is not None:
            settings["trainable_backbone_layers"] = TRAINABLE_STAGES
        make: Callable[..., FasterRCNN]
        if self.kind in MOBILENETS:
            make = partial(faster_rcnn_mobilenet_fpn, backbone=self.kind)
            settings["frozen"] = self.weights is not None or self.weights_backbone is not None
            layout = {"returned_layers": self.returned_layers, "out_channels": self.out_channels}
            settings |= {name: value for name, value in layout.items() if value is not None}
        elif self.kind == V2:
            make = faster_rcnn_resnet_50_fpn_v2
        else:
            make = partial(faster_rcnn_resnet_fpn, backbone=self.kind)
        return make(len(self.settings["class_names"]), **settings)


def _load(spec: str, split: str, count: int | None, options: Mapping[str, Any]) -> Dataset:
    return data.load(spec, split, count, options=options) if options else data.load(spec, split, count)


# ---------------------------------------------------------------------- files


def read(path: str | os.PathLike[str]) -> Plan:
    """Read a plan from a TOML file, and make its paths absolute.

    Parameters
    ----------
    path : path
        The TOML file.

    Returns
    -------
    Plan
        The plan.

    Raises
    ------
    OSError
        If the file is not a regular file, or cannot be read.
    ValueError
        If the file is larger than 4 MiB, if the text is not TOML or is nested too deeply, if a key is unknown (the
        message lists the known keys), or if a value is invalid. The message starts with the path of the file.
    """
    text = read_text(path, MAX_TOML)
    try:
        _check_dots(text)
        return _from_tables(tomllib.loads(text), Path(os.path.abspath(path)).parent)
    except RecursionError as error:
        raise ValueError(f"{path}: its values are nested too deeply") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _check_dots(text: str) -> None:
    """Raise ValueError if the text contains a key with more than MAX_DOTS dots, such as a.b.c.d."""
    for piece in re.split(r"[\n=,\[\]{}]", STRING_OR_COMMENT.sub("", text)):
        if piece.count(".") > MAX_DOTS:
            raise ValueError(f"a key has {piece.count('.')} dots; at most {MAX_DOTS} are allowed")


def write(path: str | os.PathLike[str], plan: Plan) -> None:
    """Write a plan to a TOML file atomically. Fields that are None are omitted.

    Parameters
    ----------
    path : path
        The file to write.
    plan : Plan
        The plan.
    """
    text = tomli_w.dumps(_as_tables(plan))
    for _ in range(2):  # first the inner arrays, then the outer arrays
        text = ARRAY.sub(lambda found: "[" + ", ".join(re.split(r",\n *", found[1].strip(" ,\n"))) + "]", text)
    write_text(path, f"{HEADER}\n{text}")


def _from_tables(tables: Mapping[str, Any], base: Path) -> Plan:
    """Return the plan that the tables of a file describe. Paths in the tables are relative to `base`."""
    check_keys(tables, TABLES, "the file")
    data_table, model_table, recipe_table = (TABLE.check(f"[{name}]", tables.get(name, {})) for name in TABLES)
    check_keys(data_table, tuple(DATA_RULES), "[data]")
    check_keys(model_table, (*MODEL_RULES, *SETTINGS), "[model]")
    check_keys(recipe_table, [f.name for f in dataclasses.fields(Recipe)], "[recipe]")
    if "train" not in data_table:
        raise ValueError(
            'section [data] has no key "train"; add the training data set, for example train = "voc:photos"'
        )
    model_fields = {name: model_table.pop(name) for name in MODEL_RULES if name in model_table}
    with _prefixed("[recipe]"):
        recipe = Recipe(**recipe_table)
    plan = Plan(**data_table, **model_fields, settings=model_table, recipe=recipe)
    return _with_absolute_paths(plan, base)


def _with_absolute_paths(plan: Plan, base: Path) -> Plan:
    """Return the plan with absolute paths. `base` is the folder to which relative paths in `plan` refer."""
    options = dict(plan.options)
    images = options.get("images")
    if isinstance(images, str) and not plan.train.startswith("masks:"):  # for masks, `images` is a name, not a path
        options["images"] = _absolute(images, base)
    return dataclasses.replace(
        plan,
        train=absolute_spec(plan.train, base),
        val=None if plan.val is None else absolute_spec(plan.val, base),
        options=options,
        weights=_absolute_weights(plan.weights, base),
        weights_backbone=_absolute_weights(plan.weights_backbone, base),
    )


def _absolute_weights(source: str | None, base: Path) -> str | None:
    return source if source is None or source in NAMED_WEIGHTS else _absolute(source, base)


@contextlib.contextmanager
def _prefixed(prefix: str) -> Iterator[None]:
    """Within the `with` block, put the prefix in front of the message of any error."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{prefix} {error}") from error


def _as_tables(plan: Plan) -> dict[str, dict[str, Any]]:
    data_table = {name: getattr(plan, name) for name in DATA_RULES} | {"options": dict(plan.options) or None}
    model_table = {name: getattr(plan, name) for name in MODEL_RULES} | dict(plan.settings)
    tables = {"data": data_table, "model": model_table, "recipe": dataclasses.asdict(plan.recipe)}
    return {name: {key: value for key, value in table.items() if value is not None} for name, table in tables.items()}


def absolute_spec(spec: str, base: Path | None = None) -> str:
    """Return the name of a data set, such as "voc:photos", with an absolute path.

    Parameters
    ----------
    spec : str
        The data set, in a form that `rcnn.data.load` accepts.
    base : Path, optional
        Folder to which the path in `spec` is relative; by default, the current folder.

    Returns
    -------
    str
        The name with an absolute path. A name without a path, such as "digits", does not change.
    """
    prefix, _, path = spec.partition(":")
    return f"{prefix}:{_absolute(path, base or Path.cwd())}" if path else spec


def _absolute(path: str, base: Path) -> str:
    return os.path.abspath(base / Path(path).expanduser())
