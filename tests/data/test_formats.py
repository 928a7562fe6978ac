"""Recognition of formats: sets of every writer, folders of other programs, and folders without annotations."""

import json
import os

import pytest
from annotated import coco_content, save_image, voc_object, voc_xml, write

from rcnn import data

ROW = "a.png,1,2,3,4,cat\n"


@pytest.mark.parametrize("kind", ["voc", "coco", "yolo", "csv"])
def test_written_sets_are_recognised_and_read(tmp_path, kind):
    for split in ("train", "val"):
        getattr(data, f"write_{kind}")(data.Shapes(3, split=split), tmp_path / "set", split, progress=False)
    assert data.find_formats(tmp_path / "set") == [kind]
    assert len(data.load(str(tmp_path / "set"), "val")) == 3


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("Annotations/cam1/a.xml", voc_xml(voc_object()), "voc"),
        ("a.xml", '<?xml version="1.0"?>\n<Annotation verified="yes"><object/></Annotation>', "voc"),
        ("annotations/instances_default.json", json.dumps(coco_content()), "coco"),
        ("train/_annotations.coco.json", '\ufeff{"info": {}, "licenses": [], "images": []}', "coco"),
        ("a.json", '{"version": "5.2.0", "flags": {}, "shapes": []}', "labelme"),
        ("a.json", '{"imageData": "' + "x" * 100_000, "labelme"),
        ("annotations.xml", "<?xml version='1.0'?><annotations><version>1.1</version></annotations>", "cvat"),
        ("project-1.json", '[{"id": 1, "annotations": [], "data": {}}]', "labelstudio"),
        ("train_labels.csv", "filename;width;height;class;xmin;ymin;xmax;ymax\n", "csv"),
        ("annotations.csv", ROW, "csv"),
        ("annotations.csv", ("image,x1,y1,x2,y2,label\n" + ROW).replace("\n", "\r"), "csv"),
        ("annotations.csv", ("image,x1,y1,x2,y2,label\n" + ROW).encode("utf-16"), "csv"),
        ("data.yaml", "train: ../train/images\nnames: ['cat']\n", "yolo"),
        ("labels/a.txt", "0 0.5 0.5 0.1 0.1\n1 .5 5e-1 0.1 0.1 0.2 0.2\n", "yolo"),
        ("obj_train_data/a.txt", "0 0.5 0.5 0.1 0.1", "yolo"),
        ("labels/a.txt", "", "yolo"),
    ],
)
def test_the_files_of_other_programs(tmp_path, name, text, expected):
    save_image(tmp_path / "a.png")
    path = write(tmp_path / name, text)
    assert data.find_formats(tmp_path) == data.find_formats(str(path)) == [expected]


@pytest.mark.parametrize(
    "name, text, program",
    [
        ("via_region_data.json", '{"a.png12": {"regions": [{"shape_attributes": {"name": "rect"}}]}}', "VIA"),
        ("via_export_csv.csv", "filename,file_size,region_shape_attributes,region_attributes\n", "VIA"),
        ("a.json", '[{"image": "a.png", "annotations": [{"label": "b", "coordinates": {"x": 1}}]}]', "CreateML"),
        ("ann/a.png.json", '{"size": {}, "objects": [{"classTitle": "cat"}]}', "Supervisely"),
        ("vott-export.json", '{"name": "x", "assets": {}}', "VoTT"),
    ],
)
def test_programs_whose_files_are_not_read(tmp_path, name, text, program):
    path = write(tmp_path / name, text)
    match = rf"has annotations from {program} \({path.name}\), which rcnn does not read; export them as COCO"
    for given in (tmp_path, path):
        with pytest.raises(ValueError, match=match):
            data.find_formats(given)


def test_masks(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    save_image(tmp_path / "masks" / "a.png")
    assert data.find_formats(tmp_path) == ["masks"]


def test_several_formats_in_one_folder(tmp_path):
    write(tmp_path / "test.csv", "image,x1,y1,x2,y2,label\n" + ROW)
    write(tmp_path / "Annotations" / "a.xml", voc_xml(voc_object()))
    assert data.find_formats(tmp_path) == ["voc", "csv"]


def test_a_folder_of_photos_alone_leads_to_the_guide(tmp_path):
    save_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"has 1 image, but no annotations; docs/annotating\.md explains how"):
        data.find_formats(tmp_path)


def test_other_files_are_ignored(tmp_path):
    write(tmp_path / "README.txt", "A set of images.\n")
    write(tmp_path / "results.csv", "epoch,loss\n1,2\n")
    write(tmp_path / "package.json", '{"name": "x"}')
    write(tmp_path / "notes.json", '{"categories": [], "info": {}}')  # part of Label Studio's export for YOLO
    write(tmp_path / "page.xml", "<svg/>")
    write(tmp_path / "._a.xml", "<annotation/>")
    write(tmp_path / ".git" / "a.xml", "<annotation/>")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(
        ValueError,
        match="has no annotations in a known format: voc, coco, yolo, labelme, cvat, labelstudio, csv, masks; .*; "
        "a CSV file such as pipe.csv must have the columns image,x1,y1,x2,y2,label or image,x,y,w,h,label$",
    ):
        data.find_formats(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent: file or folder not found"):
        data.find_formats(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="absent': file or folder not found"):
        data.load(str(tmp_path / "absent"), "train")
    with pytest.raises(ValueError, match="there is no data set 'vocc:"):
        data.load(f"vocc:{tmp_path}", "train")
