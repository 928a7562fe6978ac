"""The folder of the tab contains everything that the page loads. The tests need npm."""

import importlib.util
import json
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WEB = Path(__file__).parents[2] / "web"


@pytest.fixture(scope="module")
def builder():
    """Return web/tab/build.py as a module; notebooks/build.py has the same name."""
    spec = importlib.util.spec_from_file_location("tab_build", WEB / "tab" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(tmp_path):
    """Return the paths of a wheel and a recording, which contain nothing of use."""
    paths = [tmp_path / "rcnn-0.1.0-cp311-abi3-pyemscripten_2025_0_wasm32.whl", tmp_path / "walk.bin"]
    for path in paths:
        path.write_bytes(b"content")
    return paths


def test_the_folder_names_the_wheel_of_numpy_on_the_server_of_pyodide(builder, files, tmp_path):
    wheel, recording = files
    out = tmp_path / "site"
    assert builder.main(["--out", str(out), "--wheel", str(wheel), "--recording", str(recording)]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    lock = json.loads((out / "pyodide" / "pyodide-lock.json").read_text())
    version = json.loads((WEB / "package.json").read_text())["devDependencies"]["pyodide"]
    numpy = lock["packages"]["numpy"]
    assert manifest["numpy"]["sha256"] == numpy["sha256"] and len(numpy["sha256"]) == 64 and not numpy["depends"]
    assert manifest["numpy"]["url"] == f"https://cdn.jsdelivr.net/pyodide/v{version}/full/{numpy['file_name']}"
    names = [Path(entry["url"]).name for entry in manifest["packages"]]
    assert len(names) == len(builder.PURE) + 2 and wheel.name in names and "tab_engine.zip" in names
    for entry in manifest["packages"]:
        assert (out / entry["url"]).stat().st_size == entry["size"]
    assert {path.name for path in out.iterdir()} == {
        "index.html", "manifest.json", "packages", "pyodide", "recording.bin", "tab.js", "worker.js"
    }  # fmt: skip
    assert {path.name for path in (out / "pyodide").iterdir()} == set(builder.RUNTIME)
    with zipfile.ZipFile(out / "packages" / "tab_engine.zip") as archive:
        assert "tab_engine/__init__.py" in archive.namelist()


def test_the_recorded_walk_alone_is_small(builder, files, tmp_path):
    out = tmp_path / "site"
    assert builder.main(["--out", str(out), "--recording", str(files[1]), "--without-python"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "recording.bin", "tab.js", "worker.js"]


def test_other_folders_and_missing_files_are_refused(builder, files, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    for options, text in (
        (["--out", "mine", "--recording", str(files[1])], "is neither empty nor an earlier build"),
        (["--out", "site", "--wheel", "none.whl"], "none.whl: file not found"),
    ):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
            patch.chdir(tmp_path)
            builder.main(options)
        assert text in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_a_changed_source_makes_another_wheel(builder, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "ROOT", tmp_path)
    path = tmp_path / "a.py"
    states = []
    for text in ("a = 1", "a = 2", "a = 1"):
        path.write_text(text)
        states.append(builder.state_of(iter([path])))
    assert states[0] == states[2] != states[1]
