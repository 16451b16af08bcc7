"""The paper's printed numbers, from the one data file that holds them; nothing in it was measured by us."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def published() -> dict[str, Any]:
    """All of it: source, setting, networks, success, adversarial_interpretation."""
    text = (Path(__file__).parent / "published.yaml").read_text(encoding="utf-8")
    figures: dict[str, Any] = yaml.safe_load(text)
    return figures


def printed(attack: str, interpreter: str | None, network: str) -> dict[str, Any] | None:
    """The cell of an attack made against an interpreter (None: on the prediction alone); None where there is none."""
    key = (attack, interpreter, network)
    cells = published()["success"]
    return next((c for c in cells if (c["attack"], c["interpreter"], c["network"]) == key), None)
