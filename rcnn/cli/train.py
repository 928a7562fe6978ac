"""What `rcnn train` does: a data set or a plan becomes a folder with a detector in it."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from rcnn import train
from rcnn.cli.shared import INTERRUPTED, say, write_figure
from rcnn.data import Dataset
from rcnn.data.records import ON_ERROR
from rcnn.model import FasterRCNN
from rcnn.train import defaults, plan, run_folder
from rcnn.train.plan import Plan
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import Run


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `rcnn train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train a detector on drawn pages or on images of your own",
        description="Trains a detector. The folder of the run then holds its weights (best.safetensors, by AP50 on the "
        "val split, and model.safetensors, the last), its losses as tables and as a plot, and run.toml, "
        "the plan that it followed. Ctrl-C saves and stops; --resume goes on to the same bits.",
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        metavar="DATASET|RUN.toml",
        help="shapes, digits, voc:PATH, coco:PATH, csv:PATH, masks:PATH, or a plan as --plan writes it",
    )
    parser.add_argument("--model", choices=plan.KINDS, metavar="KIND", help=f"{', '.join(plan.KINDS)} (default: small)")
    parser.add_argument("--steps", type=int, metavar="N", help="batches to learn from (default: by the data set)")
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    parser.add_argument(
        "--workers",
        type=int,
        default=train.WORKERS,
        metavar="N",
        help="threads that read images ahead; the result is the same with any (default: %(default)s)",
    )
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        metavar="WHAT",
        help="raise: stop at an image or an annotation that cannot be used; skip: leave such images "
        "out and say how many (default: raise; rcnn check lists them)",
    )
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
    if options.plan and not _is_plan(options.plan.name):
        raise ValueError(f"the name of a plan ends in .toml, not {options.plan.name!r}")
    if options.plan and options.plan.exists():  # somebody may have edited it
        raise FileExistsError(f"{options.plan} is there already; remove it, or name another file")
    chosen = _plan(options)
    if options.plan:
        plan.write(options.plan, chosen)
        print(f"{options.plan} holds the plan; to follow it: rcnn train {options.plan}")
        return 0
    out = options.out or Path("runs") / _name(chosen.train)
    if (out / run_folder.STATE).exists():
        raise FileExistsError(
            f"there is a run in {out} already: rcnn train --resume {out} goes on with it; another --out leaves it alone"
        )
    dataset, val = _data(chosen)
    chosen = defaults.resolve(chosen, dataset)
    model, left_out = chosen.make_model()
    if left_out:
        print(f"of {chosen.weights} did not fit, and begin at random: {', '.join(left_out)}")
    out.mkdir(parents=True, exist_ok=True)
    plan.write(out / run_folder.PLAN, chosen)
    return _fit(out, chosen, model, dataset, val, options.workers, resume=False)


def _resume(options: argparse.Namespace) -> int:
    """Goes on with the run of --resume, after a look at whether the rest of the command line agrees with it."""
    saved = run_folder.open_run(options.resume)
    followed = _followed(options, saved)
    _check_resumed(options, saved, followed)
    dataset, val = _data(followed)
    if saved.model.config.class_names != tuple(dataset.classes):
        raise ValueError(
            f"the run in {options.resume} is not one of {followed.train}: it learns "
            f"{', '.join((saved.model.config.class_names or ())[1:])}"
        )
    return _fit(options.resume, followed, saved.model, dataset, val, options.workers, resume=True)


def _followed(options: argparse.Namespace, saved: run_folder.SavedRun) -> Plan:
    """The plan that the command line asks a saved run to follow; a data set on it is where the images are now."""
    if options.dataset is None:
        if saved.plan is None:
            raise ValueError(
                f"there is no {run_folder.PLAN} in {options.resume}; name what it learns from: "
                f"rcnn train DATASET --resume {options.resume}"
            )
        return _with_options(saved.plan, options)
    if _is_plan(options.dataset):
        return _with_options(plan.read(options.dataset), options)
    spec = plan.absolute_spec(options.dataset)
    if saved.plan is None:
        return _with_options(Plan(spec, recipe=saved.recipe), options)
    val = spec if saved.plan.val == saved.plan.train else saved.plan.val
    return _with_options(dataclasses.replace(saved.plan, train=spec, val=val), options)


def _check_resumed(options: argparse.Namespace, saved: run_folder.SavedRun, followed: Plan) -> None:
    """ValueError where the command line, or a plan that was edited since, asks for another run than the saved one."""
    was = {"model": (saved.plan or followed).kind, **saved.model.config.settings()} | dataclasses.asdict(saved.recipe)
    wanted = {"model": options.model or followed.kind, **followed.settings} | dataclasses.asdict(followed.recipe)
    if changed := run_folder.differences(was, wanted):
        raise ValueError(
            f"the run in {saved.folder} cannot go on with other settings: {changed}; a new run has them (another --out)"
        )


def _plan(options: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    if not _is_plan(options.dataset):
        reader = {"on_error": options.on_error} if options.on_error else {}
        return _with_options(
            defaults.for_dataset(options.dataset, options.model or "small", options.steps, reader), options
        )
    chosen = plan.read(options.dataset)
    if options.model not in (None, chosen.kind):
        raise ValueError(f"{options.dataset} plans a {chosen.kind}, not a {options.model}; change it there")
    return _with_options(chosen, options)


def _with_options(chosen: Plan, options: argparse.Namespace) -> Plan:
    """The plan with what the command line names: steps, seed, what to do with what cannot be used."""
    reader = dict(chosen.options) | ({"on_error": options.on_error} if options.on_error else {})
    return dataclasses.replace(chosen, options=reader, recipe=chosen.recipe.replace(options.steps, options.seed))


def _is_plan(source: str) -> bool:
    """Whether DATASET names a plan rather than a data set."""
    return source.endswith(".toml")


def _data(chosen: Plan) -> tuple[Dataset, Dataset | None]:
    """(the images to learn from, those to validate on); ValueError where the two have other classes."""
    dataset, val = chosen.load_train(), chosen.load_val()
    for name, loaded in (("train", dataset), ("val", val)):
        if skipped := getattr(loaded, "skipped", ()):
            say(f"{len(skipped)} left out of {name}, first {skipped[0].source}: {skipped[0].reason}")
    if val is not None and tuple(val.classes) != tuple(dataset.classes):
        raise ValueError(
            f"{chosen.train} has the classes {', '.join(dataset.classes[1:])}, but {chosen.val}, to "
            f"validate on, has {', '.join(val.classes[1:])}"
        )
    return dataset, val


def _name(spec: str) -> str:
    """What a run of a data set is called: "digits", and for "voc:pets/photos" or "csv:photos.csv", "photos"."""
    path = spec.partition(":")[2]
    return (Path(path).stem or "run") if path else spec


def _fit(
    out: Path, followed: Plan, model: FasterRCNN, dataset: Dataset, val: Dataset | None, workers: int, resume: bool
) -> int:
    """Trains, draws the curves and says what came of it."""
    started = time.perf_counter()
    done = train.fit(model, dataset, followed.recipe, out, val, resume, workers=workers)
    _draw_curves(out, done, followed.recipe)
    if done.interrupted:
        print(
            f"stopped after step {done.steps} of {followed.recipe.steps} and saved; to go on: rcnn train --resume {out}"
        )
        return INTERRUPTED
    print(f"{done.steps} steps, {time.perf_counter() - started:.0f} s; weights: {out / run_folder.WEIGHTS}")
    if done.best is not None:
        print(
            f"best AP50 on {followed.val}: {done.validation['ap50'][done.best]:.3f} after step "
            f"{done.validation['step'][done.best]:.0f}: {out / run_folder.BEST}"
        )
    return 0


def _draw_curves(out: Path, done: Run, recipe: Recipe) -> None:
    """Draws what history.csv and validation.csv hold."""
    from rcnn import plot  # matplotlib, which takes a while, only where something is drawn

    rates = [recipe.lr_at(step) for step in range(done.steps)]
    figure = plot.training_curves(done.history, rates, done.validation)
    write_figure(out / run_folder.CURVES, figure)
