"""Reading and writing image files."""

import io
import stat
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image

from semipose.errors import DataError
from semipose.utils.files import is_file, replacing

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a PNG of a few kilobytes can hold gigabytes of pixels."""


class ImageSize(NamedTuple):
    """The stored size of an image in pixels, and whether EXIF asks viewers to rotate or mirror it."""

    width: int
    height: int
    has_orientation: bool


def read_image(path: Path) -> np.ndarray:
    """Returns an image in the orientation in which it is stored, because annotations refer to the stored pixels.

    Args:
        path: File in any format that Pillow decodes.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: If the file is missing, broken or larger than `MAX_PIXELS`.
    """
    return decode_image(path, read_image_bytes(path))


def read_image_bytes(path: Path) -> bytes:
    """Returns the content of an image file.

    Raises:
        DataError: If it is missing or not a regular file (reading a pipe or a device may never end).
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"image {path} is not a file; check the image folder")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"image {path} can't be read ({reason}); check the image folder") from None


def decode_image(path: Path, content: bytes) -> np.ndarray:
    """Returns the image that `content`, read from the file `path`, encodes.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: If it is broken or larger than `MAX_PIXELS`.
    """
    try:
        if simplejpeg.is_jpeg(content):
            height, width, _, _ = simplejpeg.decode_jpeg_header(content)
            _check_size(path, width, height)
            return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:
        pass  # CMYK and other rare JPEGs, which Pillow decodes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images; `_check_size` refuses too large ones
            with Image.open(io.BytesIO(content)) as image:
                _check_size(path, *image.size)
                if image.mode.startswith("I"):  # 16-bit gray, which Pillow would clip at 255
                    return np.repeat(_to_8_bits(np.asarray(image))[:, :, None], 3, axis=2)
                if image.mode == "F" and (gray := np.asarray(image)).max() <= 1:  # shares, which Pillow would truncate
                    return np.repeat((255 * gray).round().clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
                if image.format == "PNG" and ";16" in str(image.tile):  # 16-bit color, of which Pillow drops a byte
                    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
                    color = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), flags))
                    return np.ascontiguousarray(_to_8_bits(color)[:, :, ::-1])
                return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"image {path} is broken ({str(error)[:80]}); repair or remove it") from None


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scales 16-bit values by their range to uint8.

    Cameras store 10 and 12 bits in 16, and some tools 8. The file does not say which, so the largest value decides:
    below 256 the values have 8 bits, below 1024 10 bits, below 4096 12 bits, else 16.
    """
    bits = next((bits for bits in (8, 10, 12) if values.max() < 1 << bits), 16)
    return (values.astype(np.int64) >> (bits - 8)).clip(0, 255).astype(np.uint8)


def image_size(path: Path) -> tuple[int, int] | None:
    """Returns width and height of an image file, without decoding it; None if they can't be read."""
    header = image_header(path)
    return header and header[0]


def image_header(path: Path) -> tuple[tuple[int, int], int] | None:
    """Returns the size (width, height) of an image file and its `exif_orientation`; None if they can't be read."""
    if not is_file(path):  # opening a pipe may never end
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.size, exif_orientation(image)
    except Exception:  # reading its pixels reports what is wrong with the file
        return None


def exif_orientation(image: Image.Image) -> int:
    """Returns how EXIF asks viewers to rotate or mirror an opened image, from 1 (as stored) to 8.

    Nothing is decoded. The answer is 1 for every TIFF, because Pillow rotates TIFFs itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # PngImageFile.getexif would decode the image to search for a record behind the pixels.
            value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return int(value) if image.format != "TIFF" and value in range(2, 9) else 1
    except Exception:  # a broken record asks for nothing
        return 1


def has_exif_orientation(image: Image.Image) -> bool:
    """Returns whether EXIF asks viewers to rotate or mirror an opened image, which `read_image` does not do."""
    return exif_orientation(image) != 1


def decoded_size(image: np.ndarray, content: bytes) -> ImageSize:
    """Returns the size of an image (H, W, 3) that was decoded from `content`."""
    height, width = image.shape[:2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images
            with Image.open(io.BytesIO(content)) as opened:
                return ImageSize(width, height, has_exif_orientation(opened))
    except Exception:  # Pillow knows less JPEGs than simplejpeg
        return ImageSize(width, height, False)


def read_image_sizes(paths: Iterable[Path]) -> dict[Path, ImageSize]:
    """Returns the sizes of images from the headers of their files, without those that can't be read."""
    sizes = {}
    for path in dict.fromkeys(paths):
        if is_file(path):
            with suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as image:
                    sizes[path] = ImageSize(*image.size, has_exif_orientation(image))
    return sizes


def write_image(image: np.ndarray, path: Path, quality: int) -> None:
    """Writes an image atomically, as a PNG or a JPEG depending on the file name.

    Args:
        image: (H, W, 3) uint8 RGB.
        path: File to write; missing folders are created.
        quality: JPEG quality in 0…100.

    Raises:
        OSError: If the file can't be written.
    """
    suffix = path.suffix.lower()
    options = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"image {path} has {width * height / 1e6:.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}: scale it down"
        )
