"""Videos that tests write."""

from pathlib import Path

import av
import numpy as np

RATE = 10


def picture(x: int) -> np.ndarray:
    """A bright square, its left edge at x, on dark ground, (48, 96, 3)."""
    image = np.full((48, 96, 3), 30, np.uint8)
    image[16:32, x : x + 16] = 220
    return image


def clip(
    path: Path, pictures: list[np.ndarray], matrix: tuple[int, int, int, int] | None = None, rate: int = RATE
) -> Path:
    """A video of these pictures, `rate` a second.

    Players show (x, y) at (ax + cy, bx + dy) for a matrix (a, b, c, d); phones write (0, 1, -1, 0), 90° clockwise.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    if matrix:
        content = bytearray(path.read_bytes())
        start = content.index(b"tkhd") + 44  # the matrix of the track header: (a, b, u, c, d, v, x, y, w)
        a, b, c, d = (value << 16 for value in matrix)
        x, y = (pictures[0].shape[axis] << 16 for axis in (0, 1))
        content[start : start + 36] = b"".join(
            n.to_bytes(4, "big", signed=True) for n in (a, b, 0, c, d, 0, x, y, 1 << 30)
        )
        path.write_bytes(content)
    return path
