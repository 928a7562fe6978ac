"""The command `rcnn train`, which trains a detector on a data set and writes the results to the folder of a run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from rcnn import train
from rcnn._validate import listed
from rcnn.cli import check, report
from rcnn.cli.process import ERROR, INTERRUPTED, QUIET, VERBOSE, message, say, tell, verbosity
from rcnn.cli.shared import add_max_pixels, known_format, write_figure
from rcnn.data import DRAWN, Dataset
from rcnn.data.records import ON_ERROR
from rcnn.data.report import ERROR as SEVERE
from rcnn.data.report import counts_table, problems_text
from rcnn.data.splits import TEST
from rcnn.model import FasterRCNN
from rcnn.train import defaults, memory, parallel, plan, run_folder
from rcnn.train.parallel import Group
from rcnn.train.plan import Plan
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import Run

GRACE = 2.0  # seconds; if several processes have the same error, they notice it within this time


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train a detector on drawn pages or on your own images",
        description="Check a data set, train a detector on it, evaluate the detector, and write the results to the "
        "folder of the run. The folder then contains a report for the browser (report.html), the weights with the best "
        "AP50 on the val split (best.safetensors), the weights after the last step (model.safetensors), the losses as "
        "tables and as a plot, and the plan of the run with all settings (run.toml). The detector is evaluated on the "
        "test split or, without this split, on the val split. If you press Ctrl-C, the command saves the run and "
        "stops. If you continue the run with --resume, the results are bit-identical to those of an uninterrupted run. "
        "To share the work among N processes, use mpiexec -n N rcnn train (requires the extra mpi).",
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        metavar="DATASET|RUN.toml",
        help="the path of a folder or file, with or without its format (such as voc:PATH); shapes; digits; or a plan, "
        "the .toml file of a run",
    )
    parser.add_argument(
        "--model",
        choices=(*plan.KINDS, defaults.MOBILENET),
        metavar="KIND",
        help=f"kind of model: {', '.join(plan.KINDS)}, or {defaults.MOBILENET}, the version whose ImageNet weights are "
        "in the cache (default: small)",
    )
    parser.add_argument(
        "--weights-backbone",
        metavar="PATH",
        help="weights to start from: a file with the weights of the ResNet or MobileNet alone, or imagenet, which "
        "downloads torchvision's (default: random weights; for mobilenet, ImageNet's if they are in the cache)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="number of steps (default: depends on the data set)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed for all random numbers (default: 0)")
    parser.add_argument(
        "--workers",
        type=int,
        default=train.WORKERS,
        metavar="N",
        help="number of threads that prefetch images; any number gives the same result (default: %(default)s)",
    )
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        metavar="ACTION",
        help="raise: stop at the first unusable image or object; skip: leave out unusable images and objects, and "
        "print their number; fix: like skip, but cut boxes at the border of their image (default: raise). To list the "
        "faults, use rcnn check",
    )
    parser.add_argument("--no-check", action="store_true", help="do not check the data set before training")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME_OF_THE_DATASET)")
    folder.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in this folder")
    folder.add_argument("--plan", type=Path, metavar="FILE", help="write the plan to this file for editing, then stop")
    add_max_pixels(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _Task:
    """All that a process needs to train: the arguments of `_fit`, which process 0 sends to the others."""

    out: Path
    followed: Plan
    model: FasterRCNN
    dataset: Dataset
    val: Dataset | None
    workers: int
    resume: bool


def run(options: argparse.Namespace) -> int:
    """Train the detector; return 0, or 130 after Ctrl-C."""
    group = parallel.group()
    if group.rank:
        verbosity.set(QUIET)
        warnings.simplefilter("ignore")
    task = None
    try:
        if group.rank == 0:
            task = _prepare(options, group)
    finally:  # after an error, the other processes get None
        task = group.broadcast(task)
    return 0 if task is None else _fit(task, group)


def _prepare(options: argparse.Namespace, group: Group) -> _Task | None:
    """Check the data set, and write the plan; return what to train, or None if there is nothing to train."""
    if options.dataset is not None:
        options.dataset = known_format(options.dataset)
    if options.resume:
        if options.dataset or (options.resume / run_folder.STATE).exists() or not _plan_of(options.resume).exists():
            return _resume(options)
        options.dataset, options.out = str(_plan_of(options.resume)), options.resume  # it stopped before its first save
    if options.dataset is None:
        raise ValueError("nothing to train on; add a data set, a plan (RUN.toml), or --resume DIR")
    if options.plan and not _is_plan(options.plan.name):
        raise ValueError(f"--plan must name a file that ends in .toml, got {options.plan.name!r}")
    if options.plan and options.plan.exists():  # the user may have edited it
        raise FileExistsError(f"{options.plan} already exists; delete it or choose another file")
    if options.plan:
        plan.write(options.plan, _plan(options))
        say(f"plan: {options.plan}; to train with it: rcnn train {options.plan}")
        return None
    spec = _plan(options).train if _is_plan(options.dataset) else options.dataset
    out = options.out or Path("runs") / _name(spec)
    if (out / run_folder.STATE).exists():
        raise FileExistsError(
            f"{out} already contains a run; to continue it: rcnn train --resume {out}; for a new run, set --out"
        )
    if left := [name for name in run_folder.WRITTEN_IN_TRAINING if (out / name).exists()]:
        raise FileExistsError(
            f"{out} contains files of a run without its {run_folder.STATE}: {listed(left)}; "
            "for a new run, set --out, or delete these files"
        )
    if not options.no_check and spec not in DRAWN:
        try:
            _check(options)
        except ValueError:
            with contextlib.suppress(ValueError, OSError):  # a data set that cannot be read has no plan
                _write_plan(out, _plan(options))
            raise
    chosen = _plan(options)
    dataset, val = _data(chosen)
    chosen = defaults.resolve(chosen, dataset)
    model, left_out = chosen.make_model()
    if left_out:
        names = ", ".join(left_out) if verbosity.get() == VERBOSE else listed(left_out)
        say(f"randomly initialised, because their shapes differ from those in {chosen.weights}: {names}")
    fitted, text = memory.fit_batch(model, dataset, chosen.recipe, group)
    if text and _is_plan(options.dataset):
        say(f"warning: {text}")
    elif text:
        say(f"{text}; this choice is written to {run_folder.PLAN}")
        chosen = dataclasses.replace(chosen, recipe=fitted)
    _write_plan(out, chosen)
    return _Task(out, chosen, model, dataset, val, options.workers, resume=False)


def _plan_of(folder: Path) -> Path:
    """Return the path of the plan of a run."""
    return folder / run_folder.PLAN


def _write_plan(folder: Path, chosen: Plan) -> None:
    """Write the plan into the folder of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    plan.write(_plan_of(folder), chosen)


def _check(options: argparse.Namespace) -> None:
    """Check the data set, and print the counts and the problems; raise ValueError if train or val has errors."""
    _, reports, shared = check.examine(options.dataset, on_error=options.on_error)
    problems = {split: report.problems for split, report in reports.items()}
    problems |= {" and ".join(pair): tuple(found) for pair, found in shared.items()}
    errors = {split: [problem for problem in found if problem.severity == SEVERE] for split, found in problems.items()}
    lines = [counts_table({split: report.counts for split, report in reports.items()})]
    lines += [f"\n{split}: {problems_text(found)}" for split, found in errors.items() if found]
    lines += [
        f"{split}: {problem.count} {problem.severity}{'s' * (problem.count != 1)}: {problem.sentence}"
        for split, found in problems.items()
        for problem in found
        if problem.severity != SEVERE
    ]
    needed = [found for split, found in errors.items() if split != TEST]
    kinds = list(dict.fromkeys(problem.kind for found in needed for problem in found))
    more = f"\nfor details: rcnn check {options.dataset}" if any(problems.values()) else ""
    say("\n".join(lines) + f"{more}\n")
    if kinds:
        raise ValueError(
            f"training must not start, because {options.dataset} has errors: {listed(kinds)}; correct them, or use "
            "--on-error skip or --on-error fix; to train in spite of them, use --no-check"
        )


def _resume(options: argparse.Namespace) -> _Task:
    """Return how to continue the run in the folder --resume; raise ValueError if the command line contradicts it."""
    saved = run_folder.open_run(options.resume)
    followed = _followed(options, saved)
    _check_resumed(options, saved, followed)
    dataset, val = _data(followed)
    if saved.model.config.class_names != tuple(dataset.classes):
        raise ValueError(
            f"cannot resume the run in {options.resume} with {followed.train}: the classes of the run are "
            f"{listed((saved.model.config.class_names or ())[1:])}, but the data set has {listed(dataset.classes[1:])}"
        )
    return _Task(options.resume, followed, saved.model, dataset, val, options.workers, resume=True)


def _followed(options: argparse.Namespace, saved: run_folder.SavedRun) -> Plan:
    """Return the plan of a resumed run; a data set on the command line replaces the data set of the run."""
    if options.dataset is None:
        if saved.plan is None:
            raise ValueError(
                f"{run_folder.PLAN} not found in {options.resume}; add the data set of the run: "
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
    """Raise ValueError if the command line or an edited plan contradicts the settings of the saved run."""
    was = {"model": (saved.plan or followed).kind, **saved.model.config.settings()} | dataclasses.asdict(saved.recipe)
    now = {"model": options.model or followed.kind, **followed.settings} | dataclasses.asdict(followed.recipe)
    if changed := run_folder.differences(was, now):
        raise ValueError(
            f"cannot resume the run in {saved.folder} with other settings: {changed}; start a new run with --out"
        )


def _plan(options: argparse.Namespace) -> Plan:
    """Return the plan for the data set or the plan file on the command line, changed by the other options."""
    if not _is_plan(options.dataset):
        reader = {"on_error": options.on_error} if options.on_error else {}
        return _with_options(
            defaults.for_dataset(
                options.dataset, options.model or "small", options.steps, reader, options.weights_backbone
            ),
            options,
        )
    chosen = plan.read(options.dataset)
    if options.weights_backbone is not None:
        raise ValueError(f"--weights-backbone has no effect on a plan; edit weights_backbone in {options.dataset}")
    if options.model not in (None, chosen.kind):
        raise ValueError(
            f"--model {options.model} contradicts kind = {chosen.kind!r} in {options.dataset}; edit the file instead"
        )
    return _with_options(chosen, options)


def _with_options(chosen: Plan, options: argparse.Namespace) -> Plan:
    """Return the plan with --steps, --seed and --on-error from the command line."""
    reader = dict(chosen.options) | ({"on_error": options.on_error} if options.on_error else {})
    return dataclasses.replace(chosen, options=reader, recipe=chosen.recipe.replace(options.steps, options.seed))


def _is_plan(source: str) -> bool:
    """Return True if DATASET is the path of a plan."""
    return source.endswith(".toml")


def _data(chosen: Plan) -> tuple[Dataset, Dataset | None]:
    """Return the training and validation data; raise ValueError if their classes differ."""
    dataset, val = chosen.load_train(), chosen.load_val()
    for name, loaded in (("train", dataset), ("val", val)):
        for kind in ("skipped", "fixed", "unannotated"):
            if (entries := getattr(loaded, kind, ())) and (kind != "unannotated" or loaded is dataset):
                say(f"{name}: {len(entries)} {kind}; the first is {entries[0].source}: {entries[0].reason}")
    if val is not None and tuple(val.classes) != tuple(dataset.classes):
        raise ValueError(
            f"training and validation classes must be equal: {chosen.train} has {listed(dataset.classes[1:])}, "
            f"{chosen.val} has {listed(val.classes[1:])}"
        )
    return dataset, val


def _name(spec: str) -> str:
    """Return the default name of a run: "digits" for "digits", "photos" for "voc:pets/photos" or "csv:photos.csv"."""
    path = spec.partition(":")[2]
    return (Path(path).stem or "run") if path else spec


def _fit(task: _Task, group: Group) -> int:
    """Train the detector, draw the curves, print a summary and write the report; return the exit status.

    In a group, process 0 alone does what follows the training, and its exit status counts.
    """
    started = time.perf_counter()
    out, followed, model, dataset, val = task.out, task.followed, task.model, task.dataset, task.val
    try:
        done = train.fit(
            model, dataset, followed.recipe, out, val, task.resume, workers=task.workers, report=say, group=group
        )
    except BaseException as error:
        if not group.fail_together(GRACE):  # the other processes wait for this one
            tell(
                f"process {group.rank} of {group.size} failed: {message(error) or 'interrupted'}; the other processes "
                f"stop, too; to continue after the last save: rcnn train --resume {out}"
            )
            group.abort(ERROR)
        if group.rank:
            return 0
        if isinstance(error, Exception) and (out / run_folder.STATE).exists():  # the steps saved before the error
            saved = run_folder.open_run(out)
            _draw_curves(out, saved.run, saved.recipe)
            report.write_stopped(out)
        raise
    if group.rank:
        return 0
    _draw_curves(out, done, followed.recipe)
    report.write_stopped(out)
    if done.interrupted:
        say(
            f"interrupted after step {done.steps} of {followed.recipe.steps} and saved; "
            f"to continue: rcnn train --resume {out}"
        )
        return INTERRUPTED
    if done.steps < followed.recipe.steps:
        say(f"stopped early, because {followed.recipe.patience} validations in a row brought no better AP50")
    say(f"{done.steps} steps, {time.perf_counter() - started:.0f} s; weights: {out / run_folder.WEIGHTS}")
    if done.best is not None:
        say(
            f"best AP50 on {followed.val}: {done.validation['ap50'][done.best]:.3f} after step "
            f"{done.validation['step'][done.best]:.0f}; weights: {out / run_folder.BEST}"
        )
    report.write(out, dataset, val)
    return 0


def _draw_curves(out: Path, done: Run, recipe: Recipe) -> None:
    """Draw the losses in history.csv and the scores in validation.csv."""
    from rcnn import plot  # imports matplotlib, which is slow

    rates = [recipe.lr_at(step) for step in range(done.steps)]
    figure = plot.training_curves(done.history, rates, done.validation)
    write_figure(out / run_folder.CURVES, figure)
