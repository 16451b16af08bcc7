"""What is installed is all that is needed: the wheel has its data, and in an empty environment it runs the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
NOT_PACKAGED = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (SOURCE / "underfire").rglob("*") if path.is_file())
    mine = {path.relative_to(SOURCE).as_posix() for path in files if not NOT_PACKAGED & set(path.parts)}
    assert mine <= inside
    suffixes = {Path(name).suffix for name in inside}
    assert {".j2", ".yaml", ".json", ".safetensors", ".csv", ".typed"} <= suffixes, "templates, yardsticks, weights"


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.startswith("underfire")} == set()


@pytest.mark.long
def test_an_empty_environment_runs_the_demo_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip())
    # PyTorch and its like are those of this environment; underfire itself is the wheel's, and nothing of the checkout.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, wheel], check=True)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-P", *words]
        return subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)

    assert str(tmp_path) in run("-c", "import underfire; print(underfire.__file__)").stdout
    done = run("-m", "underfire", "run", "--images", "demo", "--limit", "2", "--out", "demo-out")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "demo-out/report.html").read_text(encoding="utf-8")
    assert "ADV² forged" in page
    assert "power" in page, "the packaged yardstick was found"
