"""Image files and PIL images as (H, W, 3) uint8 RGB, the way up that the camera was held, on white."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

# What a camera, a scanner or the web gives. Pillow knows more kinds, and starts another program to read one (EPS).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
    ".avif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)  # of their files' names, in small letters

_ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257  # tags, too
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # the parts of a PNG that can say how the camera was held


@dataclass(frozen=True)
class Header:
    """What the beginning of an image's file says: `stored_size` and `upright_size` (height, width), and between them
    `orientation`, EXIF's 1 .. 8, which turns the stored image into the upright one (1 leaves it as it is).
    """

    stored_size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """The (height, width) of the image that `read` gives."""
        height, width = self.stored_size
        return (width, height) if self.orientation >= 5 else (height, width)


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """The image in a file as (H, W, 3) uint8 RGB; of several frames the first.

    The image is turned as its EXIF data say, transparent pixels lie on white, and 16 bits become 8 (see `to_rgb`).
    Raises OSError for what is missing, is no file, or is no whole image of one of `FORMATS`, and ValueError for an
    image that is refused: with more pixels than PIL.Image.MAX_IMAGE_PIXELS (None lifts that limit), or with values of
    unknown range. The message begins with the path.
    """
    with _opened(path) as image:
        image.load()
    return to_rgb(image, str(path))


def header(path: str | os.PathLike[str]) -> Header:
    """The size and the way up of the image in a file, without decoding it.

    Raises as `read` does for what is no image; a file that is damaged further on is not noticed.
    """
    with _opened(path) as image:
        if image.format == "PNG" and "exif" not in image.info and _has_late_notes(path):
            image.load()  # which reads to the end of the file
        tags = getattr(image, "tag_v2", None)  # of a TIFF, whose size Pillow states upright
        width, height = image.size if tags is None else (tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT])
        return Header((int(height), int(width)), _orientation(image))


def read_values(path: str | os.PathLike[str]) -> np.ndarray:
    """The values (H, W) int64 of a grey or palette image as they are stored: what a mask tells objects apart by.

    Raises as `read` does, and ValueError for an image of colours.
    """
    with _opened(path) as image:
        image.load()
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise ValueError(f"{path} is an image of PIL's mode {image.mode}; a mask is grey or has a palette")
    return np.asarray(image).astype(np.int64)


def as_png(image: np.ndarray) -> bytes:
    """The content of a PNG file of an image (H, W, 3) uint8, which keeps every pixel."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG")
    return file.getvalue()


def to_rgb(image: Image.Image, name: str = "image") -> np.ndarray:
    """A PIL image as (H, W, 3) uint8 RGB, turned as its EXIF data say, transparent pixels on white.

    16-bit grey is scaled by its range, 0 .. 65535, to 0 .. 255. Raises ValueError where the range is not known (modes I
    and F) and for colours that Pillow cannot convert.
    """
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode[0] in "IF" and not sixteen_bit:
        raise ValueError(
            f"{name} has more than 8 bits per channel, of a range that is not known (PIL's mode "
            f"{image.mode}): scale it to [0, 1] and pass it as an array (H, W, 3)"
        )
    image.load()  # Pillow turns a TIFF when it is loaded; only then does its tag say what is left to do
    transparent = image.info.get("transparency")
    image = _turn_upright(image)
    if sixteen_bit:
        return _sixteen_bit_rgb(np.asarray(image), transparent)
    try:
        return np.asarray(_on_white(image).convert("RGB"))
    except ValueError as error:
        raise ValueError(f"{name} has colours of PIL's mode {image.mode}, which cannot become RGB") from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """The image of a file, its header read; the file is closed afterwards, and whatever goes wrong names it."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, not an image")
    if not Path(path).is_file():  # nor a pipe or a device, which could be read for ever
        raise FileNotFoundError(f"{path} is not there, or is no file")
    Image.init()
    try:
        with _quiet(), Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError  # Pillow itself fails at twice the limit, and warns before
            yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} has more pixels than the limit of {Image.MAX_IMAGE_PIXELS:,}; it may be a "
            "decompression bomb and is not read"
        ) from error
    except UnidentifiedImageError as error:
        raise OSError(f"{path} is not an image of a kind that can be read ({', '.join(FORMATS)})") from error
    except Exception as error:  # a damaged file can make Pillow's decoders raise nearly anything
        reason = str(error) or type(error).__name__
        raise OSError(f"{path} cannot be read: {reason}") from error


def _turn_upright(image: Image.Image) -> Image.Image:
    """The image as it was seen when it was taken.

    Not by PIL.ImageOps.exif_transpose, which also writes the EXIF data anew, and fails where they are damaged.
    """
    method = _UPRIGHT.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    """EXIF's number, 1 .. 8, for how the camera was held; 1 where the file does not say, or not in a way that counts.

    Not by the image's own `getexif`, with which a PNG decodes itself.
    """
    with _quiet():
        try:
            value = Image.Image.getexif(image).get(_ORIENTATION, 1)
            return int(value) if value in _UPRIGHT else 1
        except Exception:  # damaged data beside the image do not spoil the image
            return 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of odd metadata, which do not matter here.

    Warnings are silenced for the whole process, and threads that do so at the same time undo each other's settings;
    so only the main thread does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _has_late_notes(path: str | os.PathLike[str]) -> bool:
    """Whether a PNG says more about its image after the image, where Pillow finds it only when decoding."""
    image_seen = False
    with open(path, "rb") as file:
        file.seek(8)  # over the signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if image_seen and kind in _PNG_NOTES:
                return True
            image_seen = image_seen or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)  # over the content and its checksum
    return False


def _on_white(image: Image.Image) -> Image.Image:
    """The image with white behind what is transparent."""
    if not image.has_transparency_data:
        return image
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground


def _sixteen_bit_rgb(values: np.ndarray, transparent: int | None) -> np.ndarray:
    """Grey values (H, W) in 0 .. 65535 as (H, W, 3) in 0 .. 255, each rounded; the `transparent` value is white."""
    grey = (values.astype(np.uint32) + 128) // 257  # 65535 = 255 * 257
    if transparent is not None:
        grey[values == transparent] = 255
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)  # (H, W, 3)
