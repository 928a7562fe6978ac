"""Small folders of annotated images for tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from rcnn.data import Record

SIZE = (40, 60)  # height, width


def save_image(path: Path, size=SIZE, orientation: int | None = None, value: int = 90, **options) -> Path:
    """Save a grey image of `size` (height, width) with an EXIF orientation, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path, **options)
    return path


def record(image: Path, boxes=((10, 5, 30, 25),), labels=(1,), names=None, size=None) -> Record:
    """Return the record of an image whose annotation is "notes.txt"."""
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    none = np.zeros(len(boxes), bool)
    names = tuple(f"class {label}" for label in labels) if names is None else names
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    numbers = np.array(labels, np.int64)
    return Record(image, "notes.txt", boxes, names, numbers, none, none, none, areas, size, image.stem)


def voc_object(name="cat", box=(11, 6, 30, 25), extra="") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc_xml(*objects: str, filename="a.png", size=(60, 40)) -> str:
    """Return the annotation of an image of `size` (width, height)."""
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{filename}</filename>{stated}{''.join(objects)}</annotation>"


def voc_folder(root: Path, sheets: dict[str, str], lists: dict[str, str] | None = None) -> Path:
    """Create a VOC folder with the XML texts of `sheets`, an image for each, and the image sets of `lists`."""
    for stem, xml in sheets.items():
        save_image(root / "JPEGImages" / f"{stem}.png")
        write(root / "Annotations" / f"{stem}.xml", xml)
    for name, text in (lists or {}).items():
        write(root / "ImageSets" / "Main" / f"{name}.txt", text)
    return root


def coco_content(images=1, annotations=(), categories=({"id": 1, "name": "cat"},)) -> dict:
    """Return the contents of a COCO file; an int for `images` makes 1.png, 2.png, ... with the ids 1, 2, ..."""
    if isinstance(images, int):
        images = [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in range(1, images + 1)]
    return {"images": list(images), "annotations": list(annotations), "categories": list(categories)}


def coco_object(image_id=1, category_id=1, bbox=(10, 5, 20, 20), **extra) -> dict:
    return {"id": 1, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), **extra}


def coco_folder(root: Path, name: str = "all.json", image_folder: str = "images", **content) -> Path:
    """Create a folder with a JSON file `name`, and its images in `image_folder`."""
    written = coco_content(**content)
    for image in written["images"]:
        if isinstance(image, dict) and isinstance(image.get("file_name"), str):
            save_image(root / image_folder / image["file_name"])
    write(root / name, json.dumps(written))
    return root


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
