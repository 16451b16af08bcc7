"""The published schemas, docs/schemas/: of the policy, for editors, and of the JSON that is written.

``python -m underfire.gating.schemas docs/schemas`` writes them; a test tells when they are no longer right.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from underfire.gating.compare import Comparison
from underfire.gating.policy import Policy
from underfire.gating.ruling import Ruling

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TITLES = {"gate": "What underfire gate found", "compare": "What underfire compare found", "policy": "A gate.yaml"}


def schemas() -> dict[str, dict[str, Any]]:
    """Make the schemas by name."""
    found = {
        "gate": TypeAdapter(Ruling).json_schema(mode="serialization"),
        "compare": TypeAdapter(Comparison).json_schema(mode="serialization"),
        "policy": Policy.model_json_schema(),
    }
    return {name: {"$schema": DRAFT, **schema, "title": TITLES[name]} for name, schema in found.items()}


def text(schema: dict[str, Any]) -> str:
    """Write a schema as it is published."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, schema in schemas().items():
        (Path(sys.argv[1]) / f"{name}.schema.json").write_text(text(schema), encoding="utf-8")
