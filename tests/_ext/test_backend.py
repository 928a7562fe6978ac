import contextvars
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rcnn
from rcnn import _ext
from rcnn._ext import backend
from rcnn.boxes import iou

MUCH = 10**9  # multiply-adds: enough work for every thread


def python(code, **environment):
    """Run `code` in a new interpreter; set the variables of `environment`, or remove those that are None.

    RCNN_SIMD is removed too, because it makes missing kernels of its level an error.
    """
    changed = {**os.environ, "RCNN_SIMD": None, **environment}
    variables = {key: value for key, value in changed.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)


@pytest.fixture(autouse=True)
def restore_settings():
    before = backend.get_backend(), backend.get_num_threads(), backend.get_conv_algorithm()
    yield
    rcnn.use_backend(before[0])
    rcnn.set_num_threads(before[1])
    rcnn.set_conv_algorithm(before[2])


def limits():
    return backend._blas_counts()


# ---------------------------------------------------------------- the implementation


def test_use_backend_lasts_or_ends_with_its_block():
    rcnn.use_backend("numpy")
    assert backend.get_backend() == "numpy"
    with rcnn.use_backend("cython"):
        assert backend.runs_kernels()
        with rcnn.use_backend("numpy"):
            assert not backend.runs_kernels()
        assert backend.get_backend() == "cython"
    assert backend.get_backend() == "numpy"


def test_use_backend_is_restored_after_an_error():
    rcnn.use_backend("cython")
    with pytest.raises(KeyError), rcnn.use_backend("numpy"):
        raise KeyError
    assert backend.get_backend() == "cython"


def test_the_setting_selects_the_implementation(impl, monkeypatch):
    calls = []
    monkeypatch.setattr("rcnn._ext.boxes.kernels", SimpleNamespace(iou=lambda *given: calls.append("cython")))
    iou([[0, 0, 1, 1]], [[0, 0, 1, 1]])
    assert calls == (["cython"] if impl == "cython" else [])


def test_use_backend_rejects_an_unknown_name():
    with pytest.raises(ValueError, match="name must be one of cython, numpy, got 'torch'"):
        rcnn.use_backend("torch")


BACKEND = "import rcnn._ext.backend as b; print(b.get_backend())"
WITHOUT = "import sys; sys.modules['rcnn._ext._build'] = None; "  # importing it then fails


@pytest.mark.parametrize(("variable", "backend"), [(None, "cython"), ("numpy", "numpy"), ("cython", "cython")])
def test_the_environment_chooses(variable, backend):
    run = python(BACKEND, RCNN_BACKEND=variable)
    assert (run.stdout.strip(), run.stderr) == (backend, "")


def test_an_unknown_backend_in_the_environment_is_reported():
    assert "RCNN_BACKEND must be one of cython, numpy, got 'cuda'" in python(BACKEND, RCNN_BACKEND="cuda").stderr


def test_without_kernels_numpy_runs_with_one_warning():
    everything = WITHOUT + "import rcnn.boxes, rcnn.nms, rcnn.roi; " + BACKEND
    run = python(everything, RCNN_BACKEND=None, RCNN_REQUIRE_EXT=None)
    assert run.stdout.strip() == "numpy"
    assert run.stderr.count("RuntimeWarning: rcnn runs on NumPy alone") == 1
    asked_for = python(WITHOUT + BACKEND, RCNN_BACKEND="numpy", RCNN_REQUIRE_EXT=None)
    assert (asked_for.stdout.strip(), asked_for.stderr) == ("numpy", "")


@pytest.mark.parametrize("environment", [{"RCNN_REQUIRE_EXT": "1"}, {"RCNN_BACKEND": "cython"}])
def test_missing_kernels_can_be_an_error(environment):
    run = python(WITHOUT + BACKEND, **{"RCNN_BACKEND": None, "RCNN_REQUIRE_EXT": None, **environment})
    assert run.returncode != 0
    assert "ImportError: rcnn's kernels were not compiled or cannot be loaded" in run.stderr


# ---------------------------------------------------------------- the level of the kernels

LEVEL = """
from rcnn import _ext
from rcnn._ext import boxes, roi
print(_ext.level(), boxes.kernels.__name__, roi.kernels.__name__, _ext.load("_optim").__name__)
"""
BASELINE = "baseline rcnn._ext._boxes rcnn._ext._roi rcnn._ext._optim\n"


@pytest.mark.parametrize("level", _ext.usable_levels())
def test_all_kernels_are_of_the_requested_level(level):
    suffix = "" if level == "baseline" else f"_{level}"
    optim = suffix.replace("v4", "v3")  # no `_optim` is compiled for v4, because it would not be faster
    printed = python(LEVEL, RCNN_SIMD=level).stdout
    assert printed == f"{level} rcnn._ext._boxes{suffix} rcnn._ext._roi{suffix} rcnn._ext._optim{optim}\n"


def test_a_level_with_a_missing_kernel_is_not_chosen():
    assert python(LEVEL, RCNN_SIMD=None).stdout.split()[0] == _ext.usable_levels()[-1]
    lacking = "import sys; sys.modules['rcnn._ext._nms_v3'] = sys.modules['rcnn._ext._nms_v4'] = None; "
    assert python(lacking + LEVEL, RCNN_SIMD=None).stdout == BASELINE


def test_no_level_beyond_the_processor_is_chosen():
    weak = "import sys, types; "
    weak += "sys.modules['rcnn._ext._build'] = types.SimpleNamespace(levels=lambda: ['baseline']); "
    assert python(weak + LEVEL, RCNN_SIMD=None).stdout == BASELINE
    assert "ImportError: RCNN_SIMD is 'v3', but these kernels " in python(weak + LEVEL, RCNN_SIMD="v3").stderr


@pytest.mark.parametrize(
    ("before", "possible"),
    [
        ("", ", ".join(_ext.usable_levels())),
        (
            WITHOUT,
            "none, because the kernels were not compiled: import of rcnn._ext._build halted; None in sys.modules",
        ),
    ],
)
def test_an_unusable_level_in_the_environment_is_reported(before, possible):
    printed = python(before + LEVEL, RCNN_SIMD="avx9").stderr
    assert (
        "RCNN_SIMD is 'avx9', but these kernels and this processor do not support this level; "
        f"supported levels: {possible}\n" in printed
    )


def test_every_level_gives_the_same_bits():
    """Geometry kernels round after every operation, so the width of the vectors does not matter."""
    code = """
import hashlib, numpy as np
from rcnn import boxes, nms, roi
rng = np.random.default_rng(0)
corner = rng.uniform(0, 200, (333, 2)).astype("f4")
some = np.concatenate([corner, corner + rng.uniform(1, 90, (333, 2)).astype("f4")], axis=1)
maps, where = rng.normal(size=(1, 37, 26, 28)).astype("f4"), np.zeros(333, int)
pooled = roi.roi_align(maps, some, where, (7, 7), 0.125)
answers = [boxes.iou(some, some), nms.nms(some, rng.uniform(size=333), 0.4), pooled,
           roi.roi_align_backward(pooled, some, where, maps.shape, 0.125),
           roi.roi_pool(maps, some, where, (7, 7), 0.125)]
print(*(hashlib.sha256(a.tobytes()).hexdigest() for a in answers))
"""
    answers = {python(code, RCNN_BACKEND="cython", RCNN_SIMD=level).stdout for level in _ext.usable_levels()}
    assert len(answers) == 1
    assert len(answers.pop().split()) == 5


# ---------------------------------------------------------------- the number of threads


def test_set_num_threads_sets_kernels_and_blas():
    rcnn.set_num_threads(2)
    with rcnn.set_num_threads(1):
        assert (backend.threads_for(MUCH), set(limits())) == (1, {1} if limits() else set())
    assert (backend.threads_for(MUCH), set(limits())) == (2, {2} if limits() else set())


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_set_num_threads_reports_invalid_numbers(n, error):
    with pytest.raises(error, match=f"n must be .*, got {n!r}"):
        rcnn.set_num_threads(n)


def test_little_work_runs_on_one_thread():
    rcnn.set_num_threads(4)
    assert backend.threads_for(backend.WORTH_THREADS - 1) == 1
    assert backend.threads_for(backend.WORTH_THREADS) == 4


def test_only_one_pool_of_threads_runs_at_a_time(impl):
    rcnn.set_num_threads(3)
    expected = 1 if impl == "cython" else 3
    with backend.one_pool():
        assert backend.threads_for(MUCH) == 3
        with backend.one_pool():
            assert all(count == expected for count in limits())
        assert all(count == expected for count in limits())
    assert all(count == 3 for count in limits())


def test_one_pool_lowers_and_restores_thread_counts_but_never_increases_them(impl):
    rcnn.set_num_threads(2)
    for outside, inside in ((4, 2), (1, 1)):
        backend._put_blas([outside] * len(limits()))
        with pytest.raises(KeyError), backend.one_pool():
            assert all(count == (1 if impl == "cython" else inside) for count in limits())
            raise KeyError
        assert all(count == outside for count in limits())


def test_set_num_threads_inside_one_pool_lasts(impl):
    rcnn.set_num_threads(3)
    with backend.one_pool():
        rcnn.set_num_threads(2)
        assert all(count == (1 if impl == "cython" else 2) for count in limits())
        with rcnn.set_num_threads(4):
            assert backend.threads_for(MUCH) == 4
        assert backend.threads_for(MUCH) == 2
    assert all(count == 2 for count in limits())


def test_one_pool_of_several_python_threads():
    rcnn.set_num_threads(2)
    backend._put_blas([4] * len(limits()))
    entered, leave = threading.Event(), threading.Event()

    def other():
        with backend.one_pool():
            entered.set()
            leave.wait(30)

    with rcnn.use_backend("numpy"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(other,))
        thread.start()
        assert entered.wait(30)
        with backend.one_pool():
            pass
        assert all(count == 2 for count in limits())  # the other thread's block is still open
        leave.set()
        thread.join()
    assert all(count == 4 for count in limits())


def run_in_threads(work, count=8):
    """Run `work(number)` in threads that start at the same time, and raise the first error of one of them."""
    errors, start = [], threading.Barrier(count)

    def run(number):
        start.wait(30)
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


SETTINGS = [
    (rcnn.use_backend, backend.get_backend, backend.BACKENDS),
    (rcnn.set_conv_algorithm, backend.get_conv_algorithm, backend.CONV_ALGORITHMS),
    (rcnn.set_num_threads, backend.get_num_threads, (1, 2, 3, 5)),
]


@pytest.mark.parametrize(("make", "get", "values"), SETTINGS)
def test_blocks_in_threads_hold_for_their_thread_and_leave_nothing(make, get, values):
    before, blas = get(), limits()

    def work(number):
        rng = np.random.default_rng(number)
        for _ in range(40):
            outer, inner = rng.choice(values, 2).tolist()
            with make(outer):
                assert get() == outer
                with make(inner):
                    assert get() == inner
                assert get() == outer

    run_in_threads(work)
    assert get() == before
    assert limits() == blas


@pytest.mark.parametrize(("make", "get", "values"), SETTINGS)
def test_a_block_hides_the_default_that_another_thread_changes_meanwhile(make, get, values):
    before, changed = get(), threading.Event()

    def work():
        make(values[0])
        changed.set()

    with make(values[1]):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert changed.is_set() and get() == values[1]
    assert get() == values[0]  # the default that the thread has made
    make(before)


def seen_elsewhere(get):
    """Return what another thread reads."""
    values = []
    run_in_threads(lambda _: values.append(get()), 1)
    return values[0]


@pytest.mark.parametrize(("make", "get", "values"), SETTINGS)
def test_a_block_is_never_visible_in_another_thread(make, get, values):
    make(values[0])
    setting = make(values[1])  # the moment between the call and the start of the block
    assert seen_elsewhere(get) == values[0]
    with setting:
        assert (get(), seen_elsewhere(get)) == (values[1], values[0])
    del setting
    assert (get(), seen_elsewhere(get)) == (values[0], values[0])


@pytest.mark.parametrize(("make", "get", "values"), SETTINGS)
def test_a_plain_call_is_visible_at_once(make, get, values):
    make(values[0])
    make(values[1])
    assert seen_elsewhere(get) == values[1]
    setting = make(values[0])
    repr(setting)  # as in an interactive session
    assert seen_elsewhere(get) == values[0]
    setting = make(values[1])
    assert (get(), seen_elsewhere(get)) == (values[1], values[1])  # read in the same thread first
    with setting:
        assert get() == values[1]
    assert get() == values[1]


@pytest.mark.parametrize(("make", "get", "values"), SETTINGS)
def test_a_stored_setting_of_a_thread_that_has_ended_is_the_default(make, get, values):
    make(values[0])
    stored = []
    run_in_threads(lambda _: stored.append(make(values[1])), 1)
    assert get() == values[1]


@pytest.mark.parametrize(("make", "get", "values"), SETTINGS)
def test_a_plain_call_in_a_block_applies_in_the_block_and_after_it(make, get, values):
    make(values[0])
    with make(values[0]):
        make(values[1])
        assert get() == values[1]
        with make(values[0]):
            assert get() == values[0]
        assert get() == values[1]
    assert (get(), seen_elsewhere(get)) == (values[1], values[1])


def test_a_setting_that_is_still_stored_at_exit_is_no_error():
    run = python("import rcnn; setting = rcnn.set_num_threads(1)")
    assert (run.returncode, run.stderr) == (0, "")


def test_blas_gets_its_threads_back_after_many_blocks_in_threads():
    backend._put_blas([3] * len(limits()))
    before = limits()

    def work(number):
        rng = np.random.default_rng(number)
        for _ in range(30):
            with (
                rcnn.set_num_threads(int(rng.integers(1, 5))),
                rcnn.use_backend(backend.BACKENDS[rng.integers(2)]),
                backend.one_pool(),
                rcnn.set_num_threads(int(rng.integers(1, 5))),
            ):
                if rng.integers(2):
                    with pytest.raises(KeyError), backend.one_pool():
                        raise KeyError

    run_in_threads(work)
    assert limits() == before
    assert backend._state.passes == [] and backend._state.limits == []


def test_a_block_restores_what_another_library_has_set_after_a_default():
    rcnn.set_num_threads(2)
    backend._put_blas([3] * len(limits()))
    with rcnn.set_num_threads(1):
        assert all(count == 1 for count in limits())
    assert all(count == 3 for count in limits())
    rcnn.set_num_threads(2)
    assert all(count == 2 for count in limits())  # a new default prevails


@pytest.mark.parametrize("n", [2**40, 10**30, 257, 0, -1, float("nan"), None, "2", True])
def test_an_impossible_number_of_threads_changes_nothing(n):
    before = backend.get_num_threads(), limits()
    with pytest.raises((TypeError, ValueError), match="n must be an integer"):
        rcnn.set_num_threads(n)
    assert (backend.get_num_threads(), limits()) == before


@pytest.mark.parametrize(("variable", "threads"), [("3", 3), ("2,4", 2)])
def test_omp_num_threads_sets_the_default(variable, threads):
    run = python("import rcnn._ext.backend as b; print(b.get_num_threads())", OMP_NUM_THREADS=variable)
    assert run.stdout == f"{threads}\n"


def test_the_default_is_the_number_of_processors_of_this_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(backend, "container_quota", lambda otherwise: otherwise)
    for processors, expected in ((1, 1), (3, 3), (200, backend.DEFAULT_THREADS)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=processors: set(range(n)), raising=False)
        assert backend._default_num_threads() == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), (None, 8)]
)
def test_a_container_may_have_fewer_processors(monkeypatch, tmp_path, text, expected):
    file = tmp_path / "cpu.max"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(backend, "Path", lambda _: file)
    assert backend.container_quota(8) == expected


# ---------------------------------------------------------------- fork


def in_child(boxes, expected):
    rcnn.set_num_threads(4)
    assert backend.threads_for(MUCH) == 1
    with backend.one_pool():
        np.testing.assert_array_equal(iou(boxes, boxes), expected)
    np.testing.assert_array_equal(iou(boxes, boxes), expected)


def test_a_forked_child_computes_on_one_thread():
    corner = np.random.default_rng(0).uniform(0, 100, (1500, 2))  # enough for several threads
    boxes = np.concatenate([corner, corner + 20], axis=1)
    with rcnn.use_backend("cython"), rcnn.set_num_threads(2):
        expected = iou(boxes, boxes)  # starts threads, which do not exist in the child
        with backend.one_pool():
            child = multiprocessing.get_context("fork").Process(target=in_child, args=(boxes, expected))
            child.start()
        child.join(60)
    try:
        assert child.exitcode == 0
    finally:
        child.kill()


# ---------------------------------------------------------------- info


def test_info_reports_the_backend(impl):
    facts = backend.info()
    assert facts["backend"] == impl
    assert facts["numpy"] == np.__version__
    assert facts["threads"] == backend.get_num_threads()
    assert facts["kernels"] is True
    for key in ("rcnn", "python", "platform", "simd", "compiler", "blas"):
        assert isinstance(facts[key], str)
        assert facts[key]


@pytest.mark.parametrize(
    "build, name", [({"blas": {"name": "none"}}, "none"), ({"blas": {}}, "unknown"), ({}, "unknown")]
)
def test_info_of_a_numpy_without_blas(monkeypatch, build, name):
    monkeypatch.setattr(backend, "_blas_libraries", list)
    monkeypatch.setattr(np, "show_config", lambda mode: {"Build Dependencies": build})
    assert backend.info()["blas"] == name


def test_info_without_kernels():
    run = python(
        WITHOUT + "import rcnn._ext.backend as b; print(b.info())", RCNN_BACKEND="numpy", RCNN_REQUIRE_EXT=None
    )
    assert "'kernels': False" in run.stdout
    assert "simd" not in run.stdout


# ---------------------------------------------------------------- damaged kernels

SUPPRESS = "import rcnn.nms as n; print(n.nms([[0, 0, 2, 2], [0, 0, 2, 2]], [1.0, 0.5], 0.5))"


def usual_kernel(kernel):
    """Return the name of the module that `python` loads for a kernel. Its level is the highest of this processor."""
    return python(f"from rcnn import _ext; print(_ext.load({kernel!r}).__name__)").stdout.strip().rpartition(".")[2]


@pytest.mark.parametrize("damage", ["truncated", "empty", "no library", "no threads"])
def test_a_damaged_kernel_means_numpy_with_one_warning(tmp_path, damage):
    package = tmp_path / "rcnn"
    shutil.copytree(Path(_ext.__file__).parents[1], package, copy_function=os.symlink)
    name = "_threads" if damage == "no threads" else usual_kernel("_nms")
    (library,) = (package / "_ext").glob(f"{name}.*.so")
    content = library.read_bytes()
    library.unlink()
    contents = {"truncated": content[: len(content) // 2], "empty": b"", "no library": b"text" * 1000}
    library.write_bytes(contents.get(damage, content[:5000]))
    here = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    run = python(here + SUPPRESS, RCNN_BACKEND=None, RCNN_REQUIRE_EXT=None)
    assert (run.returncode, run.stdout) == (0, "[0]\n")
    assert run.stderr.count("RuntimeWarning: rcnn runs on NumPy alone") == 1
    required = python(here + SUPPRESS, RCNN_BACKEND=None, RCNN_REQUIRE_EXT="1")
    assert required.returncode == 1
    assert (
        f"ImportError: rcnn's kernels were not compiled or cannot be loaded: {library} is incomplete" in required.stderr
    )


def test_a_kernel_that_cannot_be_loaded_is_one_error_at_its_first_use(tmp_path):
    package = tmp_path / "rcnn"
    shutil.copytree(Path(_ext.__file__).parents[1], package, copy_function=os.symlink)
    name = usual_kernel("_nms")
    (library,) = (package / "_ext").glob(f"{name}.*.so")
    (other,) = (package / "_ext").glob(f"{name.replace('nms', 'boxes')}.*.so")
    library.unlink()
    shutil.copy(other, library)
    run = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); " + SUPPRESS, RCNN_BACKEND=None, RCNN_REQUIRE_EXT=None
    )
    assert "ImportError: the kernel _nms cannot be loaded" in run.stderr.splitlines()[-1]
    assert run.stderr.splitlines()[-1].endswith("install rcnn again, or set RCNN_BACKEND=numpy")


def test_a_stage_loads_numpy_and_little_else():
    code = "import sys, rcnn.boxes; rcnn.boxes.iou([[0, 0, 1, 1]], [[0, 0, 1, 1]]); print(*sys.modules)"
    loaded = python(code, RCNN_REQUIRE_EXT=None).stdout.split()
    assert len([name for name in loaded if name.split(".")[0] == "rcnn"]) <= 12
    assert not {"PIL", "matplotlib", "tqdm", "rcnn.data", "rcnn.images"} & set(loaded)
