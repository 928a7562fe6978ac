"""Image files: every format and orientation, and files that are not images."""

import contextlib
import io
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from threading import Event, local

import numpy as np
import pytest
from PIL import Image, ImageFile

from rcnn import images

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9], [90, 80, 70], [255, 255, 255]]], np.uint8)
WHITE = (255, 255, 255)


def png(depth, kind, row, transparency=None):
    """Return a PNG of one row, assembled here because Pillow writes only some kinds of PNG."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    width = len(row) * 8 // (depth * channels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))
        + (chunk(b"tRNS", transparency) if transparency else b"")
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(folder, content, name="image"):
    (folder / name).write_bytes(content)
    return images.read(folder / name)


# ---------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    "kind, options",
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
    ],
)
def test_lossless_files_are_read_exactly(tmp_path, kind, options):
    array = read(tmp_path, saved(Image.fromarray(RGB), kind, **options))
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, RGB)


@pytest.mark.parametrize(
    "mode, colour, expected",
    [
        ("RGB", (200, 100, 50), (200, 100, 50)),
        ("L", 77, (77, 77, 77)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (255, 0, 255, 128), (0, 127, 0)),
    ],
)
def test_jpeg(tmp_path, mode, colour, expected):
    array = read(tmp_path, saved(Image.new(mode, (16, 8), colour), "JPEG", quality=95))
    assert array.shape == (8, 16, 3)
    np.testing.assert_allclose(array.astype(int), np.full((8, 16, 3), expected), atol=3)


@pytest.mark.parametrize(
    "mode, colours, expected",
    [
        ("1", [0, 1], [0, 255]),
        ("L", [3, 200], [3, 200]),
        ("LA", [(3, 255), (3, 0)], [3, 255]),
        ("LA", [(0, 51), (100, 204)], [204, 131]),  # 255 * 4/5; 100 * 4/5 + 255 / 5
        ("RGBA", [(1, 2, 3, 255), (1, 2, 3, 0), (0, 0, 0, 51)], [(1, 2, 3), WHITE, (204, 204, 204)]),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_and_transparent_files(tmp_path, kind, mode, colours, expected):
    image = Image.new(mode, (len(colours), 1))
    image.putdata(colours)
    expected = np.broadcast_to(np.reshape(expected, (1, len(colours), -1)), (1, len(colours), 3))
    np.testing.assert_array_equal(read(tmp_path, saved(image, kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
@pytest.mark.parametrize("transparency, expected", [(None, [(9, 8, 7), (60, 70, 80)]), (1, [(9, 8, 7), WHITE])])
def test_palettes(tmp_path, kind, transparency, expected):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 60, 70, 80])
    image.putdata([0, 1])
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(read(tmp_path, saved(image, kind, **options)), [expected])


def test_a_palette_with_half_transparent_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 0, 50, 100])
    image.putdata([0, 1])
    array = read(tmp_path, saved(image, "PNG", transparency=bytes([255, 51])))
    np.testing.assert_array_equal(array, [[(9, 8, 7), (204, 214, 224)]])


@pytest.mark.parametrize(
    "depth, kind, row, transparency, expected",
    [
        (16, 0, struct.pack(">6H", 0, 128, 129, 257, 40000, 65535), None, [0, 0, 1, 1, 156, 255]),  # to the nearest
        (16, 0, struct.pack(">2H", 300, 301), struct.pack(">H", 300), [255, 1]),
        (16, 4, struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0), None, [0x80, 255]),
        (16, 2, struct.pack(">3H", 0x0A00, 0x8000, 0xFFFF), None, [(0x0A, 0x80, 0xFF)]),
        (16, 6, struct.pack(">4H", 0x0A00, 0x8000, 0xFFFF, 0), None, [WHITE]),
        (8, 2, bytes([1, 2, 3, 4, 5, 6]), struct.pack(">3H", 1, 2, 3), [WHITE, (4, 5, 6)]),
        (8, 0, bytes([1, 5]), struct.pack(">H", 1), [255, 5]),
        (1, 0, bytes([0b01010101]), None, [0, 255] * 4),
        (2, 0, bytes([0b00011011]), None, [0, 85, 170, 255]),
    ],
)
def test_depths_of_png(tmp_path, depth, kind, row, transparency, expected):
    array = read(tmp_path, png(depth, kind, row, transparency))
    expected = np.broadcast_to(np.reshape(expected, (1, len(expected), -1)), array.shape)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_is_scaled_by_its_range(tmp_path, kind):
    values = np.array([[0, 257 * 100], [65535, 257 * 200]], np.uint16)
    array = read(tmp_path, saved(Image.fromarray(values), kind))
    np.testing.assert_array_equal(array, np.repeat(np.array([[0, 100], [255, 200]])[:, :, None], 3, axis=2))


def test_pgm_of_ten_bits_and_big_endian_images(tmp_path):
    array = read(tmp_path, b"P5 2 1 1023\n" + struct.pack(">2H", 1023, 0))
    np.testing.assert_array_equal(array, [[WHITE, (0, 0, 0)]])
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 65535, 257))
    np.testing.assert_array_equal(images.to_rgb(image), [[WHITE, (1, 1, 1)]])


@pytest.mark.parametrize("kind, options", [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_first_of_several_frames_is_read(tmp_path, kind, options):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    array = read(tmp_path, saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(array, np.full((3, 4, 3), (255, 0, 0)))


# ---------------------------------------------------------------------- orientation


def held(orientation):
    """Return EXIF data with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def upright(stored, orientation):
    """Return the stored image turned upright: EXIF defines where row 0 and column 0 appear."""
    row, column = {
        1: "top left",
        2: "top right",
        3: "bottom right",
        4: "bottom left",
        5: "left top",
        6: "right top",
        7: "right bottom",
        8: "left bottom",
    }[orientation].split()
    seen = stored.transpose(1, 0, 2) if row in ("left", "right") else stored
    if "bottom" in (row, column):
        seen = seen[::-1]
    return seen[:, ::-1] if "right" in (row, column) else seen


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind, options", [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_an_image_is_turned_upright(tmp_path, kind, options, orientation):
    content = saved(Image.fromarray(RGB), kind, exif=held(orientation), **options)
    np.testing.assert_array_equal(read(tmp_path, content), upright(RGB, orientation))
    with Image.open(io.BytesIO(content)) as opened:
        np.testing.assert_array_equal(images.to_rgb(opened), upright(RGB, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_upright(tmp_path, orientation):
    blocks = RGB.repeat(16, axis=0).repeat(16, axis=1)  # JPEG preserves colours that fill its blocks
    array = read(tmp_path, saved(Image.fromarray(blocks), "JPEG", quality=95, subsampling=0, exif=held(orientation)))
    np.testing.assert_allclose(array.astype(int), upright(blocks, orientation), atol=6)


@pytest.mark.parametrize("orientation", [1, 6])
def test_sixteen_bit_images_are_turned_upright_too(tmp_path, orientation):
    values = np.array([[0, 257, 514], [771, 1028, 1285]], np.uint16)
    array = read(tmp_path, saved(Image.fromarray(values), "PNG", exif=held(orientation)))
    expected = upright(np.repeat(np.arange(6).reshape(2, 3, 1), 3, axis=2), orientation)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6", held(9)])
def test_an_invalid_orientation_is_ignored(tmp_path, exif):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read(tmp_path, saved(Image.fromarray(RGB), "PNG", exif=exif)), RGB)


# ---------------------------------------------------------------------- headers


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind, options",
    [("PNG", {}), ("JPEG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {}), ("AVIF", {})],
)
def test_a_header_has_the_stored_and_the_upright_size(tmp_path, kind, options, orientation):
    (tmp_path / "image").write_bytes(saved(Image.new("RGB", (48, 32)), kind, exif=held(orientation), **options))
    header = images.header(tmp_path / "image")
    assert header == images.Header((32, 48), orientation)
    assert header.upright_size == ((48, 32) if orientation >= 5 else (32, 48))
    assert header.upright_size == images.read(tmp_path / "image").shape[:2]


@pytest.mark.parametrize("kind", ["BMP", "GIF", "PPM", "JPEG2000", "PNG"])
def test_a_header_without_exif_data(tmp_path, kind):
    (tmp_path / "image").write_bytes(saved(Image.new("RGB", (48, 32)), kind))
    assert images.header(tmp_path / "image") == images.Header((32, 48), 1)


def late_exif(content, orientation):
    """Return a PNG with EXIF data after the image data, which the standard allows."""
    data = held(orientation).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    return content[:-12] + chunk + content[-12:]


def test_exif_data_after_the_image_data_of_a_png_count(tmp_path):
    (tmp_path / "image").write_bytes(late_exif(saved(Image.fromarray(RGB), "PNG"), 6))
    assert images.header(tmp_path / "image") == images.Header((2, 3), 6)
    np.testing.assert_array_equal(images.read(tmp_path / "image"), upright(RGB, 6))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("options, size", [({}, (2, 3)), ({"exif": held(6)}, (3, 2))])
def test_a_header_decodes_nothing(tmp_path, monkeypatch, kind, options, size):
    (tmp_path / "image").write_bytes(saved(Image.fromarray(RGB), kind, **options))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert images.header(tmp_path / "image").upright_size == size


def test_headers_of_files_that_are_not_images(tmp_path, monkeypatch):
    (tmp_path / "image").write_bytes(b"not an image")
    for name, message in (
        ("image", "is not an image in a supported"),
        ("absent", "file not found"),
        ("", "is a folder"),
    ):
        with pytest.raises(OSError, match=message):
            images.header(tmp_path / name)
    (tmp_path / "image").write_bytes(saved(Image.new("RGB", (7, 3)), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match="image has 21 pixels, more than the limit of 20"):
        images.header(tmp_path / "image")


# ---------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    "mode, values", [("L", [0, 1, 255]), ("P", [0, 1, 2]), ("1", [0, 1, 1]), ("I;16", [0, 300, 65535])]
)
def test_mask_values_are_read_as_stored(tmp_path, mode, values):
    image = Image.new(mode, (3, 1))
    image.putdata(values)
    if mode == "P":
        image.putpalette([200, 0, 0, 0, 200, 0, 7, 7, 7])
    image.save(tmp_path / "mask.png", transparency=0) if mode in "LP" else image.save(tmp_path / "mask.png")
    read_values = images.read_values(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_values, np.array([values]), strict=True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_colour_images_are_refused_as_masks(tmp_path, mode):
    (tmp_path / "mask").write_bytes(saved(Image.new(mode, (3, 1)), "TIFF"))
    with pytest.raises(ValueError, match=f"mask has PIL mode {mode}; a mask must be greyscale or have a palette"):
        images.read_values(tmp_path / "mask")


# ---------------------------------------------------------------------- files that are not images


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        b"\x89PNG\r\n\x1a\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
@pytest.mark.parametrize("name", ["image", "image.jpg", "image.eps"])
def test_other_files_are_reported(tmp_path, content, name):
    with pytest.raises(OSError, match=f"{name} (is not an image|is empty|cannot be read)"):
        read(tmp_path, content, name)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "image is empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image is a HEIC photo, which rcnn does not read; convert it to JPEG"),
        (b"\n\0\0\x18ftypmif1\0\0\0\0mif1heic", "image is a HEIC photo"),
        (b"version https://git-lfs.github.com/spec/v1\n", "image is a Git LFS pointer.*: git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "image is a web page, not an image"),
    ],
)
def test_files_that_are_often_taken_for_images(tmp_path, content, message):
    with pytest.raises(OSError, match=message):
        read(tmp_path, content, "image")


@pytest.mark.parametrize("kind", ["EPS", "PCX"])
def test_only_listed_formats_are_tried(tmp_path, kind):
    """Pillow itself would read these formats; for EPS, it would start Ghostscript."""
    with pytest.raises(OSError, match=r"image.eps is not an image in a supported format \(AVIF, .*, WEBP\)"):
        read(tmp_path, saved(Image.fromarray(RGB), kind), "image.eps")


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"])
def test_truncated_files_are_reported(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), kind)
    assert read(tmp_path, content).shape == (40, 50, 3)
    for share in (0.02, 0.3, 0.6, 0.9):
        with pytest.raises(OSError, match="image (is not|cannot be read)"):
            read(tmp_path, content[: int(share * len(content))])


def test_folders_and_missing_files_are_reported(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path} is a folder"):
        images.read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^.*absent.png: file not found"):
        images.read(tmp_path / "absent.png")


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        MemoryError(),
        struct.error("unpack"),
        AssertionError(),
        SyntaxError("broken PNG file"),
    ],
)
def test_any_exception_of_a_decoder_names_the_file(tmp_path, monkeypatch, error):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(Image, "open", fails)
    reason = re.escape(str(error) or type(error).__name__)
    with pytest.raises(OSError, match=f"image cannot be read: {reason}$"):
        read(tmp_path, b"anything")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_of_unknown_range_are_refused(tmp_path, mode):
    content = saved(Image.new(mode, (3, 2)), "TIFF")
    with pytest.raises(ValueError, match=rf"image has more than 8 bits .*mode {mode}\): scale it to \[0, 1\]"):
        read(tmp_path, content)


def test_colours_that_pillow_cannot_convert_are_refused():
    with pytest.raises(ValueError, match="photo has PIL mode La, which cannot be converted to RGB"):
        images.to_rgb(Image.new("La", (1, 1)), "photo")


@pytest.mark.parametrize("size, refused", [((5, 2), False), ((11, 1), True), ((20, 1), True), ((7, 3), True)])
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, size, refused):
    """Images above Pillow's limit are refused, even below twice the limit, where Pillow only warns."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    content = saved(Image.new("RGB", size), "PNG")
    if refused:
        with pytest.raises(
            ValueError, match=r"has \d\d pixels, more than the limit of 10: .*decompression bomb.*--max-pixels \d\d "
        ):
            read(tmp_path, content)
    else:
        assert read(tmp_path, content).shape == (size[1], size[0], 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read(tmp_path, content).shape == (size[1], size[0], 3)


def test_threads_leave_the_settings_of_warnings_alone(tmp_path, monkeypatch):
    """Two threads read at the same time; the one that starts first ends first."""
    Image.fromarray(RGB).save(tmp_path / "image.png")
    inside, done = [Event(), Event()], Event()
    real_load = ImageFile.ImageFile.load

    def load(image):
        inside[number.value].set()
        inside[1 - number.value].wait(10)
        if number.value == 1:
            done.wait(10)
        return real_load(image)

    def read_as(value):
        number.value = value
        inside[0].wait(10) if value else None
        array = images.read(tmp_path / "image.png")
        done.set()
        return array

    number = local()
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as pool:
        for array in pool.map(read_as, (0, 1)):
            np.testing.assert_array_equal(array, RGB)
    assert list(warnings.filters) == before


def test_decompression_bombs_are_refused_in_threads(tmp_path, monkeypatch):
    Image.new("RGB", (7, 3)).save(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(ValueError, match="21 pixels, more than the limit of 20"),
    ):
        warnings.simplefilter("ignore")
        pool.submit(images.read, tmp_path / "image.png").result()


def test_a_file_that_only_claims_to_be_large_is_refused(tmp_path):
    honest = png(8, 0, b"\0")
    header = struct.pack(">II", 60_000, 60_000) + honest[24:29]
    content = honest[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + honest[33:]
    with pytest.raises(ValueError, match="image has 3,600,000,000 pixels"):
        read(tmp_path, content)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_damaged_files_give_an_image_or_an_error_that_names_them(tmp_path, kind):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    exif = {} if kind in ("BMP", "GIF", "PPM") else {"exif": held(6)}
    content = np.frombuffer(saved(image, kind, **exif), np.uint8)
    failed = 0
    for _ in range(150):
        damaged = content.copy()
        at = rng.integers(0, min(len(content), 200 if rng.random() < 0.7 else len(content)), rng.integers(1, 5))
        damaged[at] = rng.integers(0, 256, len(at))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no warning may appear either
            try:
                array = read(tmp_path, damaged.tobytes())
            except (OSError, ValueError) as error:
                assert "image" in str(error)
                failed += 1
                with contextlib.suppress(OSError, ValueError):
                    images.header(tmp_path / "image")
            else:
                assert images.header(tmp_path / "image").upright_size == array.shape[:2]
                assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    assert failed > 10


@pytest.mark.parametrize("function", [images.read, images.header, images.read_values])
@pytest.mark.parametrize("path", [10**30, -1, True, None, b"a.png"], ids=repr)
def test_only_paths_are_read(function, path):
    with pytest.raises(TypeError, match=r"^path must be a path, got "):
        function(path)


@pytest.mark.parametrize("image", [None, 1.5, "a.png", RGB], ids=["None", "number", "path", "array"])
def test_only_pil_images_are_converted(image):
    with pytest.raises(TypeError, match="^photo must be a PIL image, got "):
        images.to_rgb(image, "photo")


def test_png_files_keep_every_value_and_are_as_small_as_those_of_pillow():
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(120), np.arange(160))[:, :, None] + rng.normal(0, 4, (120, 160, 3))
    photo = smooth.clip(0, 255).astype(np.uint8)
    content = images.as_png(photo)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), photo)
    assert len(content) < 1.1 * len(saved(Image.fromarray(photo), "PNG"))


@pytest.mark.parametrize(
    "image, kind, message",
    [
        (None, TypeError, r"image must be an array \(H, W, 3\) of dtype uint8, got None"),
        (1.5, TypeError, "of dtype uint8, got 1.5"),
        (RGB.tolist(), TypeError, "of dtype uint8, got "),
        (RGB / 255, TypeError, "of dtype uint8, got an array of shape "),
        (np.zeros((2, 2)), TypeError, "of dtype uint8, got array"),
        (np.broadcast_to(1.0, (2**20, 2**20)), TypeError, r"got an array of shape \(1048576, 1048576\)"),
        (RGB[0], ValueError, r"image must have shape \(H, W, 3\), with at least one pixel, got \(3, 3\)"),
        (RGB[:0], ValueError, r"got \(0, 3, 3\)"),
        (np.broadcast_to(np.uint8(1), (2**20, 2**20, 3)), ValueError, "image must be smaller: "),
    ],
)
def test_only_images_become_png_files(image, kind, message):
    with pytest.raises(kind, match=message):
        images.as_png(image)
