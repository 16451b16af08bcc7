"""Folders that came from elsewhere: names stay inside, numbers stay bounded, and what is damaged is told."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from support.rows import row
from underfire.audit.status import status
from underfire.core import SCHEMA_VERSION, Record, UnderfireError
from underfire.core.bounded import load_yaml, read_yaml
from underfire.images.npy import decode_npy
from underfire.plan.file import read
from underfire.report.gallery import read_map, read_photo
from underfire.store import Store, decode, encode, open_results, parquet, schema
from underfire.study.results import audit_folders

OUTSIDE = ["/etc/picture.png", "../../x.png", "images/../../x.png", "images/u/../../../x.png", "images/u/v/../x.png"]
OUTSIDE += ["x.png", "images/x.png", "images/../x.png", "images/u/..", "//host/images/u.png", "", "."]


def table(rows: list[Record]) -> pa.Table:
    made = pa.Table.from_pylist([dataclasses.asdict(one) for one in rows], schema(Record))
    return made.replace_schema_metadata({"underfire": str(SCHEMA_VERSION)})


def put(out: Path, made: pa.Table, stage: str = "records") -> Store:
    (out / stage).mkdir(parents=True)
    (out / stage / "000000-0123456789abcdef.parquet").write_bytes(encode(made))
    return Store(out)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("column", ["clean", "adversarial_map"])
def test_a_part_that_names_files_of_others_is_refused(name: str, column: str, tmp_path: Path) -> None:
    store = put(tmp_path, table([row(0, "pgd", None, "cam"), row(1, "pgd", None, "cam", **{column: name})]))
    with pytest.raises(UnderfireError, match="does not belong to it"):
        store.table()


def test_a_part_with_its_own_names_is_read(tmp_path: Path) -> None:
    rows = [row(0, "pgd", None, "cam"), row(1, "pgd", None, "cam", error="bad")]
    assert put(tmp_path, table(rows)).rows() == [dataclasses.asdict(one) for one in rows]


@pytest.mark.parametrize("name", OUTSIDE[:5])
def test_a_name_never_leads_a_reader_out_of_the_folder(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "x.png")
    out = tmp_path / "a" / "out"
    (out / "images" / "u" / "v").mkdir(parents=True)
    assert read_photo(out, name) is None
    assert read_photo(out, str(tmp_path / "x.png")) is None
    assert read_map(out, name) is None


def test_a_link_never_leads_a_reader_out_of_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "images" / "u").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "private.png")
    Image.new("RGB", (20, 20)).save(out / "images" / "u" / "own.png")
    (out / "images" / "u" / "x.png").symlink_to(tmp_path / "private.png")
    (out / "images" / "away").symlink_to(tmp_path)
    os.mkfifo(out / "images" / "u" / "pipe.png")
    assert read_photo(out, "images/u/own.png") is not None
    for name in ("images/u/x.png", "images/away/private.png", "images/u/pipe.png"):
        assert read_photo(out, name) is None


@pytest.mark.parametrize("folder", ["../elsewhere", "/", "a/../../b"])
def test_a_study_names_no_audit_outside(folder: str, tmp_path: Path) -> None:
    content = {"resolved": {"parts": [{"folder": folder}], "trained_on": {}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UnderfireError, match="does not lie in its folder"):
        audit_folders(tmp_path)


# -- parts ------------------------------------------------------------------------------------------------------------


def test_columns_more_less_or_of_another_type_are_told(tmp_path: Path) -> None:
    whole = table([row(0, "pgd", None, "cam")])
    seed = whole.schema.get_field_index("seed")
    for n, (odd, said) in enumerate(
        (
            (whole.drop_columns(["map_l1"]), r"other columns .*map_l1"),
            (whole.append_column("more", pa.array([1])), r"other columns .*more"),
            (whole.append_column("seed", whole["seed"]), "damaged|other columns"),
            (whole.set_column(seed, "seed", pa.array(["many"])), "other types"),
            (whole.set_column(seed, "seed", pa.array([None], pa.int64())), "other types"),
            (whole.replace_schema_metadata({"underfire": "²"}), "old version"),
            (whole.replace_schema_metadata({"underfire": "9" * 5000}), "old version"),
            (whole.replace_schema_metadata({"underfire": b"\xff"}), "old version"),
            (whole.replace_schema_metadata({"underfire": "99"}), "newer version"),
        )
    ):
        with pytest.raises(UnderfireError, match=said):
            put(tmp_path / str(n), odd).table()


def test_a_sealed_part_that_unfolds_to_too_much_is_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    many = encode(pa.table({"n": pa.nulls(parquet.MOST_ROWS + 1, pa.int64())}))
    assert len(many) < 100_000
    assert decode(many) is None
    monkeypatch.setattr(parquet, "MOST_BYTES", 1000)
    assert decode(encode(pa.table({"n": list(range(1000))}))) is None
    assert decode(encode(pa.table({"n": [1]}))) is not None


def test_no_thread_of_arrow_holds_a_python_object_while_a_part_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # One that lets go of it while the interpreter ends aborts the process: `status` did, 1 time in 25.
    asked: list[tuple[Any, dict[str, Any]]] = []

    class Seen(pq.ParquetFile):  # type: ignore[misc]
        def __init__(self, source: Any, **options: Any) -> None:
            self.asked = source
            super().__init__(source, **options)

        def read(self, *args: Any, **options: Any) -> Any:
            asked.append((self.asked, options))
            return super().read(*args, **options)

    monkeypatch.setattr(pq, "ParquetFile", Seen)
    assert decode(encode(pa.table({"n": [1]}))) is not None
    ((source, options),) = asked
    assert isinstance(source, pa.BufferReader)
    assert options == {"use_threads": False}


def test_what_was_sealed_and_is_no_part_is_damaged() -> None:
    for content in (b"", b"PAR1PAR1", b"hello"):
        sealed = content + b"sha256=" + b"0" * 64
        digest = hashlib.sha256(sealed).hexdigest().encode()
        assert decode(content + b"sha256=" + digest) is None
        assert parquet.metadata(content) == {}


# -- maps -------------------------------------------------------------------------------------------------------------


def npy(m: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, m)
    return buffer.getvalue()


def with_header(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(98)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(100),
        with_header("{'descr': '<f2', 'fortran_order': False, 'shape': (10000000, 10000000)}"),
        with_header("{'descr': '<f2', 'fortran_order': False, 'shape': (-7, -7)}"),
        with_header("{'descr': '|O', 'fortran_order': False, 'shape': (7, 7)}"),
        with_header("{'descr': '<f2', 'fortran_order': False, 'shape': (7, 7"),
        with_header("[" * 100),
        npy(np.zeros((7, 7), np.float16))[:-1],
        npy(np.full((7, 7), np.nan, np.float16)),
        npy(np.zeros((7, 7, 3), np.float16)),
        npy(np.zeros(7, np.float16)),
        npy(np.zeros((0, 0), np.float16)),
    ],
)
def test_what_is_no_map_is_none(content: bytes) -> None:
    assert decode_npy(content) is None


def test_every_flipped_bit_of_a_map_is_a_map_or_none() -> None:
    content = npy(np.linspace(0, 1, 49).reshape(7, 7).astype(np.float16))
    np.testing.assert_array_equal(decode_npy(content), np.load(io.BytesIO(content)).astype(np.float32))
    for at in range(8 * len(content)):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        found = decode_npy(bytes(changed))
        assert found is None or (found.ndim == 2 and np.isfinite(found).all())


# -- plans ------------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        BOMB + "images: *i\n",
        "a: &a [*a]",
        "{a: " * 3000,
        "eps: " + "9" * 5000,
        "when: 2020-13-45",
        "x: !!bool maybe",
        "x: !!timestamp soon",
        "x: !!python/object/apply:os.system [ls]",
        "? [a]\n: b",
        "a: \x00",
    ],
)
def test_a_plan_that_is_a_trap_is_one_short_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    for reader in (read, open_results, status):
        start = time.monotonic()
        with pytest.raises(UnderfireError) as e:
            reader(tmp_path / "plan.yaml" if reader is read else tmp_path)
        assert len(str(e.value)) < 1000
        assert "\n" not in str(e.value)
        assert time.monotonic() - start < 15  # 3 s on a machine that does nothing else


@pytest.mark.parametrize("text", ["[" * 5000, "[" + "x," * 500_000 + "x]"])
def test_reading_stops_where_there_is_too_much(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(yaml.YAMLError, match=r"deeply|more than"):
        load_yaml(text)
    assert time.monotonic() - start < 20  # 3 s on a machine that does nothing else


def test_a_long_value_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("images: " + json.dumps(["x"] * 10_000))
    with pytest.raises(UnderfireError) as e:
        read(tmp_path / "plan.yaml")
    assert len(str(e.value)) < 400


def test_a_plan_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").symlink_to("/dev/zero")
    with pytest.raises(yaml.YAMLError, match="KB"):
        read_yaml(tmp_path / "plan.yaml")


def test_honest_plans_with_anchors_are_read() -> None:
    shared = [1, 2, 3]
    content = {"a": shared, "b": shared, "c": {"d": None, "e": 1e-3, "f": "ε"}}
    assert load_yaml(yaml.safe_dump(content)) == content
    assert load_yaml("") is None


@pytest.mark.parametrize("resolved", ["3", "{units: many}", "{units: 3, scale_units: [1]}", "{units: 3.5}"])
def test_a_plan_without_numbers_has_no_status(resolved: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(f"images: demo\nresolved: {resolved}\n")
    with pytest.raises(UnderfireError, match="no run has written it"):
        status(tmp_path)
