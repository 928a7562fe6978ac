"""Conversion of image files and PIL images to upright (H, W, 3) uint8 RGB arrays on a white background.

Pillow is imported when it is first needed, because arrays need no Pillow, and it may be missing in a browser.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from rcnn._files import check_regular
from rcnn._validate import check_size, shown

if TYPE_CHECKING:
    from PIL import Image

# The formats of cameras, scanners and the web. Pillow can read more formats, but for EPS it starts another program.
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
)  # the suffixes of image files, in lower case

_OTHER_FILES = {  # how files begin that are often taken for images, and what to do with them
    rb"\Z": "is empty",
    rb".{4}ftyp(hei|hev|mif1|msf1)": "is a HEIC photo, which rcnn does not read; convert it to JPEG",
    rb"version https://git-lfs": "is a Git LFS pointer, not the image itself; fetch the image: git lfs pull",
    rb"(?i)\s*<(!doctype html|html)": "is a web page, not an image; download the image again from a direct link",
}
_ORIENTATION = 0x0112  # the EXIF tag of the orientation
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257  # TIFF tags
_UPRIGHT = {  # for each orientation, the member of PIL.Image.Transpose that turns the image upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # the chunks of a PNG file that can contain the orientation


@dataclass(frozen=True)
class Header:
    """The information in the header of an image file. It can be read without decoding the image.

    Attributes
    ----------
    stored_size : (height, width)
        The size of the stored image, in pixels.
    orientation : int
        The EXIF orientation, 1 .. 8. It states how the stored image must be turned; 1 means that the image is upright.
    sixteen_bit : bool
        True if the values have 16 bits.
    """

    stored_size: tuple[int, int]
    orientation: int
    sixteen_bit: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:  # numpydoc ignore=RT01
        """The (height, width) of the image that `read` returns, in pixels."""
        height, width = self.stored_size
        return (width, height) if self.orientation >= 5 else (height, width)


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the image in a file; if the file contains several frames, return the first one.

    The image is turned upright according to its EXIF orientation. Transparent pixels become white, and 16-bit values
    become 8-bit values (see `to_rgb`).

    Parameters
    ----------
    path : path-like
        A file in one of `FORMATS`.

    Returns
    -------
    (H, W, 3) uint8 array
        The image in RGB.

    Raises
    ------
    TypeError
        If `path` is not a path.
    OSError
        If the file does not exist, is not a regular file, or is not a complete image in one of `FORMATS`.
    ValueError
        If the image has more than PIL.Image.MAX_IMAGE_PIXELS pixels (None removes the limit), or if the range of its
        values is unknown (for example, PIL mode F). The messages of both errors begin with the path.
    """
    with _opened(path) as image:
        image.load()
    return to_rgb(image, str(path))


def header(path: str | os.PathLike[str]) -> Header:
    """Return the size and the orientation of the image in a file, without decoding it.

    Damage in the image data is not detected.

    Parameters
    ----------
    path : path-like
        A file in one of `FORMATS`.

    Returns
    -------
    Header
        The stored size and the orientation.

    Raises
    ------
    OSError, ValueError
        For the same reasons as in `read`.
    """
    with _opened(path) as image:
        if image.format == "PNG" and "exif" not in image.info and _has_late_notes(path):
            image.load()  # decoding also reads the metadata after the image data
        tags = getattr(image, "tag_v2", None)  # only a TIFF image has tags; its `size` is already the upright size
        width, height = image.size if tags is None else (tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT])
        return Header((int(height), int(width)), _orientation(image), _is_sixteen_bit(image))


def read_values(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the stored values of a greyscale or palette image, for example the object numbers of a mask.

    Parameters
    ----------
    path : path-like
        A file in one of `FORMATS`.

    Returns
    -------
    (H, W) int64 array
        Grey values, or indices into the palette.

    Raises
    ------
    OSError, ValueError
        For the same reasons as in `read`; also ValueError if the image is a colour image.
    """
    with _opened(path) as image:
        image.load()
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise ValueError(f"{path} has PIL mode {image.mode}; a mask must be greyscale or have a palette")
    return np.asarray(image).astype(np.int64)


def as_png(image: np.ndarray) -> bytes:
    """Return an image as the content of a PNG file; all pixel values are preserved.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
        The image in RGB.

    Returns
    -------
    bytes
        The content of the file.

    Raises
    ------
    TypeError, ValueError
        If `image` is not an array of this dtype and shape, or if it has no pixels or more than 2^30 values.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise TypeError(f"image must be an array (H, W, 3) of dtype uint8, got {shown(image)}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must have shape (H, W, 3), with at least one pixel, got {image.shape}")
    check_size(image.shape, "image")
    from PIL import Image

    file = io.BytesIO()
    # Run-length encoding is three times as fast as the default, and as small for photos, whose patterns do not repeat.
    Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG", compress_type=zlib.Z_RLE)
    return file.getvalue()


def is_pil_image(value: Any) -> TypeGuard[Image.Image]:
    """Return whether a value is a PIL image.

    Parameters
    ----------
    value : object
        Any value.

    Returns
    -------
    bool
        True for a PIL image. The function does not import Pillow: if Pillow is not loaded, no PIL image can exist.
    """
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def to_rgb(image: Image.Image, name: str = "image") -> np.ndarray:
    """Return a PIL image as an upright RGB array on a white background.

    The image is turned according to its EXIF orientation. 16-bit grey values are scaled from 0 .. 65535 to 0 .. 255.

    Parameters
    ----------
    image : PIL.Image.Image
        An image of any mode.
    name : str
        The name of the image, for error messages.

    Returns
    -------
    (H, W, 3) uint8 array
        The image in RGB.

    Raises
    ------
    TypeError
        If `image` is not a PIL image.
    ValueError
        If the range of the values is unknown (modes I and F), or if Pillow cannot convert the colours to RGB.
    """
    if not is_pil_image(image):
        raise TypeError(f"{name} must be a PIL image, got {shown(image)}")
    sixteen_bit = _is_sixteen_bit(image)
    if image.mode[0] in "IF" and not sixteen_bit:
        raise ValueError(
            f"{name} has more than 8 bits per channel and an unknown range (PIL mode "
            f"{image.mode}): scale it to [0, 1] and pass it as an array (H, W, 3)"
        )
    image.load()  # Pillow turns a TIFF upright when it loads it, and resets its orientation
    transparent = image.info.get("transparency")
    image = _turn_upright(image)
    if sixteen_bit:
        return _sixteen_bit_rgb(np.asarray(image), transparent)
    try:
        return np.asarray(_on_white(image).convert("RGB"))
    except ValueError as error:
        raise ValueError(f"{name} has PIL mode {image.mode}, which cannot be converted to RGB") from error


def _is_sixteen_bit(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _description(path: str | os.PathLike[str]) -> str:
    """Return what a file is that no decoder recognises, and what to do."""
    with open(path, "rb") as file:
        start = file.read(64)
    for sign, description in _OTHER_FILES.items():
        if re.match(sign, start, re.DOTALL):
            return description
    return f"is not an image in a supported format ({', '.join(FORMATS)})"


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open an image file for a `with` block, read its header, and check the size of the image.

    The file is closed at the end of the block. Every error message contains the path.
    """
    check_regular(path)
    from PIL import Image, UnidentifiedImageError

    Image.init()
    try:
        with _quiet(), Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                pixels = image.width * image.height
                raise Image.DecompressionBombError(f"({pixels} pixels)")  # up to twice the limit, Pillow only warns
            yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = int(found[1]) if (found := re.search(r"\((\d+) pixels\)", str(error))) else 0
        raise ValueError(
            f"{path} has {pixels:,} pixels, more than the limit of {Image.MAX_IMAGE_PIXELS:,}: it may be a malicious "
            f"file (a decompression bomb); if you trust it, add --max-pixels {pixels} to the command, or in Python set "
            "PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except UnidentifiedImageError as error:
        raise OSError(f"{path} {_description(path)}") from error
    except Exception as error:  # Pillow's decoders can raise any exception on a damaged file
        reason = str(error) or type(error).__name__
        raise OSError(f"{path} cannot be read: {reason}") from error


def _turn_upright(image: Image.Image) -> Image.Image:
    """Return the image, turned according to its EXIF orientation.

    PIL.ImageOps.exif_transpose is not used, because it also rewrites the EXIF data and fails if the data are damaged.
    """
    from PIL import Image

    method = _UPRIGHT.get(_orientation(image))
    return image if method is None else image.transpose(Image.Transpose[method])


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 .. 8. Return 1 if the file has no valid orientation.

    This function calls the `getexif` of the base class, because the method of a PNG image decodes the image.
    """
    from PIL import Image

    with _quiet():
        try:
            value = Image.Image.getexif(image).get(_ORIENTATION, 1)
            return int(value) if value in _UPRIGHT else 1
        except Exception:  # damaged metadata must not make the image unreadable
            return 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about unusual metadata within the `with` block, but only in the main thread.

    Python can only silence warnings for the whole process. If several threads did this, they would undo each other's
    settings.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _has_late_notes(path: str | os.PathLike[str]) -> bool:
    """Return True if a PNG file has metadata after its image data.

    Pillow reads such metadata only when it decodes the image.
    """
    image_seen = False
    with open(path, "rb") as file:
        file.seek(8)  # skip the signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if image_seen and kind in _PNG_NOTES:
                return True
            image_seen = image_seen or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)  # skip the content and its checksum
    return False


def _on_white(image: Image.Image) -> Image.Image:
    """Return the image on a white background."""
    if not image.has_transparency_data:
        return image
    from PIL import Image

    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground


def _sixteen_bit_rgb(values: np.ndarray, transparent: int | None) -> np.ndarray:
    """Return 16-bit grey values (H, W) as rounded 8-bit RGB values (H, W, 3). The value `transparent` becomes white."""
    grey = (values.astype(np.uint32) + 128) // 257  # 65535 = 255 * 257
    if transparent is not None:
        grey[values == transparent] = 255
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)  # (H, W, 3)
