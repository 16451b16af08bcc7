"""Results as a user reads them: verdicts from what was measured, in one flat table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import csv

from underfire.core import DamagedFileError, Record, Scale, UnderfireError
from underfire.metrics.ranked import RankedPhoto, yardsticks
from underfire.metrics.verdict import OldScale
from underfire.metrics.yardstick import PhotoDistances, Yardstick, flat
from underfire.metrics.yardstick_file import YardstickFile
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
    store.put(
        "records",
        "000000-0123456789abcdef",
        [*rows, record(4, success=None, map_l1=None, iou_curve=None, error="bad")],
        {},
        {},
    )
    store.put(
        "scale",
        "000000-cam-0123456789abcdef",
        [Scale(f"p{i}.png", str(i), "cam", l1) for i, l1 in enumerate(L1)],
        {},
        {},
    )
    return tmp_path


def test_verdicts_are_computed_on_reading(out: Path) -> None:
    found = open_results(out)
    ruler = found.rulers["cam"]
    assert isinstance(ruler, OldScale)  # the part knows no copies: an earlier version wrote it
    assert ruler.l1 == pytest.approx(0.029)  # the 95th percentile of 0.01, 0.02, 0.03
    assert {row["yardstick"] for row in found.rows()} == {"old scale", None}
    said = [(row["untouched"], row["forged"]) for row in found.rows()]
    assert said == [(True, True), (False, False), (True, False), (None, None), (None, None)]
    assert [row["untouched_l1"] is None for row in found.rows()] == [False, False, False, True, True]


def test_there_is_no_verdict_until_all_of_the_scale_is_measured(out: Path) -> None:
    (out / "plan.yaml").write_text(yaml.safe_dump({"images": "demo", "resolved": {"scale_units": 2}}))
    found = open_results(out)
    assert found.rulers == {}
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


def calibrated(out: Path, n: int) -> None:
    """Give an audit n clean photos whose copies lie at most 0.1 from them, and wrong maps at 0.9."""
    store = Store(out)
    wrong = flat([(0.9, 0.9, 0.9)] * 3)
    rows = [Scale(f"p{i}.png", str(i), "cam", 0.01, None, flat([(0.1 * i / n, 0.1, 0.1)] * 8), wrong) for i in range(n)]
    store.put("scale", "000000-cam-0123456789abcdef", rows, {}, {})


@pytest.mark.parametrize("n", [18, 19])
def test_an_audit_makes_its_own_yardstick_from_19_photos_on(out: Path, n: int) -> None:
    calibrated(out, n)
    store = Store(out)
    good: dict[str, Any] = {"map_l1": 0.05, "map_iou": 0.95, "map_rank": 0.95}
    store.put("records", "000000-0123456789abcdef", [record(0, **good), record(1, **good | {"map_rank": 0.5})], {}, {})
    first, second = open_results(out).rows()
    if n < 19:
        assert first["forged"] is second["forged"] is first["yardstick"] is None
    else:
        assert (first["forged"], second["forged"]) == (True, False)
        assert (first["yardstick"], first["power"]) == ("own photos", 1.0)


def named(out: Path) -> YardstickFile:
    photos = tuple(PhotoDistances(str(i), ((0.1, 0.1, 0.1),) * 8, {"pgd": (0.9, 0.9, 0.9)}) for i in range(20))
    made = YardstickFile("c", "digest", "cam", Yardstick(photos))
    (out / "yardstick").mkdir()
    (out / "yardstick" / f"{made.digest[:12]}.json").write_bytes(made.dump())
    resolved = {"scale_units": 0, "yardsticks": {"cam": made.digest}}
    (out / "plan.yaml").write_text(yaml.safe_dump({"images": "demo", "resolved": resolved}))
    return made


def test_the_verdict_is_the_same_whatever_the_other_photos(out: Path) -> None:
    made = named(out)
    judged = record(7, map_l1=0.09, map_iou=0.95, map_rank=0.95)
    seen = []
    for others in ([], [record(i, map_l1=0.5) for i in range(5)], [record(i, map_l1=0.001) for i in range(3)]):
        Store(out).put("records", "000000-0123456789abcdef", [*others, judged], {}, {})
        calibrated(out, 19 + len(others))  # what the audit's own photos would say does not matter
        row = open_results(out).rows()[-1]
        seen.append({name: row[name] for name in ("untouched", "forged", "map_distance", "yardstick", "untouched_l1")})
    assert seen[0] == seen[1] == seen[2]
    assert (seen[0]["forged"], seen[0]["yardstick"]) == (True, made.digest[:12])


def test_rows_of_before_are_judged_by_the_ranks_of_their_numbers(out: Path) -> None:
    near, far = (0.1, 0.1, 0.1, 0.01), (0.9, 0.9, 0.9, 0.9)
    as_shown, exact = yardsticks([RankedPhoto(str(i), (near,) * 8, {"pgd": far}) for i in range(20)], 0.05)
    made = YardstickFile("c", "digest", "cam", as_shown, exact=exact)
    (out / "yardstick").mkdir()
    (out / "yardstick" / f"{made.digest[:12]}.json").write_bytes(made.dump())
    resolved = {"scale_units": 0, "yardsticks": {"cam": made.digest}}
    (out / "plan.yaml").write_text(yaml.safe_dump({"images": "demo", "resolved": resolved}))
    given: dict[str, Any] = {"map_l1": 0.05, "map_iou": 0.95}
    rows = [
        record(0, **given, map_rank=0.95),
        record(1, **given, map_rank=0.95, map_rank_shown=0.95),
        record(2, **given, map_rank=0.2, map_rank_shown=0.999),
    ]
    Store(out).put("records", "000000-0123456789abcdef", rows, {}, {})
    assert [row["forged"] for row in open_results(out).rows()] == [True, False, True]


def test_another_file_in_the_place_of_a_plans_yardstick_is_an_error(out: Path) -> None:
    made = named(out)
    file = out / "yardstick" / f"{made.digest[:12]}.json"
    other = YardstickFile("c", "digest", "cam", Yardstick(made.yardstick.photos[:19]))
    file.write_bytes(other.dump())
    with pytest.raises(DamagedFileError, match="cam"):
        open_results(out).rows()
    file.unlink()
    with pytest.raises(DamagedFileError, match=made.digest[:12]):
        open_results(out).rows()
