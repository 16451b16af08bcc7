"""What a run writes is true: every number is found again from the files on disk, by other code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from support.e2e import TOY, extended, photos, records, underfire
from underfire import classifier
from underfire.core import COLUMNS
from underfire.store import Store

Array = NDArray[Any]
DEFAULT = "efficientnet-lite0"


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    command = (
        "--images",
        photos(folder / "in", 12),
        *TOY,
        "--set",
        "adv2.steps=40",
        "--batch-size",
        "5",
        "--at",
        "input",
    )
    assert underfire("run", *command, "--out", folder / "out").code == 0
    return folder / "out"


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default network, attacks and preset on a real photo, at the input."""
    out = tmp_path_factory.mktemp("run") / "out"
    assert (
        underfire("run", "--images", "demo", "--limit", "1", "--threads", "1", "--at", "input", "--out", out).code == 0
    )
    return out


class Judge:
    """The network's scores and class activation maps, written out again."""

    def __init__(self, name: str) -> None:
        with extended():
            self.net = classifier(name)
        self.weight = np.asarray(self.net.head.detach())

    def __call__(self, levels: Array, label: int | None = None) -> tuple[Array, Array]:
        """Probabilities, and the map for ``label`` (default: the prediction)."""
        x = torch.tensor(levels.transpose(2, 0, 1)[None] / np.float32(255))
        with torch.no_grad():
            z = self.net.logits(x)[0].double().numpy()
            features = self.net.features(x)[0].numpy()
        weight = self.weight[int(z.argmax()) if label is None else label]
        m = sum(w * a for w, a in zip(weight, features, strict=True))
        m = (m - m.min()) / (m.max() - m.min())
        p = np.exp(z - z.max())
        return p / p.sum(), m


def _pixels(path: Path) -> Array:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.array(image)


def _iou(a: Array, b: Array) -> float:
    """Of the brightest fifth of the pixels, for maps without ties."""
    k = round(0.2 * a.size)
    tops = [set(np.argsort(m.ravel())[-k:].tolist()) for m in (a, b)]
    return len(tops[0] & tops[1]) / len(tops[0] | tops[1])


def _iou_at(a: Array, b: Array, t: float) -> float | None:
    either = np.logical_or(a >= t, b >= t).sum()
    return float(np.logical_and(a >= t, b >= t).sum() / either) if either else None


def _jpeg(levels: Array) -> Array:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=90)
    return np.array(Image.open(file))


@pytest.mark.parametrize(("run", "name"), [("toy_run", "toy"), ("default_run", DEFAULT)])
def test_every_number_is_found_again_from_the_files(run: str, name: str, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue(run)
    judge, rows = Judge(name), records(out)
    moved = {}
    for row in rows:
        clean, adversarial = _pixels(out / row["clean"]), _pixels(out / row["adversarial"])
        p_clean, wanted = judge(clean)
        p, m = judge(adversarial, row["target_class"])
        assert row["error"] is None
        assert row["source_class"] == p_clean.argmax() != row["target_class"]
        assert row["clean_confidence"] == pytest.approx(p_clean.max(), abs=1e-4)
        assert row["predicted_class"] == p.argmax()
        assert row["predicted_confidence"] == pytest.approx(p.max(), abs=1e-4)
        assert row["confidence"] == pytest.approx(p[row["target_class"]], abs=1e-4)
        assert row["success"] == (p.argmax() == row["target_class"])
        largest = np.abs(clean.astype(int) - adversarial.astype(int)).max()
        assert row["linf_levels"] == largest <= row["eps"] == 8
        for column, expected in (("clean_map", wanted), ("adversarial_map", m)):
            stored = np.load(out / row[column])
            assert stored.dtype == np.float16
            assert stored.shape == expected.shape
            np.testing.assert_allclose(stored, expected, atol=2e-3)
        assert row["map_l1"] == pytest.approx(np.abs(m - wanted).mean(), abs=1e-4)
        assert row["map_iou"] == pytest.approx(_iou(m, wanted), abs=1e-6)
        assert len(row["iou_curve"]) == 9
        if row["untouched"] is not None:
            assert row["untouched"] == (row["map_distance"] <= 1)
            assert row["forged"] == (row["success"] and row["untouched"])
        label = int(p_clean.argmax())
        moved[row["image"]] = np.abs(judge(_jpeg(clean), label)[1] - wanted).mean()
    curves = [
        (row["iou_curve"], np.load(out / row["adversarial_map"]), np.load(out / row["clean_map"])) for row in rows
    ]
    for curve, a, b in curves:  # from rounded maps: a pixel may change sides
        again = [_iou_at(a, b, t / 10) for t in range(1, 10)]
        assert np.mean([abs((x or 0) - (y or 0)) for x, y in zip(curve, again, strict=True)]) < 0.02
    measured = {row["image"]: row["jpeg_l1"] for row in Store(out).rows("scale")}
    for image, l1 in measured.items():  # nothing where a packaged yardstick is there
        assert l1 == pytest.approx(moved[image], rel=1e-3)


def test_the_default_run_forges_predictions_with_untouched_maps(default_run: Path) -> None:
    rows = {(r["image"], r["attack"]): r for r in records(default_run)}
    assert len(rows) == 2
    for (_, attack), row in rows.items():
        assert row["success"]
        if attack == "adv2":
            assert row["forged"]
            assert row["map_l1"] < 0.02
            assert row["against"] == "cam"
    assert (default_run / "report.html").stat().st_size > 10_000


def test_parts_have_every_column_typed_and_name_nothing_outside(toy_run: Path) -> None:
    parts = sorted((toy_run / "records").glob("*.parquet"))
    assert len(parts) == 3
    for part in parts:
        table = pq.read_table(part)
        assert tuple(table.column_names) == COLUMNS
        assert not any(str(field.type) == "null" for field in table.schema)
    rows = Store(toy_run).rows()
    named = {row[c] for row in rows for c in ("clean", "adversarial", "clean_map", "adversarial_map")}
    assert named == {p.relative_to(toy_run).as_posix() for p in (toy_run / "images").rglob("*.*")}
    assert all(row["seconds"] > 0 for row in rows)
    assert len({(r["image"], r["attack"], r["against"], r["interpreter"]) for r in rows}) == len(rows) == 12 * 2


def test_the_run_has_both_successes_and_failures(toy_run: Path) -> None:
    assert {row["success"] for row in records(toy_run)} == {True, False}
