"""The model card's section, read by Hugging Face's own library, and the policy that an audit gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from support.gates import audit, rows, shares
from underfire.core import UnderfireError
from underfire.gating import ruling
from underfire.gating.card import card
from underfire.gating.policy_file import read_policy
from underfire.gating.template import template


def test_the_card_is_read_by_hugging_face(tmp_path: Path) -> None:
    out = audit(tmp_path, [*rows(shares(30, 32)), *rows([*shares(1, 20), None], judge="grad")], images="/home/me/scans")
    text = card(out, "my-model")
    data = ModelCard(text, ignore_metadata_errors=False).data
    assert isinstance(data, ModelCardData)
    assert data.eval_results is not None
    results = {(r.metric_name, r.dataset_name): r.metric_value for r in data.eval_results}
    assert results["forged, ADV² on CAM (toynet, paper, ε 8)", "scans"] == 0.9375
    assert results["forged, ADV² on GRAD (toynet, paper, ε 8)", "scans"] == 0.05
    assert data.model_name == "my-model"
    assert "/home" not in text
    for part in ("94 % (79 % to 99 %)", "What these figures do not say", "no proof", "JPEG 90", "1 judgement without"):
        assert part in text, part


def test_a_card_of_an_audit_that_is_not_complete_says_so(tmp_path: Path) -> None:
    assert "not complete" in card(audit(tmp_path / "a", rows(shares(0, 20)), units=3))
    with pytest.raises(UnderfireError, match="no results yet"):
        card(audit(tmp_path / "b", rows([None, None])))


def test_a_new_policy_is_valid_and_decides_on_its_own_audit(tmp_path: Path) -> None:
    seen = {"alarm": True, "alarm_score": 1.0, "clean_alarm": False}
    records = [
        *rows(shares(30, 32)),
        *rows(shares(0, 20), judge="grad"),
        *rows(shares(9, 9), "pgd", judge="on: off", **seen),
    ]
    out = audit(tmp_path / "out", records)
    text = template(out)
    (tmp_path / "gate.yaml").write_text(text, encoding="utf-8")
    found = ruling(out, read_policy(tmp_path / "gate.yaml"))
    assert [(d.measure, d.cell["interpreter"], d.word) for d in found.decisions] == [
        ("forged", "cam", "fails"),
        ("forged", "grad", "undecided"),
        ("forged", "on: off", "fails"),
        ("alarm", "on: off", "undecided"),
    ]
    for part in ("94 % (79 % to 99 %; 32 photos)", "about 36 photos", "increase", "# -"):
        assert part in text, text


def test_what_a_new_policy_offers_as_comments_is_valid_too(tmp_path: Path) -> None:
    out = audit(tmp_path / "out", rows(shares(0, 64)))
    offered = re.sub(r"^( *)# (- measure| {2}where| {2}max| {0}increase)", r"\1\2", template(out), flags=re.MULTILINE)
    assert offered.count("- measure") == 2
    (tmp_path / "gate.yaml").write_text(offered, encoding="utf-8")
    found = ruling(out, read_policy(tmp_path / "gate.yaml"), out)
    assert [(d.measure, d.bound) for d in found.decisions] == [
        ("forged", "max"),
        ("forged", "increase"),
        ("map_iou", "max"),
    ]
    assert found.status == 0


def test_a_new_policy_of_an_audit_without_verdicts_says_so(tmp_path: Path) -> None:
    assert "no verdict" in template(audit(tmp_path / "a", rows(shares(0, 20)), scale=None))
    with pytest.raises(UnderfireError, match="no results yet"):
        template(audit(tmp_path / "b", rows([None])))
