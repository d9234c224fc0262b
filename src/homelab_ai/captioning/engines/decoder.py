"""Decodes images, in a process that may die: what strangers send is read by large libraries written in C.

An engine module without a model. Each run is one image file; the answer is its pixels, upright, in RGB and no larger
than a model can use, or the reason why it is refused.
"""

import contextlib
import io
import resource
import warnings
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from homelab_ai.models.hosts.engine import Engine, Report

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""What is read, as Pillow names it. Whatever else it knows stays closed: some of its formats start other programs, and
few are as well tested."""

LONGEST_SIDE = 1024
"""Pixels. Models see 224 to about 1000; more would only be carried around."""

_MEMORY_BYTES = 4 * 1024**3
"""What the process may take: several times the largest picture that it is given by default."""
_LARGEST_8_BIT = 255


def load(options: dict[str, Any], report: Report) -> Engine:  # noqa: ARG001 - there is nothing to wait for
    """Make ready. `options["max_pixels"]` is the size of the largest image that is decoded."""
    pillow_heif.register_heif_opener(thumbnails=False)
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours, and is checked before anything is decoded
    with contextlib.suppress(ValueError, OSError):  # macOS has none
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    return Decoder(options["max_pixels"])


class _RefusedError(Exception):
    """The image cannot be used. Its text is for the client."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Decoder:
    """Reads image files."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels

    def describe(self) -> dict[str, Any]:
        """Return nothing of interest."""
        return {}

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:  # noqa: ARG002 - has none
        """Decode the file in `body`.

        Answers `width` and `height` with three bytes a pixel, row by row; or `refused`, one of `unknown`, `damaged`
        and `too_large`, with the `reason`.
        """
        try:
            with warnings.catch_warnings(action="ignore"):
                picture = self._decoded(body)
        except _RefusedError as refusal:
            return {"refused": refusal.kind, "reason": str(refusal)}, b""
        return {"width": picture.width, "height": picture.height}, picture.tobytes()

    def _decoded(self, data: bytes) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise _RefusedError("unknown", f"is no image that can be read here: {_known()}") from None
        except Exception as error:
            raise _RefusedError("damaged", "is damaged: its header cannot be read") from error
        width, height = image.size
        if width * height > self._max_pixels:
            raise _RefusedError(
                "too_large",
                f"has {width} x {height} pixels, which is more than the {self._max_pixels / 1e6:g} million that "
                "limits.max_image_megapixels allows",
            )
        try:
            image.draft(None, (LONGEST_SIDE, LONGEST_SIDE))  # a JPEG, at half its size or less where that is enough
            image.load()
        except MemoryError:
            raise _RefusedError("too_large", "takes more memory to decode than there is for one image") from None
        except Exception as error:
            raise _RefusedError("damaged", "is damaged, or breaks off before its end") from error
        return _reduced(_in_rgb(_upright(image)))


def _upright(image: Image.Image) -> Image.Image:
    """Turn it as its EXIF block says. Where that block is damaged, it is as if there was none."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a camera, or an attacker, can write anything there
        return image


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:  # on white, as most programs show it
        drawn = image.convert("RGBA")
        white = Image.new("RGBA", drawn.size, "white")
        return Image.alpha_composite(white, drawn).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Bring grey values of any range to 8 bits: 16-bit ones by their scale, others by what there is of them."""
    if values.dtype == np.uint16 or (values.dtype.kind in "iu" and values.min() >= 0 and values.max() < 2**16):
        grey = values.astype(np.uint16) >> (8 if values.max() > _LARGEST_8_BIT else 0)
    else:
        numbers = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
        span = numbers.max() - numbers.min()
        grey = (numbers - numbers.min()) * (_LARGEST_8_BIT / span if span else 0)
    return np.asarray(grey, dtype=np.uint8)


def _reduced(image: Image.Image) -> Image.Image:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=3)
    return image


def _known() -> str:
    return "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC are"
