"""Parts as their source names them: a list of all names in a tenth of a second, without importing torch.

Our own parts are found by reading the files that register them; those of other packages are imported, since only they
can say what they are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import underfire
from underfire.registry.parts import FOLDERS

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Listed:
    """A name and what is said of it.

    Args:
        name: what users write.
        said: the first line of its documentation.
        family: of an interpreter, as its class or a base of it names it; '' where none does.
    """

    name: str
    said: str
    family: str = ""


def listed(kind: str) -> list[Listed]:
    """List the parts of a kind, ours and other packages', sorted by name.

    Args:
        kind: one of `KINDS`.
    """
    found = {part.name: part for part in (*_of_others(kind), *_own(kind))}
    return [found[name] for name in sorted(found)]


def _own(kind: str) -> Iterator[Listed]:
    """Read the parts of a kind in the folders of the package."""
    for folder in FOLDERS.get(kind, (kind,)):
        definitions = {made.name: made for path in _sources(folder) for made in _definitions(path)}
        for made in definitions.values():
            for name in _names(made, kind):
                said = (ast.get_docstring(made) or "").partition("\n")[0]
                yield Listed(name, said, _family(made, definitions))


def _sources(folder: str) -> Iterator[Path]:
    """List the files of a folder that can define a part or a base of one."""
    root = Path(underfire.__file__).parent / folder
    for path in sorted(root.rglob("*.py")):
        if "@register(" in (text := path.read_text("utf-8")) or "family = " in text:
            yield path


def _definitions(path: Path) -> Iterator[Definition]:
    tree = ast.parse(path.read_text("utf-8"), str(path))
    return (node for node in tree.body if isinstance(node, Definition))


def _names(made: Definition, kind: str) -> Iterator[str]:
    """Find the names of a kind under which a class or a function is registered."""
    for call in made.decorator_list:
        match call:
            case ast.Call(func=ast.Name(id="register"), args=[ast.Constant(of), ast.Constant(str(name))]) if of == kind:
                yield name


def _family(made: Definition, definitions: dict[str, Definition]) -> str:
    """Find the family that a class names, or the first of its bases that does."""
    if not isinstance(made, ast.ClassDef):
        return ""
    for line in made.body:
        match line:
            case ast.Assign(targets=[ast.Name(id="family")], value=ast.Constant(str(family))):
                return family
    bases = (definitions[base.id] for base in made.bases if isinstance(base, ast.Name) and base.id in definitions)
    return next((family for base in bases if (family := _family(base, definitions))), "")


def _of_others(kind: str) -> Iterator[Listed]:
    """List the parts of other packages, by their entry points."""
    for point in entry_points(group=f"underfire.{kind}"):
        made = point.load()
        yield Listed(point.name, (made.__doc__ or "").strip().partition("\n")[0], getattr(made, "family", ""))
