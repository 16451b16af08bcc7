"""A picture of photos and their maps, one PNG: what a learned interpreter shows of photos it has not learnt from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from underfire.images.overlay import Pixels, over

TILE, GAP, LINE = 168, 8, 18
"""Side of an image, space between two, and height of a caption, in px."""


@dataclass(frozen=True)
class Explained:
    """A photo (H, W, 3), its map (h, w) in [0, 1], and a caption."""

    photo: Pixels
    m: NDArray[np.float32]
    caption: str


def sheet(shown: Sequence[Explained]) -> bytes:
    """Draw one column for each: the caption, the photo, the map over it, and what the map keeps of it."""
    width = GAP + len(shown) * (TILE + GAP)
    page = Image.new("RGB", (width, LINE + GAP + 3 * (TILE + GAP)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for column, one in enumerate(shown):
        left = GAP + column * (TILE + GAP)
        pen.text((left, GAP // 2), _fitting(one.caption, font), "black", font=font)
        for row, picture in enumerate((one.photo, over(one.photo, one.m), kept(one.photo, one.m))):
            tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
            page.paste(tile, (left, LINE + GAP + row * (TILE + GAP)))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def kept(photo: Pixels, m: NDArray[np.float32]) -> Pixels:
    """Show the photo where the map is 1, and black where it is 0."""
    height, width = photo.shape[:2]
    large = Image.fromarray(m).resize((width, height), Image.Resampling.BILINEAR)
    shown: Pixels = np.rint(photo * np.clip(np.asarray(large), 0, 1)[..., None]).astype(np.uint8)
    return shown


def _fitting(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(caption) <= TILE:
        return caption
    while caption and font.getlength(caption + "…") > TILE:
        caption = caption[:-1]
    return caption.rstrip() + "…"
