"""A part says itself whether it is whole; what is not is done again; what failed is tried again."""

from __future__ import annotations

import dataclasses
import errno
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.e2e import TOY, photos, records, underfire
from underfire.audit.status import pace
from underfire.core import COLUMNS, SCHEMA_VERSION, BusyError, OtherVersionError, Record, Scale, UnderfireError
from underfire.store import Store, decode, encode, sound


def row(i: int, **more: object) -> Record:
    known = ("0" * 64, "toy", "cam", "pgd", "fast", "toy", "cam", "none", 0, 8)
    return Record(f"p{i}.png", *known, **more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "out")
    with made.open():
        pass
    return made


def part(store: Store, stage: str = "records", unit: str = "000000-0123456789abcdef") -> Path:
    return Path(str(store.root)) / stage / f"{unit}.parquet"


def test_any_reader_of_parquet_reads_a_sealed_part(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0), row(1)], {}, {"host": "here"})
    table = pq.read_table(part(store))
    assert tuple(table.column_names) == COLUMNS
    assert table.schema.metadata[b"host"] == b"here"
    assert table["image"].to_pylist() == ["p0.png", "p1.png"]


def test_a_seal_cannot_be_feigned_by_what_a_row_says(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0, error="sha256=" + "0" * 64)], {}, {})
    assert sound(part(store).read_bytes())


def test_a_part_is_there_only_once_its_pictures_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Store, unit: str, files: object) -> None:
        assert not part(store).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "_put_files", stopped)
    with pytest.raises(KeyboardInterrupt):
        store.put("records", "000000-0123456789abcdef", [row(0)], {"p0.png": b"pixels"}, {})
    assert store.done("records") == set()


def test_every_flipped_bit_and_every_cut_is_seen(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0)], {}, {})
    content = part(store).read_bytes()
    assert decode(content) is not None
    choose = random.Random(0)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << choose.randrange(8)
        assert not sound(bytes(changed))
        assert not sound(content[:at])
    assert not sound(content + b"\0")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_part_is_found_done_again_and_said(damage: str, tmp_path: Path) -> None:
    command = ("run", "--images", photos(tmp_path / "in", 4), *TOY, "--batch-size", "1", "--out", tmp_path / "out")
    assert underfire(*command).code == 0
    before = records(tmp_path / "out")
    for stage in ("records", "scale"):
        hurt = sorted((tmp_path / "out" / stage).iterdir())[1]
        content = hurt.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        hurt.write_bytes({"cut": content[:-10], "flipped": flipped, "empty": b""}[damage])
    ran = underfire("report", tmp_path / "out")
    assert ran.code == 2
    assert "is damaged" in ran.err
    ran = underfire(*command)
    assert ran.code == 0
    assert "1 damaged part in records, done again" in ran.out
    assert "1 damaged part in scale, done again" in ran.out
    assert records(tmp_path / "out") == before


def test_rows_of_a_failed_unit_count_until_it_is_done(store: Store) -> None:
    store.put_failed("records", "000000-0123456789abcdef", [row(0, error="no memory")], {})
    store.put("records", "000001-0123456789abcdef", [row(1)], {}, {})
    assert [(r["image"], r["error"]) for r in store.rows()] == [("p0.png", "no memory"), ("p1.png", None)]
    assert store.done("records") == {"000001-0123456789abcdef"}
    store.put("records", "000000-0123456789abcdef", [row(0)], {}, {})  # killed before the failed one was taken away
    assert [(r["image"], r["error"]) for r in store.rows()] == [("p0.png", None), ("p1.png", None)]
    with store.open():
        assert store.failed("records") == set()


@pytest.mark.parametrize(
    "name", ["{} (conflicted copy 2026-11-27)", "{} - Copy", "Copy of {}", "{}.backup", "{}.sync-conflict-20261127-1"]
)
def test_a_copy_of_a_part_counts_nothing_twice(name: str, store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0)], {}, {})
    store.put("scale", "000000-lime:own maps-0123456789abcdef", [Scale("p.png", "1", "cam", 0.1)], {}, {})
    for stage in ("records", "scale"):
        (file,) = (store.root / stage).iterdir()
        (store.root / stage / f"{name.format(file.stem)}.parquet").write_bytes(file.read_bytes())
        assert (len(store.rows(stage)), store.done(stage)) == (1, {file.stem})


def test_failed_units_are_kept_by_stage(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0)], {}, {})
    store.put_failed("transfer", "000000-cam-0123456789abcdef", [row(0, error="no memory")], {})
    assert (store.failed("records"), store.failed("transfer")) == (set(), {"000000-cam-0123456789abcdef"})
    assert [r["error"] for r in store.rows()] == [None]
    assert [r["error"] for r in store.rows("transfer")] == ["no memory"]


def test_failed_units_of_an_earlier_version_are_told_apart_and_forgotten(store: Store) -> None:
    for unit in ("000001-0123456789abcdef", "000000-cam-0123456789abcdef"):
        store.put_failed("records", unit, [row(1, error=unit)], {})
        (store.root / "failed" / f"{unit}.parquet").write_bytes(
            (store.root / "failed" / "records" / f"{unit}.parquet").read_bytes()
        )
        (store.root / "failed" / "records" / f"{unit}.parquet").unlink()
    assert store.failed("records") == {"000001-0123456789abcdef"}
    assert [r["error"] for r in store.rows()] == ["000001-0123456789abcdef"]
    assert [r["error"] for r in store.rows("transfer")] == ["000000-cam-0123456789abcdef"]
    store.forget("records", "000001-0123456789abcdef")
    assert store.rows() == []


def rewritten(store: Store, change: Callable[[pa.Table], pa.Table], version: int | None = None) -> None:
    table = change(pq.read_table(part(store)))
    meta = {b"underfire": str(version or SCHEMA_VERSION).encode()}
    part(store).write_bytes(encode(table.replace_schema_metadata(meta)))


def test_a_part_of_the_version_that_stored_verdicts_is_read(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0, map_l1=0.5)], {}, {})

    def with_verdicts(table: pa.Table) -> pa.Table:
        for name, value in (("untouched_l1", 0.1), ("untouched", False), ("forged", False)):
            table = table.append_column(name, pa.array([value]))
        return table

    before = store.rows()
    rewritten(store, with_verdicts, 3)
    assert store.rows() == before


def test_a_part_of_the_version_before_heads_is_read(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0, map_l1=0.5, head="multilabel")], {}, {})
    assert store.table()["head"].to_pylist() == ["multilabel"]
    rewritten(store, lambda table: table.drop_columns(["head"]), 4)
    assert store.table()["head"].to_pylist() == [None]


def test_a_scale_of_the_version_without_copies_is_read(store: Store) -> None:
    store.put("scale", "000000-0123456789abcdef", [Scale("p.png", "1", "cam", 0.1)], {}, {})
    file = store.root / "scale" / "000000-0123456789abcdef.parquet"
    table = pq.read_table(file).drop_columns(["copies", "impostors"])
    file.write_bytes(encode(table.replace_schema_metadata({b"underfire": b"4"})))
    assert store.rows("scale") == [dataclasses.asdict(Scale("p.png", "1", "cam", 0.1))]


@pytest.mark.parametrize(("version", "said"), [(2, "old"), (99, "newer")])
def test_a_part_of_a_version_that_cannot_be_read_says_what_to_do(version: int, said: str, store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0)], {}, {})
    rewritten(store, lambda table: table, version)
    with pytest.raises(OtherVersionError, match=f"'000000-0123456789abcdef'.* {said} "):
        store.rows()


def test_a_part_with_a_column_more_or_less_is_told(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0)], {}, {})
    rewritten(store, lambda table: table.drop_columns(["seed"]).append_column("colour", pa.array(["red"])))
    with pytest.raises(OtherVersionError, match="colour, seed"):
        store.rows()


def test_a_temporary_that_is_renamed_while_it_is_listed_is_no_error(store: Store) -> None:
    store.put("records", "000000-0123456789abcdef", [row(0)], {}, {})
    part(store).with_name(".tmp-0").symlink_to("renamed by now")
    assert store.done("records") == {"000000-0123456789abcdef"}


def test_pace_leaves_out_pauses_and_clocks_that_jump() -> None:
    steady = [100.0 + 2 * i for i in range(30)]
    assert pace(steady) == pytest.approx(0.5)
    assert pace(steady[:2]) is None
    assert pace([*steady[:15], *(t + 86_400 for t in steady[15:])]) == pytest.approx(0.5)
    assert pace([*steady[:15], *(t - 86_400 for t in steady[15:])]) == pytest.approx(0.5)
    assert pace(list(reversed(steady))) == pytest.approx(0.5)
    assert pace([5.0] * 10) is None


def test_status_needs_no_torch_and_says_what_failed(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 3)
    (folder / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert underfire("run", "--images", folder, *TOY, "--batch-size", "1", "--out", out).code == 3
    sorted((out / "records").iterdir())[-1].unlink()
    ran = underfire("status", out)
    assert ran.code == 0
    assert "3 of 4 units done (75\u00a0%), 0 failed" in ran.out
    assert "6 judgements, 2 of them without a result" in ran.out
    assert "2 × 'bad.png' is no image" in ran.out
    code = "import sys, underfire.audit.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    ran = underfire("status", tmp_path)
    assert ran.code == 2
    assert "no folder of an underfire audit" in ran.err


# -- one driver at a time

DRIVER = """
import sys
from pathlib import Path
from underfire.store import Store
with Store(Path(sys.argv[1])).open():
    print("holds it", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_until_the_first_is_gone(store: Store) -> None:
    command = [sys.executable, "-c", DRIVER, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds it\n"
        with pytest.raises(BusyError, match=re.escape(str(store.root))), store.open():
            pass
        first.kill()
    again = pytest.raises(BusyError, match=re.escape(str(store.root)))
    with store.open(), again, Store(store.root).open():  # the lock fell with its process
        pass
    with store.open():
        pass


def test_a_disk_without_locks_is_no_other_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*given: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.raises(UnderfireError, match="Function not implemented") as e, store.open():
        pass
    assert not isinstance(e.value, BusyError)


def test_results_are_read_where_fcntl_does_not_exist(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert underfire("run", "--images", photos(tmp_path / "in", 3), *TOY, "--out", out).code == 0
    (out / "report.html").unlink()
    code = (
        "import sys; sys.modules['fcntl'] = None; "
        "import underfire, underfire.report, underfire.store; from underfire.cli import main; main()"
    )
    command = [sys.executable, "-W", "error", "-c", code, "report", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").is_file()


def test_a_workers_copy_names_the_same_folder_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy = pickle.loads(pickle.dumps(Store(Path("out"))))
    assert copy.root == tmp_path / "out"
