"""Reader of VOC folders: pairs of files, contents of the XML, and invalid files."""

import re

import numpy as np
import pytest
from annotated import save_image, voc_folder, voc_object, voc_xml, write

from rcnn import data
from rcnn.data import VOC, read_voc

CAT, DOG = voc_object("cat"), voc_object("dog", (1, 1, 60, 40))


def read(folder, *arguments, **options):
    return read_voc(folder, *arguments, progress=False, **options)


def one(folder, xml, **options):
    """Return the annotations of a folder with one image, a.png."""
    return read(voc_folder(folder, {"a": xml}), **options)


def names(annotations):
    return [record.image.name for record in annotations.records]


# ---------------------------------------------------------------------- contents of an annotation


def test_pixels_count_from_one_and_both_ends_belong_to_the_box(tmp_path):
    found = one(tmp_path, voc_xml(CAT, DOG))
    record = found.records[0]
    assert (found.classes, found.category_ids, list(found.broken)) == (("background", "cat", "dog"), (), [])
    assert record.boxes.tolist() == [[10, 5, 30, 25], [0, 0, 60, 40]] and record.boxes.dtype == np.float64
    assert record.labels.tolist() == [1, 2] and record.names == ("cat", "dog")
    assert record.areas.tolist() == [400, 2400] and record.size == (40, 60)
    assert (record.source, record.image_id) == ("Annotations/a.xml", "a")
    assert not record.crowd.any() and not record.difficult.any()


def test_annotations_may_count_from_zero(tmp_path):
    found = one(tmp_path, voc_xml(voc_object(box=(10, 5, 29, 24))), first_pixel=0)
    assert found.records[0].boxes.tolist() == [[10, 5, 30, 25]]


def test_coordinates_may_be_fractions(tmp_path):
    record = one(tmp_path, voc_xml(voc_object(box=("11.25", " 6.5", "3e1", "25.0625")))).records[0]
    assert record.boxes.tolist() == [[10.25, 5.5, 30, 25.0625]]


@pytest.mark.parametrize("flag, other", [("difficult", "truncated"), ("truncated", "difficult")])
@pytest.mark.parametrize(
    "text, expected",
    [("0", False), ("1", True), ("", False), (None, False), (" 1\n", True), ("1.0", True), ("0.0597", True),
     ("0.00", False), ("-1", False), ("Unspecified", False), ("yes", True), ("FALSE", False)],
)  # fmt: skip
def test_difficult_and_truncated_objects_are_marked(tmp_path, flag, other, text, expected):
    extra = f"<{other}>1</{other}>" + ("" if text is None else f"<{flag}>{text}</{flag}>")
    record = one(tmp_path, voc_xml(voc_object(extra=extra))).records[0]
    assert getattr(record, flag).tolist() == [expected] and getattr(record, other).tolist() == [True]


def test_an_object_may_have_several_boxes(tmp_path):
    second = "<bndbox><xmin>31</xmin><ymin>6</ymin><xmax>40</xmax><ymax>25</ymax></bndbox></object>"
    record = one(tmp_path, voc_xml(CAT.replace("</object>", second), DOG)).records[0]
    assert record.boxes.tolist() == [[10, 5, 30, 25], [30, 5, 40, 25], [0, 0, 60, 40]]
    assert record.names == ("cat", "cat", "dog")


def test_parts_are_ignored(tmp_path):
    person = voc_object("person", extra="<pose>Left</pose>").replace(
        "</object>", f"<part>{voc_object('head', (1, 2, 3, 4))[8:-9]}</part></object>"
    )
    found = one(tmp_path, voc_xml(person))
    assert found.classes == ("background", "person")
    assert found.records[0].boxes.tolist() == [[10, 5, 30, 25]]


def test_the_order_of_the_elements_does_not_matter(tmp_path):
    swapped = (
        "<object><bndbox><ymax>25</ymax><xmax>30</xmax><ymin>6</ymin><xmin>11</xmin></bndbox>"
        "<name>\n  cat\n</name></object>"
    )
    record = one(tmp_path, voc_xml(swapped)).records[0]
    assert record.boxes.tolist() == [[10, 5, 30, 25]] and record.names == ("cat",)


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_a_size_that_is_missing_or_0_is_unknown(tmp_path, size):
    assert one(tmp_path, voc_xml(CAT, size=size)).records[0].size is None


def test_an_image_without_objects_is_an_ordinary_one(tmp_path):
    voc_folder(tmp_path, {"a": voc_xml(), "b": voc_xml(CAT, filename="b.png")})
    _, target = VOC(tmp_path, progress=False)[0]
    assert target["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    "encoding, name",
    [
        ("utf-8", "café"),
        ("utf-16", "café"),
        ("latin-1", "café"),
        ("cp1252", "“café”"),
        ("GBK", "杯子"),
        ("big5", "杯子"),
    ],
)
def test_xml_states_its_encoding(tmp_path, encoding, name):
    voc_folder(tmp_path, {"a": ""})
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + voc_xml(voc_object(name))
    write(tmp_path / "Annotations" / "a.xml", text.encode(encoding))
    assert read(tmp_path).classes == ("background", name)


@pytest.mark.parametrize("root", ["Annotation", 'annotation xmlns="http://example.org/a"', 'annotation verified="yes"'])
def test_the_root_element_may_be_written_in_other_ways(tmp_path, root):
    xml = voc_xml(CAT).replace("<annotation>", f"<{root}>").replace("</annotation>", f"</{root.split()[0]}>")
    assert one(tmp_path, xml).records[0].names == ("cat",)


# ---------------------------------------------------------------------- classes


def test_classes_are_those_of_all_splits_sorted(tmp_path):
    voc_folder(tmp_path, {"a": voc_xml(DOG), "b": voc_xml(CAT)}, {"train": "a", "val": "b"})
    for split in ("train", "val", None):
        assert read(tmp_path, split).classes == ("background", "cat", "dog")
    assert read(tmp_path, "train").records[0].labels.tolist() == [2]


def test_classes_that_are_numbers_follow_their_values(tmp_path):
    assert one(tmp_path, voc_xml(*map(voc_object, ("10", "9", "1")))).classes == ("background", "1", "9", "10")


def test_an_object_with_the_name_background_has_no_class(tmp_path):
    found = one(tmp_path, voc_xml(CAT, voc_object("background")))
    assert found.classes == ("background", "cat") and found.records[0].labels.tolist() == [1, -1]


@pytest.mark.parametrize("classes", [("dog", "cat"), ("background", "dog", "cat")])
def test_classes_can_be_given(tmp_path, classes):
    found = one(tmp_path, voc_xml(CAT, voc_object("cow"), voc_object("background")), classes=classes)
    assert found.classes == ("background", "dog", "cat")
    assert found.records[0].labels.tolist() == [2, -1, -1]


def test_a_file_may_state_the_classes(tmp_path):
    voc_folder(tmp_path, {"a": voc_xml(CAT)})
    write(tmp_path / "classes.txt", "zebra\ncat\n\n")
    assert read(tmp_path).classes == ("background", "zebra", "cat")
    assert read(tmp_path, classes=("cat",)).classes == ("background", "cat")


@pytest.mark.parametrize(
    "classes, error, message",
    [
        ("cat", TypeError, "must be a list of names, got 'cat'"),
        ([1], TypeError, "must be a list of names"),
        ((), ValueError, "at least one class"),
        (("background",), ValueError, "at least one class"),
        (("cat", "cat"), ValueError, r"classes\[2\] is 'cat'"),
        (("cat", " "), ValueError, r"classes\[2\] must be a class name .*, got ''"),
        (("cat", "background"), ValueError, "the background comes first"),
    ],
)
def test_invalid_classes_are_errors(tmp_path, classes, error, message):
    with pytest.raises(error, match=message):
        one(tmp_path, voc_xml(CAT), classes=classes)


# ---------------------------------------------------------------------- layouts of folders


def test_image_sets_state_the_splits(tmp_path):
    sheets = {name: voc_xml(CAT) for name in "abcd"}
    voc_folder(tmp_path, sheets, {"train": "b\n\na\n", "val": "c 1\nd -1\n", "own": "\ufeffd\n"})
    assert names(read(tmp_path, "train")) == ["b.png", "a.png"]
    assert names(read(tmp_path, "val")) == ["c.png", "d.png"]
    assert names(read(tmp_path, "own")) == ["d.png"]
    assert names(read(tmp_path)) == ["a.png", "b.png", "c.png", "d.png"]
    with pytest.raises(ValueError, match=f"{tmp_path} has no split 'test'; it has own, val, train"):
        read(tmp_path, "test")


def test_a_name_without_annotation_is_broken(tmp_path):
    voc_folder(tmp_path, {"a": voc_xml(CAT), "b": voc_xml(CAT)}, {"train": "a\nabsent\n/etc/c\n", "val": "b"})
    found = read(tmp_path, "train")
    assert names(found) == ["a.png"]
    assert [broken.source for broken in found.broken] == [f"ImageSets/Main/train.txt, line {i}" for i in (2, 3)]
    assert found.broken[0].reason == "Annotations/absent.xml: file not found"
    assert not read(tmp_path, "val").broken


@pytest.mark.parametrize("text", ["photo 0\nphoto 1\n", "photo 0.png\nphoto 1.png", "x/photo 0 1\r\n/x/photo 1 -1"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_names_in_a_list_may_end_like_a_mark_or_have_a_suffix(tmp_path, text, encoding):
    voc_folder(tmp_path, {f"photo {i}": voc_xml(CAT) for i in range(3)})
    write(tmp_path / "ImageSets" / "Main" / "Train.txt", text.encode(encoding))
    found = read(tmp_path, "train")
    assert not found.broken
    assert names(found) + names(read(tmp_path, "val")) in (
        ["photo 0.png", "photo 1.png"],
        ["photo 1.png", "photo 0.png"],
    )


def test_a_list_called_default_is_not_a_split(tmp_path):
    voc_folder(tmp_path, {name: voc_xml(CAT) for name in "ab"}, {"default": "a\nb\n"})
    assert len(read(tmp_path, "train").records) == len(read(tmp_path, "val").records) == 1


@pytest.mark.parametrize("filename", ["x.png", "/media/x.png", "cam1/x.png", ""])
def test_annotations_in_subfolders_belong_to_images_in_subfolders(tmp_path, filename):
    for i in (1, 2):
        save_image(tmp_path / "JPEGImages" / f"cam{i}" / "x.png")
        own = filename.replace("cam1", f"cam{i}")
        write(tmp_path / "Annotations" / f"cam{i}" / "x.xml", voc_xml(CAT, filename=own))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "cam2/x")
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "cam1/x")
    found = read(tmp_path)
    assert [record.image.parent.name for record in found.records] == ["cam1", "cam2"] and not found.broken
    assert [record.image_id for record in read(tmp_path, "train").records] == ["cam2/x"]


def test_annotations_of_two_folders_do_not_share_an_image(tmp_path):
    save_image(tmp_path / "JPEGImages" / "x.png")
    for i in (1, 2):
        write(tmp_path / "Annotations" / f"cam{i}" / "x.xml", voc_xml(CAT, filename="x.png"))
    found = read(tmp_path)
    assert len(found.records) == 1 and "lead to the same file" in found.broken[0].reason


@pytest.mark.parametrize(
    "layout", ["annots/{}/a.xml images/{}/a.png", "{}/xml/a.xml {}/img/a.png", "{}/a.xml {}/a.png"]
)
def test_folders_of_splits(tmp_path, layout):
    for split in ("Train", "Validation", "TEST"):
        xml, image = layout.format(split, split).split()
        save_image(tmp_path / image)
        write(tmp_path / xml, voc_xml(CAT))
    for split in ("train", "val", "test", "Train"):
        assert len(read(tmp_path, split).records) == 1
    assert len(read(tmp_path).records) == 3


def test_the_folder_of_the_annotations_may_be_given(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    write(tmp_path / "annots" / "a.xml", voc_xml(CAT))
    assert names(read(tmp_path / "annots")) == ["a.png"]


@pytest.mark.parametrize(
    "xml_folder, image_folder",
    [
        ("Annotations", "JPEGImages"),
        ("annotations", "images"),
        ("annots", "images"),
        ("XML", "img"),
        ("", "images"),
        ("", ""),
    ],
)
def test_layouts_without_splits(tmp_path, xml_folder, image_folder):
    for stem in "ba":
        save_image(tmp_path / image_folder / f"{stem}.png")
        write(tmp_path / xml_folder / f"{stem}.xml", voc_xml(CAT, filename=f"{stem}.png"))
    save_image(tmp_path / image_folder / "without.png")
    write(tmp_path / xml_folder / "._a.xml", b"\0\5\26\7")  # a hidden file from an archive made on macOS
    found = read(tmp_path)
    assert names(found) == ["a.png", "b.png"] and not found.broken
    assert len(data.AnnotatedImages(found)) == 2
    assert len(read(tmp_path, "train").records) == len(read(tmp_path, "val").records) == 1


def test_a_layout_with_a_folder_for_each_split(tmp_path):
    for split, stem in (("train", "a"), ("valid", "b")):
        save_image(tmp_path / split / f"{stem}.jpg")
        write(tmp_path / split / f"{stem}.xml", voc_xml(voc_object(stem), filename=f"{stem}.jpg"))
    assert names(read(tmp_path, "train")) == ["a.jpg"] and names(read(tmp_path, "val")) == ["b.jpg"]
    assert names(read(tmp_path)) == ["a.jpg", "b.jpg"]
    assert read(tmp_path, "val").classes == ("background", "a", "b")


@pytest.mark.parametrize(
    "filename, files, expected",
    [
        ("a.png", ("a.png", "a.jpg"), "a.png"),
        ("other.png", ("a.JPG", "other.png"), "a.JPG"),  # a copied annotation with the old <filename>
        ("other.png", ("other.png",), "other.png"),
        ("other", ("other.jpeg",), "other.jpeg"),
        ("v1.2", ("v1.2.webp",), "v1.2.webp"),
        ("", ("a.tiff",), "a.tiff"),
        ("sub/a.png", ("sub/a.png",), "a.png"),
        ("sub\\a.png", ("sub/a.png",), "a.png"),
        ("/media/photos/a.png", ("a.png",), "a.png"),
        ("C:\\photos\\day 1\\b.png", ("b.png",), "b.png"),
        ("B.PNG", ("b.png",), "b.png"),
        ("cafe\u0301.png", ("caf\u00e9.png",), "caf\u00e9.png"),
        ("gone.png", ("a.txt", "unrelated.png"), "gone.png"),
    ],
)
def test_the_image_of_an_annotation(tmp_path, filename, files, expected):
    for name in files:
        write(tmp_path / "JPEGImages" / name, b"")
    write(tmp_path / "Annotations" / "a.xml", voc_xml(CAT, filename=filename))
    found = read(tmp_path)
    assert names(found) == [expected] and not found.broken


@pytest.mark.parametrize(
    "filename, files, reason",
    [
        ("", ("a.jpg", "a.png"), "several images match: a.jpg, a.png"),
        ("../secret.png", ("b.png",), "'../secret.png' is not a path inside"),
        ("x/../../secret.png", (), "is not a path inside"),
        ("..\\secret.png", (), "is not a path inside"),
        ("/etc/passwd", (), "'/etc/passwd' is not a path inside"),
        ("C:\\Users\\me\\c.png", ("b.png",), "is not a path inside"),
        ("link.png", ("link.png",), "link.png is a link to .*, which is outside"),
    ],
)
def test_an_image_outside_the_folder_is_never_opened(tmp_path, filename, files, reason):
    save_image(tmp_path / "secret.png")
    root = tmp_path / "set"
    for name in files:
        path = root / "JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "link.png":
            path.symlink_to(tmp_path / "secret.png")
        else:
            write(path, b"")
    write(root / "Annotations" / "a.xml", voc_xml(CAT, filename=filename))
    found = read(root)
    assert not found.records and found.broken[0].source == "Annotations/a.xml"
    assert re.search(reason, found.broken[0].reason)


def test_a_link_inside_the_folder_and_a_folder_that_is_a_link_are_followed(tmp_path):
    voc_folder(tmp_path / "real", {"a": voc_xml(CAT, filename="b.png")})
    images = tmp_path / "real" / "JPEGImages"
    (images / "a.png").rename(images / "c.png")
    (images / "b.png").symlink_to(images / "c.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(VOC(tmp_path / "link", progress=False)[0][1]["boxes"]) == 1


@pytest.mark.parametrize(
    "path, error, message",
    [
        ("absent", FileNotFoundError, "there is no folder .*absent"),
        ("file", NotADirectoryError, "file must be a folder, got a file"),
        ("empty", ValueError, r"empty has no annotations in .xml files; looked for Annotations/\*\.xml, .*val/\*\.xml"),
    ],
)
def test_unknown_folder_layouts_are_errors(tmp_path, path, error, message):
    write(tmp_path / "file", b"")
    (tmp_path / "empty" / "Annotations").mkdir(parents=True)
    with pytest.raises(error, match=message):
        read(tmp_path / path)


@pytest.mark.parametrize("first_pixel", [2, -1, None, "1"])
def test_the_first_pixel_is_0_or_1(tmp_path, first_pixel):
    with pytest.raises(ValueError, match="first_pixel must be 0 or 1"):
        one(tmp_path, voc_xml(CAT), first_pixel=first_pixel)


# ---------------------------------------------------------------------- invalid files

LAUGHS = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
BILLION = f'<!DOCTYPE l [<!ENTITY a "lol">{LAUGHS}]>'


@pytest.mark.parametrize(
    "xml, reason",
    [
        ("", "no element found"),
        ("<annotation>", "no element found"),
        ("not xml", "syntax error"),
        (b"\xff\xfe\0", "unclosed token"),
        ('<?xml version="1.0" encoding="ebcdic-x"?><annotation/>', "encoding"),
        ("<kml/>", "it must begin with <annotation>, got 'kml'"),
        (voc_xml(CAT, size=(60, -40)), "height must be a whole number of pixels .*, got '-40'"),
        (voc_xml(CAT, size=("1e999", 40)), "width must be a whole number of pixels .*, got '1e999'"),
        (BILLION + voc_xml(voc_object("&i;")), "EntitiesForbidden"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + voc_xml(voc_object("&x;")), "EntitiesForbidden"),
    ],
)
def test_an_invalid_annotation_is_broken(tmp_path, xml, reason):
    voc_folder(tmp_path, {"a": xml if isinstance(xml, str) else "", "b": voc_xml(CAT)})
    if isinstance(xml, bytes):
        write(tmp_path / "Annotations" / "a.xml", xml)
    found = read(tmp_path)
    assert names(found) == ["b.png"]
    assert [broken.source for broken in found.broken] == ["Annotations/a.xml"]
    assert re.search(reason, found.broken[0].reason)
    with pytest.raises(ValueError, match=r"^Annotations/a\.xml cannot be read: "):
        VOC(tmp_path, progress=False)
    pages = VOC(tmp_path, on_error="skip", progress=False)
    assert len(pages) == len(pages.skipped) == 1


@pytest.mark.parametrize(
    "xml, fault",
    [
        (voc_xml("<object><name>cat</name></object>"), "xmin of object 0 must be a number, got None"),
        (voc_xml(CAT, voc_object(box=(1, "abc", 3, 4))), "ymin of object 1 must be a number, got 'abc'"),
        (voc_xml(voc_object(box=(1, 2, "1_000", 4))), "xmax of object 0 must be a number, got '1_000'"),
        (voc_xml(voc_object(" ")), "name of object 0 must be a class name .*, got ' '"),
        (
            voc_xml(voc_object(extra="<difficult>maybe</difficult>")),
            "difficult of object 0 must be a number, yes or no, got 'maybe'",
        ),
        (
            voc_xml(voc_object(box=(1, 2, 3, "4</ymax><ymax>5"))),
            "object 0 has a box with several ymax; write a <bndbox> for each box",
        ),
    ],
)
def test_an_invalid_object_is_a_fault_of_its_image(tmp_path, xml, fault):
    record = one(tmp_path, xml.replace("</annotation>", f"{DOG}</annotation>")).records[0]
    assert "dog" in record.names and len(record.faults) == 1
    assert re.search(fault, record.faults[0].reason)


def test_damaged_xml_is_read_or_broken(tmp_path):
    rng = np.random.default_rng(0)
    content = np.frombuffer(voc_xml(CAT, DOG).encode(), np.uint8)
    sheet = voc_folder(tmp_path, {"a": ""}) / "Annotations" / "a.xml"
    outcomes = set()
    for _ in range(250):
        damaged = content.copy()
        at = rng.integers(0, len(content), rng.integers(1, 6))
        damaged[at] = rng.integers(0, 256, len(at)) if rng.random() < 0.3 else rng.choice(content, len(at))
        sheet.write_bytes(damaged.tobytes())
        found = read(tmp_path)
        assert len(found.records) + len(found.broken) == 1
        outcomes.add(len(found.broken))
    assert outcomes == {0, 1}


def test_deeply_nested_xml_is_read(tmp_path):
    found = one(tmp_path, voc_xml(CAT, "<part>" * 50_000 + "</part>" * 50_000))
    assert found.records[0].boxes.tolist() == [[10, 5, 30, 25]]
