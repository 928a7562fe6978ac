"""`--jobs` and `--dask`: other processes give the results of one process, in order, and may die."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import LocalCluster
from distributed.client import FutureCancelledError
from PIL import Image

import rcnn
from rcnn import cli, data
from rcnn.cli.jobs import Lost, Pool, _connected
from rcnn.zoo import checkpoint
from rcnn.zoo.detectors import load_detector

DIGITS = Path(rcnn.__file__).parent / "zoo" / "weights" / "digits.safetensors"


@pytest.fixture(scope="module")
def cluster():
    """The address of a Dask cluster with two workers, which gives up a task when its first worker dies."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.logging.distributed": "critical"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as made,
    ):
        yield made.scheduler_address


@pytest.fixture(params=["processes", "cluster"])
def pool(request):
    address = request.getfixturevalue("cluster") if request.param == "cluster" else None
    with Pool(2, address) as made:
        yield made


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with seven pages of digits, and a file that is not an image."""
    folder = tmp_path_factory.mktemp("pages")
    digits = data.Digits(split="val")
    for number in range(7):
        Image.fromarray(digits[number][0]).save(folder / f"{number}.png")
    (folder / "4b.png").write_text("text")
    return folder


@pytest.fixture(scope="module")
def many_pages(pages, tmp_path_factory):
    """A folder with 300 pages of digits."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(300):
        (folder / f"{number:03}.png").write_bytes((pages / f"{number % 7}.png").read_bytes())
    return folder


def dies_at(number, folder, times):
    """Return a function that squares a number, and kills its process at one number for the first `times` times."""

    def work(item):
        markers = sorted(folder.glob("death-*"))
        if item == number and len(markers) < times:
            (folder / f"death-{len(markers)}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item

    return work


# ---------------------------------------------------------------------- processes


def test_results_come_in_the_order_of_the_items(pool):
    def work(item):
        time.sleep(0.02 * (item % 3))
        return item * item, os.getpid()

    results = list(pool.map(work, range(12), str))
    assert [square for square, _ in results] == [item * item for item in range(12)]
    assert os.getpid() not in {process for _, process in results}


def test_processes_that_always_die_end_the_work(tmp_path, capsys):
    def work(item):
        (tmp_path / f"{item}-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    results = []
    with Pool(2) as pool, pytest.raises(RuntimeError, match="died again and again .*use fewer processes"):
        for result in pool.map(work, range(1000), str):
            results.append(result)
    assert [lost.item for lost in results] == [0, 1, 2, 3]
    assert capsys.readouterr().err.count("trying again") <= 5


def test_memory_is_bounded_while_nobody_takes_results(pool):
    pool.most_waiting, taken = 50, []

    def items():
        for item in range(300):
            taken.append(item)
            yield item

    results = pool.map(abs, items(), str)
    first = next(results)
    time.sleep(1)
    assert len(taken) <= 51
    assert [first, *results] == list(range(300))


def test_a_lost_scheduler():
    def results():
        yield 1
        raise FutureCancelledError("key", "scheduler-connection-lost")

    with pytest.raises(ConnectionError, match="the connection to the scheduler was lost"):
        list(_connected(results()))


def test_an_error_ends_the_work(pool):
    def work(item):
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        list(pool.map(work, [0], str))


def test_warnings_are_shown_here(pool):
    def work(item):
        warnings.warn(f"about {item}", stacklevel=1)
        return item

    with pytest.warns(UserWarning, match="about 3"):
        assert list(pool.map(work, [3], str)) == [3]


def test_items_of_a_process_that_dies_are_tried_again(pool, tmp_path, capsys):
    assert list(pool.map(dies_at(3, tmp_path, 1), range(8), "item {}".format)) == [item * item for item in range(8)]
    assert len(list(tmp_path.iterdir())) == 1
    error = capsys.readouterr().err
    assert error.startswith("rcnn: a worker process died (") and "trying again: " in error and "item 3" in error


def test_an_item_that_kills_two_processes_is_lost_alone(pool, tmp_path):
    results = list(pool.map(dies_at(3, tmp_path, 9), range(8), str))
    lost = results.pop(3)
    assert isinstance(lost, Lost) and lost.item == 3 and ("SIGKILL" in lost.reason or "tcp://" in lost.reason)
    assert results == [item * item for item in range(8) if item != 3] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["--jobs", "2", "--dask", "tcp://127.0.0.1:9"], "--jobs cannot be combined with --dask, because"),
        (
            ["--dask", "tcp://127.0.0.1:9"],
            "--dask tcp://127.0.0.1:9: no scheduler of a Dask cluster answers at this address",
        ),
    ],
)
@pytest.mark.parametrize("command", ["detect", "eval"])
def test_options(pages, tmp_path, capsys, command, arguments, message):
    source = [str(pages), "--out", str(tmp_path)] if command == "detect" else ["digits", "--images", "4"]
    assert cli.main([command, *source, "--weights", str(DIGITS), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rcnn: {message}") and error.count("\n") == 1


def test_a_cluster_without_workers(pages, tmp_path, capsys):
    with LocalCluster(n_workers=0, dashboard_address=None) as empty:
        address = empty.scheduler_address
        arguments = ["detect", str(pages), "--out", str(tmp_path), "--weights", str(DIGITS), "--dask", address]
        assert cli.main(arguments) == 2
    assert f"--dask {address}: the cluster has no workers; start some with: dask worker {address}" in (
        capsys.readouterr().err
    )


def test_dask_is_an_extra(pages, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    arguments = ["detect", str(pages), "--out", str(tmp_path), "--weights", str(DIGITS), "--dask", "tcp://127.0.0.1:9"]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.endswith("which is not installed; run: pip install 'rcnn[dask]'\n")


# ---------------------------------------------------------------------- detect


def detect(pages, folder, *arguments):
    """Run the command on the pages, and return its exit status."""
    given = ["detect", str(pages), *map(str, arguments), "--weights", str(DIGITS), "--out", str(folder / "drawn")]
    return cli.main(given)


def files_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("where", ["processes", "cluster"])
def test_the_outputs_are_those_of_one_process(pages, tmp_path, capsys, request, batch, where):
    other = ("--jobs", 2) if where == "processes" else ("--dask", request.getfixturevalue("cluster"))
    seen = []
    for name, options in (("one", ()), ("more", other)):
        folder = tmp_path / name
        folder.mkdir()
        outputs = [(f"--{kind}", folder / f"found.{kind}") for kind in ("json", "jsonl", "csv")]
        flat = [value for pair in outputs for value in pair]
        assert detect(pages, folder, *flat, "--voc", folder / "set", "--batch", batch, *options) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and "4b.png" in captured.err
        texts = [path.read_text().replace(str(folder), "") for _, path in outputs]
        printed = captured.out.replace(str(folder), "")
        seen.append((texts, printed, files_in(folder / "drawn"), files_in(folder / "set" / "Annotations")))
    assert seen[0] == seen[1] and len(seen[0][2]) == 7
    lines = [json.loads(line) for line in seen[0][0][1].splitlines()]
    assert [entry for entry in lines if "error" not in entry] == json.loads(seen[0][0][0])
    assert [Path(entry["file"]).name for entry in lines if "error" in entry] == ["4b.png"]


def test_a_broken_off_run_goes_on(pages, tmp_path, capsys):
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    assert detect(pages, tmp_path, "--jsonl", whole) == 2  # one file is not an image
    content = whole.read_text()
    break_off(whole, broken, 3)
    capsys.readouterr()
    assert detect(pages, tmp_path, "--jsonl", broken) == 2
    assert capsys.readouterr().err == (
        f"rcnn: --jsonl {broken} exists; continue it with --resume, or choose another file\n"
    )
    assert detect(pages, tmp_path, "--jsonl", broken, "--resume", "--jobs", 2) == 2
    captured = capsys.readouterr()
    assert f"{broken} contains results of 3 of 8 images; images left: 5" in captured.err
    assert captured.out.count(" detected") == 4
    assert broken.read_text() == content


def break_off(whole, broken, count):
    """Copy some JSON lines and the start of the next line, as if the command had been killed while it wrote this line.

    The settings are copied, too.
    """
    lines = whole.read_text().splitlines(keepends=True)
    broken.write_text("".join(lines[:count]) + lines[count][:9])
    settings_of(broken).write_bytes(settings_of(whole).read_bytes())


def settings_of(lines):
    return lines.with_name(f"{lines.name}.settings.json")


def test_images_that_could_not_be_read_are_tried_again(pages, tmp_path, capsys):
    """Until they can be read, the exit status is 2, as without --resume."""
    folder, lines = tmp_path / "pages", tmp_path / "found.jsonl"
    shutil.copytree(pages, folder)
    assert detect(folder, tmp_path, "--jsonl", lines) == 2
    before = entries_in(lines)
    capsys.readouterr()
    for _ in range(2):
        assert detect(folder, tmp_path, "--jsonl", lines, "--resume") == 2
        captured = capsys.readouterr()
        assert "contains results of 7 of 8 images; images left: 1" in captured.err and "4b.png" in captured.err
        assert entries_in(lines) == before  # one line for each image
    (folder / "4b.png").write_bytes((folder / "4.png").read_bytes())
    assert detect(folder, tmp_path, "--jsonl", lines, "--resume") == 0
    after = entries_in(lines)
    assert after["4b.png"]["detections"] == after["4.png"]["detections"] and len(after) == 8
    assert capsys.readouterr().out.count(" detected") == 1
    assert detect(folder, tmp_path, "--jsonl", lines, "--resume") == 0 and entries_in(lines) == after


def test_errors_of_other_images_remain(pages, tmp_path):
    lines = tmp_path / "found.jsonl"
    assert detect(pages / "4b.png", tmp_path, "--jsonl", lines) == 2
    before = lines.read_text()
    assert detect(pages / "4.png", tmp_path, "--jsonl", lines, "--resume") == 0
    assert lines.read_text().startswith(before) and list(entries_in(lines)) == ["4b.png", "4.png"]


def entries_in(lines):
    """Return the entries of a file of JSON lines by the name of their image; there is one for each image."""
    entries = [json.loads(line) for line in lines.read_text().splitlines()]
    by_name = {Path(entry["file"]).name: entry for entry in entries}
    assert len(by_name) == len(entries)
    return by_name


def test_an_image_is_recognised_by_any_of_its_paths(pages, tmp_path, capsys, monkeypatch):
    lines = tmp_path / "found.jsonl"
    monkeypatch.chdir(pages.parent)
    assert detect(f"{pages.name}/1.png", tmp_path, "--jsonl", lines) == 0
    content = lines.read_text()
    (tmp_path / "link").symlink_to(pages)
    for path in (f"./{pages.name}/1.png", f"{pages.name}/../{pages.name}//1.png", pages / "1.png", "link/1.png"):
        capsys.readouterr()
        given = tmp_path / path if path == "link/1.png" else path
        assert detect(given, tmp_path, "--jsonl", lines, "--resume") == 0
        assert capsys.readouterr().err == f"rcnn: {lines} contains results of 1 of 1 images; images left: 0\n"
        assert lines.read_text() == content


@pytest.mark.parametrize(
    "options, changed",
    [
        (["--score", "0"], "--score was not set, now 0.0"),
        (["--batch", "2", "--flip"], "--batch was 1, now 2, --flip was not set, now set"),
        (["--nms-thresh", "0.25"], "--nms-thresh was not set, now 0.25"),
        (["--class-agnostic"], "--class-agnostic was not set, now set"),
        (["--soft-nms", "linear"], "--soft-nms was not set, now linear"),
        (["--scales", "0.75,1"], "--scales was not set, now 0.75,1.0"),
        (["--tiles", "64", "--overlap", "8"], "--tiles was not set, now 64, --overlap was not set, now 8.0"),
    ],
)
def test_other_options_are_not_resumed(pages, tmp_path, capsys, options, changed):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    advice = "use the same settings, or choose another file for --jsonl"
    assert detect(pages / "1.png", tmp_path, "--jsonl", first) == 0
    content = first.read_text()
    capsys.readouterr()
    assert detect(pages, tmp_path, "--jsonl", first, "--resume", *options) == 2
    assert capsys.readouterr().err == f"rcnn: cannot continue {first} with other settings: {changed}; {advice}\n"
    assert first.read_text() == content
    assert detect(pages / "1.png", tmp_path, "--jsonl", second, *options) == 0
    assert detect(pages / "2.png", tmp_path, "--jsonl", second, "--resume", *options) == 0  # the same options
    assert list(entries_in(second)) == ["1.png", "2.png"]


def test_options_that_do_not_change_the_detections_may_change(pages, tmp_path):
    lines = tmp_path / "found.jsonl"
    assert detect(pages / "1.png", tmp_path, "--jsonl", lines, "--max-pixels", 100) == 2
    other = ["--max-pixels", 10**6, "--jobs", 2, "--no-drawings", "--out", tmp_path / "other"]
    assert detect(pages / "1.png", tmp_path, "--jsonl", lines, "--resume", *other) == 0
    assert "detections" in entries_in(lines)["1.png"]


def test_other_weights_are_not_resumed(pages, tmp_path, capsys):
    copy, lines = tmp_path / "copy.safetensors", tmp_path / "found.jsonl"

    def resume(weights):
        """Return the exit status of a resumed run, and its last message."""
        given = ["detect", str(pages / "2.png"), "--no-drawings", "--jsonl", str(lines), "--resume"]
        status = cli.main([*given, "--weights", str(weights)])
        return status, capsys.readouterr().err.splitlines()[-1:]

    def refused(change):
        advice = "use the same settings, or choose another file for --jsonl"
        return 2, [f"rcnn: cannot continue {lines} with other settings: {change}; {advice}"]

    copy.write_bytes(DIGITS.read_bytes())
    assert resume(DIGITS) == (0, [])  # a new file
    assert resume(copy)[0] == 0  # the same weights in another file
    detector = load_detector(DIGITS)
    dict(detector.named_parameters())["roi_heads.box_predictor.cls_score.bias"].data[0] += 1
    checkpoint.save(copy, detector)
    assert resume(copy) == refused(f"--weights was {DIGITS}, now {copy}")
    lines.unlink()
    assert resume(copy) == (0, [])
    copy.write_bytes(DIGITS.read_bytes())
    assert resume(copy) == refused(f"--weights {copy} has changed")


def test_settings_are_missing_or_damaged(pages, tmp_path, capsys):
    lines = tmp_path / "found.jsonl"
    assert detect(pages / "1.png", tmp_path, "--jsonl", lines) == 0
    for content in ("", "[]", '{"weights": "a", "sha256": "b", "options": 5}', "[" * 60_000):
        settings_of(lines).write_text(content)
        capsys.readouterr()
        assert detect(pages / "1.png", tmp_path, "--jsonl", lines, "--resume") == 2
        message = "was not written by rcnn detect --jsonl; choose another file for --jsonl"
        assert capsys.readouterr().err == f"rcnn: {settings_of(lines)} {message}\n"
    settings_of(lines).unlink()
    assert detect(pages / "1.png", tmp_path, "--jsonl", lines, "--resume") == 2
    assert capsys.readouterr().err.startswith(f"rcnn: {settings_of(lines)}: file not found; ")
    lines.unlink()
    assert detect(pages / "1.png", tmp_path, "--jsonl", lines, "--resume") == 0  # a new file
    assert settings_of(lines).exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--resume"], "--resume requires --jsonl, the file of the earlier run"),
        (["--resume", "--jsonl", "a.jsonl", "--csv", "a.csv"], "--csv cannot be combined with --resume, because it"),
        (["film.mp4", "--resume", "--jsonl", "a.jsonl"], "--resume requires images, got the video film.mp4"),
        (["--json", "-", "--jsonl", "-"], "only one of --json and --jsonl can be written to standard output"),
        (["--jsonl", "a.json"], "--jsonl must name a file that ends in .jsonl, got a.json"),
        (["--resume", "--jsonl", "bad.jsonl"], "bad.jsonl.settings.json: file not found; rcnn detect --jsonl"),
    ],
)
def test_errors_of_resume(pages, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").touch()
    (tmp_path / "bad.jsonl").write_text("[]\n")
    assert detect(pages, tmp_path, *arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"rcnn: {message}")


def test_json_lines_on_standard_output(pages, tmp_path, capsys):
    assert detect(pages, tmp_path, "--jsonl", "-", "--no-drawings") == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 8 and not any("drawing" in line for line in lines) and not any(tmp_path.iterdir())


def test_a_video_that_cannot_be_read_gets_a_line(tmp_path):
    film, lines = tmp_path / "film.mp4", tmp_path / "found.jsonl"
    film.touch()
    assert detect(film, tmp_path, "--jsonl", lines) == 2
    assert json.loads(lines.read_text()).keys() == {"file", "error"}


def test_a_cluster_serves_many_commands(pages, tmp_path, cluster):
    """Its workers load the weights again, and do not keep the limit of pixels."""
    weights, seen = tmp_path / "weights.safetensors", []
    for number, options in enumerate([("--max-pixels", "100"), (), (), ("--jobs", "1")]):
        detector = load_detector(DIGITS)
        if number > 1:
            dict(detector.named_parameters())["roi_heads.box_predictor.cls_score.bias"].data[0] += 5
        checkpoint.save(weights, detector)
        given = ["--weights", str(weights), "--no-drawings", "--json", str(tmp_path / f"{number}.json"), *options]
        where = [] if "--jobs" in options else ["--dask", cluster]
        assert cli.main(["detect", str(pages / "1.png"), *given, *where]) == (2 if number == 0 else 0)
        seen.append(json.loads((tmp_path / f"{number}.json").read_text()))
    assert seen[0] == [] and seen[1] != seen[2] == seen[3]


@pytest.mark.parametrize(
    "content, line",
    [('{"a": 1}', 1), ('{"file": 5}\n', 1), ('{"file": "a.png"}\n{"fi\n', 2), ("[" * 100_000 + "\n", 1)],
)
def test_other_lines_are_not_resumed(pages, tmp_path, capsys, content, line):
    lines = tmp_path / "found.jsonl"
    assert detect(pages / "1.png", tmp_path, "--jsonl", lines) == 0  # writes the settings
    lines.write_text(content)
    capsys.readouterr()
    assert detect(pages, tmp_path, "--jsonl", lines, "--resume") == 2
    message = "not a line of rcnn detect --jsonl; if this line is damaged, delete it"
    assert capsys.readouterr().err == f"rcnn: {lines}, line {line}: {message}\n"
    assert lines.read_text() == content


def test_zeros_after_a_power_failure(pages, tmp_path):
    lines = tmp_path / "found.jsonl"
    detect(pages / "1.png", tmp_path, "--jsonl", lines)
    content = lines.read_bytes()
    for end in (b"\0" * 40, b'{"file"' + b"\0" * 40):
        lines.write_bytes(content + end)
        assert detect(pages / "1.png", tmp_path, "--jsonl", lines, "--resume") == 0 and lines.read_bytes() == content


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="requires /dev/full")
def test_a_full_disk(pages, tmp_path, capsys):
    assert detect(pages / "1.png", tmp_path, "--jsonl", "/dev/full") == 2
    assert capsys.readouterr().err == "rcnn: /dev/full: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="requires /dev/stdout")
def test_lines_in_standard_output_by_its_path(pages):
    command = [sys.executable, "-m", "rcnn", "detect", pages / "1.png", "--weights", DIGITS, "--no-drawings"]
    done = subprocess.run([*command, "--jsonl", "/dev/stdout"], capture_output=True, text=True, check=True)
    assert [Path(json.loads(line)["file"]).name for line in done.stdout.splitlines()] == ["1.png"]


@pytest.mark.parametrize("moment", ["start", "work"])
def test_ctrl_c_shows_no_traceback_of_a_worker(many_pages, tmp_path, moment):
    lines = tmp_path / "found.jsonl"
    command = [sys.executable, "-m", "rcnn", "detect", many_pages, "--weights", DIGITS, "--no-drawings"]
    command += ["--jsonl", lines, "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while _worker_of(process.pid) is None or (moment == "work" and not lines.stat().st_size):
            time.sleep(0.02)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate()[1] == "rcnn: interrupted\n" and process.returncode == 130


@pytest.mark.parametrize("victim", ["worker", "command"])
def test_a_killed_process(many_pages, tmp_path, victim):
    """After a worker is killed, the command goes on; after the command is killed, the next one goes on."""
    lines = tmp_path / "found.jsonl"
    command = [sys.executable, "-m", "rcnn", "detect", many_pages, "--weights", DIGITS, "--no-drawings"]
    command += ["--jsonl", lines, "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while not lines.exists() or lines.stat().st_size < 1000:
            time.sleep(0.02)
            assert process.poll() is None
        os.kill(_worker_of(process.pid) if victim == "worker" else process.pid, signal.SIGKILL)
        if victim == "worker":
            assert "a worker process died (SIGKILL(-9)); trying again: " in process.communicate()[1]
        process.wait()
        assert process.returncode == (0 if victim == "worker" else -signal.SIGKILL)
        process.stderr.close()
    if victim == "command":
        assert subprocess.run([*command, "--resume"], capture_output=True).returncode == 0
    names = [Path(json.loads(line)["file"]).name for line in lines.read_text().splitlines()]
    assert names == [f"{number:03}.png" for number in range(300)]


def _worker_of(parent):
    """Return the process id of a worker of a command, or None if there is no worker."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and "LokyProcess" in (folder / "cmdline").read_text():
                return int(folder.name)
        except OSError:
            continue
    return None


# ---------------------------------------------------------------------- eval


@pytest.mark.parametrize("options", [(), ("--errors",), ("--errors", "--flip", "--nms-thresh", "0.4")])
def test_evaluation_is_that_of_one_process(tmp_path, capsys, options):
    seen = []
    for jobs in ("1", "2"):
        results = tmp_path / f"{jobs}.json"
        arguments = ["eval", "digits", "--weights", str(DIGITS), "--images", "10", "--json", str(results)]
        assert cli.main([*arguments, "--jobs", jobs, *options]) == 0
        seen.append((capsys.readouterr().out, results.read_bytes()))
    assert seen[0] == seen[1] and ("best 100 proposals" in seen[0][0]) == bool(options)


@pytest.mark.proof
def test_two_thousand_images(tmp_path, cluster):
    """The JSON of two processes and of a cluster is that of one process, byte for byte."""
    digits, folder = data.Digits(2000, split="val"), tmp_path / "pages"
    folder.mkdir()
    for number in range(2000):
        Image.fromarray(digits[number][0]).save(folder / f"{number:04}.png", compress_level=1)
    written = []
    for number, options in enumerate([(), ("--jobs", 2), ("--dask", cluster)]):
        written.append(tmp_path / f"{number}.json")
        assert detect(folder, tmp_path, "--quiet", "--no-drawings", "--json", written[-1], *options) == 0
    contents = [path.read_bytes() for path in written]
    assert contents[0] == contents[1] == contents[2] and len(json.loads(contents[0])) == 2000
    assert np.mean([len(entry["detections"]) for entry in json.loads(contents[0])]) > 3
