"""Readers of boxes in the rows of a CSV file or of a table in memory."""

import re
from pathlib import Path

import numpy as np
import pytest
from annotated import save_image, write

from rcnn.data import CSV, AnnotatedImages, Table, read_csv, read_table

HEADER = "image,x1,y1,x2,y2,label\n"
A = "a.png,10,5,30,25,cat\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "sub/c.png"):
        save_image(tmp_path / name)
    return tmp_path


def read(folder, text, *arguments, **options):
    return read_csv(write(folder / "boxes.csv", text), *arguments, **options)


def names(annotations):
    return [record.image.name for record in annotations.records]


# ---------------------------------------------------------------------- rows


def test_rows_of_an_image_are_its_objects(folder):
    found = read(folder, HEADER + A + 'b.png,0,0,60,40,"dog, big"\na.png,1.5,2,3e0,4.25,cat\n')
    assert found.classes == ("background", "cat", "dog, big") and found.category_ids == () and not found.broken
    first, second = found.records
    assert first.boxes.tolist() == [[10, 5, 30, 25], [1.5, 2, 3, 4.25]] and first.boxes.dtype == np.float64
    assert first.labels.tolist() == [1, 1] and second.labels.tolist() == [2]
    assert first.areas.tolist() == [400, 3.375] and first.size is None
    assert (first.source, first.image_id, second.source) == ("boxes.csv, line 2", "a.png", "boxes.csv, line 3")
    assert not first.difficult.any() and not first.crowd.any()
    assert CSV(folder / "boxes.csv")[1][1]["labels"].tolist() == [2]


def test_columns_may_be_in_any_order_and_others_are_ignored(folder):
    text = (
        "\ufefflabel, y2, x2, y1, x1, score, width, height, crowd, difficult, image\r\n"
        "cat, 25, 30, 5, 10, high, 60, 40, 1, 0, sub/c.png\r\n\r\ncat, 4, 3, 2, 1, , 60, 40, , true, sub/c.png\r\n"
    )
    record = read(folder, text).records[0]
    assert record.boxes.tolist() == [[10, 5, 30, 25], [1, 2, 3, 4]]
    assert record.crowd.tolist() == [True, False] and record.difficult.tolist() == [False, True]
    assert record.size == (40, 60) and record.image == folder / "sub" / "c.png"


def test_a_row_with_only_an_image_is_an_image_without_objects(folder):
    found = read(folder, HEADER + "b.png,,,,,\n" + A)
    assert names(found) == ["b.png", "a.png"] and found.records[0].boxes.shape == (0, 4)


def test_images_in_a_given_folder(folder):
    path = write(folder / "notes" / "boxes.csv", HEADER + A)
    assert read_csv(path, images=folder).records[0].image == folder / "a.png"
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        read_csv(path, images=folder / "nowhere")


def test_a_missing_image_is_an_error_on_access(folder):
    read(folder, HEADER + "gone.png,1,2,3,4,cat\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        CSV(folder / "boxes.csv")[0]


def test_classes_can_be_given(folder):
    assert read(folder, HEADER + A, classes=("dog", "cat")).records[0].labels.tolist() == [2]
    assert read(folder, HEADER + A, classes=("dog",)).records[0].labels.tolist() == [-1]
    write(folder / "classes.txt", "zebra\ncat\n")
    assert read(folder, HEADER + A).classes == ("background", "zebra", "cat")
    write(folder / "classes.txt", "cat\ncat\n")
    with pytest.raises(ValueError, match=r"classes\.txt: classes\[2\] is 'cat'"):
        read(folder, HEADER + A)


# ---------------------------------------------------------------------- the files of other programs

TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,60,40,cat,10,5,30,25\nb.png,60,40,dog,1,2,3,4\n"
RETINANET = "a.png,10,5,30,25,cat\nb.png,1,2,3,4,dog\nsub/c.png,,,,,\n"


@pytest.mark.parametrize(
    "text",
    [
        TENSORFLOW,
        TENSORFLOW.replace(",", ";"),
        TENSORFLOW.replace(",", "\t").replace("\n", "\r\n").replace("30\t25", "30,0\t25,0"),
        TENSORFLOW.replace("\n", "\r"),
        "sep=;\r\n" + TENSORFLOW.replace(",", ";").replace("30;25", "30,0;25,0"),
        TENSORFLOW.encode("utf-16"),
        RETINANET,
        RETINANET.replace(",", ";"),
        "Image Path,X_min,Y-min,x max,YMAX,Class Name\n/data/set/a.png,10,5,30,25,cat\nC:\\set\\b.png,1,2,3,4,dog",
    ],
)
def test_usual_names_of_columns_and_usual_delimiters(folder, text):
    found = read(folder, text)
    assert names(found)[:2] == ["a.png", "b.png"] and not found.unreadable()
    assert found.records[0].boxes.tolist() == [[10, 5, 30, 25]] and found.records[1].boxes.tolist() == [[1, 2, 3, 4]]
    assert found.classes == ("background", "cat", "dog")


@pytest.mark.parametrize(
    "columns", ["x1,y1,w,h", "x,y,width,height", "left,top,Width,Height", "xmin,ymin,w,h,width,height"]
)
def test_boxes_may_be_written_with_width_and_height(folder, columns):
    size = ",60,40" * columns.endswith("w,h,width,height")
    text = f"image,{columns},label\na.png,10,5,20,15{size},cat\nb.png,,,,{size},\n"
    found = read(folder, text)
    assert [record.boxes.tolist() for record in found.records] == [[[10, 5, 30, 20]], []]
    assert found.records[0].size == ((40, 60) if size else None)


def test_a_row_without_a_box_is_an_image_without_objects(folder):
    assert [len(record.boxes) for record in read(folder, RETINANET).records] == [1, 1, 0]
    assert [len(record.boxes) for record in read(folder, "sub/c.png,,,,,\n" + RETINANET).records] == [0, 1, 1]


@pytest.mark.parametrize("text", ["dog,1\ncat,0\nzebra,2\n", "dog; 1\rcat; 0\r\rzebra; 2.0"])
def test_a_list_of_classes_with_numbers(folder, text):
    write(folder / "classes.csv", text)
    assert read(folder, RETINANET).classes == ("background", "cat", "dog", "zebra")


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,number\ncat,0\n", "number of line 1 must be a number, got 'number'"),
        ("cat,0\n1\n", r"line 2 must have a name and a number that no other line has, got \['1'\]"),
        ("cat,0\ndog,0\n", r"line 2 must have .* that no other line has, got \['dog', '0'\]"),
        ('cat,0\n"dog,1\n', "unexpected end of data"),
        ("cat,0\ncat,1\n", "names must be unique"),
    ],
)
def test_an_invalid_list_of_classes_is_an_error(folder, text, message):
    write(folder / "classes.csv", text)
    with pytest.raises(ValueError, match=f"classes.csv: .*{message}"):
        read(folder, RETINANET)


@pytest.mark.parametrize(
    "own", ["{}_labels.csv images/{}/{}.png", "{}/_annotations.csv {}/{}.png", "data/{}.csv images/{}.png"]
)
def test_images_are_found_in_usual_folders(tmp_path, own):
    for split in ("train", "test"):
        table, image = own.replace("{}", split).split()
        save_image(tmp_path / image)
        write(tmp_path / table, HEADER + f"{split}.png,1,2,3,4,cat\n")
    root = tmp_path / "data" if own.startswith("data") else tmp_path
    assert names(read_csv(root, "test")) == ["test.png"]
    assert all(record.image.is_file() for record in read_csv(root).records)


def test_one_image_with_names_of_several_kinds(folder):
    found = read(folder, "a.png,1,2,3,4,cat\n./a.png,2,3,4,5,cat\nb.png,,,,,\n")
    assert [len(record.boxes) for record in found.records] == [2, 0]


# ---------------------------------------------------------------------- splits


def test_a_column_states_the_splits(folder):
    text = "split,image,x1,y1,x2,y2,label\ntrain,a.png,1,2,3,4,cat\nvalid,b.png,1,2,3,4,dog\n"
    for split, expected in (("train", ["a.png"]), ("val", ["b.png"]), (None, ["a.png", "b.png"])):
        found = read(folder, text, split)
        assert names(found) == expected and found.classes == ("background", "cat", "dog")
    with pytest.raises(ValueError, match="has no split 'test'; it has val, train"):
        read(folder, text, "test")


def test_file_names_state_the_splits(folder):
    write(folder / "train.csv", HEADER + A)
    write(folder / "valid.csv", HEADER + "b.png,1,2,3,4,dog\nbad\n")
    write(folder / "annotations.csv", "ignored")
    assert names(read_csv(folder, "train")) == ["a.png"] and not read_csv(folder, "train").broken
    assert names(read_csv(folder, "val")) == ["b.png"] and len(read_csv(folder, "val").broken) == 1
    assert names(read_csv(folder)) == ["a.png", "b.png"]
    assert read_csv(folder, "val").classes == ("background", "cat", "dog")
    write(folder / "val.csv", HEADER)
    with pytest.raises(ValueError, match=r"val\.csv and .*valid\.csv both contain the split 'val'"):
        read_csv(folder)


def test_without_splits_images_are_held_out(folder):
    write(folder / "annotations.csv", HEADER + A + "b.png,,,,,\nsub/c.png,,,,,\n")
    parts = [names(read_csv(folder, split)) for split in ("train", "val")]
    assert [len(part) for part in parts] == [2, 1] and sorted(sum(parts, [])) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "text, reason",
    [
        (
            "a.png,1,2,3,4,cat,train\na.png,1,2,3,4,cat,test\n",
            "split of 'a.png' must be the same in all rows",
        ),
        ("a.png,1,2,3,4,cat,\n", "its split must have 1 to 100 characters, got ''"),
    ],
)
def test_an_image_belongs_to_one_split(folder, text, reason):
    text = "image,x1,y1,x2,y2,label,split\n" + text + "b.png,1,2,3,4,cat,train\nsub/c.png,1,2,3,4,cat,val\n"
    found = read(folder, text)
    assert names(found) == ["b.png", "c.png"] and found.broken[0].reason == reason
    assert (
        len(read(folder, text, "train").broken) == len(read(folder, text, "val").broken) == 1
    )  # it may belong to either


# ---------------------------------------------------------------------- in memory


class Frame:
    """The part of a DataFrame that the reader uses."""

    def __init__(self, rows):
        self.rows = rows

    def to_dict(self, orient):
        assert orient == "records"
        return self.rows


ROW = {"image": "a.png", "x1": 10, "y1": 5, "x2": 30.0, "y2": np.float32(25), "label": "cat"}
NA = type("NAType", (), {"__ne__": lambda self, other: self, "__bool__": lambda self: 1 / 0})()  # as pandas' NA behaves


def test_rows_in_memory(folder):
    nothing = {key: float("nan") for key in ROW}
    rows = [
        ROW,
        {**ROW, "x1": "1.5", "image": Path("a.png")},
        {**nothing, "image": "b.png", "label": None},
        {**nothing, "image": "sub/c.png", "x1": NA, "difficult": np.float64("nan")},
    ]
    for given in (rows, tuple(rows), iter(rows), Frame(rows)):
        found = read_table(given, folder)
        assert names(found) == ["a.png", "b.png", "c.png"] and not found.broken
        assert found.records[0].boxes.tolist() == [[10, 5, 30, 25], [1.5, 5, 30, 25]]
        assert found.records[0].source == "row 0" and found.records[1].boxes.shape == (0, 4)
    assert len(Table(rows, folder)) == 3
    assert len(Table(rows, folder, "val")) == 1


@pytest.mark.parametrize("flag, expected", [(1.0, True), (np.float64(0), False), (True, True), (NA, False)])
def test_flags_in_memory(folder, flag, expected):
    assert read_table([{**ROW, "difficult": flag}], folder).records[0].difficult.tolist() == [expected]


@pytest.mark.parametrize("label", [2, np.int64(2), 2.0, np.float32(2)])
def test_an_integer_is_a_label_if_classes_are_given_and_else_a_name(folder, label):
    found = read_table([{**ROW, "label": label}], folder, classes=("cat", "dog"))
    assert found.records[0].labels.tolist() == [2] and found.records[0].names == ("dog",)
    found = read_table([{**ROW, "label": label}, {**ROW, "label": 10}], folder)
    assert found.classes == ("background", "2", "10") and found.records[0].labels.tolist() == [1, 2]


@pytest.mark.parametrize("label", [0, 3, -1])
def test_labels_out_of_range_are_unknown(folder, label):
    record = read_table([{**ROW, "label": label}], folder, classes=("0", "1")).records[0]
    assert record.labels.tolist() == [-1] and record.names == (f"label {label}",)


@pytest.mark.parametrize("rows", [[(1, 2)], "text", {"image": 1}, [ROW, None], None, 3])
def test_rows_that_are_not_mappings_are_errors(folder, rows):
    with pytest.raises(TypeError, match="rows must be mappings"):
        read_table(rows, folder)


def test_a_table_needs_its_columns(folder):
    with pytest.raises(ValueError, match="the table lacks the columns x1, label; it has image, x, y1, x2, y2, kind"):
        read_table([{"image": "a.png", "x": 1, "y1": 2}, {"x2": 3, "y2": 4, "kind": "cat"}], folder)
    with pytest.raises(ValueError, match="the table has no images$"):
        read_table([], folder)


# ---------------------------------------------------------------------- invalid files


@pytest.mark.parametrize(
    "row, line, reason",
    [
        ("b.png,1,2,3,cat\n", 4, "it must have 6 cells, like the first line, got 5"),
        ("b.png,1,2,3,4,cat,1\n", 4, "it must have 6 cells, like the first line, got 7"),
        ("bad\n", 4, "it must have 6 cells, like the first line, got 1"),
        ("b.png,one,2,3,4,cat\n", 4, "x1 must be a number, got 'one'"),
        ("b.png,1,2,,4,cat\n", 4, "x2 must be a number, got ''"),
        ("b.png,1,2,3,4,\n", 4, "label must be a class name .*, got ''"),
        ("b.png,,,,,cat\n", 4, "x1 must be a number, got ''"),
        ("../secret.png,1,2,3,4,cat\n", 4, "'../secret.png' is not a path inside"),
        ("/etc/passwd,1,2,3,4,cat\n", 4, "is not a path inside"),
        ("D:\\c.png,1,2,3,4,cat\n", 4, "is not a path inside"),
        ("link.png,1,2,3,4,cat\n", 4, "is a link to .*, which is outside"),
        (",1,2,3,4,cat\n", 4, "its image must be a file name, got ''"),
        ('"b.\npng",1,2,3,x,cat\n', 5, "y2 must be a number, got 'x'"),
        ("b.png,1,2,3,4,cat\nb.png,1,2,3,1_0,cat\n", 5, "y2 must be a number, got '1_0'"),
    ],
)
def test_an_image_with_an_invalid_row_is_broken(tmp_path, row, line, reason):
    secret = save_image(tmp_path / "secret.png")
    root = tmp_path / "set"
    for name in ("a.png", "b.png"):
        save_image(root / name)
    (root / "link.png").symlink_to(secret)
    found = read(root, HEADER + "\n" + A + row)
    assert [record.image.name for record in found.records if not record.faults] == ["a.png"]
    assert [entry.source for entry in found.unreadable()] == [f"boxes.csv, line {line}"]
    assert re.search(reason, found.unreadable()[0].reason)
    with pytest.raises(ValueError, match=rf"^boxes\.csv, line {line} cannot be read: "):
        CSV(root / "boxes.csv")
    assert len(CSV(root / "boxes.csv", on_error="skip", progress=False)) == 1 + row.count("4,cat\nb.png")


@pytest.mark.parametrize(
    "size, reason",
    [
        ("60,40\na.png,1,2,3,4,cat,61,40", "width and height of 'a.png' must be the same in all rows"),
        ("60,forty", "height must be a number, got 'forty'"),
        ("60,40.5", "height must be a whole number of pixels up to 2147483647, got '40.5'"),
        ("60,inf", "height must be a whole number of pixels up to 2147483647, got 'inf'"),
    ],
)
def test_an_image_has_one_size(folder, size, reason):
    found = read(folder, f"image,x1,y1,x2,y2,label,width,height\na.png,1,2,3,4,cat,{size}\n")
    assert not found.records and reason in found.broken[0].reason


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"boxes\.csv lacks the columns image, x1, y1, x2, y2, label; it has none"),
        (
            "image,x1,y1,x2,y2\n",
            r"boxes\.csv lacks the column label; it has image, x1, y1, x2, y2; the first line must name the columns "
            "image,x1,y1,x2,y2,label or image,x,y,w,h,label$",
        ),
        (
            "image,width,height,bbox\n",
            "lacks the columns x1, y1, x2, y2, label; it has image, width, height, bbox; the",
        ),
        (
            "a.png,1,2,3,4,cat,7\n",
            "has a.png, 1, 2, 3, 4, cat, 7; the first line must name the columns image,x1,y1,x2,y2,label or "
            "image,x,y,w,h,label$",
        ),
        ("image,x1,y1,x2,y2,label,x1\n", "has the column x1 more than once"),
        (HEADER.encode() + b"\xe9", r"boxes\.csv is not UTF-8 text"),
        (HEADER + '"a.png,1,2', r"boxes\.csv, line 2: unexpected end"),
        (HEADER + 'a.png,1,2,3,4,"cat"s\n', r"boxes\.csv, line 2: "),
        (HEADER + "a" * 200_000, "line 2: field larger than"),
    ],
)
def test_an_invalid_file_is_an_error(folder, text, message):
    with pytest.raises(ValueError, match=message):
        read(folder, text)


def test_folders_without_tables_are_errors(folder):
    for name in "ab":
        (folder / "two" / f"{name}.csv").parent.mkdir(exist_ok=True)
        (folder / "two" / f"{name}.csv").write_text("")
    with pytest.raises(FileNotFoundError, match="has 2 CSV files, none .*; rename the files, or pass the path of one$"):
        read_csv(folder / "two")
    with pytest.raises(FileNotFoundError, match=r"has no CSV annotations; looked for train\.csv, .*tions\.csv"):
        read_csv(folder)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent\.csv"):
        read_csv(folder / "absent.csv")


def test_damaged_files_return_annotations_or_raise_an_error(folder):
    rng = np.random.default_rng(0)
    text = "image,x1,y1,x2,y2,label,difficult,width,height\na.png,10,5,30,25,cat,0,60,40\nb.png,,,,,,,60,40\n"
    content = np.frombuffer(text.encode(), np.uint8)
    outcomes = set()
    for _ in range(400):
        damaged = content.copy()
        at = rng.integers(0, len(content), rng.integers(1, 4))
        damaged[at] = rng.integers(0, 256, len(at)) if rng.random() < 0.3 else rng.choice(content, len(at))
        try:
            found = read(folder, damaged.tobytes())
            outcomes.add(len(AnnotatedImages(found, on_error="skip", progress=False)))
        except (OSError, ValueError):
            outcomes.add("error")
    assert {"error", 1, 2} <= outcomes
