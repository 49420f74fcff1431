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


def clip(path: Path, pictures: list[np.ndarray], rotated: bool = False, rate: int = RATE) -> Path:
    """A video of these pictures, `rate` a second; `rotated`: players rotate it by 90° clockwise, as phones write it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    if rotated:
        content = bytearray(path.read_bytes())
        start = content.index(b"tkhd") + 44  # the matrix of the track header: (a, b, u, c, d, v, x, y, w)
        matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, pictures[0].shape[0] << 16, 0, 1 << 30]
        content[start : start + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
        path.write_bytes(content)
    return path
