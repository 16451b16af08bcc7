"""What the site makes of the repository: pages from files outside docs/, notebooks as pages, sources as text.

MkDocs calls these functions by name. A page links to files as they lie in the repository, so that it reads as well
there; here links that leave docs/ are turned to copies inside the site.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import underfire

ROOT = Path(__file__).parents[2]
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Files beside the README that are pages of the site."""
ELSEWHERE = {**PAGES, "README.md": "index.md"}
_LINK = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?(\))")

_PUBLIC = re.compile(r"^::: underfire\.(\w+)$", re.MULTILINE)
"""A public name: the page says `underfire.attack`, and its module is found where the package finds it."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out pages of the navigation whose file this checkout does not have."""
    assert isinstance(config.nav, list)
    config.nav = _there(config.nav)
    return config


def _there(entries: list[Any]) -> list[Any]:
    kept = []
    for entry in entries:
        ((title, where),) = entry.items()
        if isinstance(where, list):
            kept.append({title: _there(where)})
        elif where in (*PAGES.values(), "commands.md") or _source(where).is_file():
            kept.append(entry)
    return kept


def _source(where: str) -> Path:
    path = ROOT / "docs" / where
    return path.with_suffix(".ipynb") if path.parent.name == "notebooks" else path


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, the notebooks and the help of the command line."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_LINK.sub(_from_root, text)))
    files.append(File.generated(config, "commands.md", content=commands()))
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook(path)))
    return files


def _from_root(match: re.Match[str]) -> str:
    """Turn a link of a file beside the README into one of a page in docs/."""
    before, path, anchor, after = match.groups(default="")
    return f"{before}{ELSEWHERE.get(path, posixpath.relpath(path, 'docs'))}{anchor}{after}"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside docs/ into links to copies of them."""

    def turned(match: re.Match[str]) -> str:
        before, path, anchor, after = match.groups(default="")
        here = posixpath.dirname(page.file.src_uri)
        target = posixpath.normpath(posixpath.join("docs", here, path))
        if target.startswith("docs/notebooks/") and target.endswith(".ipynb"):
            return f"{before}{path.removesuffix('.ipynb')}.md{anchor}{after}"
        if target.startswith("docs/") or not (ROOT / target).exists():
            return match[0]  # MkDocs says what is wrong with it
        if target in ELSEWHERE:
            return f"{before}{posixpath.relpath(ELSEWHERE[target], here or '.')}{anchor}{after}"
        if (ROOT / target).is_dir():
            return f"{before}{posixpath.relpath(_listing(target, files, config), here or '.')}{after}"
        return f"{before}{posixpath.relpath(_copy(target, files, config), here or '.')}{after}"

    return _PUBLIC.sub(lambda m: f"::: underfire.{underfire._HOME[m[1]]}.{m[1]}", _LINK.sub(turned, markdown))


def _copy(target: str, files: Files, config: MkDocsConfig) -> str:
    """Copy a file of the repository into the site, as text that a browser shows."""
    uri = f"code/{target}" + ("" if target.endswith((".html", ".png", ".json")) else ".txt")
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
    return uri


def _listing(target: str, files: Files, config: MkDocsConfig) -> str:
    """List a folder of the repository, as text."""
    uri = f"code/{target}/files.txt"
    if files.get_file_from_path(uri) is None:
        names = sorted(str(p.relative_to(ROOT)) for p in (ROOT / target).rglob("*") if p.is_file())
        shown = [name for name in names if "__pycache__" not in name]
        files.append(File.generated(config, uri, content="\n".join(shown) + "\n"))
    return uri


def commands() -> str:
    """Write the help of every verb, as the terminal shows it."""
    import typer

    from underfire.cli.app import app

    root: Any = typer.main.get_command(app)
    parts = ["# Command line\n\n`underfire VERB --help` shows the same in the terminal.\n"]
    for words, command in _verbs(root, ()):
        parts.append(f"## underfire {' '.join(words)}\n\n{command.help or ''}\n\n{_options(command)}\n")
    return "\n".join(parts)


def _verbs(command: Any, words: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        return [(words, command)]
    return [found for name, sub in command.commands.items() for found in _verbs(sub, (*words, name))]


def _options(command: Any) -> str:
    rows = ["| option | what it does |", "|---|---|"]
    for option in command.params:
        told = " ".join(str(getattr(option, "help", None) or "").split())
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        value = "" if getattr(option, "is_flag", False) else str(option.metavar or "")
        rows.append(f"| {names} {_plain(value)} | {_plain(told)} |")
    return "\n".join(rows)


def _plain(text: str) -> str:
    """Keep a text's signs from being read as a table's or as HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*")


def notebook(path: Path) -> str:
    """Write a notebook as a page: text as it is, code in blocks, outputs below them."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(_cell(cell) for cell in cells)


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    """Show an output: HTML and pictures as they are, everything else as text."""
    data = output.get("data", {})
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    if "image/png" in data:
        return f'<img alt="Output of the cell above" src="data:image/png;base64,{data["image/png"].strip()}">'
    return f"```text\n{''.join(output.get('text', data.get('text/plain', ''))).rstrip()}\n```"
