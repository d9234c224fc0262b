"""Images of every kind that phones, cameras and attackers make, decoded by the real process."""

import asyncio
import os
import random
import signal
import zlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from homelab_ai.captioning.decoder import Decoder, ImageRefused, Picture
from homelab_ai.models.hosts.host import Host
from support.clock import Clock
from support.images import FUZZ, KINDS, drawn, mutated, png_of, saved
from support.server import wait_for

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def decoder(clock: Clock) -> AsyncIterator[Decoder]:
    decoder = Decoder(Host.start, 64, clock)
    yield decoder
    await decoder.close()


def pixels(picture: Picture) -> Any:
    return np.frombuffer(picture.pixels, np.uint8).reshape(picture.height, picture.width, 3)


def looks_like(picture: Picture, image: Image.Image, tolerance: float = 12) -> bool:
    """Whether both are the same picture, but for what compression does."""
    expected = np.asarray(image.convert("RGB"), dtype=float)
    if (picture.width, picture.height) != image.size:
        return False
    return bool(np.abs(pixels(picture).astype(float) - expected).mean() < tolerance)


async def refused(decoder: Decoder, data: bytes) -> ImageRefused:
    with pytest.raises(ImageRefused) as raised:
        await decoder.decode(data)
    return raised.value


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_read(decoder: Decoder, kind: str) -> None:
    data = KINDS[kind]()
    grey = "L" if "grey" in kind else "1" if "one-bit" in kind else "RGB"
    assert looks_like(await decoder.decode(data), drawn(grey))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
async def test_a_photo_is_turned_as_the_camera_was_held(decoder: Decoder, orientation: int, form: str) -> None:
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_270],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_90],
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = drawn()
    for turn in turns.get(orientation, []):
        expected = expected.transpose(turn)
    assert looks_like(await decoder.decode(saved(drawn(), form, exif=exif)), expected)


async def test_a_heic_photo_is_turned(decoder: Decoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = await decoder.decode(saved(drawn(), "HEIF", exif=exif.tobytes()))
    assert (picture.width, picture.height) == (80, 120)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 50, b"x" * 60000])
async def test_a_damaged_exif_block_costs_nothing_but_itself(decoder: Decoder, exif: bytes) -> None:
    assert looks_like(await decoder.decode(saved(drawn(), "JPEG", exif=exif)), drawn())


async def test_what_is_transparent_is_white(decoder: Decoder) -> None:
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    half = Image.new("RGBA", (40, 40), (255, 0, 0, 128))
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 255, 255, 0, 0])
    for image, form, options, colour in (
        (clear, "PNG", {}, (255, 255, 255)),
        (half, "PNG", {}, (255, 127, 127)),
        (half, "WEBP", {"lossless": True}, (255, 127, 127)),
        (palette, "PNG", {"transparency": 1}, (255, 255, 255)),
        (palette, "GIF", {"transparency": 1}, (255, 255, 255)),
        (Image.new("LA", (40, 40), (0, 0)), "PNG", {}, (255, 255, 255)),
    ):
        found = pixels(await decoder.decode(saved(image, form, **options)))
        assert np.abs(found.astype(int) - colour).max() <= 2, (form, options)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
async def test_sixteen_bits_are_brought_to_eight(decoder: Decoder, form: str) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(1, 256).repeat(20, axis=0)
    found = pixels(await decoder.decode(saved(Image.fromarray(ramp), form)))
    assert np.abs(found[0, :, 0].astype(int) - np.arange(256)).max() <= 1


async def test_numbers_that_are_no_colours_are_brought_to_colours(decoder: Decoder) -> None:
    values = np.linspace(-3, 7, 200, dtype=np.float32).reshape(10, 20)
    values[0, 0] = np.nan
    found = pixels(await decoder.decode(saved(Image.fromarray(values), "TIFF")))
    assert (int(found.min()), int(found.max())) == (0, 255)


async def test_what_is_large_is_made_smaller(decoder: Decoder) -> None:
    for size, reduced in (((4000, 3000), (1024, 768)), ((300, 6000), (51, 1024)), ((5000, 1), (1024, 1))):
        for form in ("JPEG", "PNG"):
            picture = await decoder.decode(saved(drawn(size=size), form))
            assert (picture.width, picture.height) == reduced
    assert looks_like(await decoder.decode(saved(drawn(size=(4000, 3000)), "JPEG")), drawn(size=(1024, 768)))


async def test_a_bomb_is_refused_by_its_header(decoder: Decoder) -> None:
    bomb = png_of(30_000, 30_000, zlib.compress(bytes(10_000_000), 9))
    assert len(bomb) < 100_000
    refusal = await refused(decoder, bomb)
    assert refusal.kind == "too_large"
    assert "30000 x 30000 pixels" in str(refusal)
    assert "limits.max_image_megapixels" in str(refusal)
    host = decoder._process._host
    assert host
    assert psutil.Process(host.pid).memory_info().rss < 300 * 1024**2


async def test_the_limit_counts_all_pixels() -> None:
    decoder = Decoder(Host.start, 0.0096, Clock())
    assert (await decoder.decode(saved(drawn(), "PNG"))).width == 120
    assert (await refused(decoder, saved(drawn(size=(121, 80)), "PNG"))).kind == "too_large"
    await decoder.close()


NO_IMAGES: dict[str, bytes] = {
    "a text": b"this is a text, called .jpg\n" * 100,
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "PostScript, for which Pillow starts Ghostscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "an icon": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0",
    "zeros": bytes(1000),
    "one byte": b"\xff",
    "HTML": b"<!DOCTYPE html><html></html>",
    "a program": b"\x7fELF\2\1\1" + bytes(100),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
async def test_what_is_no_image_is_told_what_is(decoder: Decoder, kind: str) -> None:
    refusal = await refused(decoder, NO_IMAGES[kind])
    assert refusal.kind == "unknown"
    assert "JPEG, PNG, WebP" in str(refusal)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC"])
async def test_a_truncated_file_is_refused(decoder: Decoder, kind: str) -> None:
    data = saved(Image.effect_noise((200, 200), 90).convert("RGB"), {"WebP": "WEBP", "HEIC": "HEIF"}.get(kind, kind))
    for part in (0.3, 0.6, 0.9):
        refusal = await refused(decoder, data[: int(part * len(data))])
        assert refusal.kind in {"damaged", "unknown"}


async def test_an_image_that_kills_the_process_is_refused_and_the_next_is_read(decoder: Decoder) -> None:
    async def kill_twice() -> None:
        for _ in range(2):
            host = decoder._process._host
            while not (
                decoder._process._host and decoder._process._host is not host and decoder._process._host._under_way
            ):
                await asyncio.sleep(0.001)
            os.kill(decoder._process._host.pid, signal.SIGKILL)

    slow = saved(Image.effect_noise((4000, 4000), 90).convert("RGB"), "PNG", compress_level=1)
    killing = asyncio.create_task(kill_twice())
    refusal = await refused(decoder, slow)
    await killing
    assert "ends the program" in str(refusal)
    assert looks_like(await decoder.decode(saved(drawn(), "PNG")), drawn())


async def test_the_process_goes_when_no_image_has_come_for_a_minute(decoder: Decoder, clock: Clock) -> None:
    pictures = [decoder.decode(saved(drawn(), "PNG")) for _ in range(5)]
    await asyncio.gather(*pictures)
    (process,) = psutil.Process().children()
    clock.advance(59)
    await decoder.decode(saved(drawn(), "PNG"))
    assert psutil.Process().children() == [process]
    clock.advance(59)
    assert process.is_running()
    clock.advance(1)
    while process.is_running():
        await asyncio.sleep(0.01)
    assert looks_like(await decoder.decode(saved(drawn(), "PNG")), drawn())


@pytest.mark.timeout(60 + FUZZ)
async def test_no_mutation_of_an_image_does_harm(decoder: Decoder) -> None:
    rng = random.Random(7)
    kinds = [make() for make in KINDS.values()]
    outcomes = {"read": 0, "refused": 0}
    for number in range(FUZZ):
        try:
            picture = await asyncio.wait_for(decoder.decode(mutated(kinds[number % len(kinds)], rng)), 30)
        except ImageRefused:
            outcomes["refused"] += 1
        else:
            assert len(picture.pixels) == 3 * picture.width * picture.height
            assert max(picture.width, picture.height) <= 1024
            outcomes["read"] += 1
    assert all(outcomes.values())
    wait_for(lambda: len(psutil.Process().children()) <= 1)
    assert psutil.Process(decoder._process._host.pid).memory_info().rss < 600 * 1024**2  # type: ignore[union-attr]
