"""Data-parallel training: a group of processes computes what one process computes."""

import dataclasses
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import rcnn
from rcnn import data, train
from rcnn.model import FasterRCNN
from rcnn.nn import BatchNorm2d, Parameter, Tensor, functional
from rcnn.nn import parallel as sums
from rcnn.nn.random import drawing_from, uniform
from rcnn.train import Recipe
from rcnn.train.parallel import ALONE, Buckets, Group, launched
from rcnn.zoo.detectors import faster_rcnn_small

T = TypeVar("T")

PAGES = data.Shapes(12, seed=3)


class Threads(Group):
    """A group of threads in this process, which exchange values through a list."""

    def __init__(self, rank: int, size: int, board: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self.board, self.barrier = rank, size, board, barrier
        self.calls = 0

    def exchange(self, value: T) -> list[T]:
        self.calls += 1
        self.board[self.rank] = pickle.dumps(value)  # a process gets copies
        self.barrier.wait(60)
        values = list(map(pickle.loads, self.board))
        self.barrier.wait(60)
        return values

    def add(self, values: np.ndarray) -> Callable[[], None]:
        def wait() -> None:
            values[...] = sum(self.exchange(values.copy()))

        return wait


def in_threads(size: int, run: Callable[[Group], T]) -> list[T]:
    """Return the results of a function that each thread of a group calls."""
    board, barrier = [None] * size, threading.Barrier(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            results[rank] = run(Threads(rank, size, board, barrier))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)] + errors
    if first:
        raise first[0]
    return results


def small_model(dtype: Any = np.float64) -> FasterRCNN:
    rcnn.seed(5)
    return faster_rcnn_small(PAGES.classes, dropout=0.3).astype(dtype)


# ---------------------------------------------------------------------- the parts


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [5, 6, 16])
def test_shares_cover_the_batch_in_order(size: int, count: int) -> None:
    shares = in_threads(size, lambda group: group.share(list(range(count))))
    assert [item for _, share in shares for item in share] == list(range(count))
    assert all(share[0] == first for first, share in shares)
    lengths = [len(share) for _, share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_group_of_one_changes_nothing() -> None:
    values = np.array([1.0, 2.0])
    assert ALONE.total(values) is values
    assert ALONE.exchange("a") == ["a"] and ALONE.broadcast("a") == "a"
    assert ALONE.share([1, 2, 3]) == (0, [1, 2, 3])
    assert ALONE.any(True) and not ALONE.any(False)
    batch = small_model().make_batch([PAGES[0][0]])
    assert ALONE.padded(batch) is batch


def test_shares_are_padded_to_the_size_of_the_whole_batch() -> None:
    model = small_model()
    images = [PAGES[0][0][:64, :40], PAGES[1][0][:50, :90], PAGES[2][0][:30, :30]]
    whole = model.make_batch(images)

    def run(group: Group) -> np.ndarray:
        _, share = group.share(images)
        batch = group.padded(model.make_batch(share))
        assert batch.images.transpose(0, 2, 3, 1).flags.c_contiguous  # channels last, as the kernels expect
        return batch.images

    assert np.array_equal(np.concatenate(in_threads(2, run)), whole.images)


def test_batch_norm_uses_the_statistics_of_all_processes() -> None:
    rng = np.random.default_rng(0)
    x, g = 3 + rng.standard_normal((2, 5, 4, 6, 3))  # (5, 4, 6, 3) each

    def layer() -> BatchNorm2d:
        norm = BatchNorm2d(4).astype(np.float64)
        norm.weight.data[...] = [1, 2, 3, 4]
        return norm

    alone = layer()
    inputs = Tensor(x, requires_grad=True)
    expected = alone(inputs)
    expected.backward(g)

    def run(group: Group) -> tuple[np.ndarray, ...]:
        norm, part = layer(), slice(0, 2) if group.rank == 0 else slice(2, 5)
        own = Tensor(x[part], requires_grad=True)
        with group.sharing():
            result = norm(own)
            result.backward(g[part])
        for name in ("running_mean", "running_var"):
            np.testing.assert_allclose(getattr(norm, name), getattr(alone, name), rtol=1e-12)
        return result.data, own.grad, group.total(norm.weight.grad), group.total(norm.bias.grad)

    (first, first_grad, weight, bias), (second, second_grad, _, _) = in_threads(2, run)
    np.testing.assert_allclose(np.concatenate([first, second]), expected.data, rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([first_grad, second_grad]), inputs.grad, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weight, alone.weight.grad, rtol=1e-12)
    np.testing.assert_allclose(bias, alone.bias.grad, rtol=1e-12)


def test_batch_norm_waits_for_the_others_even_without_values() -> None:
    x = np.arange(12.0).reshape(3, 2, 2, 1)

    def run(group: Group) -> np.ndarray:
        norm = BatchNorm2d(2).astype(np.float64)
        own = Tensor(x[: 3 * group.rank], requires_grad=True)  # process 0 has no maps
        with group.sharing():
            norm(own).backward(np.ones_like(own.data))
        return norm.running_mean

    alone = BatchNorm2d(2).astype(np.float64)
    alone(Tensor(x))
    for mean in in_threads(2, run):
        np.testing.assert_allclose(mean, alone.running_mean, rtol=1e-12)


def test_pooled_variance_of_large_numbers_is_exact() -> None:
    values = 1e6 + np.array([[0.0, 1.0], [2.0, 4.0]])

    def run(group: Group) -> tuple[int, np.ndarray, np.ndarray]:
        with group.sharing():
            own = values[group.rank]
            return sums.pooled(2, own.mean(keepdims=True), own.var(keepdims=True), np.array([1e6 - 3]))

    for count, mean, var in in_threads(2, run):
        assert count == 4 and mean[0] == 1e6 + 1.75
        assert var[0] == pytest.approx(2.1875, rel=1e-12)


def test_shares_of_counts() -> None:
    def run(group: Group) -> list[float]:
        with group.sharing():
            return sums.shares([1 + group.rank, 3 * group.rank, 0])

    assert in_threads(2, run) == [[1 / 3, 0, 0], [2 / 3, 1, 0]]
    assert not sums.is_summing() and sums.shares([5, 0]) == [1, 0]


def test_rows_of_an_image_do_not_depend_on_the_other_images() -> None:
    def generators() -> list[np.random.Generator]:
        return [np.random.default_rng(seed) for seed in range(3)]

    with drawing_from(generators(), [2, 0, 3]):
        whole = uniform((5, 4))
    with drawing_from(generators()[1:], [0, 3]):
        part = uniform((3, 4))
    assert np.array_equal(part, whole[2:])
    with drawing_from(generators()):
        maps = uniform((3, 2, 2))
        per_pixel = uniform((6, 2))  # each image has two rows
    assert np.array_equal(maps[1], generators()[1].random((2, 2), np.float32))
    rng = generators()[2]
    rng.random((2, 2), np.float32)
    assert np.array_equal(per_pixel[4:], rng.random((2, 2), np.float32))


def test_one_generator_for_all_images_draws_as_before() -> None:
    rng, same = (np.random.default_rng(4) for _ in range(2))
    with drawing_from([rng, rng], [1, 2]):
        drawn = functional.dropout(Tensor(np.ones((3, 5))), 0.5).data
    assert np.array_equal(drawn > 0, same.random((3, 5), np.float32) >= 0.5)


class Recorded(Threads):
    """A group that records the sizes of the arrays that it adds."""

    def add(self, values: np.ndarray) -> Callable[[], None]:
        self.sizes = [*getattr(self, "sizes", []), values.size]
        return super().add(values)


def test_buckets_are_sent_in_order_as_soon_as_they_are_complete() -> None:
    parameters = [Parameter(np.zeros(size, np.float32)) for size in (3, 2, 4, 1)]
    buckets = Buckets(parameters, nbytes=16)
    assert [[p.size for p in group] for group in buckets.groups] == [[1, 4], [2, 3]]
    group = Recorded(0, 1, [None], threading.Barrier(1))
    for index in (1, 0, 3):
        parameters[index].grad = np.full(parameters[index].shape, index + 1, np.float32)
        buckets.collect(parameters[index], group)
        assert not getattr(group, "sizes", [])  # bucket 1 is complete, but must wait for bucket 0
    parameters[2].grad = np.full(4, 3, np.float32)
    buckets.collect(parameters[2], group)
    assert group.sizes == [1 + 4 + 2, 2 + 3 + 2]
    buckets.finish(group)
    assert [p.grad.tolist() for p in parameters] == [[1, 1, 1], [2, 2], [3] * 4, [4]]


def test_missing_gradients_count_as_zero_unless_all_are_missing() -> None:
    def run(group: Group) -> list[list[float] | None]:
        parameters = [Parameter(np.zeros(2)) for _ in range(3)]
        with group.adding_gradients(parameters):
            ((parameters[0] * (group.rank + 1)).sum() + (parameters[group.rank] * 10).sum()).backward()
        return [None if p.grad is None else p.grad.tolist() for p in parameters]

    assert in_threads(2, run) == [[[13, 13], [10, 10], None]] * 2


def test_gradients_arrive_during_the_backward_pass() -> None:
    """The gradients of the last layers are complete before the first layers are visited."""
    model = small_model(np.float32).train()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order: list[str] = []
    loss = model.get_loss([PAGES[0][0]], [PAGES[0][1]], np.random.default_rng(0))["total_loss"]
    with rcnn.nn.tensor.watching_leaves(lambda leaf: order.append(names[id(leaf)])):
        loss.backward()
    assert sorted(order) == sorted(names.values())
    parts = [name.split(".")[0] for name in order]
    assert parts[-1] == "backbone" and order[-1].startswith("backbone.stem.0")
    assert parts.index("backbone") > max(index for index, part in enumerate(parts) if part != "backbone")


def test_watching_leaves_changes_only_the_rounding_of_gradients() -> None:
    def grads(watch: bool) -> list[np.ndarray]:
        model = small_model().train()
        loss = model.get_loss([PAGES[0][0]], [PAGES[0][1]], np.random.default_rng(0))["total_loss"]
        if watch:
            with rcnn.nn.tensor.watching_leaves(lambda leaf: None):
                loss.backward()
        else:
            loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    for watched, expected in zip(grads(True), grads(False), strict=True):
        np.testing.assert_allclose(watched, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"PMI_RANK": "2", "PMI_SIZE": "3"}, (2, 3)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, (0, 1)),
        ({"PMI_RANK": "0", "PMI_SIZE": ""}, (0, 1)),
        # srun --mpi=pmix, with several tasks and with one
        ({"PMIX_RANK": "3", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, (3, 4)),
        ({"PMIX_RANK": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, (0, 1)),
        # a batch script of Slurm, and srun --mpi=none, whose tasks know nothing of each other
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (0, 1)),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, (0, 1)),
        # PMIx without Slurm
        ({"PMIX_RANK": "1"}, (0, 1)),
        # mpiexec of MPICH and of Open MPI inside a step of srun
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "4"}, (1, 2)),
        (
            {
                "OMPI_COMM_WORLD_RANK": "0",
                "OMPI_COMM_WORLD_SIZE": "1",
                "PMI_RANK": "3",
                "PMI_SIZE": "4",
            },
            (0, 1),
        ),
    ],
)
def test_number_of_processes_comes_from_the_environment(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert launched(environment) == expected


# ---------------------------------------------------------------------- training


RECIPE = Recipe(steps=50, batch_size=6, warmup_steps=5, lr=0.002, flip=0.5, scale_jitter=(0.8, 1.2), crop=0.2, seed=7)


def history(size: int, recipe: Recipe = RECIPE, **options: Any) -> list[train.Run]:
    models = [small_model() for _ in range(size)]  # made one after the other, because all draw from one generator

    def run(group: Group) -> train.Run:
        return train.fit(models[group.rank], PAGES, recipe, progress=False, workers=0, group=group, **options)

    if size == 1:
        return [run(ALONE)]
    return in_threads(size, run)


def assert_same_losses(runs: Sequence[train.Run], expected: train.Run, tolerance: float) -> None:
    for run in runs:
        for name, losses in expected.history.items():
            np.testing.assert_allclose(run.history[name], losses, rtol=tolerance, atol=tolerance, err_msg=name)
        np.testing.assert_allclose(run.grad_norms, expected.grad_norms, rtol=tolerance)


def test_group_gives_the_losses_of_one_process() -> None:
    """tests/train/test_mpi.py compares all 50 steps."""
    (alone,) = history(1, stop_at=5)
    assert_same_losses(history(4, stop_at=5), alone, 1e-10)  # the shares are 1, 2, 1 and 2 images


def test_losses_with_several_batches_per_step_and_class_weights_are_those_of_one_process() -> None:
    recipe = dataclasses.replace(RECIPE, steps=4, batch_size=3, accumulate=2, ema=0.9)

    def model() -> FasterRCNN:
        rcnn.seed(5)
        weights = (1.0, 3.0, *[1.0] * (len(PAGES.classes) - 2))
        return faster_rcnn_small(PAGES.classes, dropout=0.3, box_class_weights=weights).astype(np.float64)

    models = [model() for _ in range(4)]

    def run(group: Group) -> train.Run:
        return train.fit(models[group.rank], PAGES, recipe, progress=False, workers=0, group=group)

    runs = in_threads(3, run)
    expected = train.fit(models[3], PAGES, recipe, progress=False, group=ALONE)
    assert_same_losses(runs, expected, 1e-9)
    for trained in models[:3]:
        for name, array in models[3].state_dict().items():  # the average of the weights
            np.testing.assert_allclose(trained.state_dict()[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


def test_validation_is_shared_and_gives_the_same_scores() -> None:
    models = [small_model(np.float32) for _ in range(3)]
    scores = in_threads(2, lambda group: train.validate(models[group.rank], PAGES, batch_size=5, group=group))
    assert scores == [train.validate(models[2], PAGES, batch_size=5)] * 2


def test_non_finite_loss_is_an_error_in_all_processes() -> None:
    models = [small_model() for _ in range(2)]
    for model in models:
        model.roi_heads.box_predictor.cls_score.weight.data[...] = 1e308
    stages: list[str] = []

    def run(group: Group) -> None:
        with pytest.raises(FloatingPointError) as raised, np.errstate(all="ignore"):
            train.fit(models[group.rank], PAGES, RECIPE, progress=False, workers=0, group=group)
        stages.append(str(raised.value).partition(":")[0])

    in_threads(2, run)
    assert len(stages) == 2 and stages[0] == stages[1]
    assert stages[0].startswith("step 0 produced non-finite values, first in the head (class logits)")


def test_only_process_0_writes_and_reads_the_run(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=4, batch_size=4)
    models = [small_model() for _ in range(6)]
    expected = train.fit(models[5], PAGES, recipe, progress=False)

    def run(group: Group, first: int, **options: Any) -> train.Run:
        folder = tmp_path / ("run" if group.rank == 0 else f"other{group.rank}")
        return train.fit(models[first + group.rank], PAGES, recipe, folder, progress=False, group=group, **options)

    in_threads(2, lambda group: run(group, 0, stop_at=2))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    runs = in_threads(3, lambda group: run(group, 2, resume=True))  # three processes continue the run of two
    assert_same_losses(runs, expected, 1e-9)


def test_more_processes_than_images_in_a_batch_is_an_error() -> None:
    group = Threads(0, 7, [], threading.Barrier(1))
    with pytest.raises(ValueError, match="batch_size = 6 must be at least the number of processes, 7"):
        train.fit(small_model(), PAGES, RECIPE, group=group)
