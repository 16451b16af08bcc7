"""The names of the presets, which a plan and a list know without the searches themselves."""

from __future__ import annotations

PRESET_NAMES = {
    "paper": "The published recipe, at its published cost.",
    "fast": "The default: the cheapest search that reaches the paper's quality with a margin.",
    "thorough": "What a patient attacker gets.",
}
