"""The paper's printed numbers, from the one file that holds them; none of them was measured by us."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

IMAGENET_CLASSES = "abec01e5edd24fe04728375a8b311b6b1de04fe8fcf7a0f1507043aed5cb907c"
"""A plan's digest of ImageNet's 1,000 classes: only audits with these classes stand beside published cells."""


@cache
def published() -> dict[str, Any]:
    """Read the file: source, setting, networks, success, adversarial_interpretation."""
    text = (Path(__file__).parent / "published.yaml").read_text(encoding="utf-8")
    figures: dict[str, Any] = yaml.safe_load(text)
    return figures


def network_of(classifier: str) -> str | None:
    """Find the paper's network by a classifier's name: timm:resnet50.a1_in1k is ResNet-50, resnet50d is none."""
    own = _plain(classifier.removeprefix("timm:").partition(".")[0])
    return next((network for network in published()["networks"] if _plain(network) == own), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def printed(attack: str, interpreter: str | None, network: str) -> dict[str, Any] | None:
    """Find the cell of an attack on an interpreter (None: on the prediction alone); None where there is none."""
    key = (attack, interpreter, network)
    cells = published()["success"]
    return next((c for c in cells if (c["attack"], c["interpreter"], c["network"]) == key), None)
