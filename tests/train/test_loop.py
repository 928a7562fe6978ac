"""The training loop: determinism, resuming, interruption and files."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import rcnn
from rcnn import _files, boxes, data, evaluate, train
from rcnn.model import FasterRCNN
from rcnn.train import Recipe, loop, run_folder
from rcnn.train.average import WeightAverage
from rcnn.train.order import Order
from rcnn.zoo import checkpoint
from rcnn.zoo.detectors import faster_rcnn_small

PAGES = data.Shapes(6, seed=3)
RECIPE = Recipe(steps=5, batch_size=2, warmup_steps=2, seed=7)


def small_model(dropout: float = 0.3) -> FasterRCNN:
    rcnn.seed(5)
    return faster_rcnn_small(PAGES.classes, dropout=dropout)


def assert_same_state(a: FasterRCNN, b: FasterRCNN) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second)
    different = [name for name in first if not np.array_equal(first[name], second[name])]
    assert not different


class InterruptedPages:
    """PAGES with a Ctrl-C when the n-th page is read."""

    classes = PAGES.classes

    def __init__(self, at: int) -> None:
        self.at, self.reads = at, 0

    def __len__(self) -> int:
        return len(PAGES)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        self.reads += 1
        if self.reads == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return PAGES[index]


def test_the_same_seed_gives_bit_identical_results() -> None:
    first, second = small_model(), small_model()
    runs = [train.fit(model, PAGES, RECIPE, progress=False) for model in (first, second)]
    assert runs[0].history == runs[1].history
    assert_same_state(first, second)


def test_another_seed_gives_another_run() -> None:
    histories = [
        train.fit(small_model(), PAGES, RECIPE.replace(seed=seed, steps=2), progress=False).history for seed in (1, 2)
    ]
    assert histories[0] != histories[1]


class MixedPages:
    """Pages of two shapes with known sizes, like annotated image files."""

    classes = PAGES.classes

    def __init__(self) -> None:
        self.pages = [data.Shapes(1, seed=i, size=(64, 96) if i % 3 else (96, 64))[0] for i in range(7)]

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return self.pages[index]

    def annotation(self, index: int) -> tuple[tuple[int, int], dict[str, np.ndarray]]:
        image, target = self.pages[index]
        return (image.shape[0], image.shape[1]), target


FULL = Recipe(
    steps=5,
    batch_size=2,
    optimizer="sgd",
    lr=0.01,
    warmup_steps=2,
    schedule="steps",
    milestones=(3,),
    flip=0.5,
    scale_jitter=(0.8, 1.25),
    freeze=("backbone.stem.0",),
    val_every=2,
    seed=4,
)
EVERYTHING = dataclasses.replace(FULL, accumulate=2, ema=0.9, crop=0.3, rotate=10, colour_jitter=0.2, patience=3)


def assert_same_files(a: Path, b: Path) -> None:
    assert {path.name for path in a.iterdir()} == {path.name for path in b.iterdir()}
    assert not [path.name for path in a.iterdir() if path.read_bytes() != (b / path.name).read_bytes()]


@pytest.mark.parametrize("stop_at", [2, 3])  # at a validation and between two
@pytest.mark.parametrize(
    ("recipe", "val"), [(RECIPE, None), (FULL, PAGES), (EVERYTHING, PAGES)], ids=["plain", "full", "everything"]
)
def test_resumed_run_equals_an_uninterrupted_run(
    tmp_path: Path, recipe: Recipe, val: data.Dataset | None, stop_at: int
) -> None:
    whole = small_model()
    pages = MixedPages()
    expected = train.fit(whole, pages, recipe, tmp_path / "whole", val, workers=2, progress=False)
    train.fit(small_model(), pages, recipe, tmp_path / "parts", val, stop_at=stop_at, workers=0, progress=False)
    saved = run_folder.open_run(tmp_path / "parts")
    assert saved.recipe == recipe and saved.run.steps == stop_at
    run = train.fit(saved.model, pages, recipe, tmp_path / "parts", val, resume=True, workers=1, progress=False)
    assert run == expected
    assert_same_state(saved.model, whole)
    assert_same_files(tmp_path / "parts", tmp_path / "whole")


def test_resumed_run_does_the_validation_that_ctrl_c_prevented(tmp_path: Path) -> None:
    expected = train.fit(small_model(), PAGES, FULL, tmp_path / "whole", PAGES, progress=False)
    pages = InterruptedPages(at=3)  # in step 1, after which a validation is due
    run = train.fit(small_model(), pages, FULL, tmp_path / "parts", PAGES, workers=0, progress=False)
    assert run.interrupted and run.steps == 2 and not run.validation["step"]
    run = train.fit(small_model(), PAGES, FULL, tmp_path / "parts", PAGES, resume=True, progress=False)
    assert run == expected and run.validation["step"] == [2, 4, 5]
    assert_same_files(tmp_path / "parts", tmp_path / "whole")


def test_interrupt_finishes_the_step_saves_and_resumes(tmp_path: Path) -> None:
    whole = small_model()
    train.fit(whole, PAGES, RECIPE, progress=False)
    before = signal.getsignal(signal.SIGINT)
    pages = InterruptedPages(at=6)  # in step 2, because a step reads two pages
    run = train.fit(small_model(), pages, RECIPE, tmp_path, workers=0, progress=False)
    assert run.interrupted and run.steps == 3
    assert signal.getsignal(signal.SIGINT) is before
    model = run_folder.open_run(tmp_path).model
    run = train.fit(model, PAGES, RECIPE, tmp_path, resume=True, progress=False)
    assert not run.interrupted and run.steps == 5
    assert_same_state(model, whole)


def test_saves_during_the_run(tmp_path: Path) -> None:
    class Broken(InterruptedPages):
        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            self.reads += 1
            if self.reads == self.at:
                raise RuntimeError("the disk is gone")
            return PAGES[index]

    with pytest.raises(RuntimeError, match="the disk is gone"):
        train.fit(small_model(), Broken(at=9), RECIPE, tmp_path, save_every=2, workers=0, progress=False)
    assert run_folder.open_run(tmp_path).run.steps == 4


def test_run_resumes_to_the_same_files_after_an_incomplete_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate `kill -9` or a full disk: fail at each file that this run writes after the first state."""
    written: list[str] = []
    pages = data.Shapes(2, seed=3)

    def write_up_to(last: int, out: Path, resume: bool = False) -> None:
        written.clear()

        def write(path: Path, content: bytes) -> None:
            if len(written) == last:
                raise OSError(f"no space left for {path}")
            written.append(Path(path).name)
            _files.write_whole(path, content)

        for module in (checkpoint, run_folder):
            monkeypatch.setattr(module, "write_whole", write)
        train.fit(
            small_model(), pages, dataclasses.replace(FULL, batch_size=1), out, pages, resume, workers=0, progress=False
        )

    write_up_to(99, tmp_path / "whole")
    assert written.count(run_folder.STATE) == 3 and written[-1] == run_folder.STATE
    for last in range(written.index(run_folder.STATE) + 1, len(written)):
        out = tmp_path / str(last)
        with pytest.raises(OSError, match="no space left"):
            write_up_to(last, out)
        write_up_to(99, out, resume=True)
        assert_same_files(out, tmp_path / "whole")


def test_steps_before_a_failed_validation_are_saved(tmp_path: Path) -> None:
    class Gone(InterruptedPages):
        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            raise OSError("val/4.png is gone")

    expected = train.fit(small_model(), PAGES, FULL, tmp_path / "whole", PAGES, progress=False)
    with pytest.raises(OSError, match="val/4.png is gone"):
        train.fit(small_model(), PAGES, FULL, tmp_path / "parts", Gone(at=0), progress=False)
    assert run_folder.open_run(tmp_path / "parts").run.steps == 2
    assert train.fit(small_model(), PAGES, FULL, tmp_path / "parts", PAGES, resume=True, progress=False) == expected
    assert_same_files(tmp_path / "parts", tmp_path / "whole")


def test_diverged_run_keeps_saved_files(tmp_path: Path) -> None:
    train.fit(small_model(), PAGES, RECIPE, tmp_path, stop_at=1, progress=False)
    before = (tmp_path / run_folder.WEIGHTS).read_bytes()
    model = small_model()
    model.rpn.head.cls_logits.weight.data[...] = np.nan
    with pytest.raises(
        FloatingPointError, match=r"step 0 produced non-finite values, first in the RPN head \(objectness\)"
    ):
        train.fit(model, PAGES, RECIPE, tmp_path, progress=False)
    assert (tmp_path / run_folder.WEIGHTS).read_bytes() == before


def test_wrong_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data set is empty"):
        train.fit(small_model(), data.Shapes(0), RECIPE)
    with pytest.raises(ValueError, match="out="):
        train.fit(small_model(), PAGES, RECIPE, resume=True)
    with pytest.raises(FileNotFoundError, match="state.safetensors"):
        train.fit(small_model(), PAGES, RECIPE, tmp_path / "nothing", resume=True)
    train.fit(small_model(), PAGES, RECIPE, tmp_path, stop_at=1, progress=False)
    with pytest.raises(ValueError, match=r"^cannot resume the run in .* with other settings: steps was 5, got 6$"):
        train.fit(small_model(), PAGES, RECIPE.replace(steps=6), tmp_path, resume=True)
    other = faster_rcnn_small(PAGES.classes, dropout=0.3, min_size=96)
    with pytest.raises(ValueError, match=r"with other settings: min_size was 128, got 96$"):
        train.fit(other, PAGES, RECIPE, tmp_path, resume=True)
    with pytest.raises(ValueError, match="it was trained on 6 images, but the data set has 5; start a new run"):
        train.fit(small_model(), data.Shapes(5, seed=3), RECIPE, tmp_path, resume=True)


class Renamed(InterruptedPages):
    def __init__(self, *classes: str) -> None:
        super().__init__(at=0)
        self.classes = ("background", *classes)


@pytest.mark.parametrize("classes", [("cross", "triangle", "square", "circle"), ("circle", "square", "triangle")])
def test_classes_must_be_those_of_the_model(classes: tuple[str, ...]) -> None:
    pages = Renamed(*classes)
    with pytest.raises(
        ValueError, match=rf"the data set has {len(classes) + 1} classes \(.*\), but the model has 5 \("
    ):
        train.fit(small_model(), pages, RECIPE, progress=False)
    with pytest.raises(ValueError, match="the validation data set has"):
        train.fit(small_model(), PAGES, RECIPE, val=pages, progress=False)


def test_model_without_class_names_accepts_any_classes_of_the_same_number() -> None:
    config = small_model().config
    model = FasterRCNN(dataclasses.replace(config, class_names=None))
    assert train.fit(model, Renamed("a", "b", "c", "d"), RECIPE.replace(steps=1), progress=False).steps == 1
    with pytest.raises(ValueError, match=r"has 2 classes \(background, a\), but the model has 5; "):
        train.fit(model, Renamed("a"), RECIPE, progress=False)
    with pytest.raises(ValueError, match="the validation data set is empty"):
        train.fit(model, PAGES, RECIPE, val=data.Shapes(0), progress=False)


def test_frozen_parameters_do_not_change() -> None:
    model = small_model()
    model.backbone.requires_grad_(False)
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    train.fit(model, PAGES, RECIPE.replace(steps=1), progress=False)
    moved = {name for name, p in model.named_parameters() if not np.array_equal(p.data, before[name])}
    assert moved == {name for name in before if not name.startswith("backbone.")}


def test_one_page_of_digits_can_be_overfitted() -> None:
    """A loss below 0.05, and every box found with an IoU above 0.85, show that every stage learns."""
    pages = data.Digits(1, seed=4)
    image, target = pages[0]
    assert len(target["boxes"]) >= 3
    rcnn.seed(0)
    model = faster_rcnn_small(pages.classes)
    run = train.fit(model, pages, Recipe(steps=300, batch_size=1, warmup_steps=20), progress=False)
    assert np.mean(run.history["total_loss"][-20:]) < 0.05
    found = model.predict([image], score_thresh=0.5)[0]
    overlap = boxes.iou(target["boxes"], found["boxes"])
    best = overlap.argmax(axis=1)
    assert (overlap.max(axis=1) > 0.85).all()
    np.testing.assert_array_equal(found["labels"][best], target["labels"])


@pytest.mark.proof
@pytest.mark.parametrize(("name", "minimum"), [("digits", 0.87), ("shapes", 0.97)])
def test_trained_from_scratch_reaches_its_average_precision(name: str, minimum: float) -> None:
    pages, unseen = data.load(name, "train"), data.load(name, "val")
    scores = []
    for seed in (1, 2, 3):
        rcnn.seed(seed)
        model = faster_rcnn_small(pages.classes)
        train.fit(model, pages, train.RECIPES[name].replace(seed=seed))
        scores.append(evaluate.evaluate(model, unseen).mean_ap)
        print(f"{name}, seed {seed}: AP50 {scores[-1]:.3f}")
    assert np.mean(scores) >= minimum


def test_dropout_in_a_users_backbone_resumes_bit_identically(tmp_path: Path) -> None:
    """get_loss(rng=...) controls everything random in a pass, not only the library's own head."""

    class Wavering(rcnn.nn.Module):
        def __init__(self) -> None:
            self.conv = rcnn.nn.Conv2d(3, 8, 3, stride=8, padding=1)
            self.dropout = rcnn.nn.Dropout(0.5)

        def forward(self, x: rcnn.nn.Tensor) -> rcnn.nn.Tensor:
            return self.dropout(self.conv(x))

    def model() -> FasterRCNN:
        rcnn.seed(1)
        return FasterRCNN(
            rcnn.FasterRCNNConfig(
                Wavering(), 8, 5, anchor_sizes=(32,), min_size=64, max_size=64, pool_size=(2, 2), hidden_dim=8
            )
        )

    whole, parts = model(), model()
    train.fit(whole, PAGES, RECIPE, progress=False)
    train.fit(parts, PAGES, RECIPE, tmp_path, stop_at=2, progress=False)
    resumed = model()
    train.fit(resumed, PAGES, RECIPE, tmp_path, resume=True, progress=False)
    assert_same_state(resumed, whole)


# ---------------------------------------------------------------------- averages and early stopping


def test_averaged_weights_are_validated_saved_and_left_in_the_model(tmp_path: Path) -> None:
    plain, model = small_model(), small_model()
    recipe = dataclasses.replace(RECIPE, ema=0.5, val_every=1)
    expected = WeightAverage(plain, 0.5)
    for step in range(recipe.steps):
        plain = small_model()
        train.fit(plain, PAGES, RECIPE, stop_at=step + 1, progress=False)
        expected.update(plain, step)
    run = train.fit(model, PAGES, recipe, tmp_path, PAGES, progress=False)
    assert model.training and all(
        np.array_equal(array, expected.state[name]) for name, array in model.state_dict().items()
    )
    assert_same_state(rcnn.load(tmp_path / run_folder.WEIGHTS), model)
    assert_same_state(run_folder.open_run(tmp_path).model, plain)
    assert train.validate(model, PAGES, 2, recipe.seed)["total_loss"] == run.validation["total_loss"][-1]


def test_run_without_a_better_validation_stops_early_and_stays_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = dict.fromkeys(run_folder.LOSSES, 1.0)
    results = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(loop, "validate", lambda *_: {"ap50": next(results), **scores})
    recipe = dataclasses.replace(RECIPE, steps=9, val_every=1, patience=2)
    run = train.fit(small_model(), PAGES, recipe, tmp_path, PAGES, progress=False)
    assert run.steps == 4 and run.best == 1 and not run.interrupted
    again = train.fit(small_model(), PAGES, recipe, tmp_path, PAGES, resume=True, progress=False)
    assert again == run and run_folder.open_run(tmp_path).run == run


def test_patience_requires_validation_images() -> None:
    with pytest.raises(ValueError, match="^patience = 2 requires validation images: pass val="):
        train.fit(small_model(), PAGES, dataclasses.replace(RECIPE, patience=2, val_every=1))


# ---------------------------------------------------------------------- validation


def test_validation_equals_evaluate_and_get_loss() -> None:
    model = small_model().train()
    state = {name: array.copy() for name, array in model.state_dict().items()}
    scores = train.validate(model, PAGES, batch_size=6)
    assert model.training and all(np.array_equal(array, state[name]) for name, array in model.state_dict().items())
    assert scores == train.validate(model, PAGES, batch_size=6, workers=0)
    model.eval()
    assert scores["ap50"] == evaluate.evaluate(model, PAGES, batch_size=6, progress=False).mean_ap
    pages = [PAGES[i] for i in range(6)]
    losses = model.get_loss([p for p, _ in pages], [t for _, t in pages], np.random.default_rng([0, 3, 0]))
    assert {name: loss.item() for name, loss in losses.items()} == {name: scores[name] for name in run_folder.LOSSES}


def test_losses_are_weighted_by_the_images_of_a_batch() -> None:
    model = small_model().eval()
    four, all_six = (train.validate(model, pages, 4)["total_loss"] for pages in (data.Shapes(4, seed=3), PAGES))
    last = [PAGES[4], PAGES[5]]
    two = model.get_loss([p for p, _ in last], [t for _, t in last], np.random.default_rng([0, 3, 4]))["total_loss"]
    assert all_six == pytest.approx((4 * four + 2 * two.item()) / 6)


def test_error_of_a_non_finite_validation_loss_names_the_batch() -> None:
    model = small_model()
    model.rpn.head.cls_logits.bias.data[...] = np.nan
    with pytest.raises(FloatingPointError, match="the loss is not finite in the batch that starts with image 0"):
        train.validate(model, PAGES)


def test_best_model_is_the_first_with_the_highest_ap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.25, 0.5, 0.5])
    monkeypatch.setattr(loop, "validate", lambda *_: dict.fromkeys(run_folder.LOSSES, 1.0) | {"ap50": next(scores)})
    saved: list[int] = []
    monkeypatch.setattr(run_folder, "save_best", lambda folder, model: saved.append(len(saved)))
    run = train.fit(small_model(), PAGES, FULL, tmp_path, PAGES, progress=False)
    assert run.validation["step"] == [2, 4, 5] and run.best == 1
    assert saved == [0, 1]


# ---------------------------------------------------------------------- freezing


def test_frozen_names_keep_their_parameters_and_statistics() -> None:
    model = small_model()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    train.fit(
        model,
        PAGES,
        Recipe(steps=1, batch_size=2, freeze=("backbone.stem", "roi_heads.box_head.fc6.weight")),
        progress=False,
    )
    stayed = {name for name, array in model.state_dict().items() if np.array_equal(array, before[name])}
    assert stayed == {
        name for name in before if name.startswith("backbone.stem.") or name == "roi_heads.box_head.fc6.weight"
    }


@pytest.mark.parametrize("prefix", ["backbones", "backbone.ste", "rpn.head.cls_logits.weight.x"])
def test_unknown_names_to_freeze_are_an_error(prefix: str) -> None:
    with pytest.raises(ValueError, match=rf"starts with '{prefix}'; the names start with backbone, rpn, roi_heads$"):
        train.fit(small_model(), PAGES, Recipe(freeze=(prefix,)), progress=False)


# ---------------------------------------------------------------------- non-finite values


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # non-finite on purpose
def test_non_finite_step_changes_nothing_and_names_its_images(tmp_path: Path) -> None:
    model = small_model()
    model.roi_heads.box_predictor.bbox_pred.weight.data[...] = np.inf
    before = {name: array.copy() for name, array in model.state_dict().items()}
    indices = Order(len(PAGES), 2, RECIPE.seed).batch(0)
    with pytest.raises(
        FloatingPointError,
        match=r"step 0 produced non-finite values, first in the head \(box deltas\).*"
        rf"; images of this step: image {indices[0]}, image {indices[1]}$",
    ):
        train.fit(model, PAGES, RECIPE, tmp_path, progress=False)
    assert not [name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])]
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("lr", "steps"), [(1e30, 1), (1e300, 0)])  # the second makes the weights themselves infinite
def test_diverging_learning_rate_is_an_error_and_never_saved(tmp_path: Path, lr: float, steps: int) -> None:
    recipe = Recipe(steps=4, batch_size=2, lr=lr, warmup_steps=0)
    with pytest.raises(FloatingPointError, match="try a lower learning rate than 1e[+]30"):
        train.fit(small_model(), PAGES, recipe, tmp_path, save_every=1, progress=False)
    assert (tmp_path / run_folder.STATE).exists() == (steps > 0)
    if steps:
        assert run_folder.open_run(tmp_path).run.steps == steps


# ---------------------------------------------------------------------- threads and signals


def test_forked_child_trains_with_workers() -> None:
    """Threads do not survive a fork, so every run starts its own."""
    train.fit(small_model(), PAGES, RECIPE, workers=2, progress=False)
    child = multiprocessing.get_context("fork").Process(
        target=train.fit, args=(small_model(), PAGES, RECIPE), kwargs={"workers": 2, "progress": False}
    )
    child.start()
    child.join(timeout=60)
    if child.is_alive():
        child.kill()
        pytest.fail("the child hangs")
    assert child.exitcode == 0


def test_second_ctrl_c_stops_at_once_and_leaves_no_thread() -> None:
    before = signal.getsignal(signal.SIGINT)

    class TwiceInterrupted(InterruptedPages):
        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            page = super().__getitem__(index)
            if self.reads == self.at:
                while signal.getsignal(signal.SIGINT) is not before:  # until the first one has arrived
                    pass
                os.kill(os.getpid(), signal.SIGINT)
            return page

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        train.fit(small_model(), TwiceInterrupted(at=5), RECIPE.replace(steps=100), workers=1, progress=False)
    assert threading.active_count() == threads
    assert signal.getsignal(signal.SIGINT) is before


def test_second_ctrl_c_in_a_validation_keeps_the_steps_before_it(tmp_path: Path) -> None:
    class TwiceInterrupted(InterruptedPages):
        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(small_model(), PAGES, FULL, tmp_path, TwiceInterrupted(at=0), workers=0, progress=False)
    assert run_folder.open_run(tmp_path).run.steps == 2


def test_background_job_of_a_shell_still_ignores_ctrl_c() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = train.fit(small_model(), InterruptedPages(at=2), RECIPE, workers=0, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.steps == 5 and not run.interrupted


def test_training_in_another_thread_is_bit_identical() -> None:
    whole, other = small_model(), small_model()
    train.fit(whole, PAGES, RECIPE, progress=False)
    thread = threading.Thread(target=train.fit, args=(other, PAGES, RECIPE), kwargs={"progress": False, "workers": 3})
    thread.start()
    thread.join()
    assert_same_state(whole, other)


@pytest.mark.parametrize(
    "argument, value",
    [("model", None), ("recipe", None), ("out", 5), ("stop_at", "a"), ("stop_at", -1), ("resume", 1), ("progress", "")],
)
def test_arguments_of_fit_are_checked_before_anything_is_written(argument: str, value: object, tmp_path: Path) -> None:
    arguments = {"model": small_model(), "dataset": data.Shapes(2), "recipe": Recipe(steps=1), "out": tmp_path / "run"}
    with pytest.raises((TypeError, ValueError), match=f"^{argument} must be .*, got {value!r}"):
        train.fit(**{**arguments, argument: value})
    assert not (tmp_path / "run").exists()
