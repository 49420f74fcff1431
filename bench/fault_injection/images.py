"""Mutated and unusual images: each is decoded to RGB, or refused in one line."""

import io
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semipose.data.images import read_image
from semipose.errors import SemiposeError

SLOW = 10.0
"""Seconds after which an image counts as a hang."""


def run(count: int, seed: int) -> dict[str, Any]:
    """Reads `count` images; reports those that gave neither an RGB array nor a one-line error."""
    chance = random.Random(seed)
    originals = _originals()
    read = refused = hangs = 0
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for n in range(count):
            suffix, raw = originals[n % len(originals)]
            path = Path(folder) / f"image{chance.choice((suffix, suffix, '.jpg', '.png'))}"
            path.write_bytes(raw if n < len(originals) else _mutated(raw, chance))
            started = time.perf_counter()
            try:
                image = read_image(path)
                read += 1
                if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                    bad.append(f"image {n}: {image.shape} {image.dtype}")
            except SemiposeError as error:
                refused += 1
                if "\n" in str(error):
                    bad.append(f"image {n}: not one line: {str(error)[:100]!r}")
            except BaseException as error:
                bad.append(f"image {n}: {type(error).__name__}: {str(error)[:120]}")
            hangs += time.perf_counter() - started > SLOW
    return {"files": count, "read": read, "refused": refused, "hangs": hangs, "bad": bad[:20] + ["hang"] * hangs}


def _originals() -> list[tuple[str, bytes]]:
    """Common and unusual image files."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    color = Image.fromarray(pixels)
    turned = color.getexif()
    turned[0x0112] = 6
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return [
        (".jpg", _saved(color, "JPEG")),
        (".jpg", _saved(color, "JPEG", exif=turned)),
        (".jpg", _saved(color.convert("CMYK"), "JPEG")),
        (".jpg", _saved(color.convert("L"), "JPEG")),
        (".png", _saved(color, "PNG")),
        (".png", _saved(color.convert("RGBA"), "PNG")),
        (".png", _saved(color.convert("P"), "PNG")),
        (".png", _saved(deep, "PNG")),
        (".webp", _saved(color, "WEBP")),
        (".gif", _saved(color.convert("P"), "GIF", save_all=True, append_images=[color.convert("P")] * 3)),
        (".bmp", _saved(color, "BMP")),
        (".png", _saved(Image.new("L", (11_000, 11_000)), "PNG")),  # 121 megapixels in some kilobytes
        (".jpg", b""),
        (".jpg", b"not an image at all"),
    ]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _mutated(raw: bytes, chance: random.Random) -> bytes:
    """Cut, flipped or overwritten somewhere."""
    if not raw or len(raw) > 100_000:
        return raw[: chance.randrange(len(raw) + 1)] if raw else raw
    changed, act = bytearray(raw), chance.random()
    if act < 0.4:
        return bytes(changed[: chance.randrange(len(raw) + 1)])
    for _ in range(chance.randint(1, 12)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
