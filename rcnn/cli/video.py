"""The frames of a video, and a new video with their drawings, for `rcnn detect`.

PyAV reads and writes the files; it contains FFmpeg. Only a few frames are in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from rcnn._files import check_regular

SUFFIXES = frozenset(
    [".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"]
)
USUAL_RATE = Fraction(25)  # frames per second, for videos that do not state their rate
MOST_RATE_PARTS = 1 << 15  # the largest denominator of a rate that every encoder accepts
MISSING_SECONDS, MISSING_SHARE = 1.0, 0.05  # if more is missing at the end of a video, the file is cut off


def is_video(file: Path) -> bool:
    """Return whether the name of a file ends like that of a video."""
    return file.suffix.lower() in SUFFIXES


def _av(file: Path) -> ModuleType:
    """Return PyAV. Raise ImportError, with the name of the video, if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"{file}: videos require the package av, which is not installed; run: pip install 'rcnn[video]'"
        ) from error
    module: ModuleType = av
    return module


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes
    ----------
    number : int
        Its number in the video, starting with 0.
    time : float
        The time at which it is shown, in seconds.
    image : (H, W, 3) uint8 array
        Its pixels, upright.
    """

    number: int
    time: float
    image: np.ndarray


class Reader:
    """An open video file. Use it in a `with` block.

    Parameters
    ----------
    file : Path
        The video.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    OSError, ValueError
        If the file cannot be read, is not a video, or has no video stream.

    Attributes
    ----------
    rate : Fraction
        Frames per second.
    count : int or None
        The number of frames, if the file states it.
    problem : str or None
        After all frames have been read: what is wrong with the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problem: str | None = None
        self._av = _av(file)
        check_regular(file)
        try:  # a file may refer to others, but only to local ones
            self._container = self._av.open(f"file:{file}", options={"protocol_whitelist": "file"})
        except self._av.FFmpegError as error:
            raise ValueError(f"{file} cannot be read as a video: {_reason(error)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise ValueError(f"{file} has no video stream")
        self._stream = self._container.streams.video[0]
        self._limit_pixels()
        self._stream.thread_type = "AUTO"
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or USUAL_RATE)
        self.count: int | None = self._stream.frames or None

    def _limit_pixels(self) -> None:
        """Raise ValueError if the file states more pixels for its frames than an image may have."""
        context, limit = self._stream.codec_context, Image.MAX_IMAGE_PIXELS
        pixels = context.width * context.height
        if limit is not None and pixels > limit:
            self._container.close()
            raise ValueError(
                f"{self.file} has frames of {pixels:,} pixels, more than the limit of {limit:,}; if you trust it, "
                f"add --max-pixels {pixels} to the command"
            )

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """Yield the frames whose number is a multiple of `every`. At a damaged place, end and set `problem`."""
        number, time, first = -1, 0.0, None
        for number, frame in enumerate(self._decoded()):
            time = float(number / self.rate) if frame.time is None else frame.time
            first = time if first is None else first
            if number % every == 0:
                image = frame.to_ndarray(format="rgb24")  # (H, W, 3)
                yield Frame(number, round(time, 3), upright(image, frame.rotation))
        seconds = 0.0 if first is None else time - first + float(1 / self.rate)
        expected = self._seconds()
        if self.problem is None and expected - seconds > max(MISSING_SECONDS, MISSING_SHARE * expected):
            self.problem = f"{self.file} is cut off: it contains {seconds:.1f} of {expected:.1f} seconds"
        elif self.problem is not None:
            self.problem += f" after {number + 1} frames ({seconds:.1f} seconds)"

    def _decoded(self) -> Iterator[Any]:
        """Yield PyAV's frames up to the first error; the frames that the decoder still has come last."""
        try:
            for packet in self._container.demux(self._stream):
                yield from packet.decode()
        except self._av.FFmpegError as error:
            self.problem = f"{self.file} is damaged ({_reason(error)})"
            try:
                yield from self._stream.codec_context.decode(None)
            except self._av.FFmpegError:
                return

    def _seconds(self) -> float:
        """Return the duration that the file states; 0 if it states none."""
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        return (self._container.duration or 0) / self._av.time_base


class Writer:
    """A new MP4 video. Use it in a `with` block; after an error or Ctrl-C, the frames that were added remain.

    Parameters
    ----------
    target : Path
        The file, which is complete when it appears.
    rate : Fraction
        Frames per second.
    """

    def __init__(self, target: Path, rate: Fraction) -> None:
        self.target = target
        self._av = _av(target)
        self._rate = rate.limit_denominator(MOST_RATE_PARTS)
        self._partial = target.with_name(f".{target.name[:40]}.{os.getpid()}.part")
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> Writer:
        return self

    def add(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3). The first one determines the size of the video; others are resized."""
        if self._container is None:
            self._open(image.shape[0], image.shape[1])
        height, width = self._stream.height, self._stream.width
        if abs(image.shape[0] - height) <= 1 and abs(image.shape[1] - width) <= 1:
            image = image[:height, :width]  # the usual encodings require even sides
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._container.mux(self._stream.encode(frame.reformat(width, height, "yuv420p")))

    def __exit__(self, *error: object) -> None:
        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._partial, self.target)
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self, height: int, width: int) -> None:
        self._container = self._av.open(str(self._partial), "w", format="mp4")
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=self._rate)
        self._stream.width, self._stream.height = max(width // 2 * 2, 2), max(height // 2 * 2, 2)
        self._stream.pix_fmt = "yuv420p"


def upright(image: np.ndarray, rotation: float) -> np.ndarray:
    """Return a frame (H, W, 3) turned as its video says: by `rotation` degrees, counterclockwise."""
    return np.ascontiguousarray(np.rot90(image, round(rotation / 90)))


def _reason(error: Any) -> str:
    """Return FFmpeg's reason in lower case, without its number."""
    text = str(error.strerror or error)
    return text[:1].lower() + text[1:]
