"""Two audits on the same photos: differences are paired, and what cannot be paired is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from support.gates import audit, rows, shares
from support.published import check_ours
from underfire.core import MismatchError, UnderfireError
from underfire.gating.compare import COMPARISON, Comparison, compare
from underfire.gating.compare_page import page


def change(found: Comparison, measure: str):  # type: ignore[no-untyped-def]
    return next(one for one in found.changes if one.measure == measure)


def test_rates_are_compared_photo_by_photo(tmp_path: Path) -> None:
    before = audit(tmp_path / "before", rows(shares(10, 40)))
    now = audit(tmp_path / "now", rows([3 <= i < 30 for i in range(40)]))
    forged = change(compare(before, now), "forged")
    assert (forged.before, forged.now, forged.n) == (0.25, 27 / 40, 40)
    assert (forged.more, forged.less) == (20, 3)
    assert forged.p == pytest.approx(stats.binomtest(20, 23).pvalue)
    assert forged.low > 0
    assert forged.clear
    assert forged.fell == ("a/0&.png", "a/1&.png", "a/2&.png")
    assert len(forged.rose) == 20


def test_the_order_of_the_audits_only_turns_the_sign(tmp_path: Path) -> None:
    a = audit(tmp_path / "a", rows(shares(10, 40)))
    b = audit(tmp_path / "b", rows(shares(14, 40)))
    there, back = change(compare(a, b), "forged"), change(compare(b, a), "forged")
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == back.p == 0.125
    assert not change(compare(a, a), "forged").clear


def test_means_have_a_bootstrap_and_too_few_photos_no_interval(tmp_path: Path) -> None:
    before, now = audit(tmp_path / "a", rows(shares(0, 40))), audit(tmp_path / "b", rows(shares(20, 40)))
    iou = change(compare(before, now), "map_iou")
    assert iou.p is None
    assert iou.low < iou.difference < iou.high
    assert iou.difference == pytest.approx(iou.now - iou.before)
    few = change(compare(audit(tmp_path / "c", rows(shares(0, 5))), now), "map_iou")
    assert (few.low, few.n, few.only_now) == (None, 5, 35)


def test_what_cannot_be_paired_is_said(tmp_path: Path) -> None:
    before = audit(tmp_path / "a", [*rows(shares(3, 20)), *rows(shares(3, 20), "pgd")], units=2)
    now = audit(tmp_path / "b", [*rows(shares(3, 24)), *rows(shares(3, 20), "pgd", eps=4), *rows([None], judge="grad")])
    found = compare(before, now)
    said = " ".join(found.unpaired)
    for part in ("1 of 2 units", "4 photos only in the later", "earlier audit, or not", "ε 4", "GRAD"):
        assert part in said, said
    assert {one.cell["attack"] for one in found.changes} == {"adv2"}
    with pytest.raises(MismatchError, match="no attack, preset"):
        compare(before, audit(tmp_path / "c", rows(shares(3, 20), eps=2)))
    strangers = [replace(one, image_sha256="f" + one.image_sha256[1:]) for one in rows(shares(0, 20))]
    with pytest.raises(MismatchError, match="no photo in common"):
        compare(before, audit(tmp_path / "d", strangers))
    with pytest.raises(UnderfireError, match="no finished records"):
        compare(audit(tmp_path / "e", []), now)


def test_settings_and_versions_that_differ_are_listed_without_folders(tmp_path: Path) -> None:
    before = audit(tmp_path / "a", rows(shares(3, 20)), weights="/home/me/float32.safetensors", eps=8)
    now = audit(tmp_path / "b", rows(shares(3, 20)), weights="/home/me/int8.safetensors", eps=8)
    assert compare(before, now).settings == (("weights", "float32.safetensors", "int8.safetensors"),)


def test_the_json_is_valid_and_the_page_says_it_all(tmp_path: Path) -> None:
    before = audit(tmp_path / "old <b>", rows(shares(10, 40)), weights="a.pt")
    now = audit(tmp_path / "new", rows(shares(36, 40)), weights="b.pt", units=2)
    found = compare(before, now)
    check_ours("compare", json.loads(COMPARISON.dump_json(found)))
    text = page(found)
    for part in (
        "rose from 25 %",
        "90 %",
        "+65 points",
        "a/10&amp;.png",
        "1 of 2 units",
        "b.pt",
        "&lt; 0.001",
        "old &lt;b&gt;",
    ):
        assert part in text, part
    assert "<script" not in text
    assert "old <b>" not in text
    assert "the photos do not show a difference" not in text
    same = page(compare(before, before))
    assert "no photo changed" in same
    assert "Nothing: their plans" in same
