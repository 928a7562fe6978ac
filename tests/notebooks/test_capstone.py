"""The capstone notebook: its two checks reject wrong answers, and it runs on a learner's own folder."""

import numpy as np
import pytest

import build
from rcnn import data
from rcnn.checks import CheckFailed
from rcnn.course import sources

SOURCE = next(path for path in sources.paths() if path.name.startswith("15_"))
REPAIRED = {"tray1_03", "tray1_07", "tray1_11", "tray1_15"}  # photos that the notebook repairs before the check
CELLS = {cell.id: cell.source for cell in sources.read(SOURCE).cells}


# ---------------------------------------------------------------------- find_leaks


@pytest.fixture(scope="module")
def folder():
    """Names of the notebook after the folder is written and read."""
    names = {}
    for cell in ("settings", "folder-made"):
        exec(CELLS[cell], names)
    read = data.read_annotations(names["spec"], None)
    sound = [i for i, record in enumerate(read.records) if record.image.stem not in REPAIRED]
    names["annotations"] = read.subset(sound)
    exec(CELLS["leaks-yours"].split("def find_leaks")[0], names)
    return names


def units(thumbnail, images, mean=True, norm=True):
    vectors = np.array([thumbnail(image) for image in images]).reshape(-1, 256)
    if mean:
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
    if norm:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(norms == 0, 1, norms)
    return vectors


def pairs_of(mask):
    return [(int(i), int(j)) for i, j in np.argwhere(mask)]


RIGHT_LEAKS = {
    "solution": None,
    "loops and np.corrcoef": lambda thumb: (
        lambda first, second: [
            (i, j)
            for i, one in enumerate(first)
            for j, two in enumerate(second)
            if thumb(one).std() > 0 and thumb(two).std() > 0 and np.corrcoef(thumb(one), thumb(two))[0, 1] >= 0.98
        ]
    ),
    "distance of unit vectors": lambda thumb: (
        lambda first, second: pairs_of(
            (
                ((units(thumb, first)[:, None] - units(thumb, second)[None]) ** 2).sum(axis=2)
                <= 2 - 2 * 0.98  # (u - v)^2 = 2 - 2 u v for unit vectors; 1 if one of them is zero
            )
            & (units(thumb, first)[:, None].any(axis=2) & units(thumb, second)[None].any(axis=2))
        )
    ),
}
WRONG_LEAKS = {
    "equal pixels only": lambda thumb: (
        lambda a, b: [(i, j) for i, x in enumerate(a) for j, y in enumerate(b) if np.array_equal(x, y)]
    ),
    "mean not subtracted": lambda thumb: (
        lambda a, b: pairs_of(units(thumb, a, mean=False) @ units(thumb, b, mean=False).T >= 0.98)
    ),
    "not divided by the norm": lambda thumb: (
        lambda a, b: pairs_of(units(thumb, a, norm=False) @ units(thumb, b, norm=False).T >= 0.98)
    ),
    "absolute correlation": lambda thumb: lambda a, b: pairs_of(np.abs(units(thumb, a) @ units(thumb, b).T) >= 0.98),
    "threshold too low": lambda thumb: lambda a, b: pairs_of(units(thumb, a) @ units(thumb, b).T >= 0.3),
    "threshold too high": lambda thumb: lambda a, b: pairs_of(units(thumb, a) @ units(thumb, b).T >= 0.9999),
    "j first": lambda thumb: lambda a, b: [(j, i) for i, j in pairs_of(units(thumb, a) @ units(thumb, b).T >= 0.98)],
    "sorted by j": lambda thumb: (
        lambda a, b: sorted(pairs_of(units(thumb, a) @ units(thumb, b).T >= 0.98), key=lambda pair: pair[::-1])
    ),
    "best match of each photo only": lambda thumb: (
        lambda a, b: [
            (int((units(thumb, a) @ units(thumb, [y]).T)[:, 0].argmax()), j)
            for j, y in enumerate(b)
            if len(a) and (units(thumb, a) @ units(thumb, [y]).T).max() >= 0.98
        ]
    ),
    "only photos of the same size": lambda thumb: (
        lambda a, b: [
            (i, j) for i, j in pairs_of(units(thumb, a) @ units(thumb, b).T >= 0.98) if a[i].shape == b[j].shape
        ]
    ),
    "indices of the second photos only": lambda thumb: (
        lambda a, b: [j for _, j in pairs_of(units(thumb, a) @ units(thumb, b).T >= 0.98)]
    ),
    "mean difference of brightness": lambda thumb: (
        lambda a, b: [
            (i, j) for i, x in enumerate(a) for j, y in enumerate(b) if np.abs(thumb(x) - thumb(y)).mean() < 10
        ]
    ),
    "uniform photos are copies of everything": lambda thumb: (
        lambda a, b: pairs_of(
            np.array([[thumb(x).std() == 0 or thumb(y).std() == 0 for y in b] for x in a]).reshape(len(a), len(b))
            | (units(thumb, a) @ units(thumb, b).T >= 0.98)
        )
    ),
}


@pytest.mark.parametrize("name", RIGHT_LEAKS)
def test_a_right_search_for_leaks_passes(folder, name, capsys):
    names = dict(folder)
    exec(CELLS["leaks-yours"], names)
    if RIGHT_LEAKS[name]:
        names["find_leaks"] = RIGHT_LEAKS[name](names["thumbnail"])
    exec(CELLS["leaks-check"], names)
    assert capsys.readouterr().out == "tray2_22 is a copy of tray1_05\ntray2_23 is a copy of tray1_09\n"


@pytest.mark.parametrize("name", WRONG_LEAKS)
def test_a_wrong_search_for_leaks_fails(folder, name):
    names = dict(folder)
    names["find_leaks"] = WRONG_LEAKS[name](names["thumbnail"])
    with pytest.raises((CheckFailed, TypeError)):
        exec(CELLS["leaks-check"], names)


# ---------------------------------------------------------------------- bootstrap_interval


@pytest.fixture
def measured():
    """Names that the check of the interval uses: detections of four photos, found with different scores."""
    names = {"FOLDER": None}
    exec(CELLS["settings"], names)
    box = np.array([[0, 0, 10, 10]], np.float32)
    names["targets"] = [{"boxes": box, "labels": np.array([1])} for _ in range(4)]
    names["found"] = [
        {"boxes": box + 5 * (i % 2), "scores": np.array([0.9 - i / 10]), "labels": np.array([1])} for i in range(4)
    ]
    return names | {"classes": ("background", "coin"), "unseen": range(4), "THRESHOLD": 0.75, "baseline": np.ones(3)}


def choices(measure, count, draws, rng):
    values = sorted(measure(list(rng.choice(count, size=count))) for _ in range(draws))
    values = [value for value in values if not np.isnan(value)]
    return np.percentile(values, 2.5), np.percentile(values, 97.5)


def one_table(measure, count, draws, rng):
    table = (rng.random((draws, count)) * count).astype(int)
    return np.nanquantile(np.apply_along_axis(measure, 1, table).astype(float), (0.025, 0.975))


def middle(low, high, size=None, replace=True, own=False, clean=np.nanquantile):
    def interval(measure, count, draws, rng):
        rng = np.random.default_rng() if own else rng
        values = [
            measure(rng.choice(count, size=size(count) if size else count, replace=replace)) for _ in range(draws)
        ]
        return tuple(clean(values, [low, high]))

    return interval


def standard_deviations(measure, count, draws, rng):
    values = [measure(rng.integers(count, size=count)) for _ in range(draws)]
    return np.nanmean(values) - 1.96 * np.nanstd(values), np.nanmean(values) + 1.96 * np.nanstd(values)


def standard_error(measure, count, draws, rng):
    values = [measure(rng.integers(count, size=count)) for _ in range(draws)]
    error = np.nanstd(values) / draws**0.5
    return np.nanmean(values) - 1.96 * error, np.nanmean(values) + 1.96 * error


def never_the_last(measure, count, draws, rng):
    values = [measure(rng.integers(max(count - 1, 1), size=count)) for _ in range(draws)]
    return tuple(np.nanquantile(values, [0.025, 0.975]))


def always_the_same(measure, count, draws, rng):
    return middle(0.025, 0.975)(measure, count, draws, np.random.default_rng(7))


def one_sample(measure, count, draws, rng):
    value = measure(rng.integers(count, size=count))
    return value, value


@pytest.mark.parametrize("answer", [None, choices, one_table], ids=["solution", "choices", "one table"])
def test_a_right_interval_passes(measured, answer, capsys):
    exec(CELLS["interval-yours"], measured)
    if answer:
        measured["bootstrap_interval"] = answer
    exec(CELLS["interval-check"], measured)
    assert "95 % interval over photos (" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer",
    [
        middle(0.05, 0.95),
        middle(0.0, 1.0),
        middle(0.005, 0.995),
        middle(0.975, 0.025),
        middle(0.025, 0.975, replace=False),
        middle(0.025, 0.975, size=lambda count: max(count // 2, 1)),
        middle(0.025, 0.975, own=True),
        middle(0.025, 0.975, clean=np.quantile),
        lambda *arguments: middle(0.025, 0.975)(*arguments)[::-1],
        lambda *arguments: middle(0.025, 0.975)(*arguments)[0],
        standard_deviations,
        standard_error,
        never_the_last,
        always_the_same,
        one_sample,
    ],
)
def test_a_wrong_interval_fails(measured, answer):
    measured["bootstrap_interval"] = answer
    with pytest.raises(CheckFailed):
        exec(CELLS["interval-check"], measured)


# ---------------------------------------------------------------------- a learner's folder


@pytest.mark.slow
@pytest.mark.parametrize("groups", [True, False])
def test_notebook_runs_on_a_folder_of_several_classes(tmp_path, groups):
    """Short trainings on drawn pages, whose names either form two groups or contain no group."""
    pages = data.Digits(24, size=(96, 128))
    data.write_voc(pages, tmp_path / "pages", "train", progress=False)
    for path in (tmp_path / "pages").rglob("train_*.*"):
        number = int(path.stem.split("_")[1])
        stem = f"tray{1 + number % 2}_{number}" if groups else f"{number}"
        text = path.read_text().replace(path.stem, stem) if path.suffix == ".xml" else None
        new = path.rename(path.with_stem(stem))
        if text:
            new.write_text(text)
    for path in (tmp_path / "pages" / "ImageSets").rglob("*.txt"):
        path.unlink()
    notebook = sources.read(SOURCE)
    spec = "voc:" + (tmp_path / "pages").as_posix()
    for cell in notebook.cells:
        cell.source = cell.source.replace("FOLDER = None", f"FOLDER = {spec!r}")
        cell.source = cell.source.replace("THRESHOLD, STEPS = 0.75, 60", "THRESHOLD, STEPS = 0.5, 4")
    build.execute(notebook)
    printed = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert ("validation   12 photos" if groups else "validation    5 photos") in printed
