"""Images of every kind that is read, and what strangers make of them."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import pillow_heif
from PIL import Image, ImageDraw

pillow_heif.register_heif_opener()

FUZZ: Final = int(os.environ.get("HOMELAB_AI_TEST_IMAGES", "200"))
"""How many mutated images a test tries."""


def drawn(mode: str = "RGB", size: tuple[int, int] = (120, 80)) -> Image.Image:
    """Red on the left, blue on the right, with a white corner at the top left."""
    image = Image.new("RGB", size, "red")
    draw = ImageDraw.Draw(image)
    draw.rectangle((size[0] // 2, 0, *size), fill="blue")
    draw.rectangle((0, 0, size[0] // 8, size[1] // 8), fill="white")
    return image.convert(mode)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


KINDS: Final[dict[str, Callable[[], bytes]]] = {
    "JPEG": lambda: saved(drawn(), "JPEG", quality=90),
    "progressive JPEG": lambda: saved(drawn(), "JPEG", progressive=True),
    "grey JPEG": lambda: saved(drawn("L"), "JPEG"),
    "CMYK JPEG": lambda: saved(drawn("CMYK"), "JPEG", quality=95),
    "JPEG of two pictures": lambda: saved(drawn(), "MPO", save_all=True, append_images=[drawn("L").convert("RGB")]),
    "PNG": lambda: saved(drawn(), "PNG"),
    "interlaced PNG": lambda: saved(drawn(), "PNG", interlace=1),
    "palette PNG": lambda: saved(drawn("P"), "PNG"),
    "one-bit PNG": lambda: saved(drawn("1"), "PNG"),
    "WebP": lambda: saved(drawn(), "WEBP"),
    "lossless WebP": lambda: saved(drawn(), "WEBP", lossless=True),
    "GIF": lambda: saved(drawn(), "GIF"),
    "animated GIF": lambda: saved(drawn(), "GIF", save_all=True, append_images=[Image.new("RGB", (120, 80))] * 3),
    "animated WebP": lambda: saved(drawn(), "WEBP", save_all=True, append_images=[Image.new("RGB", (120, 80))] * 3),
    "BMP": lambda: saved(drawn(), "BMP"),
    "TIFF": lambda: saved(drawn(), "TIFF"),
    "compressed TIFF": lambda: saved(drawn(), "TIFF", compression="tiff_lzw"),
    "CMYK TIFF": lambda: saved(drawn("CMYK"), "TIFF"),
    "TIFF of pages": lambda: saved(drawn(), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
    "AVIF": lambda: saved(drawn(), "AVIF"),
    "HEIC": lambda: saved(drawn(), "HEIF"),
}


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header claims that size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The file with a few bytes changed, left out or put in, or with one of its numbers made as large as can be."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 12)):
        start = dice.randrange(len(changed))
        match dice.randrange(4):
            case 0:
                changed[start] = dice.randrange(256)
            case 1:
                del changed[start + 1 : start + dice.randint(2, 10)]
            case 2:
                changed[start:start] = dice.randbytes(dice.randint(1, 9))
            case _:
                changed[start : start + 4] = dice.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
    return bytes(changed)
