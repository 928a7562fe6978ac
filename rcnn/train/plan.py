"""`Plan`: the data, the model and the recipe of a training run, and the TOML file that holds them.

[data]
train = "voc:photos"        # as `rcnn.data.load` has it; paths are relative to the file's folder
val = "voc:photos"          # its val split; left out, nothing is validated
options = {}                # of the reader

[model]
kind = "small"              # or resnet18, resnet34, resnet50, resnet101
anchors = "fit"             # chosen from the data; left out, the model's own
min_size = 256              # and any other setting of `FasterRCNNConfig`

[recipe]
steps = 2000                # and any other field of `Recipe`
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import statistics
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from rcnn import data, evaluate
from rcnn._files import write_whole
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
from rcnn.config import FasterRCNNConfig, check_settings
from rcnn.data import Dataset
from rcnn.model import FasterRCNN
from rcnn.nn.random import seed
from rcnn.train.recipe import RECIPES, Recipe
from rcnn.zoo import checkpoint
from rcnn.zoo.detectors import RESNETS, TRAINABLE_STAGES, faster_rcnn_resnet_fpn, faster_rcnn_small

KINDS = ("small", *RESNETS)
FIT = "fit"
NAMED_WEIGHTS = ("coco", "imagenet")  # that are no paths
TABLES = ("data", "model", "recipe")
TABLE = Rule("a table", as_table)
DATA_RULES = {
    "train": STRING,
    "val": optional(STRING),
    "options": TABLE,
    "train_pictures": optional(integer(1)),
    "val_pictures": optional(integer(1)),
}
MODEL_RULES = {
    "kind": one_of(KINDS),
    "anchors": optional(Rule(f"{FIT!r} or left out", as_string, lambda value: value == FIT)),
    "weights": optional(STRING),
    "weights_backbone": optional(STRING),
    "trainable_backbone_layers": optional(Rule("an integer from 0 to 5", as_integer, lambda x: 0 <= x <= 5)),
}
STRUCTURE = ("backbone", "feat_channels", "num_classes", "use_fpn")  # of the config: what the kind and the data decide
SETTINGS = tuple(f.name for f in dataclasses.fields(FasterRCNNConfig) if f.name not in STRUCTURE)
ARRAY = re.compile(r"\[\n((?: +[^\s\]][^\n]*,\n)+) *\]")  # with an item on each line, as tomli_w writes it
HEADER = "# A training run of rcnn. `rcnn train THIS_FILE` follows it; see the docstring of rcnn.train.plan.\n"


@dataclass(frozen=True)
class Plan:
    """A training run to be: with the same files and the same library it has the same result, to the last bit.

    train, val: specs of data sets as `rcnn.data.load` takes them, of which the splits of these names are loaded; no
        val, no validation. options: of their reader. train_pictures, val_pictures: how many, the first ones; None for
        all.
    kind: one of KINDS. weights: what the detector begins with, a file or "coco"; where it was made for other classes,
        what does not fit is left out. weights_backbone: what its ResNet alone begins with, a file or "imagenet".
    trainable_backbone_layers: of a ResNet; see `rcnn.faster_rcnn_resnet_fpn`.
    anchors: "fit" chooses anchor_sizes and aspect_ratios from the training data; None leaves them to `settings`.
    settings: fields of `FasterRCNNConfig` other than the kind's own defaults.

    Raises TypeError or ValueError that names the key, its value and what is allowed.
    """

    train: str
    val: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    train_pictures: int | None = None
    val_pictures: int | None = None
    kind: str = "small"
    weights: str | None = None
    weights_backbone: str | None = None
    trainable_backbone_layers: int | None = None
    anchors: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        normalise_fields(self, DATA_RULES, "[data] ")
        normalise_fields(self, MODEL_RULES, "[model] ")
        if self.kind == "small" and (self.weights_backbone, self.trainable_backbone_layers) != (None, None):
            raise ValueError('[model] weights_backbone and trainable_backbone_layers are for a ResNet; kind is "small"')
        if self.anchors == FIT and {"anchor_sizes", "aspect_ratios"} & self.settings.keys():
            raise ValueError(f"[model] anchors = {FIT!r} chooses anchor_sizes and aspect_ratios; leave these out")
        check_keys(self.settings, SETTINGS, "[model]")
        with _prefixed("[model]"):
            object.__setattr__(self, "settings", check_settings(self.settings))

    # ------------------------------------------------------------------ what it describes

    def load_train(self) -> Dataset:
        """The data set to learn from."""
        return _load(self.train, "train", self.train_pictures, self.options)

    def load_val(self) -> Dataset | None:
        """The data set to validate on; None where there is none."""
        return None if self.val is None else _load(self.val, "val", self.val_pictures, self.options)

    def resolved(self, dataset: Dataset, progress: bool = True) -> Plan:
        """The same plan with nothing left open: anchors, class names, every setting of the model.

        dataset: as from `load_train`. Raises ValueError where it has other classes than the plan names.
        """
        if len(dataset.classes) < 2:
            raise ValueError(f"{self.train} has no objects to learn from; rcnn check says more")
        names = self.settings.get("class_names", tuple(dataset.classes))
        if names != tuple(dataset.classes):
            raise ValueError(
                f"[model] class_names are {', '.join(names)}, but {self.train} has {', '.join(dataset.classes)}"
            )
        plan = dataclasses.replace(self, settings={**self.settings, "class_names": names})
        model = plan._untrained()
        settings = {
            name: value for name, value in model.config.settings().items() if name in SETTINGS and value is not None
        }
        if self.anchors == FIT:
            c = model.config
            found = evaluate.suggest(
                dataset,
                model.strides(),
                c.min_size,
                c.max_size,
                num_ratios=len(c.aspect_ratios),
                generator=model.anchor_generator,
                progress=progress,
            )
            settings |= {"anchor_sizes": found.sizes, "aspect_ratios": found.ratios}
        return dataclasses.replace(plan, anchors=None, settings=settings)

    def make_model(self) -> tuple[FasterRCNN, list[str]]:
        """(the model of a resolved plan, the names of what its `weights` did not fit).

        Its random weights are those that the recipe's seed gives, which the library's own generator is set to.
        """
        model = self._untrained()
        left_out = []
        if self.weights is not None:
            left_out = list(checkpoint.load_into(model, self.weights, skip_mismatched=True).left_out)
        return model, left_out

    def _untrained(self) -> FasterRCNN:
        """The model before `weights` come into it."""
        seed(self.recipe.seed)
        settings = dict(self.settings)
        names = settings.pop("class_names")
        if self.kind == "small":
            return faster_rcnn_small(names, **settings)
        layers = self.trainable_backbone_layers
        if layers is None and self.weights is not None:
            layers = TRAINABLE_STAGES
        return faster_rcnn_resnet_fpn(
            len(names),
            backbone=self.kind,
            weights_backbone=self.weights_backbone,
            trainable_backbone_layers=layers,
            class_names=names,
            **settings,
        )


def _load(spec: str, split: str, count: int | None, options: Mapping[str, Any]) -> Dataset:
    return data.load(spec, split, count, options=options) if options else data.load(spec, split, count)


# ---------------------------------------------------------------------- plans to begin with

EPOCHS = 20
FEWEST_STEPS, MOST_STEPS = 1500, 6000
VALIDATIONS = 10
LONGEST_SHORT_SIDE = 320  # pixels; a processor has time for no more
SCALE_JITTER = (0.8, 1.25)
RESNET_ROIS = 128  # box_batch_size_per_image; torchvision's 512 make the head nine tenths of a step on small pictures
RESNET_LR = 3e-4  # a ResNet with frozen norms begins with large gradients: a norm of 44 on pages of digits


def for_dataset(
    spec: str, kind: str = "small", steps: int | None = None, options: Mapping[str, Any] | None = None
) -> Plan:
    """The plan to begin with for a data set that `rcnn.data.load` knows, with absolute paths.

    steps: how many; None leaves it to the data set. options: of its reader.

    The drawn sets have recipes of their own. For pictures of one's own: the size that they have, up to a short side of
    320 pixels and a little more or less each time, anchors chosen from the boxes, twenty passes through the pictures
    within 1,500 to 6,000 steps. Nothing is mirrored, for a mirrored 2 is none (on 400 pages of digits a flip of 0.5
    takes the AP50 from 0.94 to 0.86); recipe.flip = 0.5 suits what looks the same in a mirror (on 60 pages of shapes
    it goes from 0.69 to 0.79).
    """
    spec, options = absolute_spec(spec), dict(options or {})
    if spec in RECIPES and kind == "small":
        return Plan(spec, spec, options, recipe=RECIPES[spec].replace(steps))
    dataset = data.load(spec, "train", options=options)
    side = min(LONGEST_SHORT_SIDE, _median_short_side(dataset))
    recipe = RECIPES[spec].replace(steps) if spec in RECIPES else _recipe(len(dataset), steps)
    settings = {"min_size": side, "max_size": 2 * side}
    if kind != "small":
        recipe = dataclasses.replace(recipe, lr=RESNET_LR)
        settings["box_batch_size_per_image"] = RESNET_ROIS
    return Plan(spec, spec, options, kind=kind, anchors=FIT, settings=settings, recipe=recipe)


def _recipe(num_pictures: int, steps: int | None) -> Recipe:
    """The recipe for so many pictures of one's own."""
    batch_size = Recipe.batch_size
    if steps is None:
        steps = min(max(EPOCHS * num_pictures // batch_size, FEWEST_STEPS), MOST_STEPS)
    return Recipe(steps=steps, batch_size=batch_size, scale_jitter=SCALE_JITTER, val_every=steps // VALIDATIONS)


def _median_short_side(dataset: Dataset) -> int:
    """The median of the pictures' shorter sides, in pixels; from the files' headers where the data set can do that."""
    annotation = getattr(dataset, "annotation", None)
    sizes = [annotation(i)[0] if annotation else dataset[i][0].shape[:2] for i in range(len(dataset))]
    if not sizes:
        raise ValueError("the data set is empty")
    return int(statistics.median(min(size) for size in sizes))


# ---------------------------------------------------------------------- files


def read(path: str | os.PathLike[str]) -> Plan:
    """The plan in a TOML file, with absolute paths.

    Raises OSError where it cannot be read, ValueError that begins with the path for what is no TOML, for a key that
    is not known, listing those that are, and for a value that cannot be.
    """
    try:
        text = Path(path).read_text("utf-8-sig")  # editors of Windows may begin a file with a mark
        return _from_tables(tomllib.loads(text), Path(os.path.abspath(path)).parent)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def write(path: str | os.PathLike[str], plan: Plan) -> None:
    """Writes a plan as the TOML file that `read` reads, whole or not at all; what is None is left out."""
    text = tomli_w.dumps(_as_tables(plan))
    for _ in range(2):  # the inner arrays first
        text = ARRAY.sub(lambda found: "[" + ", ".join(re.split(r",\n *", found[1].strip(" ,\n"))) + "]", text)
    write_whole(path, f"{HEADER}\n{text}".encode())


def _from_tables(tables: Mapping[str, Any], base: Path) -> Plan:
    """The plan of a file's tables, whose paths are relative to `base`."""
    check_keys(tables, TABLES, "the file")
    data_table, model_table, recipe_table = (TABLE.check(f"[{name}]", tables.get(name, {})) for name in TABLES)
    check_keys(data_table, tuple(DATA_RULES), "[data]")
    check_keys(model_table, (*MODEL_RULES, *SETTINGS), "[model]")
    check_keys(recipe_table, [f.name for f in dataclasses.fields(Recipe)], "[recipe]")
    if "train" not in data_table:
        raise ValueError("[data] train is missing: the data set to learn from")
    model_fields = {name: model_table.pop(name) for name in MODEL_RULES if name in model_table}
    with _prefixed("[recipe]"):
        recipe = Recipe(**recipe_table)
    plan = Plan(**data_table, **model_fields, settings=model_table, recipe=recipe)
    return _with_absolute_paths(plan, base)


def _with_absolute_paths(plan: Plan, base: Path) -> Plan:
    """Return the plan with its paths, which are relative to `base`, made absolute."""
    options = dict(plan.options)
    images = options.get("images")
    if isinstance(images, str) and not plan.train.startswith("masks:"):  # there it is a name, not a path
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
    """Precede the messages of errors in this block with the name of a table."""
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
    """A data set's spec with its path, if it has one, made absolute; it is relative to `base`, or to where we are."""
    prefix, _, path = spec.partition(":")
    return f"{prefix}:{_absolute(path, base or Path.cwd())}" if path else spec


def _absolute(path: str, base: Path) -> str:
    return os.path.abspath(base / Path(path).expanduser())
