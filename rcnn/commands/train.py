"""What `rcnn train` does: a data set or a plan becomes a folder with a detector in it."""

from __future__ import annotations

import argparse
import dataclasses
import io
import time
from pathlib import Path

from rcnn import plan, runs, train
from rcnn.commands.terminal import INTERRUPTED
from rcnn.data import Dataset
from rcnn.files import write_whole
from rcnn.model import FasterRCNN
from rcnn.plan import Plan
from rcnn.runs import Run


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `rcnn train` to the commands."""
    parser = commands.add_parser(
        "train", help="train a detector on drawn pages or on pictures of your own",
        description="Trains a detector. The folder of the run then holds its weights (best.safetensors, by AP50 on the "
                    "val split, and model.safetensors, the last), its losses as tables and as a picture, and run.toml, "
                    "the plan that it followed. Ctrl-C saves and stops; --resume goes on to the same bits.")
    parser.add_argument("dataset", nargs="?", metavar="DATASET|RUN.toml",
                        help="shapes, digits, voc:PATH, coco:PATH, csv:PATH, masks:PATH, or a plan as --plan writes it")
    parser.add_argument("--model", choices=plan.KINDS, metavar="KIND", help=f"{', '.join(plan.KINDS)} (default: small)")
    parser.add_argument("--steps", type=int, metavar="N", help="batches to learn from (default: by the data set)")
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    parser.add_argument("--workers", type=int, default=train.WORKERS, metavar="N",
                        help="threads that read pictures ahead; the result is the same with any (default: %(default)s)")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/ and the set's name)")
    folder.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in this folder")
    folder.add_argument("--plan", type=Path, metavar="FILE", help="write the plan to this file, to be edited, and stop")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains as the command line says; 0, or 130 after Ctrl-C."""
    if options.resume:
        return _resume(options)
    if options.dataset is None:
        raise ValueError("name what to learn from: rcnn train DATASET, rcnn train RUN.toml or rcnn train --resume DIR")
    chosen = _plan(options)
    if options.plan:
        plan.write(options.plan, chosen)
        print(f"{options.plan} holds the plan; to follow it: rcnn train {options.plan}")
        return 0
    out = options.out or Path("runs") / _name(chosen.train)
    if (out / runs.STATE).exists():
        raise FileExistsError(f"there is a run in {out} already: rcnn train --resume {out} goes on with it; another "
                              "--out leaves it alone")
    dataset, val = _data(chosen)
    chosen = chosen.resolved(dataset)
    model, left_out = chosen.make_model()
    if left_out:
        print(f"of {chosen.weights} did not fit, and begin at random: {', '.join(left_out)}")
    out.mkdir(parents=True, exist_ok=True)
    plan.write(out / runs.PLAN, chosen)
    return _fit(out, chosen, model, dataset, val, options.workers, resume=False)


def _resume(options: argparse.Namespace) -> int:
    """Goes on with the run of --resume, after a look at whether the rest of the command line agrees with it."""
    saved = runs.open_run(options.resume)
    followed = _followed(options, saved)
    _check_resumed(options, saved, followed)
    dataset, val = _data(followed)
    if saved.model.config.class_names != tuple(dataset.classes):
        raise ValueError(f"the run in {options.resume} is not one of {followed.train}: it learns "
                         f"{', '.join((saved.model.config.class_names or ())[1:])}")
    return _fit(options.resume, followed, saved.model, dataset, val, options.workers, resume=True)


def _followed(options: argparse.Namespace, saved: runs.SavedRun) -> Plan:
    """The plan of a saved run; a data set on the command line is where its pictures are now."""
    if options.dataset is None:
        if saved.plan is None:
            raise ValueError(f"there is no {runs.PLAN} in {options.resume}; name what it learns from: "
                             f"rcnn train DATASET --resume {options.resume}")
        return dataclasses.replace(saved.plan, recipe=saved.recipe)
    if _is_plan(options.dataset):
        return dataclasses.replace(plan.read(options.dataset), recipe=saved.recipe)
    spec = plan.absolute_spec(options.dataset)
    if saved.plan is None:
        return Plan(spec, recipe=saved.recipe)
    val = spec if saved.plan.val == saved.plan.train else saved.plan.val
    return dataclasses.replace(saved.plan, train=spec, val=val, recipe=saved.recipe)


def _check_resumed(options: argparse.Namespace, saved: runs.SavedRun, followed: Plan) -> None:
    """ValueError where the command line asks for something else than the saved run is."""
    for name, value in (("steps", saved.recipe.steps), ("seed", saved.recipe.seed), ("model", followed.kind)):
        asked = getattr(options, name)
        if asked not in (None, value):
            raise ValueError(f"the run in {options.resume} has --{name} {value}; it cannot go on with --{name} {asked}")


def _plan(options: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    if not _is_plan(options.dataset):
        chosen = plan.for_dataset(options.dataset, options.model or "small")
    else:
        chosen = plan.read(options.dataset)
        if options.model not in (None, chosen.kind):
            raise ValueError(f"{options.dataset} plans a {chosen.kind}, not a {options.model}; change it there")
    return dataclasses.replace(chosen, recipe=chosen.recipe.replace(options.steps, options.seed))


def _is_plan(source: str) -> bool:
    """Whether DATASET names a plan rather than a data set."""
    return source.endswith(".toml")


def _data(chosen: Plan) -> tuple[Dataset, Dataset | None]:
    """(the pictures to learn from, those to validate on); ValueError where the two have other classes."""
    dataset, val = chosen.load_train(), chosen.load_val()
    if val is not None and tuple(val.classes) != tuple(dataset.classes):
        raise ValueError(f"{chosen.train} has the classes {', '.join(dataset.classes[1:])}, but {chosen.val}, to "
                         f"validate on, has {', '.join(val.classes[1:])}")
    return dataset, val


def _name(spec: str) -> str:
    """What a run of a data set is called: "digits", and for "voc:pets/photos" or "csv:photos.csv", "photos"."""
    path = spec.partition(":")[2]
    return (Path(path).stem or "run") if path else spec


def _fit(out: Path, followed: Plan, model: FasterRCNN, dataset: Dataset, val: Dataset | None, workers: int,
         resume: bool) -> int:
    """Trains, draws the curves and says what came of it."""
    started = time.perf_counter()
    done = train.fit(model, dataset, followed.recipe, out, val, resume, workers=workers)
    _draw_curves(out, done)
    if done.interrupted:
        print(f"stopped after step {done.steps} of {followed.recipe.steps} and saved; "
              f"to go on: rcnn train --resume {out}")
        return INTERRUPTED
    print(f"{done.steps} steps, {time.perf_counter() - started:.0f} s; weights: {out / runs.WEIGHTS}")
    if done.best is not None:
        print(f"best AP50 on {followed.val}: {done.validation['ap50'][done.best]:.3f} after step "
              f"{done.validation['step'][done.best]:.0f}: {out / runs.BEST}")
    return 0


def _draw_curves(out: Path, done: Run) -> None:
    """Draws what history.csv and validation.csv hold."""
    from rcnn import plot  # matplotlib, which takes a while, only where something is drawn

    table = runs.read_table(out / runs.HISTORY)
    figure = plot.training_curves(done.history, table["lr"], done.validation)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_whole(out / runs.CURVES, picture.getvalue())
