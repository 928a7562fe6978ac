"""Training by several processes that mpiexec starts. The tests need mpi4py and an MPI library (the extra mpi)."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rcnn
from rcnn import data, train
from rcnn.train import Recipe, parallel, plan, run_folder
from rcnn.train.plan import Plan
from rcnn.zoo.detectors import faster_rcnn_small

ROOT = Path(__file__).parents[2]
LIMIT = 300  # seconds; a run that takes longer hangs
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the extra mpi contains no MPI library for Windows")

PAGES = data.Shapes(12, seed=3, size=(64, 64))
FLOAT64 = Recipe(steps=50, batch_size=4, warmup_steps=5, lr=0.002, flip=0.5, scale_jitter=(0.8, 1.2), seed=7)
PLANNED = Recipe(steps=24, batch_size=2, warmup_steps=2, flip=0.5, val_every=4, seed=2)


def mpiexec() -> str:
    """The mpiexec of the environment that runs the tests, or else the first one on the path."""
    found = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found is not None, "mpiexec not found: pip install 'rcnn[mpi]'"
    return found


def start(size: int, *arguments: object) -> subprocess.Popen[str]:
    """Start `python` with these arguments in several processes."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        # Open MPI asks before it runs as root, and before it starts more processes than there are processors.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    command = [mpiexec(), "-n", str(size), sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the processes; return the exit status, the output and the messages."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def members(process: subprocess.Popen[str]) -> list[int]:
    """The numbers of the Python processes that a mpiexec has started, directly or through a helper."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}

    def is_below(pid: int) -> bool:
        while pid in parents and pid != process.pid:
            pid = parents[pid]
        return pid == process.pid

    return [int(pid) for pid, _, args in rows if args.startswith(sys.executable) and is_below(int(pid))]


def command(*arguments: object) -> tuple[int, str, str]:
    """Run `rcnn train` in one process, without mpiexec."""
    run = subprocess.run(
        [sys.executable, "-m", "rcnn", "train", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


# ---------------------------------------------------------------------- train.fit


SCRIPT = """
import json, pathlib, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import test_mpi
from rcnn import train
from rcnn.train import parallel

run = train.fit(test_mpi.float64_model(), test_mpi.PAGES, test_mpi.FLOAT64, progress=False, val=test_mpi.PAGES)
group = parallel.group()
pathlib.Path(sys.argv[2], f"{group.rank}.json").write_text(json.dumps([run.history, run.grad_norms, run.validation]))
"""


def float64_model() -> rcnn.FasterRCNN:
    rcnn.seed(os.getpid())  # every process starts with other weights: those of process 0 must replace them
    if parallel.group().rank == 0:
        rcnn.seed(5)
    return faster_rcnn_small(PAGES.classes, dropout=0.3).astype(np.float64)


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    process = start(2, "-c", SCRIPT, Path(__file__).parent, tmp_path)
    expected = train.fit(float64_model(), PAGES, FLOAT64, val=PAGES, progress=False)
    assert finish(process) == (0, "", "")
    for rank in range(2):
        history, norms, validation = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(norms) == 50
        for name, losses in expected.history.items():
            np.testing.assert_allclose(history[name], losses, rtol=1e-6, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(norms, expected.grad_norms, rtol=1e-6)
        for name, values in expected.validation.items():
            np.testing.assert_allclose(validation[name], values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("names", parallel.LAUNCHERS)
def test_missing_mpi4py_is_an_error(monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]) -> None:
    for name, value in zip(names, ("0", "2"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"this is one of 2 processes, .*: pip install 'rcnn\[mpi\]'"):
        parallel.group.__wrapped__()


def test_mpi4py_that_finds_another_number_of_processes_is_an_error() -> None:
    """As if the mpiexec of another library had started four processes."""
    code = "from rcnn.train import parallel\nparallel.group()"
    environment = {**os.environ, "PMI_RANK": "0", "PMI_SIZE": "4", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "RuntimeError: this is one of 4 processes, but mpi4py finds 1; start them with" in run.stderr


def test_one_process_imports_no_mpi() -> None:
    code = "import sys\nfrom rcnn.train import parallel\nassert parallel.group() is parallel.ALONE\n"
    code += "assert 'mpi4py' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


# ---------------------------------------------------------------------- rcnn train


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, next to its VOC folder."""
    root = tmp_path_factory.mktemp("mpi")
    data.write_voc(data.Shapes(8, size=(64, 96)), root / "photos", "train", progress=False)
    data.write_voc(data.Shapes(3, split="val", size=(64, 96)), root / "photos", "val", progress=False)
    settings = {"min_size": 64, "max_size": 96}
    plan.write(root / "plan.toml", Plan("voc:photos", "voc:photos", recipe=PLANNED, settings=settings))
    return root / "plan.toml"


@pytest.fixture(scope="module")
def alone(planned: Path) -> Path:
    """The folder of the run of that plan by one process."""
    assert command(planned, "--out", planned.parent / "alone")[0] == 0
    return planned.parent / "alone"


def check_run(folder: Path, alone: Path, first: int = 8) -> None:
    """Check that a run is complete. Its first losses are those of one process; later, rounding adds up."""
    run, expected = run_folder.open_run(folder).run, run_folder.open_run(alone).run
    assert run.steps == 24 and run.validation["step"] == [4, 8, 12, 16, 20, 24]
    for name, losses in expected.history.items():
        np.testing.assert_allclose(run.history[name][:first], losses[:first], rtol=2e-2, atol=1e-3, err_msg=name)
    assert np.isfinite(run.history["total_loss"]).all()


def test_command_trains_with_two_processes(planned: Path, alone: Path, tmp_path: Path) -> None:
    status, out, err = finish(start(2, "-m", "rcnn", "train", planned, "--out", tmp_path / "run"))
    assert (status, err) == (0, "")
    assert out.count("24 steps, ") == out.count("best AP50 on voc:") == 1  # only process 0 prints
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in alone.iterdir()}
    check_run(tmp_path / "run", alone)


def test_user_error_is_printed_once(tmp_path: Path) -> None:
    status, out, err = finish(start(2, "-m", "rcnn", "train", tmp_path / "nothing"))
    assert status == 2 and not out
    assert err.count("rcnn: ") == 1 and "nothing" in err


def test_usage_error_is_printed_once() -> None:
    status, out, err = finish(start(3, "-m", "rcnn", "train", "--bad"))
    assert status == 2 and not out
    assert err.count("rcnn train: unknown option --bad") == 1


def test_more_processes_than_images_in_a_batch_is_an_error(planned: Path, tmp_path: Path) -> None:
    status, _, err = finish(start(3, "-m", "rcnn", "train", planned, "--out", tmp_path / "run"))
    assert status == 2
    assert err.count("batch_size = 2 must be at least the number of processes, 3") == 1


def test_error_of_one_process_ends_all_with_its_message(planned: Path, tmp_path: Path) -> None:
    shutil.copytree(planned.parent / "photos", tmp_path / "photos")
    shutil.copy(planned, tmp_path / "plan.toml")
    for image in (tmp_path / "photos").rglob("*_000003.*"):
        if image.suffix != ".xml":
            image.write_bytes(image.read_bytes()[:200])
    process = start(2, "-m", "rcnn", "train", tmp_path / "plan.toml", "--no-check", "--out", tmp_path / "run")
    status, _, err = finish(process)
    assert status != 0
    assert "of 2 failed: " in err and f"rcnn train --resume {tmp_path / 'run'}" in err


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a process has written a file."""
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, finish(process)
        time.sleep(0.02)


@pytest.mark.parametrize("resumed_by", [1, 2])
def test_ctrl_c_saves_and_another_number_of_processes_resumes(
    planned: Path, alone: Path, tmp_path: Path, resumed_by: int
) -> None:
    folder = tmp_path / "run"
    size = 3 - resumed_by
    process = start(size, "-m", "rcnn", "train", planned, "--out", folder)
    wait_for(folder / run_folder.STATE, process)  # after four steps
    process.send_signal(signal.SIGINT)
    status, out, _ = finish(process)
    assert status == 130 and out.rstrip().endswith(f"and saved; to continue: rcnn train --resume {folder}")
    steps = run_folder.open_run(folder).run.steps
    assert 4 <= steps < 24
    assert finish(start(resumed_by, "-m", "rcnn", "train", "--resume", folder))[0] == 0
    check_run(folder, alone)


def kill_one_and_resume(planned: Path, alone: Path, folder: Path, delay: float, resumed_by: int) -> None:
    """Kill a random process of a run after some seconds. Check that all end, and that the run can be resumed."""
    process = start(2, "-m", "rcnn", "train", planned, "--out", folder)
    wait_for(folder / run_folder.PLAN, process)
    time.sleep(delay)
    found = members(process)
    if found:  # the run may be over
        os.kill(random.choice(found), signal.SIGKILL)
    status, _, _ = finish(process)
    assert not members(process)
    if len(found) == 2 and status == 0:  # it was killed after its last message
        assert run_folder.open_run(folder).run.steps == 24
    status, _, err = finish(start(resumed_by, "-m", "rcnn", "train", "--resume", folder))
    assert (status, err) == (0, "")
    check_run(folder, alone)


def test_killed_process_ends_all_and_the_run_resumes(planned: Path, alone: Path, tmp_path: Path) -> None:
    kill_one_and_resume(planned, alone, tmp_path / "run", 1.0, 1)


@pytest.mark.proof
@pytest.mark.parametrize("attempt", range(10))
def test_process_killed_at_a_random_moment(planned: Path, alone: Path, tmp_path: Path, attempt: int) -> None:
    delay = random.uniform(0, 12)
    print(f"attempt {attempt}: killed {delay:.1f} s after the plan was written")
    kill_one_and_resume(planned, alone, tmp_path / "run", delay, 1 + attempt % 2)


@pytest.mark.proof
def test_digits_reach_the_average_precision_of_one_process(tmp_path: Path) -> None:
    process = start(2, "-m", "rcnn", "train", "digits", "--out", tmp_path / "run")
    out, _ = process.communicate()  # this takes several minutes
    run = run_folder.open_run(tmp_path / "run").run
    print(out)
    assert process.returncode == 0 and max(run.validation["ap50"]) >= 0.975
