"""Files that nobody wrote: whatever the bytes are, the answer is a result or one sentence, in bounded time."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from support.fuzz import Mutation, answers, fuzzed, mutated, mutations, values
from support.rows import row
from underfire.audit.status import status
from underfire.core import SCHEMA_VERSION, Preprocess, Record
from underfire.core.bounded import load_yaml
from underfire.images import pixels
from underfire.images.formats import formats
from underfire.images.npy import decode_npy
from underfire.plan.file import read
from underfire.plan.settings import Settings
from underfire.report.gallery import read_photo
from underfire.report.page import write_report
from underfire.store import Store, encode, open_results, schema
from underfire.store.results import flat
from underfire.study import plan as study_plan
from underfire.study.results import audit_folders

POLICY = Preprocess(input_size=32, resize=36)
KINDS = [*formats(), "EPS", "PCX", "TGA", "ICO"]


# -- pictures ---------------------------------------------------------------------------------------------------------


@functools.cache
def picture(kind: str, mode: str) -> bytes:
    y, x = np.mgrid[0:40, 0:48]
    rgb = Image.fromarray(np.stack([5 * x, 6 * y, 255 - 5 * x], -1).astype(np.uint8))
    made = Image.fromarray((x / 48).astype(np.float32)) if mode == "F" else rgb.convert(mode)
    if mode == "I;16":
        made = Image.fromarray((1000 * x).astype(np.uint16))
    exif = Image.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    try:
        made.save(buffer, kind, exif=exif)
    except (OSError, ValueError, KeyError):  # not every format holds every kind of pixel
        rgb.save(buffer, kind)
    return buffer.getvalue()


pictures = st.builds(
    lambda kind, mode, how: mutated(picture(kind, mode), how),
    st.sampled_from(KINDS),
    st.sampled_from(["RGB", "L", "P", "RGBA", "CMYK", "1", "F", "I;16"]),
    mutations,
)


def _look(content: bytes) -> None:
    pixels.forged_note(content)
    got = pixels.load(content, "holiday.png", POLICY)
    assert got.shape == (32, 32, 3)
    assert got.dtype == np.uint8


def _any_picture(content: bytes) -> None:
    answers(lambda: _look(content))


# -- plans ------------------------------------------------------------------------------------------------------------

PLAN = yaml.safe_dump(
    {
        **{"images": "demo", "limit": 3, "classifier": "resnet50", "interpreter": ["cam", "grad"], "attack": "pgd"},
        **{"eps": 8, "mean": [0.5, 0.5, 0.5], "target": "random", "options": {"adv2": {"steps": 3}}, "threads": 1},
        "resolved": {"units": 3, "scale_units": 1, "photos": 3, "plan_digest": "0" * 64},
    }
)
STUDY = yaml.safe_dump(
    {
        "classifiers": {"resnet50": {"images": "demo", "interpreter": ["cam"]}},
        "resolved": {"parts": [{"folder": "a/main", "experiment": "main"}], "trained_on": {"resnet50": "ImageNet"}},
    }
)
SNIPPETS = [
    "&a",
    "*a",
    "<<: *a",
    "!!int",
    "!!bool",
    "!!python/name:os",
    "{",
    "[",
    "]",
    "}",
    ": ",
    "\n- ",
    "? ",
    "| ",
    "> ",
]
SNIPPETS += [
    "~",
    ".nan",
    "-.inf",
    "1e999",
    "0x",
    "1:60:60",
    "2020-13-45",
    "\t",
    "\x00",
    "é",
    "\ufeff",
    "%YAML 9.9\n---\n",
    "...",
]


def _texts(corpus: list[str]) -> st.SearchStrategy[bytes]:
    bits = st.sampled_from([snippet.encode() for snippet in SNIPPETS])
    how = st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 1 << 20), st.integers(0, 64), bits), min_size=1, max_size=6
    )
    one = st.sampled_from([text.encode() for text in corpus])
    return st.one_of(st.builds(mutated, one, how), st.builds(mutated, one, mutations))


plans = _texts([PLAN, STUDY])


def _any_plan(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for log in ("plan.yaml", "study.yaml"):
            (folder / log).write_bytes(content)
        answers(lambda: read(folder / "plan.yaml"))
        answers(lambda: study_plan.read(folder / "study.yaml"))
        answers(lambda: status(folder))
        answers(lambda: open_results(folder).table)
        answers(lambda: audit_folders(folder))


typed = st.builds(
    lambda base, word, value: {**base, word: value},
    st.sampled_from([yaml.safe_load(PLAN), yaml.safe_load(STUDY)]),
    st.sampled_from([*Settings.model_fields, "classifiers", "quick", "photos"]),
    values,
)


def _any_typed(content: dict[str, Any]) -> None:
    _any_plan(yaml.safe_dump(content).encode())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "records").mkdir()
        (folder / "plan.yaml").write_text(yaml.safe_dump(content))
        (folder / "records" / "000000-0123456789abcdef.parquet").write_bytes(part(SCHEMA_VERSION))
        answers(lambda: write_report(folder, 2))


# -- parts and maps ---------------------------------------------------------------------------------------------------


@functools.cache
def part(version: int) -> bytes:
    rows = [row(0, "pgd", None, "cam"), row(1, "pgd", None, "cam", error="no map")]
    table = pa.Table.from_pylist([dataclasses.asdict(one) for one in rows], schema(Record))
    return encode(table.replace_schema_metadata({"underfire": str(version)}))


def resealed(content: bytes) -> bytes:
    """A damaged part whose seal fits: by somebody who meant it."""
    at = content.rfind(b"sha256=")
    if at < 0 or len(content) < at + 71:
        return content
    zeros = content[: at + 7] + b"0" * 64 + content[at + 71 :]
    return content[: at + 7] + hashlib.sha256(zeros).hexdigest().encode() + content[at + 71 :]


parts = st.tuples(st.sampled_from([SCHEMA_VERSION, 3, 99]), mutations, st.sampled_from([True, True, True, False]))


def _read_all(folder: Path) -> None:
    found = open_results(folder)
    flat(found.table)
    for one in found.rows():
        for column in ("clean", "adversarial", "clean_map", "adversarial_map"):
            read_photo(folder, one[column])


def _any_part(made: tuple[int, Mutation, bool]) -> None:
    version, how, sealed = made
    content = mutated(part(version), how)
    content = resealed(content) if sealed else content
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "records").mkdir()
        (folder / "plan.yaml").write_text(PLAN)
        (folder / "records" / "000000-0123456789abcdef.parquet").write_bytes(content)
        answers(lambda: _read_all(folder))
        answers(lambda: status(folder))
        answers(Store(folder).provenance)
        answers(lambda: write_report(folder, 2))


@functools.cache
def a_map() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.linspace(0, 1, 49).reshape(7, 7).astype(np.float16))
    return buffer.getvalue()


def _any_map(content: bytes) -> None:
    found = decode_npy(content)
    assert found is None or (found.ndim == 2 and np.isfinite(found).all())


maps = st.builds(mutated, st.builds(a_map), mutations)
FUZZED: list[tuple[str, st.SearchStrategy[Any], Callable[[Any], None], int]] = [
    ("pictures", pictures, _any_picture, 150),
    ("plans", plans, _any_plan, 40),
    ("typed plans", typed, _any_typed, 25),
    ("parts", parts, _any_part, 30),
    ("maps", maps, _any_map, 100),
]


@pytest.mark.parametrize(("what", "inputs", "ask", "n"), FUZZED, ids=[one[0] for one in FUZZED])
def test_any_bytes_are_answered(what: str, inputs: st.SearchStrategy[Any], ask: Callable[[Any], None], n: int) -> None:
    fuzzed(n)[0](given(inputs)(ask))()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("what", "inputs", "ask", "n"), FUZZED, ids=[one[0] for one in FUZZED])
def test_many_more_are(what: str, inputs: st.SearchStrategy[Any], ask: Callable[[Any], None], n: int) -> None:
    fuzzed(n)[1](given(inputs)(ask))()


def test_any_text_is_yaml_or_no_yaml() -> None:
    @settings(max_examples=100)
    @given(st.text(alphabet=st.sampled_from("[]{}:,-&*!|>?'\"%#~\n ab01.<")))
    def ask(text: str) -> None:
        try:
            load_yaml(text)
        except yaml.YAMLError:
            return

    ask()
