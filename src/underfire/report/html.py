"""HTML: fill a template with sections, and write the page whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from underfire.core.files import write_or_say
from underfire.core.place import Remote
from underfire.report.findings import Findings
from underfire.report.gallery import Gallery, galleries
from underfire.report.text import FILTERS, pretty

TEMPLATES = Path(__file__).parent / "templates"
P = TypeVar("P", bound=Path | Remote)


@dataclass(frozen=True)
class Context:
    """What a section may use: the findings, and the page's own options.

    Args:
        found: what the audit's folder holds.
        samples: photos shown with pictures.
    """

    found: Findings
    samples: int

    @cached_property
    def galleries(self) -> list[Gallery]:
        """The photos with pictures, judge by judge; empty for a page without."""
        return galleries(self.found, self.samples) if self.samples else []


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Args:
        name: the macro that shows it, and its HTML id.
        title: its heading.
        data: what the macro needs.
    """

    name: str
    title: str
    data: Mapping[str, Any]


def fill(template: str, **data: Any) -> str:
    """Fill a template of `TEMPLATES`; the same data give the same text."""
    page = environment(TEMPLATES).get_template(template).render(**data)
    return page.lstrip()  # macros before the page leave empty lines


def write(path: P, page: str) -> P:
    """Write a page whole or not at all.

    Returns:
        Its path.

    Raises:
        UnderfireError: it cannot be written.
    """
    write_or_say(path, page.encode(), "make space or mend its permissions")
    return path


@cache
def environment(folder: Path) -> Environment:
    """Make the environment of a folder's templates: what is missing is an error, and text never becomes HTML."""
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update({"pretty": pretty} | {f.__name__: f for f in FILTERS})
    return found
