"""Results as a user reads them: verdicts from what was measured, in one flat table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import csv

from underfire.core import Record, Scale, UnderfireError
from underfire.store import Store, open_results

L1 = (0.01, 0.02, 0.03)


def record(i: int, interpreter: str = "cam", **given: Any) -> Record:
    known: dict[str, Any] = {
        "classifier": "c",
        "judge_classifier": "c",
        "attack": "adv2",
        "preset": "fast",
        "defense": "none",
    }
    measured: dict[str, Any] = {"success": True, "map_l1": 0.02, "iou_curve": [0.5] * 9, "map_iou": 0.5} | given
    return Record(
        image=f"p{i}.png",
        image_sha256=str(i),
        against=interpreter,
        interpreter=interpreter,
        seed=0,
        eps=8,
        **known,
        **measured,
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"images": "demo", "resolved": {"scale_units": 1}}))
    store = Store(tmp_path)
    for stage in ("records", "scale"):
        (tmp_path / stage).mkdir()
    rows = [record(0), record(1, map_l1=0.5), record(2, success=False), record(3, "grad")]
    store.put("records", "000000-a", [*rows, record(4, success=None, map_l1=None, iou_curve=None, error="bad")], {}, {})
    store.put("scale", "000000-cam-a", [Scale(f"p{i}.png", str(i), "cam", l1) for i, l1 in enumerate(L1)], {}, {})
    return tmp_path


def test_verdicts_are_computed_on_reading(out: Path) -> None:
    found = open_results(out)
    assert found.scale == {"cam": pytest.approx(0.029)}  # the 95th percentile of 0.01, 0.02, 0.03
    said = [(row["untouched"], row["forged"]) for row in found.rows()]
    assert said == [(True, True), (False, False), (True, False), (None, None), (None, None)]
    assert [row["untouched_l1"] is None for row in found.rows()] == [False, False, False, True, True]


def test_there_is_no_verdict_until_all_of_the_scale_is_measured(out: Path) -> None:
    (out / "plan.yaml").write_text(yaml.safe_dump({"images": "demo", "resolved": {"scale_units": 2}}))
    found = open_results(out)
    assert found.scale == {}
    assert {row["forged"] for row in found.rows()} == {None}


@pytest.mark.parametrize("name", ["all.parquet", "all.csv"])
def test_the_flat_table_has_measured_columns_and_verdicts(name: str, out: Path) -> None:
    open_results(out).write(out / name)
    table = pq.read_table(out / name) if name.endswith("parquet") else csv.read_csv(out / name)
    assert {"image", "map_l1", "untouched", "forged", "iou_0.1", "iou_0.9"} <= set(table.column_names)
    assert "iou_curve" not in table.column_names
    assert table["iou_0.5"].to_pylist() == [0.5] * 4 + [None]
    assert table["forged"].to_pylist() == [True, False, False, None, None]


def test_another_ending_and_a_folder_without_an_audit_are_told(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match=r"rows\.xlsx"):
        open_results(out).write(out / "rows.xlsx")
    with pytest.raises(UnderfireError, match=r"plan\.yaml"):
        open_results(tmp_path / "nothing")
