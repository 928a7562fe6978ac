"""Reader of COCO's JSON: categories and their ids, layouts of folders, and invalid files."""

import json
import re

import numpy as np
import pytest
from annotated import coco_content, coco_folder, coco_object, save_image, write

from rcnn.data import COCO, AnnotatedImages, read_coco

CATEGORIES = ({"id": 7, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat"})


def names(annotations):
    return [record.image.name for record in annotations.records]


# ---------------------------------------------------------------------- contents of a file


def test_boxes_and_categories(tmp_path):
    things = [
        coco_object(2, 7, (10, 5, 20, 20.5), area=123.5, segmentation=[[10, 5, 30, 5, 30, 25]]),
        coco_object(1, 3, (0, 0, 60, 40), iscrowd=1, segmentation={"counts": "abc", "size": [40, 60]}),
        coco_object(2, 3, (1, 2, 3, 4), ignore=1),
    ]
    found = read_coco(coco_folder(tmp_path, images=3, annotations=things, categories=CATEGORIES))
    assert (found.classes, found.category_ids) == (("background", "cat", "dog"), (-1, 3, 7))
    first, second, third = found.records
    assert first.boxes.tolist() == [[0, 0, 60, 40]] and first.crowd.tolist() == [True]
    assert second.boxes.tolist() == [[10, 5, 30, 25.5], [1, 2, 4, 6]] and second.boxes.dtype == np.float64
    assert second.labels.tolist() == [2, 1] and second.names == ("dog", "cat")
    assert second.areas.tolist() == [123.5, 12] and second.crowd.tolist() == [False, False]
    assert second.difficult.tolist() == [False, True]
    assert (second.source, second.image_id, second.size) == ("all.json, image 2", 2, (40, 60))
    assert third.boxes.shape == (0, 4)
    assert AnnotatedImages(found)[1][1]["areas"].tolist() == [123.5, 12]


def test_image_ids_may_be_strings_and_sizes_may_be_missing(tmp_path):
    images = [{"id": "x1", "file_name": "sub/1.png"}]
    record = read_coco(coco_folder(tmp_path, images=images, annotations=[coco_object("x1")])).records[0]
    assert (record.image_id, record.size, record.source) == ("x1", None, "all.json, image 'x1'")
    assert record.image.parts[-2:] == ("sub", "1.png")


# ---------------------------------------------------------------------- classes


def test_classes_are_the_categories_of_all_splits_even_unused_ones(tmp_path):
    for split, category in (("train", CATEGORIES[0]), ("val", CATEGORIES[1])):
        coco_folder(tmp_path, f"annotations/instances_{split}2017.json", categories=[category])
    for split in ("train", "val", None):
        found = read_coco(tmp_path, split)
        assert (found.classes, found.category_ids) == (("background", "cat", "dog"), (-1, 3, 7))


@pytest.mark.parametrize("classes", [("dog", "cat"), ("background", "dog", "cat")])
def test_classes_can_be_given(tmp_path, classes):
    found = read_coco(
        coco_folder(tmp_path, annotations=[coco_object(category_id=7)], categories=CATEGORIES), classes=classes
    )
    assert (found.classes, found.category_ids) == (("background", "dog", "cat"), (-1, 7, 3))
    assert found.records[0].labels.tolist() == [1]


def test_a_class_without_a_category_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="there is no category 'cow'; the categories are: cat, dog"):
        read_coco(coco_folder(tmp_path, categories=CATEGORIES), classes=("cat", "cow"))


def test_a_background_and_an_unused_category_with_the_name_of_another_are_left_out(tmp_path):
    categories = [
        {"id": 0, "name": "cat"},
        {"id": 1, "name": "cat"},
        {"id": 2, "name": "background"},
        {"id": 4, "name": "dog"},
    ]
    found = read_coco(coco_folder(tmp_path, annotations=[coco_object(category_id=1)], categories=categories))
    assert (found.classes, found.category_ids) == (("background", "cat", "dog"), (-1, 1, 4))
    assert found.records[0].labels.tolist() == [1]


def test_a_group_without_objects_is_not_a_class(tmp_path):
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "dog"},
    ]
    for split, category_id in (("train", 1), ("valid", 2)):
        coco_folder(
            tmp_path,
            f"{split}/_annotations.coco.json",
            split,
            annotations=[coco_object(category_id=category_id)],
            categories=categories,
        )
    for split in ("train", "val"):
        found = read_coco(tmp_path, split)
        assert (found.classes, found.category_ids) == (("background", "cat", "dog"), (-1, 1, 2))
    assert read_coco(tmp_path, classes=("dog", "pets")).category_ids == (-1, 2, 0)  # unless it is given


def test_a_group_with_an_object_in_any_split_is_a_class(tmp_path):
    categories = [{"id": 3, "name": "pet", "supercategory": "pet"}, {"id": 5, "name": "cat", "supercategory": "pet"}]
    for split, category_id in (("train", 5), ("val", 3)):
        coco_folder(
            tmp_path, f"{split}.json", annotations=[coco_object(category_id=category_id)], categories=categories
        )
    assert read_coco(tmp_path, "train").classes == ("background", "pet", "cat")


def test_two_used_categories_with_the_same_name_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="categories 1 and 2 have the same name, 'cat'"):
        read_coco(
            coco_folder(
                tmp_path,
                annotations=[coco_object(category_id=1), coco_object(category_id=2)],
                categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}],
            )
        )


def test_splits_with_different_category_ids_are_an_error(tmp_path):
    for split, name in (("train", "cat"), ("val", "dog")):
        coco_folder(tmp_path, f"{split}.json", categories=[{"id": 1, "name": name}])
    with pytest.raises(ValueError, match="category 1 is 'cat' in one file and 'dog' in another; write the same"):
        read_coco(tmp_path, "train")
    assert read_coco(tmp_path, "train", classes=("cat",)).category_ids == (-1, 1)


# ---------------------------------------------------------------------- other ways to write ids, names and boxes


@pytest.mark.parametrize("image_id, category_id", [("1", "1"), (1.0, 1.0), ("1.0", "1.0")])
def test_ids_may_be_text_or_fractions(tmp_path, image_id, category_id):
    coco_folder(tmp_path, annotations=[coco_object(image_id, category_id)])
    found = read_coco(tmp_path)
    assert found.records[0].labels.tolist() == [1] and found.records[0].image_id == 1
    coco_folder(
        tmp_path,
        images=[{"id": image_id, "file_name": "1.png"}],
        annotations=[coco_object()],
        categories=[{"id": category_id, "name": "cat"}],
    )
    found = read_coco(tmp_path)
    assert found.records[0].labels.tolist() == [1] and found.category_ids == (-1, 1)
    assert str(found.records[0].image_id) == str(image_id).removesuffix(".0") or found.records[0].image_id == image_id


@pytest.mark.parametrize(
    "file_name",
    [
        "images/1.png",
        "images\\1/1.png",
        "..\\..\\media\\upload\\4\\1.png",
        "/data/photos/1.png",
        "C:\\photos\\1.png",
        "https://example.org/u/7/1.png?size=large",
        "/data/local-files/?d=photos%2F1.png",
        "1.PNG",
        "1",
    ],
)
def test_the_path_of_an_image_may_come_from_another_computer(tmp_path, file_name):
    save_image(tmp_path / "images" / "1.png")
    content = coco_content([{"id": 1, "file_name": file_name}], [coco_object()])
    write(tmp_path / "result.json", json.dumps(content))
    assert COCO(tmp_path)[0][1]["boxes"].tolist() == [[10, 5, 30, 25]]


def test_a_box_may_be_computed_from_an_outline(tmp_path):
    outline = [[10, 5, 30, 5, 20, 25], [5, 6, 7, 8, 9, 6]]
    thing = {"image_id": 1, "category_id": 1, "segmentation": outline}
    assert read_coco(coco_folder(tmp_path, annotations=[thing])).records[0].boxes.tolist() == [[5, 5, 30, 25]]


def test_a_size_of_minus_1_is_unknown(tmp_path):
    images = [{"id": 1, "file_name": "1.png", "width": -1, "height": -1}]
    assert read_coco(coco_folder(tmp_path, images=images)).records[0].size is None


# ---------------------------------------------------------------------- layouts of folders


@pytest.mark.parametrize(
    "train, val, images",
    [
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", "{}2017"),
        ("annotations/instances_train.json", "annotations/instances_val.json", "images/{}"),
        ("annotations/train.json", "annotations/val.json", "images"),
        ("train.json", "valid.json", "{}"),
        ("train.json", "val.json", "."),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json", "{}"),
        ("annotations/instances_Train.json", "annotations/instances_Validation.json", "images/{}"),
        ("Annotations/TRAIN.json", "Annotations/Val.json", "Images"),
        ("annots/train.json", "annots/valid.json", "images/{}"),
    ],
)
def test_layouts_with_splits(tmp_path, train, val, images):
    validation = next(name for name in ("Validation", "valid", "val", "Val") if name in val)
    for split, path, number in (("Train" if "Train" in train else "train", train, 1), (validation, val, 2)):
        coco_folder(
            tmp_path,
            path,
            images.format(split),
            images=[{"id": 1, "file_name": f"{number}.png"}],
            annotations=[coco_object()],
        )
    for split, name in (("train", "1.png"), ("val", "2.png")):
        pages = COCO(tmp_path, split)
        assert names(pages) == [name] and pages[0][1]["boxes"].tolist() == [[10, 5, 30, 25]]
    assert names(read_coco(tmp_path)) == ["1.png", "2.png"]
    with pytest.raises(ValueError, match="has no split 'test'; it has val, train"):
        read_coco(tmp_path, "test")


@pytest.mark.parametrize(
    "name, images",
    [
        ("annotations/instances_default.json", "images/default"),
        ("labels.json", "images"),
        ("annotations/a.json", "."),
        ("labels.json", "."),
    ],
)
def test_layouts_without_splits(tmp_path, name, images):
    coco_folder(tmp_path, name, images, images=10)
    for path in (tmp_path, tmp_path / name):
        assert len(COCO(path)) == 10
        assert [len(COCO(path, split)) for split in ("train", "val")] == [8, 2]
        assert AnnotatedImages(read_coco(path, "val"))[1][0].shape == (40, 60, 3)


def test_images_in_a_given_folder(tmp_path):
    coco_folder(tmp_path / "labels", "all.json", images=1)
    save_image(tmp_path / "photos" / "1.png")
    assert COCO(tmp_path / "labels" / "all.json", images=tmp_path / "photos").records[0].image.parent.name == "photos"
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        COCO(tmp_path / "labels", images=tmp_path / "nowhere")


def test_images_in_none_of_the_folders_are_an_error(tmp_path):
    write(tmp_path / "all.json", json.dumps(coco_content(2)))
    with pytest.raises(FileNotFoundError, match=r"none of the 2 images of .*all\.json \('1\.png', .* is in .*images"):
        read_coco(tmp_path)


def test_a_missing_image_is_an_error_on_access(tmp_path):
    pages = COCO(coco_folder(tmp_path, images=2))
    (tmp_path / "images" / "2.png").unlink()
    assert pages[0][0].shape == (40, 60, 3)
    with pytest.raises(FileNotFoundError, match=r"2\.png"):
        pages[1]


@pytest.mark.parametrize(
    "files, error, message",
    [
        ((), ValueError, r"has no JSON files; looked for annotations/instances_SPLIT\.json, .* train, val"),
        (
            ("a.json", "b.json"),
            ValueError,
            "has 2 JSON files whose names do not state their splits; pass one of the files",
        ),
        (
            ("annotations/instances_train2014.json", "annotations/instances_train2017.json"),
            ValueError,
            r"train2014\.json and .*train2017\.json both contain the split 'train'",
        ),
    ],
)
def test_ambiguous_folders_are_errors(tmp_path, files, error, message):
    for name in files:
        write(tmp_path / name, json.dumps(coco_content()))
    with pytest.raises(error, match=message):
        read_coco(tmp_path)


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent\.json"):
        read_coco(tmp_path / "absent.json")


# ---------------------------------------------------------------------- invalid files


@pytest.mark.parametrize(
    "file_name, reason",
    [
        ("../1.png", "is not a path inside"),
        ("/etc/passwd", "is not a path inside"),
        ("C:/1.png", "is not a path inside"),
        ("a/../../1.png", "is not a path inside"),
        ("link.png", "is a link to .*, which is outside"),
        (None, "image name must be .*, got None"),
        (17, "image name must be .*, got 17"),
        ("", "image name must be .*, got ''"),
        ("a\0.png", "null"),
        ("\ud800.png", "surrogates"),
    ],
)
def test_an_image_outside_the_folder_is_never_opened(tmp_path, file_name, reason):
    save_image(tmp_path / "1.png")
    root = tmp_path / "set"
    save_image(root / "images" / "good.png")
    (root / "images" / "link.png").symlink_to(tmp_path / "1.png")
    images = [{"id": 1, "file_name": "good.png"}, {"id": 2, "file_name": file_name}]
    write(root / "all.json", json.dumps(coco_content(images)))
    found = read_coco(root)
    assert names(found) == ["good.png"]
    assert found.broken[0].source == "all.json, image 2" and re.search(reason, found.broken[0].reason)


@pytest.mark.parametrize(
    "thing, reason",
    [
        (coco_object(2, bbox=(1, 2, 3)), r"bbox of annotations\[1\] must be \[x, y, width, height\], got \[1, 2, 3\]"),
        (coco_object(2, bbox=(1, 2, 3, "wide")), r"bbox of annotations\[1\] must be a number, got 'wide'"),
        (coco_object(2, bbox=(1, 2, 3, 10**400)), r"bbox of annotations\[1\] must be a number, got 1000"),
        (coco_object(2, bbox=(1, True, 3, 4)), "must be a number, got True"),
        (coco_object(2, area=-4), r"area of annotations\[1\] must be at least 0, got -4.0"),
        (coco_object(2, area=[]), r"area of annotations\[1\] must be a number, got \[\]"),
        (coco_object(2, iscrowd="maybe"), r"iscrowd of annotations\[1\] must be a number, yes or no, got 'maybe'"),
        (coco_object(2, category_id="cat"), r"category_id of annotations\[1\] must be an integer, got 'cat'"),
        ({"image_id": 2, "category_id": 1}, "bbox .* got None"),
        ({"image_id": 2, "bbox": [1, 2, 3, 4]}, "category_id .* got None"),
    ],
)
def test_an_invalid_annotation_is_a_fault_of_its_image(tmp_path, thing, reason):
    coco_folder(tmp_path, images=2, annotations=[coco_object(1), thing])
    found = read_coco(tmp_path)
    assert [len(record.boxes) for record in found.records] == [1, 0] and not found.broken
    assert [fault.source for fault in found.unreadable()] == ["all.json, image 2"]
    assert re.search(reason, found.unreadable()[0].reason)
    with pytest.raises(ValueError, match=r"^all\.json, image 2 cannot be read: "):
        COCO(tmp_path)
    pages = COCO(tmp_path, on_error="skip", progress=False)
    assert names(pages) == ["1.png"] and len(pages.skipped) == 1


@pytest.mark.parametrize(
    "thing, reason",
    [
        (coco_object(99), "there is no image with the id 99"),
        (coco_object("x1"), "there is no image with the id 'x1'"),
        ({"bbox": [1, 2, 3, 4]}, "it has no image_id"),
        ("box", "it has no image_id: 'box'"),
        ([], "it has no image_id"),
        (
            coco_object(True),
            "its image_id must be an integer of at most 64 bits or a string of at most 1,000 characters",
        ),
    ],
)
def test_an_annotation_without_an_image_is_broken(tmp_path, thing, reason):
    found = read_coco(coco_folder(tmp_path, annotations=[coco_object(), thing]))
    assert names(found) == ["1.png"] and len(found.records[0].boxes) == 1
    assert found.broken[0].source == "all.json, annotations[1]" and reason in found.broken[0].reason


@pytest.mark.parametrize(
    "image, source, reason",
    [
        ({"file_name": "a.png"}, "all.json, images[1]", "it has no id"),
        (None, "all.json, images[1]", "it has no id: None"),
        ({"id": float("nan")}, "all.json, images[1]", "its id must be an integer of at most 64 bits or a string of"),
        ({"id": 10**3999}, "all.json, images[1]", "must be an integer of at most 64 bits or a string of at most 1,000"),
        ({"id": "9" * 4000}, "all.json, images[1]", "a string of at most 1,000 characters, got '999"),
        ({"id": True}, "all.json, images[1]", "characters, got True"),
        (
            {"id": 2, "file_name": "a.png", "width": 1.5, "height": 2},
            "all.json, image 2",
            "width must be a whole number of pixels up to 2147483647, got 1.5",
        ),
        ({"id": 2, "file_name": "a.png", "height": "x"}, "all.json, image 2", "height must be a number, got 'x'"),
    ],
)
def test_an_invalid_image_entry_is_broken(tmp_path, image, source, reason):
    found = read_coco(coco_folder(tmp_path, images=[{"id": 1, "file_name": "1.png"}, image]))
    assert names(found) == ["1.png"]
    assert found.broken[0].source == source and reason in found.broken[0].reason


def test_images_with_the_same_id_are_broken(tmp_path):
    images = [{"id": i, "file_name": f"{k}.png"} for k, i in enumerate((1, 2, 1))]
    found = read_coco(coco_folder(tmp_path, images=images, annotations=[coco_object(1), coco_object(2)]))
    assert names(found) == ["1.png"]
    assert ["2 images have this id" in broken.reason for broken in found.broken] == [True, True]


def test_an_unknown_category_is_an_unknown_class(tmp_path):
    found = read_coco(coco_folder(tmp_path, annotations=[coco_object(category_id=9)]))
    assert found.records[0].labels.tolist() == [-1] and found.records[0].names == ("category 9",)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is not JSON: Expecting value"),
        ("{", "is not JSON"),
        (b"\xff\xff", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        (json.dumps(coco_content(0)), "has no images"),
        ("[]", r"it is a list, not an object \{...\} with lists"),
        ("{}", "it has no list 'images'; its keys: none"),
        ('{"images": [], "annotations": {}}', "it has no list 'annotations'; its keys: 'images', 'annotations'"),
        ('{"images": [], "annotations": []}', "it has no list 'categories'"),
        (json.dumps(coco_content(categories=["cat"])), r"categories\[0\]: it has no id: 'cat'"),
        (
            json.dumps(coco_content(categories=[{"id": "a", "name": "cat"}])),
            r"categories\[0\]: its id must be an integer of at most 64 bits, got 'a'",
        ),
        (
            json.dumps(coco_content(categories=[{"id": 1}])),
            r"categories\[0\]: the name must be a class name .*, got None",
        ),
        (
            json.dumps(coco_content(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}])),
            r"categories\[1\] is 'dog', but its id 1 already belongs to 'cat'",
        ),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path, text, message):
    save_image(tmp_path / "1.png")
    path = write(tmp_path / "all.json", text)
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        read_coco(path)


def test_damaged_json_returns_annotations_or_raises_an_error(tmp_path):
    rng = np.random.default_rng(0)
    coco_folder(tmp_path, images=2, annotations=[coco_object(), coco_object(2, 7)], categories=CATEGORIES)
    path = tmp_path / "all.json"
    content = np.frombuffer(path.read_bytes(), np.uint8)
    outcomes = set()
    for _ in range(300):
        damaged = content.copy()
        at = rng.integers(0, len(content), rng.integers(1, 4))
        damaged[at] = rng.integers(0, 256, len(at)) if rng.random() < 0.2 else rng.choice(content, len(at))
        path.write_bytes(damaged.tobytes())
        try:
            found = read_coco(path)
        except (OSError, ValueError):
            outcomes.add("error")
        else:
            assert len(found.records) <= 2
            outcomes.add(len(found.broken))
    assert {"error", 0, 1} <= outcomes


JUNK = (None, True, -1, 1.5, float("nan"), "x", "", [], [1], {}, {"id": 1}, 10**400, "\ud800")


def test_any_json_value_at_any_position_raises_no_other_error(tmp_path):
    content = coco_content(2, [coco_object(iscrowd=0, area=4), coco_object(2, 7, ignore=1)], CATEGORIES)
    coco_folder(tmp_path, images=2)
    path = tmp_path / "all.json"
    paths = [(table, i, key) for table, entries in content.items() for i, entry in enumerate(entries) for key in entry]
    paths += [(table, i) for table in content for i in range(2)] + [(table,) for table in content]
    for keys in paths:
        for junk in JUNK:
            changed = json.loads(json.dumps(content))
            inner = changed
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = junk
            write(path, json.dumps(changed))
            try:
                pages = AnnotatedImages(read_coco(path), on_error="skip", progress=False)
            except (OSError, ValueError):
                continue
            assert len(pages) in (1, 2)
