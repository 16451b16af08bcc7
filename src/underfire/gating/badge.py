"""The ruling as a badge for a README: a small SVG that loads nothing."""

from __future__ import annotations

from markupsafe import Markup

from underfire.gating.ruling import Ruling, Whole

COLOURS: dict[Whole, str] = {"pass": "#1f6f4a", "fail": "#b3361e", "undecided": "#8a6a00", "incomplete": "#8a6a00"}
LEFT, LETTER, ROOM = "explanations", 6.6, 12
"""The words on the left; the mean width of a letter, and the room beside words, px."""


def badge(ruling: Ruling) -> bytes:
    """Draw the badge: what was checked, and the answer; the title says how many checks hold."""
    a, b = (round(LETTER * len(words) + ROOM) for words in (LEFT, ruling.verdict))
    drawn = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="20" role="img" aria-label="{title}">'
        '<title>{title}</title><rect width="{w}" height="20" rx="3" fill="#44546a"/>'
        '<path d="M{a} 0h{flat}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{flat}z" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        '<text x="{left}" y="14">{words}</text><text x="{right}" y="14">{verdict}</text></g></svg>\n'
    ).format(
        w=a + b,
        a=a,
        flat=b - 3,
        colour=COLOURS[ruling.verdict],
        left=a / 2,
        right=a + b / 2,
        words=LEFT,
        verdict=ruling.verdict,
        title=f"underfire gate: {ruling.headline}",
    )
    return drawn.encode()
