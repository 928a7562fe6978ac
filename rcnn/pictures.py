"""Picture files and PIL images as (H, W, 3) uint8 RGB, the way up that the camera was held, on white."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

# What a camera, a scanner or the web gives. Pillow knows more kinds, and starts another program to read one (EPS).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

_ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """The picture in a file as (H, W, 3) uint8 RGB; of several frames the first.

    The picture is turned as its EXIF data say, transparent pixels lie on white, and 16 bits become 8 (see `to_rgb`).
    Raises OSError for what is missing, is no file, or is no whole picture of one of `FORMATS`, and ValueError for a
    picture that is refused: with more pixels than PIL.Image.MAX_IMAGE_PIXELS (None lifts that limit), or with values of
    unknown range. The message begins with the path.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a picture")
    if not Path(path).is_file():  # nor a pipe or a device, which could be read for ever
        raise FileNotFoundError(f"{path} is not there, or is no file")
    return to_rgb(_decode(path), str(path))


def to_rgb(image: Image.Image, name: str = "picture") -> np.ndarray:
    """A PIL image as (H, W, 3) uint8 RGB, turned as its EXIF data say, transparent pixels on white.

    16-bit grey is scaled by its range, 0 .. 65535, to 0 .. 255. Raises ValueError where the range is not known (modes I
    and F) and for colours that Pillow cannot convert.
    """
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode[0] in "IF" and not sixteen_bit:
        raise ValueError(f"{name} has more than 8 bits per channel, of a range that is not known (PIL's mode "
                         f"{image.mode}): scale it to [0, 1] and pass it as an array (H, W, 3)")
    image.load()  # Pillow turns a TIFF when it is loaded; only then does its tag say what is left to do
    transparent = image.info.get("transparency")
    image = _turn_upright(image)
    if sixteen_bit:
        return _sixteen_bit_rgb(np.asarray(image), transparent)
    try:
        return np.asarray(_on_white(image).convert("RGB"))
    except ValueError as error:
        raise ValueError(f"{name} has colours of PIL's mode {image.mode}, which cannot become RGB") from error


def _decode(path: str | os.PathLike[str]) -> Image.Image:
    """The picture of a file, loaded, so that the file is closed."""
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which do not matter here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                image.load()
            return image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} has more pixels than the limit of {Image.MAX_IMAGE_PIXELS:,}; it may be a "
                         "decompression bomb and is not read") from error
    except UnidentifiedImageError as error:
        raise OSError(f"{path} is not a picture of a kind that can be read ({', '.join(FORMATS)})") from error
    except Exception as error:  # a damaged file can make Pillow's decoders raise nearly anything
        reason = str(error) or type(error).__name__
        raise OSError(f"{path} cannot be read: {reason}") from error


def _turn_upright(image: Image.Image) -> Image.Image:
    """The image as it was seen when it was taken.

    Not by PIL.ImageOps.exif_transpose, which also writes the EXIF data anew, and fails where they are damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            method = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
        except Exception:  # damaged data beside the picture do not spoil the picture
            return image
    return image if method is None else image.transpose(method)


def _on_white(image: Image.Image) -> Image.Image:
    """The image with white behind what is transparent."""
    if not image.has_transparency_data:
        return image
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page


def _sixteen_bit_rgb(values: np.ndarray, transparent: int | None) -> np.ndarray:
    """Grey values (H, W) in 0 .. 65535 as (H, W, 3) in 0 .. 255, each rounded; the `transparent` value is white."""
    grey = (values.astype(np.uint32) + 128) // 257  # 65535 = 255 * 257
    if transparent is not None:
        grey[values == transparent] = 255
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)  # (H, W, 3)
