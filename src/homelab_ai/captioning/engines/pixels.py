"""Pictures on their way to an engine."""

import struct

import numpy as np

Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
"""RGB: (height, width, 3)."""

_SIZE = struct.Struct("!II")


def unpacked(body: bytes) -> list[Pixels]:
    """Return the images in the body of a run: each its width and height (u32, network byte order), then RGB rows."""
    images, start = [], 0
    while start < len(body):
        width, height = _SIZE.unpack_from(body, start)
        start += _SIZE.size
        end = start + 3 * width * height
        images.append(np.frombuffer(body[start:end], np.uint8).reshape(height, width, 3))
        start = end
    return images
