"""A part says itself whether it is whole; what is not is done again; what failed is tried again."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.e2e import TOY, photos, records, underfire
from underfire.audit.status import pace
from underfire.core import COLUMNS, Record
from underfire.store import FAILED, Store, decode, sound


def row(i: int, **more: object) -> Record:
    known = ("0" * 64, "toy", "cam", "pgd", "fast", "toy", "cam", "none", 0, 8)
    return Record(f"p{i}.png", *known, **more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "out")
    with made.open():
        pass
    return made


def part(store: Store, stage: str = "records", unit: str = "000000-a") -> Path:
    return Path(str(store.root)) / stage / f"{unit}.parquet"


def test_any_reader_of_parquet_reads_a_sealed_part(store: Store) -> None:
    store.put("records", "000000-a", [row(0), row(1)], {}, {"host": "here"})
    table = pq.read_table(part(store))
    assert tuple(table.column_names) == COLUMNS
    assert table.schema.metadata[b"host"] == b"here"
    assert table["image"].to_pylist() == ["p0.png", "p1.png"]


def test_a_seal_cannot_be_feigned_by_what_a_row_says(store: Store) -> None:
    store.put("records", "000000-a", [row(0, error="sha256=" + "0" * 64)], {}, {})
    assert sound(part(store).read_bytes())


def test_a_part_is_there_only_once_its_pictures_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Store, unit: str, files: object) -> None:
        assert not part(store).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "_put_files", stopped)
    with pytest.raises(KeyboardInterrupt):
        store.put("records", "000000-a", [row(0)], {"p0.png": b"pixels"}, {})
    assert store.done("records") == set()


def test_every_flipped_bit_and_every_cut_is_seen(store: Store) -> None:
    store.put("records", "000000-a", [row(0)], {}, {})
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
    store.put(FAILED, "000000-a", [row(0, error="no memory")], {}, {})
    store.put("records", "000001-b", [row(1)], {}, {})
    assert [(r["image"], r["error"]) for r in store.rows()] == [("p0.png", "no memory"), ("p1.png", None)]
    assert store.done("records") == {"000001-b"}
    store.put("records", "000000-a", [row(0)], {}, {})  # killed before the failed one was taken away
    assert [(r["image"], r["error"]) for r in store.rows()] == [("p0.png", None), ("p1.png", None)]
    with store.open():
        assert store.done(FAILED) == set()


def test_a_temporary_that_is_renamed_while_it_is_listed_is_no_error(store: Store) -> None:
    store.put("records", "000000-a", [row(0)], {}, {})
    part(store).with_name(".tmp-0").symlink_to("renamed by now")
    assert store.done("records") == {"000000-a"}


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
