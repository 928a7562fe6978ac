"""The course as a web site that runs in the browser: its files, the errors of the export, and its use in Chromium."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import rcnn
from rcnn import cli, course
from rcnn.course import lite, sources

ROOT = Path(__file__).parents[2]
NAME = f"rcnn-{rcnn.__version__}-cp311-abi3-{lite.PLATFORM}.whl"


def write_wheel(folder, name=NAME):
    """Write a wheel of rcnn that contains nothing but its description, and return its path."""
    info, version = f"rcnn-{rcnn.__version__}.dist-info", rcnn.__version__
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.4\nName: rcnn\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder / name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return write_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(tmp_path_factory, wheel):
    """Return an exported site, which the tests do not change."""
    folder = tmp_path_factory.mktemp("lite") / "site"
    course.export_lite(folder, wheel)
    return folder


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------- the files


def test_the_site_has_the_notebooks_for_students(site, tmp_path):
    course.export(tmp_path / "students")
    stems = [path.stem for path in sources.paths()]
    listed = {entry["name"] for entry in read(site / "api" / "contents" / "all.json")["content"]}
    assert listed == {f"{stem}.ipynb" for stem in stems} | {"index.md"}
    for stem in stems:
        student, notebook = (read(folder / f"{stem}.ipynb") for folder in (tmp_path / "students", site / "files"))
        cells = [cell for cell in notebook["cells"] if cell["id"] != "install"]
        assert cells == student["cells"] and len(notebook["cells"]) == len(cells) + 1
        assert notebook["metadata"] == student["metadata"]


def test_no_file_of_the_site_has_a_solution(site):
    for path in (site / "files").iterdir():
        assert "BEGIN SOLUTION" not in path.read_text(encoding="utf-8")


def test_the_first_code_cell_installs_all_that_the_notebook_imports(site):
    installed_by = {"sklearn": "scikit-learn", "skimage": "scikit-image"}
    with_rcnn = {"numpy", "PIL", "matplotlib", "rcnn"}  # rcnn and what it requires
    for path in sorted((site / "files").glob("[0-9]*.ipynb")):
        code = ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "code"]
        packages = ast.literal_eval(re.search(r"^    await piplite\.install\((.+)\)$", code[0], re.M)[1])
        assert packages[0] == "rcnn"
        tree = [node for text in code[1:] for node in ast.walk(ast.parse(text))]
        names = {alias.name.split(".")[0] for node in tree if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module.split(".")[0] for node in tree if isinstance(node, ast.ImportFrom)}
        others = names - with_rcnn - sys.stdlib_module_names
        assert {installed_by[name] for name in others} <= set(packages), path.name
        assert ("ipywidgets" in packages) == ("\nwidgets." in "\n".join(code)), path.name
        assert not re.search(r"photos\.(load|Coins)\(", "".join(code)) or "scikit-image" in packages, path.name


def test_the_install_cell_does_nothing_outside_of_a_browser(site):
    cells = read(site / "files" / "08_proposals_and_nms.ipynb")["cells"]
    install = next(cell for cell in cells if cell["id"] == "install")
    code = compile("".join(install["source"]), "install", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    coroutine = eval(code, {})
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_the_index_links_to_every_notebook(site):
    text = (site / "files" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"\((\w+)\.ipynb\)", text) == [path.stem for path in sources.paths()]
    assert text.startswith("# The course\n") and "The table shows" not in text
    assert text.count("\n\nThe code runs in this browser") == 1


def test_the_start_page_opens_the_index(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert page.count("lab/index.html?path=index.md") == 2 and (site / "lab" / "index.html").is_file()


def test_the_settings_name_one_other_server(site):
    settings = read(site / "jupyter-lite.json")["jupyter-config-data"]
    kernel = settings["litePluginSettings"][lite.KERNEL]
    assert kernel["pyodideUrl"] == lite.PYODIDE_URL and kernel["disablePyPIFallback"] is True
    assert set(re.findall(r"https?://[^\"]+", json.dumps(settings))) == {lite.PYODIDE_URL}
    assert {extension["name"] for extension in settings["federated_extensions"]} == set(lite.EXTENSIONS)


def test_the_wheels_are_complete(site, wheel, tmp_path):
    index = read(site / "pypi" / "all.json")
    assert set(index) == {"comm", "defusedxml", "ipywidgets", "jupyterlab-widgets", "rcnn"}
    assert (site / "pypi" / wheel.name).read_bytes() == wheel.read_bytes()
    packed = [path for path in (site / "pypi").glob("*.whl") if path.name != wheel.name]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path]
    subprocess.run([*command, *packed], check=True)
    for package in lite.PACKED:
        (installed,) = metadata.distributions(name=package, path=[str(tmp_path)])
        assert installed.version == metadata.version(package)
    code = "import comm, defusedxml.ElementTree, ipywidgets; print(ipywidgets.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(tmp_path)


# ---------------------------------------------------------------------- the command and its errors


def test_the_command_takes_the_wheel_from_the_index_and_says_how_to_open_the_site(wheel, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    site = tmp_path / "site"
    assert cli.main(["course", "export", str(site), "--lite", "--seed", "ada"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"16 notebooks and JupyterLite in {site}",
        f"python -m http.server --directory {site}",
    ]
    assert (site / "pypi" / NAME).read_bytes() == wheel.read_bytes()
    notebooks = sorted((site / "files").glob("[0-9]*.ipynb"))
    assert len(notebooks) == 16
    assert [read(path)["metadata"]["rcnn"].get("seed") for path in notebooks] == ["ada"] * 16


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rcnn.zip", "not a wheel of rcnn"),
        (f"numpy-2.2.5-cp313-cp313-{lite.PLATFORM}.whl", "not a wheel of rcnn"),
        (f"rcnn-9.9.9-cp311-abi3-{lite.PLATFORM}.whl", "version of the course, 0.1.0, got 9.9.9"),
        (
            "rcnn-0.1.0-cp311-abi3-manylinux_2_28_x86_64.whl",
            f"its platform must be {lite.PLATFORM}, got manylinux_2_28_x86_64",
        ),
        ("rcnn-0.1.0-cp311-abi3-pyemscripten_2026_0_wasm32.whl", "not a wheel for browsers"),
    ],
)
def test_a_wrong_wheel_is_refused(tmp_path, name, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        course.export_lite(tmp_path / "site", write_wheel(tmp_path, name))
    assert not (tmp_path / "site").exists()


def test_a_file_that_is_only_named_like_a_wheel_is_refused(tmp_path):
    (tmp_path / NAME).write_text("not an archive")
    with pytest.raises(ValueError, match="not a wheel of rcnn"):
        course.export_lite(tmp_path / "site", tmp_path / NAME)


def test_a_missing_wheel_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.whl"):
        course.export_lite(tmp_path / "site", tmp_path / "none.whl")


def test_a_folder_with_files_is_refused(wheel, tmp_path):
    with pytest.raises(FileExistsError, match="choose a new folder"):
        course.export_lite(tmp_path, write_wheel(tmp_path))


def test_without_jupyterlite_the_message_names_the_extra(wheel, tmp_path, monkeypatch):
    def distribution(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    with pytest.raises(ImportError, match=re.escape("pip install 'rcnn[lite]'")):
        course.export_lite(tmp_path / "site", wheel)


def test_without_a_wheel_on_the_index_the_message_says_how_to_build_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(RuntimeError, match=r"wheel of rcnn 0\.1\.0 for browsers; build it with \.ci/wasm-wheel"):
        course.export_lite(tmp_path / "site")


def test_an_error_of_jupyterlite_is_reported(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "EXTENSIONS", {**lite.EXTENSIONS, "none": "jupyterlab_widgets"})
    with pytest.raises(ImportError, match="jupyterlab_widgets has no extension none"):
        course.export_lite(tmp_path / "site", wheel)
    monkeypatch.undo()
    monkeypatch.setattr(lite, "SETTINGS", [])
    with pytest.raises(RuntimeError, match="JupyterLite cannot be built: .+"):
        course.export_lite(tmp_path / "site", wheel)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("other", [["--solution"], ["--solutions-to", "solutions"], ["--student"]])
def test_lite_is_a_version_of_its_own(tmp_path, capsys, other):
    with pytest.raises(SystemExit):
        cli.main(["course", "export", str(tmp_path / "site"), "--lite", *other])
    assert f"{other[0]}: not allowed with argument --lite" in capsys.readouterr().err


def test_a_wheel_requires_lite(wheel, tmp_path, capsys):
    assert cli.main(["course", "export", str(tmp_path / "students"), "--wheel", str(wheel)]) == 2
    assert capsys.readouterr().err == "rcnn: --wheel requires --lite\n"
    assert not (tmp_path / "students").exists()


# ---------------------------------------------------------------------- in the browser


def test_libraries_print_no_warning_about_threads_in_a_browser():
    code = """
import sys
import threadpoolctl, tqdm
from rcnn import data
from rcnn._ext import backend
threadpoolctl.ThreadpoolController = None  # a search would fail
backend._blas_libraries.cache_clear()
sys.platform = "emscripten"
from rcnn import course
print(len(backend._blas_libraries()), tqdm.tqdm.monitor_interval)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0"] and done.stderr == ""


PYODIDE = "pyodide@" + re.search(r"/v([\d.]+)/", lite.PYODIDE_URL)[1]
STARTED = ("micropip", "ipython", "jedi", "sqlite3")  # what the kernel installs
REQUIRED = ("lazy-loader", "matplotlib", "numpy", "pillow", "pyyaml", "threadpoolctl", "tomli-w", "tqdm")

SET_UP = """import numpy as np
from rcnn import checks, course
from rcnn._ext import backend
from tqdm import tqdm

list(tqdm([1], disable=None))
print(backend.info())"""
WRONG = """def iou(boxes1, boxes2):
    boxes1, boxes2 = np.asarray(boxes1, float), np.asarray(boxes2, float)
    low = np.maximum(boxes1[:, None, :2], boxes2[:, :2])
    high = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:])
    shared = (high - low + 1).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (boxes1, boxes2)]
    union = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)"""
RIGHT = WRONG.replace(" + 1)", ")")
SLIDER = "import ipywidgets\n\nipywidgets.IntSlider(description='moves')"
STEPS = [
    {"cell": "install"},
    {"cell": "setting-up", "code": SET_UP},
    {"cell": "iou-yours"},
    {"cell": "iou-check"},
    {"cell": "iou-yours", "code": WRONG},
    {"cell": "iou-check"},
    {"cell": "iou-yours", "code": RIGHT},
    {"cell": "iou-check"},
    {"cell": "explorer", "code": SLIDER},
]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def write_empty_wheel(folder, name, version):
    stem = f"{normal(name).replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return folder / f"{stem}-py3-none-any.whl"


def write_pyodide(folder, scratch, wheels):
    """Write a folder that stands for Pyodide's server, and return the names of its packages that are empty.

    Pyodide is the package on the npm registry. Its compiled packages are the wheels in the folder `wheels`, and the
    others come from the package index. A compiled package that is not in `wheels` is empty: it can be installed, but
    not imported.
    """
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", scratch, PYODIDE], check=True)
    shutil.copytree(scratch / "node_modules" / "pyodide", folder)
    lock = read(folder / "pyodide-lock.json")
    packages = {normal(name): package for name, package in lock["packages"].items()}
    needed, left = set(), [*STARTED, *REQUIRED]
    while left:
        if (name := normal(left.pop())) not in needed:
            needed.add(name)
            left += packages[name]["depends"]
    found = {normal(path.name.split("-")[0]): path for path in wheels.glob("*.whl")}
    pure = [name for name in needed - set(found) if packages[name]["file_name"].endswith("none-any.whl")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    pinned = [f"{name}=={packages[name]['version']}" for name in pure]
    subprocess.run([*command, "--python-version", "3.13", "--dest", folder, *pinned], check=True)
    fetched = {normal(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    for name in needed:
        path = found.get(name) or fetched.get(name) or write_empty_wheel(folder, name, packages[name]["version"])
        if name in found:
            path = Path(shutil.copy(path, folder))
        packages[name] |= {"file_name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    lock["packages"] = {name: package for name, package in lock["packages"].items() if normal(name) in needed}
    (folder / "pyodide-lock.json").write_text(json.dumps(lock))
    return needed - set(found) - set(fetched)


@pytest.mark.proof
def test_an_exercise_is_judged_in_the_browser(tmp_path):
    """Solve an exercise of notebook 01 in Chromium: not at all, wrong, and right.

    RCNN_WASM_WHEEL is the path of a wheel that .ci/wasm-wheel has built. RCNN_PYODIDE_NUMPY is the path of NumPy's
    wheel for Pyodide 0.29; if its folder contains wheels of Pillow and other packages, they are used, too.
    """
    numpy = Path(os.environ["RCNN_PYODIDE_NUMPY"])
    site = tmp_path / "site"
    course.export_lite(site, os.environ["RCNN_WASM_WHEEL"])
    empty = write_pyodide(site / "pyodide", tmp_path / "npm", numpy.parent)
    assert "numpy" not in empty and "pillow" not in empty, f"{numpy.parent} must contain wheels of NumPy and Pillow"
    settings = read(site / "jupyter-lite.json")
    settings["jupyter-config-data"]["exposeAppInBrowser"] = True
    settings["jupyter-config-data"]["litePluginSettings"][lite.KERNEL]["pyodideUrl"] = "./pyodide/pyodide.js"
    (site / "jupyter-lite.json").write_text(json.dumps(settings))
    (tmp_path / "steps.json").write_text(json.dumps({"notebook": "01_boxes_and_iou", "steps": STEPS}))
    if not (ROOT / "web" / "node_modules" / "playwright-core").is_dir():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=ROOT / "web", check=True)
    command = ["node", ROOT / "web" / "tests" / "lite.mjs", site, tmp_path / "steps.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    assert used["failure"] is None and used["errors"] == [] and used["elsewhere"] == []
    outputs = [step["outputs"] for step in used["results"]]
    assert len(outputs) == len(STEPS) and [outputs[index] for index in (0, 2, 4, 6)] == [[], [], [], []]
    assert [output["name"] for output in outputs[1]] == ["stdout"]  # and no warning
    assert "'backend': 'cython'" in outputs[1][0]["text"] and "wasm32" in outputs[1][0]["text"]
    for index, words in ((3, "is not written yet"), (5, "returns wrong numbers")):
        (output,) = outputs[index]
        assert output["output_type"] == "error" and words in output["traceback"][0]
        assert not [line for line in output["traceback"] if "Traceback" in line or "File" in line]
    assert "expected = [[1.]]" in "\n".join(outputs[5][0]["traceback"])
    assert [(output["output_type"], output["text"]) for output in outputs[7]] == [("stream", "iou: right\n")]
    assert used["results"][7]["shown"] == "iou: right\n"
    assert "moves" in used["results"][8]["shown"]  # the label of the slider
    times = {step["cell"]: step["seconds"] for step in used["results"][:2]}
    print(f"installed after {times['install']:.0f} s, set up after {times['setting-up']:.1f} s; empty: {sorted(empty)}")
