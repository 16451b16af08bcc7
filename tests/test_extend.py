"""docs/extend.md: a package with an interpreter and an attack of its own, in full, installed and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.e2e import PLUGIN, installed, photos, records

if TYPE_CHECKING:
    from underfire_example.energy import Energy

    from underfire.core import Classifier, Interpreter

    def _conforms(classifier: Classifier) -> Interpreter:
        """For the type checker: the shown class is what core's protocol asks for."""
        return Energy(classifier)


DOCS = Path(__file__).parents[1] / "docs" / "extend.md"
PARTS = ("underfire_example/energy.py", "underfire_example/fgsm.py", "underfire_example/toy.py")
DETECTORS = ("underfire_example/jpeg.py", "underfire_example/lid.py")
SHOWN = ("pyproject.toml", *PARTS, *DETECTORS, "test_example.py")


@pytest.mark.parametrize("name", SHOWN)
def test_the_page_shows_the_package_that_is_tested(name: str) -> None:
    block = re.search(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert block[1] == (PLUGIN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*PARTS, *DETECTORS])
def test_a_part_takes_at_most_thirty_lines_of_code(name: str) -> None:
    lines = (PLUGIN / name).read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 30


def test_an_installed_package_is_listed_run_and_reported(tmp_path: Path) -> None:
    command = (
        "import sys; from underfire import cli\n"
        "for words in open(sys.argv[1]).read().splitlines():\n"
        "    sys.argv = ['underfire', *words.split()]\n"
        "    try: cli.main()\n"
        "    except SystemExit as e: assert not e.code, e.code\n"
    )
    photos(tmp_path / "photos", 3)
    photos(tmp_path / "benign", 20)
    (tmp_path / "commands").write_text(
        "list\n"
        "run --images photos --classifier toy --interpreter cam --interpreter energy --attack adv2 --attack fgsm"
        " --set adv2.steps=2 --set fgsm.lam=3 --threads 1 --at input --out out\n"
        "defend calibrate --kind jpeg --set jpeg.quality=50 --images benign --classifier toy --false-alarms 0.2"
        " --threads 1 --out jpeg.json\n"
        "defend calibrate --kind lid --set lid.neighbours=3 --images benign --classifier toy --false-alarms 0.2"
        " --threads 1 --out lid.json\n"
        "run --images photos --classifier toy --interpreter cam --attack adv2 --set adv2.steps=2 --threads 1"
        " --defense lid.json --adaptive --out with-lid\n"
        "run --images photos --classifier toy --interpreter cam --attack adv2 --set adv2.steps=2 --threads 1"
        " --defense jpeg.json --adaptive --at input --out with-jpeg\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, "commands"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(installed()), os.environ.get("PYTHONPATH", "")]),
            "COLUMNS": "80",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"energy +Where the last features are strong", done.stdout)
    assert re.search(r"fgsm +One step of ε levels", done.stdout)
    rows = records(tmp_path / "out")
    cells = {(row["attack"], row["against"], row["interpreter"]) for row in rows}
    assert cells == {(a, i, i) for a in ("adv2", "fgsm") for i in ("cam", "energy")}
    assert all(row["error"] is None for row in rows)
    assert max(row["linf_levels"] for row in rows) <= 8
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "energy" in page.casefold()
    assert "fgsm" in page.casefold()
    for kind in ("lid", "jpeg"):
        defended = records(tmp_path / f"with-{kind}")
        assert {(row["defense"], row["against"]) for row in defended} == {(kind, "cam"), (kind, "ensemble")}
        assert all(row["error"] is None and row["alarm_bound"] > row["alarm_expected"] for row in defended)
    assert "fgsm:\n    lam: 3" in (tmp_path / "out" / "plan.yaml").read_text(encoding="utf-8")
