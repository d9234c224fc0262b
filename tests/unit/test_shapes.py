"""The pictures that the captioning model for tests was trained on."""

import re
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest

from models.shapes import (
    BACKDROPS,
    COLORS,
    LONGEST,
    POSITIONS,
    SHAPES,
    SHORTEST,
    SIZES,
    WIDEST,
    Scene,
    caption,
    draw,
    scenes,
)


def first(count: int, seed: int | str = 0) -> list[Scene]:
    return list(islice(scenes(seed), count))


def either(words: Sequence[str]) -> str:
    return f"({'|'.join(words)})"


def colors_near(pixel: tuple[int, int, int], allowed: dict[str, tuple[tuple[int, int, int], ...]]) -> set[str]:
    """Whose shades a pixel may be, by no more than the scatter that the drawing promises."""
    return {
        name
        for name, shades in allowed.items()
        for shade in shades
        if all(abs(a - b) <= 6 for a, b in zip(pixel, shade, strict=True))
    }


def pixel_of(scene: Scene, x: float, y: float) -> tuple[int, int, int]:
    pixel = draw(scene).getpixel((int(x), int(y)))
    assert isinstance(pixel, tuple)
    red, green, blue = pixel
    return red, green, blue


def test_a_seed_gives_the_same_scenes_and_pixels_again() -> None:
    once, again = first(50, seed=7), first(50, seed=7)

    assert once == again
    assert [draw(scene).tobytes() for scene in once] == [draw(scene).tobytes() for scene in again]


def test_another_seed_gives_other_scenes() -> None:
    assert not set(first(200, seed=7)) & set(first(200, seed=8))


def test_captions_follow_one_grammar() -> None:
    grammar = re.compile(
        f"a {either(list(SIZES))} {either(list(COLORS))} {either(list(SHAPES))} {either(list(POSITIONS))} "
        f"on a {either(list(BACKDROPS))} background"
    )

    for scene in first(500):
        assert grammar.fullmatch(caption(scene))


def test_every_word_is_used() -> None:
    said = first(1000)

    assert {scene.shape for scene in said} == set(SHAPES)
    assert {scene.size for scene in said} == set(SIZES)
    assert {scene.color for scene in said} == set(COLORS)
    assert {scene.position for scene in said} == set(POSITIONS)
    assert {scene.background for scene in said} == set(BACKDROPS)
    assert 0 < sum(scene.outline is not None for scene in said) < 1000


def test_the_colors_are_what_the_caption_says() -> None:
    for scene in first(200):
        assert colors_near(pixel_of(scene, *scene.middle), COLORS) == {scene.color}
        corners = [(x, y) for x in (0, scene.width - 1) for y in (0, scene.height - 1)]
        for corner in corners:
            assert colors_near(pixel_of(scene, *corner), BACKDROPS) == {scene.background}


def test_shades_of_different_colors_stay_apart() -> None:
    named = [(name, shade) for name, shades in COLORS.items() for shade in shades]
    for name, shade in named:
        for other, its in named:
            assert name == other or max(abs(a - b) for a, b in zip(shade, its, strict=True)) > 12


def test_no_shape_is_lost_in_its_background() -> None:
    for scene in first(2000):
        assert max(abs(a - b) for a, b in zip(scene.fill, scene.backdrop, strict=True)) >= 40


def test_pictures_have_every_proportion_and_size_that_is_promised() -> None:
    drawn = first(2000)

    assert all(SHORTEST <= side <= LONGEST for scene in drawn for side in (scene.width, scene.height))
    assert all(1 / WIDEST <= scene.width / scene.height <= WIDEST for scene in drawn)
    assert min(scene.width / scene.height for scene in drawn) < 0.4
    assert max(scene.width / scene.height for scene in drawn) > 2.5
    assert min(min(scene.width, scene.height) for scene in drawn) < 100
    assert max(max(scene.width, scene.height) for scene in drawn) > 780
    assert all(draw(scene).size == (scene.width, scene.height) for scene in drawn[:50])


def test_shapes_are_whole_and_where_the_caption_says() -> None:
    for scene in first(500):
        x, y = scene.middle
        assert scene.reach < x < scene.width - scene.reach
        assert scene.reach < y < scene.height - scene.reach
        (left, right), (top, bottom) = POSITIONS[scene.position]
        assert left <= scene.x <= right
        assert top <= scene.y <= bottom


@pytest.mark.parametrize("shape", SHAPES)
def test_the_sizes_of_a_shape_are_far_apart(shape: str) -> None:
    """By the pixels that are not background, as a share of the square of the shorter side."""
    share: dict[str, list[float]] = {"small": [], "large": []}
    for scene in [scene for scene in first(500) if scene.shape == shape][:60]:
        differs = (np.asarray(draw(scene)) != scene.backdrop).any(axis=2)
        share[scene.size].append(float(differs.sum()) / min(scene.width, scene.height) ** 2)

    assert max(share["small"]) * 1.5 < min(share["large"])
