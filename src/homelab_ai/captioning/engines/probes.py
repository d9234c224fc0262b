"""The pictures by which an export is compared with its model: none is a photograph, but all have what photographs have.

Some are of another aspect ratio than the model looks at, some larger, one smaller.
"""

# ruff: noqa: PLR2004 - what is drawn here is made of numbers

import numpy as np

from homelab_ai.captioning.engines.pixels import Pixels


def pictures() -> list[Pixels]:
    """Return them: smooth and sharp, plain and busy, dark and light."""
    dice = np.random.default_rng(7)
    down, across = np.mgrid[0:1:360j, 0:1:480j]
    sky = np.stack([0.3 + 0.3 * down, 0.5 + 0.2 * down, 0.9 - 0.2 * down], axis=-1)
    land = _clouds(dice, 360, 480)[..., None] * np.array([0.4, 0.6, 0.2])
    disc = ((down - 0.45) ** 2 + (across - 0.6) ** 2 < 0.05)[..., None]
    box = ((abs(down - 0.6) < 0.2) & (abs(across - 0.3) < 0.2))[..., None]
    bars = np.repeat((across[..., None] * 12 % 1 < 0.5).astype(float), 3, axis=-1)
    drawn = [
        np.where(down[..., None] > 0.6, land, sky),
        np.where(disc, [0.9, 0.1, 0.1], 0.95),
        np.where(box, [0.1, 0.2, 0.8], np.where(disc, [0.95, 0.8, 0.1], 0.15)),
        np.where(box, np.stack([_clouds(dice, 360, 480) for _ in range(3)], axis=-1), bars),
        np.full((48, 64, 3), [0.9, 0.6, 0.3]),
        dice.random((300, 900, 3)),
    ]
    return [np.round(255 * np.clip(each, 0, 1)).astype(np.uint8) for each in drawn]


def _clouds(dice: np.random.Generator, height: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Noise that has all sizes of things in it, as what is seen in nature has: its amplitude falls with frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    waves = np.fft.irfft2(np.fft.rfft2(dice.standard_normal((height, width))) / frequency, s=(height, width))
    return np.asarray((waves - waves.min()) / np.ptp(waves))
