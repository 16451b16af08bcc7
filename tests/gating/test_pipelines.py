"""The pipelines: their files are valid, and their shell steps run as they stand, as far as a machine alone can."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.e2e import TOY, installed, photos, underfire
from support.gates import audit, rows, shares
from support.published import check_vendor

ROOT = Path(__file__).parents[2]
POLICY = "rules:\n- {measure: forged, max: 0.2}\n"


def _action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return found


def _environment(folder: Path, **more: str) -> dict[str, str]:
    """The machine's own, with this Python first and no way to the network for pip."""
    bin_ = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "PIP_NO_INDEX": "1", "COLUMNS": "200"} | {
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        **more,
    }


def _run(script: str, folder: Path, environment: dict[str, str]) -> int:
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as GitHub starts a step
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def _steps(folder: Path, **inputs: str) -> int:
    """Run the action's shell steps one after the other; return the status of the first that fails."""
    action = _action()
    given = {name: str(one.get("default", "")) for name, one in action["inputs"].items()} | inputs
    for step in action["runs"]["steps"]:
        if "run" not in step:
            continue
        outputs = folder / "output"
        said = dict(line.split("=", 1) for line in outputs.read_text().splitlines()) if outputs.exists() else {}
        filled = {name: _filled(str(value), given, said) for name, value in step.get("env", {}).items()}
        assert "${{" not in step["run"]  # inputs reach a script through its environment alone
        if status := _run(step["run"], folder, _environment(folder, **filled)):
            return status
    return 0


def _filled(text: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        for word in found[1].split("||"):
            where, _, name = word.strip().rpartition(".")
            known = {"inputs": inputs, "steps.gate.outputs": outputs, "github": {"action_path": "underfire"}}[where]
            if known.get(name):
                return known[name]
        return ""

    return re.sub(r"\$\{\{(.+?)\}\}", value, text)


def test_the_action_is_valid() -> None:
    check_vendor("github-actions", _action())


LONG = pytest.mark.long  # each starts three processes


@pytest.mark.parametrize(
    ("hits", "undecided", "status"),
    [(32, "", 1), *(pytest.param(*case, marks=LONG) for case in ((0, "", 0), (6, "", 3), (6, "pass", 0)))],
)
def test_the_actions_steps_end_with_the_gates_status(tmp_path: Path, hits: int, undecided: str, status: int) -> None:
    (tmp_path / "gate.yaml").write_text(POLICY, encoding="utf-8")
    audit(tmp_path / "an audit", rows(shares(hits, 32)))
    assert _steps(tmp_path, audit="an audit", undecided=undecided) == status
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("### ")
    assert "at most 20" in summary
    names = {path.name for path in (tmp_path / "underfire-gate").iterdir()}
    assert names == {"gate.json", "gate.junit.xml", "gate.sarif", "gate.md", "gate.svg"}


@LONG
def test_the_actions_steps_end_with_2_after_a_mistake(tmp_path: Path) -> None:
    assert _steps(tmp_path, audit="gone") == 2
    assert "status 2" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def _gitlab() -> dict[str, Any]:
    text = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(# \.gitlab-ci\.yml\n.*?)```", text, flags=re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def test_the_gitlab_example_is_valid_and_keeps_what_it_makes() -> None:
    content = _gitlab()
    check_vendor("gitlab-ci", content)
    job = content["explanations"]
    made = re.findall(r"-o (\S+)", " ".join(job["script"]))
    assert {job["artifacts"]["reports"]["junit"], *job["artifacts"]["paths"]} >= set(made)


@LONG
def test_the_gitlab_examples_script_runs_a_plan(tmp_path: Path) -> None:
    photos(tmp_path / "in", 14)
    assert underfire("run", "--images", tmp_path / "in", *TOY, "--out", tmp_path / "first").code == 0
    settings = yaml.safe_load((tmp_path / "first" / "plan.yaml").read_text(encoding="utf-8"))
    plan = {name: value for name, value in settings.items() if name != "resolved"}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    (tmp_path / "gate.yaml").write_text("rules:\n- {measure: success, max: 0.9}\n", encoding="utf-8")
    search = os.pathsep.join([str(installed()), *filter(None, [os.environ.get("PYTHONPATH")])])
    script = "\n".join(_gitlab()["explanations"]["script"])
    assert _run(script, tmp_path, _environment(tmp_path, PYTHONPATH=search)) == 0
    assert (tmp_path / "gate.junit.xml").is_file()
    assert (tmp_path / "underfire-audit" / "report.html").is_file()
