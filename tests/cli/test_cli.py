"""The verbs as a user meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.e2e import TOY, photo, photos, records, temporaries, underfire
from underfire import __version__
from underfire.core import Unit, UnitResult
from underfire.trial.run import run_unit


def _times(out: Path) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


def test_list_names_every_part() -> None:
    said = underfire("list")
    assert said.code == 0
    for word in (
        "efficientnet-lite0",
        "resnet50",
        "timm:NAME",
        "cam",
        "adv2",
        "pgd",
        "local",
        "paper",
        "fast",
        "thorough",
    ):
        assert word in said.out


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["plan", "--help"], ["report", "--help"], ["list", "--help"]]
)
def test_help_shows_an_example_and_every_default(words: list[str]) -> None:
    said = underfire(*words)
    assert said.code == 0
    if words[0] in ("run", "plan"):
        assert "[default: fast]" in said.out
        assert "underfire " + words[0] + " --images photos" in said.out


def test_the_version_is_told_and_nothing_is_run() -> None:
    said = underfire("--version")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"underfire {__version__}\n"


def test_run_writes_plan_records_and_report_and_a_table_for_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = underfire("run", "--images", photos(tmp_path / "in", 3), *TOY, "--out", tmp_path / "out")
    assert said.code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"plan.yaml", "records", "images", "report.html"}
    table = [line for line in said.out.splitlines() if str(tmp_path) not in line]
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)
    assert all(word in said.out for word in ("success", "forged", "map L1", "adv2 on cam"))


def test_the_same_command_again_redoes_nothing(tmp_path: Path) -> None:
    command = ("run", "--images", photos(tmp_path / "in", 3), *TOY, "--out", tmp_path / "out", "--batch-size", "2")
    assert underfire(*command).code == 0
    before = _times(tmp_path / "out")
    assert underfire(*command).code == 0
    after = _times(tmp_path / "out")
    assert {k for k in after if after[k] != before.get(k)} == {"report.html"}


def test_a_written_plan_runs_from_anywhere_and_flags_beside_it_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "in", 3)
    monkeypatch.chdir(tmp_path)
    assert underfire("run", "--images", "in", *TOY, "--out", "first").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = _times(tmp_path / "first")
    assert underfire("run", tmp_path / "first" / "plan.yaml").code == 0  # goes on in its own folder
    assert {k for k, t in _times(tmp_path / "first").items() if t != before[k]} == {"report.html"}
    assert underfire("run", tmp_path / "first" / "plan.yaml", "--out", "again").code == 0
    assert records(tmp_path / "elsewhere" / "again") == records(tmp_path / "first")
    words = ("run", tmp_path / "first" / "plan.yaml", "--eps", "4", "--set", "pgd.steps=2", "--out", "other")
    assert underfire(*words).code == 0
    other = yaml.safe_load((tmp_path / "elsewhere" / "other" / "plan.yaml").read_text())
    assert (other["eps"], other["options"]) == (
        4,
        {"adv2": {"steps": 3, "rescue": False}, "pgd": {"steps": 2}},
    )
    assert {row["eps"] for row in records(tmp_path / "elsewhere" / "other")} == {4}


def test_another_plan_in_the_same_folder_is_refused_with_the_difference_and_both_ways_out(tmp_path: Path) -> None:
    command = ("run", "--images", photos(tmp_path / "in", 2), *TOY, "--out", tmp_path / "out")
    assert underfire(*command).code == 0
    before = _times(tmp_path / "out")
    for more, difference in (
        (("--eps", "4"), "eps: 8 there, 4 now"),
        (("--target", "3"), "target: random there, 3 now"),
        (("--attack", "pgd", "--set", "adv2.steps=3"), None),
        (("--seed", "1"), "seed: 0 there, 1 now"),
        (("--classifier", "toy", "--input-size", "40"), "input_size: None there, 40 now"),
    ):
        said = underfire(*command, *more)
        assert said.code == 2
        if difference:
            assert difference in said.err
            assert "--out" in said.err
            assert f"underfire run '{tmp_path / 'out' / 'plan.yaml'}'" in said.err
    photo(9).save(tmp_path / "in" / "p09.png")
    assert "photos: other files (2 there, 3 now)" in underfire(*command).err
    assert _times(tmp_path / "out") == before


def test_where_a_file_lies_does_not_make_another_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "in", 2)
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    monkeypatch.chdir(tmp_path)
    assert underfire("run", "--images", "in", *TOY, "--classes", "names.txt", "--out", "out").code == 0
    moved = (tmp_path / "in").rename(tmp_path / "moved")
    (tmp_path / "names.txt").rename(tmp_path / "letters.txt")
    again = ("run", "--images", moved, *TOY, "--classes", tmp_path / "letters.txt", "--out", "out")
    assert underfire(*again).code == 0
    (tmp_path / "letters.txt").write_text("\n".join("ABCDEFGHIJ"))
    assert "classes: other class names" in underfire(*again).err


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("run", "--images", photos(tmp_path / "in", 4), *TOY, "--out", tmp_path / "out", "--batch-size", "1")
    honest, ran = run_unit, []

    def stopping(unit: Unit) -> UnitResult:
        ran.append(unit.name)
        if unit.stage == "records" and sum("-cam-" not in name for name in ran) == 3:
            raise KeyboardInterrupt
        return honest(unit)

    monkeypatch.setattr("underfire.audit.desk.run_unit", stopping)
    said = underfire(*command)
    assert said.code == 130
    assert f"underfire run '{tmp_path / 'out' / 'plan.yaml'}'" in said.out
    assert len(list((tmp_path / "out" / "records").glob("*.parquet"))) == 2
    assert not temporaries(tmp_path / "out")
    ran.clear()
    monkeypatch.setattr("underfire.audit.desk.run_unit", lambda unit: ran.append(unit.name) or honest(unit))  # type: ignore[func-returns-value]
    assert underfire("run", tmp_path / "out" / "plan.yaml").code == 0
    assert len(ran) == 2
    assert len(records(tmp_path / "out")) == 4 * 2


def test_limit_takes_photos_evenly_over_the_sorted_paths(tmp_path: Path) -> None:
    command = ("run", "--images", photos(tmp_path / "in", 10), *TOY, "--limit", "4", "--out", tmp_path / "out")
    assert underfire(*command).code == 0
    assert sorted({r["image"] for r in records(tmp_path / "out")}) == ["p00.png", "p02.png", "p05.png", "p07.png"]


@pytest.mark.parametrize("word", ["2", "n02099601", "Golden Retriever"])
def test_a_target_is_an_index_a_wordnet_id_or_a_unique_name(tmp_path: Path, word: str) -> None:
    names = "x\tfox\n" * 2 + "n02099601\tgolden retriever\n" + "y\tcat\n" * 7
    (tmp_path / "names.tsv").write_text(names)
    command = ("run", "--images", photos(tmp_path / "in", 1), *TOY, "--classes", tmp_path / "names.tsv")
    assert underfire(*command, "--target", word, "--out", tmp_path / "out").code == 0
    assert {(r["target_class"], r["target_class_name"]) for r in records(tmp_path / "out")} == {(2, "golden retriever")}


def test_plan_runs_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "in", 5)
    monkeypatch.chdir(tmp_path)
    said = underfire("plan", "--images", "in", *TOY, "--batch-size", "2")
    assert said.code == 0
    assert "adv2 on cam" in said.out
    assert "3 units: cam up to 2 images" in said.out
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_report_is_written_again_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert underfire("run", "--images", photos(tmp_path / "in", 2), *TOY, "--out", out).code == 0
    first = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from underfire import cli; cli.main()", "report", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").read_bytes() == first
