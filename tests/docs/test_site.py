"""The documentation builds without a warning, its links lead somewhere, and it loads nothing from anywhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import underfire

pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
pytest.importorskip("material", reason="the extra 'docs' is not installed")

ROOT = Path(__file__).parents[2]
WAYS_IN = ("try", "audit", "report", "numbers", "defend", "scale", "extend", "faq", "reference", "architecture")
MADE_ELSEWHERE = ("results/study.html", "results/study-128px.html", "results/quick.html")
"""Pages of underfire itself: they are copied, not built."""
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr
    return out


class _Links(HTMLParser):
    """Collects a page's links, its ids, and what it loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {str(found[name]) for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(str(found["href"]))
        if tag in LOADS and found.get(LOADS[tag]):
            self.loaded.append(str(found[LOADS[tag]]))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Links]:
    return {path: _Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_way_in_is_there(site: Path) -> None:
    missing = [name for name in (*WAYS_IN, "index", "commands", "changelog") if not (site / f"{name}.html").is_file()]
    assert missing == []
    assert (site / "notebooks/try.html").is_file()


def test_the_reference_has_every_public_name(pages: dict[Path, _Links], site: Path) -> None:
    found = {name.rpartition(".")[2] for name in pages[site / "reference.html"].ids}
    assert set(underfire.__all__) <= found


def test_no_link_is_broken(site: Path, pages: dict[Path, _Links]) -> None:
    broken = [
        f"{path.relative_to(site)}: {link}"
        for path, found in pages.items()
        if path.name != "404.html"
        for link in found.links
        if not _leads_somewhere(path, link, pages)
    ]
    assert broken == []


def _leads_somewhere(path: Path, link: str, pages: dict[Path, _Links]) -> bool:
    if re.match(r"[a-z][a-z0-9+.-]*:", link):  # elsewhere, which nobody asks here
        return True
    where, _, anchor = link.partition("#")
    target = (path.parent / unquote(where)).resolve() if where else path
    if target not in pages:
        return target.exists() and not anchor
    return not anchor or unquote(anchor) in pages[target].ids


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, _Links]) -> None:
    loaded = {source for found in pages.values() for source in found.loaded if not source.startswith("data:")}
    assert [source for source in loaded if re.match(r"(?:[a-z]+:)?//", source)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?(?:https?:)?//|@import", styles)


def test_pages_tell_nothing_of_the_machine_that_built_them(pages: dict[Path, _Links]) -> None:
    for path in pages:
        assert str(ROOT) not in path.read_text(encoding="utf-8"), path.name
