"""Pictures of one coloured shape each, and the sentence that says what is to be seen.

No captioning model comes with a package, so tests caption with a small one that knows these pictures and nothing else
(`blip-shapes`, made by `train_blip_shapes.py`). What it has to say of a picture is known exactly, however the picture
was stored: a caption that is wrong is a fault of the service, not a matter of taste.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Span = tuple[float, float]

SHAPES: Final = {"circle": 1.0, "square": 1.15, "triangle": 1.25, "star": 1.25}
"""How far each reaches from its middle, by half its diameter: so that all look equally large."""

SIZES: Final[dict[str, Span]] = {"small": (0.20, 0.28), "large": (0.40, 0.94)}
"""Diameters, by the shorter side of the picture. What lies between is neither, and is not drawn."""

_LOW: Final = (0.0, 0.32)
_MIDDLE: Final = (0.46, 0.54)
_HIGH: Final = (0.68, 1.0)

POSITIONS: Final[dict[str, tuple[Span, Span]]] = {
    "in the top left": (_LOW, _LOW),
    "at the top": (_MIDDLE, _LOW),
    "in the top right": (_HIGH, _LOW),
    "on the left": (_LOW, _MIDDLE),
    "in the center": (_MIDDLE, _MIDDLE),
    "on the right": (_HIGH, _MIDDLE),
    "in the bottom left": (_LOW, _HIGH),
    "at the bottom": (_MIDDLE, _HIGH),
    "in the bottom right": (_HIGH, _HIGH),
}
"""Where the middle of the shape is, across and down, by width and height. What lies between is not drawn."""

COLORS: Final[dict[str, tuple[RGB, ...]]] = {
    "red": ((255, 0, 0), (225, 25, 30), (190, 15, 25), (245, 45, 45)),
    "green": ((0, 128, 0), (0, 255, 0), (30, 160, 50), (20, 120, 40), (60, 200, 80)),
    "blue": ((0, 0, 255), (30, 70, 220), (40, 110, 240), (25, 45, 185)),
    "yellow": ((255, 255, 0), (250, 225, 30), (240, 210, 0), (255, 240, 70)),
    "orange": ((255, 165, 0), (250, 135, 20), (240, 120, 0), (255, 150, 45)),
    "purple": ((128, 0, 128), (125, 40, 165), (145, 60, 200), (100, 20, 135)),
    "pink": ((255, 192, 203), (255, 140, 195), (250, 110, 180), (255, 165, 210)),
    "brown": ((139, 69, 19), (115, 65, 30), (95, 50, 20), (135, 80, 45)),
    "black": ((0, 0, 0), (15, 15, 15), (25, 22, 24)),
    "white": ((255, 255, 255), (246, 246, 246), (250, 248, 240)),
}

BACKDROPS: Final[dict[str, tuple[RGB, ...]]] = {
    "light": (
        (255, 255, 255),
        (211, 211, 211),
        (245, 245, 220),
        (253, 246, 222),
        (205, 226, 246),
        (212, 240, 212),
        (238, 232, 246),
    ),
    "dark": ((0, 0, 0), (64, 64, 64), (0, 0, 128), (15, 22, 62), (12, 48, 28), (34, 34, 40), (46, 14, 48)),
}

SHORTEST, LONGEST = 96, 800
"""Pixels of a side."""

WIDEST: Final = 3.0
"""The longer side by the shorter."""

STEEPEST: Final = 12.0
"""Degrees that a shape is turned, at most."""

FLATTEST: Final = 0.72
"""How far a triangle is pressed together, across or down: not all have equal sides."""

WAISTS: Final[Span] = (0.38, 0.5)
"""Where the inner corners of a star are, between its middle and its tips."""

_MARGIN: Final = 0.03
_OUTLINE: Final = 0.14
_MULTIPLE: Final = 4
_CONTRAST: Final = 200.0
_JITTER: Final = 6


@dataclass(frozen=True)
class Scene:
    """One picture: what the caption says of it, and what it leaves open."""

    width: int
    height: int
    shape: str
    size: str
    color: str
    position: str
    background: str
    diameter: float
    """By the shorter side."""
    x: float
    y: float
    """The middle of the shape, by width and height."""
    rotation: float
    """In degrees."""
    pressed: tuple[float, float]
    """A triangle's width and height, by those of one with equal sides."""
    waist: float
    """A star's inner radius, by the outer."""
    smooth: bool
    """Whether its edges are."""
    fill: RGB
    backdrop: RGB
    outline: RGB | None

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the shape, in pixels."""
        return self.x * self.width, self.y * self.height

    @property
    def reach(self) -> float:
        """How far the shape reaches from its middle, in pixels."""
        return _reach(self.shape, self.diameter) * min(self.width, self.height)


def caption(scene: Scene) -> str:
    """What is to be seen, always in the same words."""
    return f"a {scene.size} {scene.color} {scene.shape} {scene.position} on a {scene.background} background"


def draw(scene: Scene) -> Image.Image:
    """The picture. Equal scenes give equal pixels."""
    image = Image.new("RGB", (scene.width, scene.height), scene.backdrop)
    if scene.outline is not None:
        _paste(image, _corners(scene, 1.0), scene.outline, smooth=scene.smooth)
    inside = 1.0 if scene.outline is None else 1.0 - _OUTLINE
    _paste(image, _corners(scene, inside), scene.fill, smooth=scene.smooth)
    return image


def scenes(seed: int | str) -> Iterator[Scene]:
    """Scenes without end; every seed has its own."""
    dice = random.Random(seed)
    while True:
        width, height = _frame(dice)
        shape, size = dice.choice(list(SHAPES)), dice.choice(list(SIZES))
        color, background = dice.choice(_VISIBLE)
        fill, backdrop = dice.choice(_VISIBLE_AS[color, background])
        position = dice.choice([*POSITIONS, "in the center", "in the center"])  # where alone the largest fit
        across, down = POSITIONS[position]
        room = min(_room(across) * width, _room(down) * height) / min(width, height)
        least, most = SIZES[size]
        diameter = dice.uniform(least, min(most, 2 * room / SHAPES[shape]))
        reach = _reach(shape, diameter) * min(width, height)
        fill = _jittered(dice, fill)
        yield Scene(
            width=width,
            height=height,
            shape=shape,
            size=size,
            color=color,
            position=position,
            background=background,
            diameter=diameter,
            x=_place(dice, across, reach / width),
            y=_place(dice, down, reach / height),
            rotation=dice.choice((0.0, dice.uniform(-STEEPEST, STEEPEST))),
            pressed=(dice.uniform(FLATTEST, 1.0), dice.uniform(FLATTEST, 1.0)),
            waist=dice.uniform(*WAISTS),
            smooth=dice.random() < 0.6,
            fill=fill,
            backdrop=_jittered(dice, backdrop),
            outline=_edge(fill) if dice.random() < 0.3 else None,
        )


def _frame(dice: random.Random) -> tuple[int, int]:
    """Width and height: every proportion as often as its inverse, small pictures as often as large ones."""
    proportion = math.exp(dice.uniform(0.0, math.log(WIDEST)))
    shorter = math.exp(dice.uniform(math.log(SHORTEST), math.log(LONGEST / proportion))) + 1e-6
    sides = [int(shorter), int(int(shorter) * proportion)]
    dice.shuffle(sides)
    return sides[0], sides[1]


def _room(span: Span) -> float:
    """How far something may reach from a middle in that span without touching the edge of the picture."""
    return min(span[1] - _MARGIN, 1.0 - _MARGIN - span[0], 0.5 - _MARGIN)


def _place(dice: random.Random, span: Span, reach: float) -> float:
    return dice.uniform(max(span[0], reach + _MARGIN), min(span[1], 1.0 - reach - _MARGIN))


def _reach(shape: str, diameter: float) -> float:
    return SHAPES[shape] * diameter / 2


def _jittered(dice: random.Random, color: RGB) -> RGB:
    red, green, blue = (max(0, min(255, value + dice.randint(-_JITTER, _JITTER))) for value in color)
    return red, green, blue


def _edge(fill: RGB) -> RGB:
    """A darker shade of a colour, and of a dark one a lighter: it has to stay the same colour to whoever looks."""
    red, green, blue = (int(value * 0.7) if max(fill) > 80 else int(value + 40) for value in fill)
    return red, green, blue


def _distance(one: RGB, other: RGB) -> float:
    """How different two colours look, roughly: the mean red decides how much red and blue count."""
    mean = (one[0] + other[0]) / 2
    red, green, blue = (a - b for a, b in zip(one, other, strict=True))
    return math.sqrt((2 + mean / 256) * red**2 + 4 * green**2 + (2 + (255 - mean) / 256) * blue**2)


_VISIBLE_AS: Final = {
    (color, background): pairs
    for color, fills in COLORS.items()
    for background, backdrops in BACKDROPS.items()
    if (pairs := [(fill, back) for fill in fills for back in backdrops if _distance(fill, back) >= _CONTRAST])
}
_VISIBLE: Final = list(_VISIBLE_AS)


def _corners(scene: Scene, scale: float) -> list[tuple[float, float]]:
    """The outline of the shape, in pixels: a circle is a polygon, too."""
    across, down = scene.pressed if scene.shape == "triangle" else (1.0, 1.0)
    match scene.shape:
        case "circle":
            radii = [1.0] * 72
        case "square":
            radii = [1.0] * 4
        case "triangle":
            radii = [1.0] * 3
        case _:
            radii = [1.0, scene.waist] * 5
    first = scene.rotation + (45.0 if scene.shape == "square" else 0.0)
    angles = [math.radians(first + 360.0 * index / len(radii)) for index in range(len(radii))]
    x, y = scene.middle
    reach = scene.reach * scale
    return [
        (x + across * reach * radius * math.sin(angle), y - down * reach * radius * math.cos(angle))
        for radius, angle in zip(radii, angles, strict=True)
    ]


def _paste(image: Image.Image, corners: Sequence[tuple[float, float]], color: RGB, *, smooth: bool) -> None:
    """Fill a polygon. For smooth edges its surroundings, and only they, are drawn at a multiple, and reduced."""
    multiple = _MULTIPLE if smooth else 1
    left, top = (math.floor(min(values)) for values in zip(*corners, strict=True))
    right, bottom = (math.ceil(max(values)) + 1 for values in zip(*corners, strict=True))
    mask = Image.new("L", ((right - left) * multiple, (bottom - top) * multiple))
    inside = [((x - left) * multiple, (y - top) * multiple) for x, y in corners]
    ImageDraw.Draw(mask).polygon(inside, fill=255)
    image.paste(color, (left, top, right, bottom), mask.reduce(multiple))
